# SPDX-License-Identifier: Apache-2.0
"""Latent checkpoints (docs/latent.md) and float models as torch models."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bebert_edge.checkpoints.bert import FORMAT_VERSION, SECTION
from bebert_edge.checkpoints.files import CONFIG_FILE, TENSOR_FILE, TOKENIZER_FILE, read_json, read_tensors
from bebert_edge.config import PROBLEMS
from bebert_edge.errors import CheckpointError, TrainingError
from bebert_edge.training import families, variants
from bebert_edge.training.architectures import ARCHITECTURES, architecture
from bebert_edge.training.binarize import binarize
from bebert_edge.training.families.conversion import to_bert
from bebert_edge.training.kept import keep, kept_weights
from bebert_edge.training.modules import pooler_activation
from bebert_edge.training.tasks import TASKS, Task, TextClassification
from bebert_edge.training.words import store_words, stored_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
    "embedding": None,
}
"""transformers' names (`config.problem_type`) for the problems of `Examples`."""

INDEX_FILE = "model.safetensors.index.json"
_VOCABULARY_FILES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model")
_TOKENIZER_FILES = (
    TOKENIZER_FILE,
    *_VOCABULARY_FILES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_OF_A_LAYER = re.compile(r"(^|\.)(layers?|albert_layers)\.\d+\.")
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_ARCHITECTURE = re.compile(r"\w+?(For\w+)")


def locate(source: str | Path) -> Path:
    """The local directory of a model: `source` itself, or the download of what has this name on the Hugging Face hub.

    Only safetensors, `config.json` and the tokenizer are downloaded, the tensors after a check of the family.

    Raises:
        CheckpointError: There is no such directory, and no such model in the cache or in reach on the hub.
    """
    name = str(source)
    if Path(source).exists():
        if not Path(source).is_dir():
            raise CheckpointError(f"{source} is a file, expected a model directory with {CONFIG_FILE} and tensors")
        return Path(source)
    if not _HUB_NAME.fullmatch(name):
        raise CheckpointError(f"{source} is missing: expected a model directory, or a name on the Hugging Face hub")
    config = Path(_download(name, CONFIG_FILE)) / CONFIG_FILE
    families.find(read_json(config), name)
    return Path(_download(name, CONFIG_FILE, "*.safetensors", INDEX_FILE, *_TOKENIZER_FILES))


def _download(name: str, *patterns: str) -> str:
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(name, allow_patterns=list(patterns))
    except Exception as error:  # the hub's errors and those of its connections have no common base
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{name} is missing: there is no such directory, and the Hugging Face hub did not give it ({reason}); "
            f"check the name and the network, or run 'hf download {name} --local-dir DIR' elsewhere and pass DIR"
        ) from error


def recover(directory: str | Path) -> None:
    """Finishes a replacement that `save_member` was killed in the middle of, so that `directory` exists again."""
    directory = Path(directory).resolve()
    new, old = _scratch(directory)
    if old.exists() and not directory.exists():
        # The old one is only moved away once the new one is complete.
        (new if new.exists() else old).rename(directory)


def _scratch(directory: Path) -> tuple[Path, Path]:
    """Names beside a directory: for what will replace it, and for what was replaced."""
    return directory.with_name(f".{directory.name}.new"), directory.with_name(f".{directory.name}.old")


def save_member(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    *,
    bits: int,
    labels: list[str],
    text_pair: bool,
    max_length: int,
    problem: str = "single_label",
    task: str = TextClassification.name,
) -> None:
    """Writes one member, under a temporary name until it is complete; a member that exists is replaced.

    Killed at any moment, it leaves the old member or the new one; `recover` (which `load_member` calls) finds it.

    Args:
        model: A binarized model that has seen a batch.
        tokenizer: Its tokenizer.
        directory: Where to write.
        bits: Bits of its activations.
        labels: Names of the classes.
        text_pair: Whether an input is two texts.
        max_length: Tokens of the longest input.
        problem: `single_label`, `multi_label` or `regression`.
        task: A key of `TASKS`.

    Raises:
        TrainingError: A parameter is not finite (training diverged), or the files cannot be written.
    """
    config: dict[str, Any] = model.config.to_dict()
    activation, settings = pooler_activation(model.config), variants.settings(model.config)
    settings |= {name: getattr(model.config, name) for name in TASKS[task].settings}
    for name in ("_name_or_path", "pooler_activation", *settings):
        config.pop(name, None)
    weights, words = kept_weights(model), stored_words(model)
    config |= {
        "architectures": [architecture(model.config).class_of(TASKS[task].model).__name__],
        "dtype": "float32",
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
        "problem_type": PROBLEM_TYPES[problem],
        SECTION: {
            "format_version": FORMAT_VERSION,
            "bits": bits,
            "labels": labels,
            "text_pair": text_pair,
            "max_length": max_length,
            "problem": problem,
        }
        | ({} if task == TextClassification.name else {"task": task})
        | ({} if activation == "tanh" else {"pooler_activation": activation})
        | settings
        | ({"weights": weights} if weights else {})
        | ({"embeddings": words} if words != "binary" else {}),
    }
    tensors = _tensors(model)
    directory = Path(directory).resolve()
    try:
        _replace(directory, config, tensors, tokenizer)
    except OSError as error:
        raise TrainingError(f"{directory} cannot be written: {error.strerror or error}") from error


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors to save: float32, of the very bits that were trained."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise TrainingError(f"{name} is {tensor.dtype}, expected a model in float32: call model.float() first")
        if not bool(tensor.isfinite().all()):
            raise TrainingError(f"training diverged: {name} is not finite; train again with a lower --learning-rate")
        tensors[name] = tensor.detach().float().cpu().contiguous()
    return tensors


def _replace(
    directory: Path, config: dict[str, Any], tensors: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase
) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    recover(directory)
    new, old = _scratch(directory)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        tokenizer.save_pretrained(new)
        save_file(tensors, new / TENSOR_FILE, metadata={"format": "pt"})
        (new / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except BaseException as error:
        shutil.rmtree(new, ignore_errors=True)
        if isinstance(error, SafetensorError):
            raise OSError(str(error)) from error
        raise
    if directory.exists():
        directory.rename(old)
    new.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def load_member(directory: str | Path) -> PreTrainedModel:
    """Loads one member of a latent checkpoint.

    Args:
        directory: The member's directory.

    Returns:
        transformers' BERT for the member's task, in evaluation mode and with binarized modules: its logits are those of
        the exported graph, and `config.problem_type` says what they are of.

    Raises:
        CheckpointError: The directory is no latent checkpoint, or its tensors do not fit.
    """
    directory = Path(directory)
    recover(directory)
    config = read_json(directory / CONFIG_FILE)
    if SECTION not in config:
        raise CheckpointError(f"{directory} is no latent checkpoint: expected one that 'bebert-edge train' wrote")
    section = config.pop(SECTION)
    try:
        problem = section.get("problem", "single_label")
        if problem not in PROBLEMS:
            raise ValueError(f"{SECTION}.problem is {problem!r}, expected one of {', '.join(PROBLEMS)}")
        task = section.get("task", TextClassification.name)
        if task not in TASKS:
            raise ValueError(f"{SECTION}.task is {task!r}, expected one of {', '.join(TASKS)}")
        config["problem_type"] = PROBLEM_TYPES[problem]
        config["pooler_activation"] = section.get("pooler_activation", "tanh")
        config |= {name: section[name] for name in TASKS[task].settings}
        config |= variants.settings({**config, **section})
        tensors = {name: torch.from_numpy(array) for name, array in read_tensors(directory).items()}
        parts, kind = architecture(config), TASKS[task].model
        model = binarize(parts.new_model(parts.config_class.from_dict(config), kind), section["bits"])
        keep(model, section.get("weights", {}))
        store_words(model, section.get("embeddings", "binary"))
        model.load_state_dict(tensors)
    except (AttributeError, RuntimeError, KeyError, TypeError, ValueError, TrainingError) as error:
        raise CheckpointError(
            f"{directory} does not fit its {CONFIG_FILE}: {error}; 'bebert-edge pack {directory}' says which tensor"
        ) from error
    return model.eval()


def load_float(
    source: str | Path,
    labels: list[str],
    problem: str = "single_label",
    *,
    new_head: bool = False,
    task: str = TextClassification.name,
) -> PreTrainedModel:
    """Loads a float model with the head of a task and of these labels, as one of `architectures` whatever its family.

    Args:
        source: A model directory, or the name of one on the Hugging Face hub.
        labels: Names of the classes. A model without a head, or with that of another task, gets a new one, by torch's
            random generator.
        problem: `single_label`, `multi_label` or `regression`: sets `config.problem_type`.
        new_head: Replace the last layer of the head that the model has.
        task: A key of `TASKS`.

    Returns:
        A model with the logits of transformers' model of its family for the task. Where its pooler's activation is not
        tanh, `config.pooler_activation` says so.

    Raises:
        CheckpointError: There is no model of a known family (`families`) in safetensors that transformers can load,
            tensors of the encoder are missing, or the model has a head of other labels and `new_head` is False.
    """
    directory, kind = locate(source), TASKS[task]
    config = read_json(directory / CONFIG_FILE)
    family = families.find(config, source)
    if ARCHITECTURES[family.architecture].model and kind is not TextClassification:
        raise CheckpointError(
            f"{source} is a model of type {config['model_type']!r}, which can be trained for {TextClassification.name} "
            f"only, not for {task}: choose another --backbone or --teacher (docs/models.md)"
        )
    if SECTION in config:
        raise CheckpointError(f"{source} is a latent checkpoint, expected a float model: pass it as --teacher")
    if not any((directory / name).is_file() for name in (TENSOR_FILE, INDEX_FILE)):
        read_tensors(directory)  # its error names what is there instead
    try:
        variant = config["model_type"] == "bert" and variants.settings(config)
        loader = variants.variant_of(kind.model) if variant else kind.auto
        loaded, info = loader.from_pretrained(
            directory,
            id2label=dict(enumerate(labels)),
            label2id={name: i for i, name in enumerate(labels)},
            problem_type=PROBLEM_TYPES[problem],
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        missing = {family.rename(name): name for name in info["missing_keys"]}
        model: PreTrainedModel = loaded
        if family.architecture == "bert":
            model = to_bert(loaded, family, kind.model, new_pooler="bert.pooler.dense.weight" in missing)
    except Exception as error:  # whatever transformers, safetensors or json make of a damaged file
        raise CheckpointError(f"{source} cannot be loaded by transformers: {error}") from error
    new_head = new_head or _is_of_another_task(config, kind)
    _check_tensors(source, family, info, len(labels), new_head, kind)
    if not kind.last:
        kind.settle(model, directory)
        return model
    last = getattr(model, kind.last)
    if new_head:
        last.weight.data.normal_(0, model.config.initializer_range)
        last.bias.data.zero_()
    elif not any(name.startswith(f"{kind.last}.") for name in missing):
        _check_order(source, config, labels)
    return model


def _is_of_another_task(config: Mapping[str, Any], task: type[Task]) -> bool:
    """Whether a model says that its head is of another task; its last layer may have the same name and shape."""
    wanted = _ARCHITECTURE.match(task.model.__name__)
    named = [_ARCHITECTURE.match(str(name)) for name in config.get("architectures") or []]
    return bool(wanted and named and named[0] and not named[0][1].startswith(wanted[1]))


def _check_tensors(
    source: object, family: families.Family, info: Mapping[str, Any], labels: int, new_head: bool, task: type[Task]
) -> None:
    """Refuses a model that transformers filled up with random tensors, or of which it left some of the encoder out.

    The head may be new. Any other tensor that is missing would leave random layers unnoticed.
    """
    head = (f"{task.last}.", f"{ARCHITECTURES[family.architecture].head}.")
    missing = sorted(name for name in info["missing_keys"] if not family.rename(name).startswith(head))
    if missing:
        raise CheckpointError(
            f"{source} has no tensor {missing[0]} ({len(missing)} are missing): it is no whole {family.model_types[0]}"
        )
    unknown = sorted(name for name in info["unexpected_keys"] if _OF_A_LAYER.search(name))
    if unknown:
        raise CheckpointError(
            f"{source}: tensor {unknown[0]} is unknown ({len(unknown)} are): its layers compute something else than "
            f"those of a {family.model_types[0]}; merge adapters into the model, or choose another one"
        )
    for name, found, expected in sorted(info["mismatched_keys"]):
        if not family.rename(name).startswith(head[0]):
            raise CheckpointError(
                f"{source}: tensor {name} has shape {list(found)}, expected {list(expected)} by its {CONFIG_FILE}"
            )
        if not new_head:
            raise CheckpointError(
                f"{source} has a head of {found[0]} outputs, but the data {labels} labels: pass data of its labels, or "
                "--new-head to replace the head"
            )


def _check_order(source: object, config: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Refuses a head with the same labels in another order: its answers would count as those of other classes."""
    names = config.get("id2label")
    if not isinstance(names, dict) or sorted(names) != sorted(map(str, range(len(labels)))):
        return
    found = [str(names[str(i)]).casefold() for i in range(len(labels))]
    wanted = [label.casefold() for label in labels]
    if found != wanted and sorted(found) == sorted(wanted):
        raise CheckpointError(
            f"{source} has the labels {', '.join(found)} in this order, the data {', '.join(wanted)}: "
            "give the data the order of the model, or pass --new-head to replace the head"
        )


def check_head(source: str | Path, task: str) -> None:
    """Refuses a teacher that would answer with a new head, for it was not trained for the task.

    Raises:
        CheckpointError: It is an encoder alone, or a model for another task, by its `config.json`.
    """
    recover(source)
    config = read_json(locate(source) / CONFIG_FILE)
    if SECTION in config:
        own = config[SECTION].get("task", TextClassification.name)
        found, fits = f"member for {own}", own in TASKS and TASKS[own].model is TASKS[task].model
    else:
        found = str((config.get("architectures") or [""])[0])
        fits = not found or not TASKS[task].last or _ARCHITECTURE.match(found) is not None
        fits = fits and not (TASKS[task].last and _is_of_another_task(config, TASKS[task]))
    if not fits:
        raise CheckpointError(
            f"{source} is a {found}, without a head that was trained for {task}: pass another --teacher, or "
            "--backbone to fine-tune one"
        )


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a model directory, or of a model on the Hugging Face hub.

    Raises:
        CheckpointError: There is none that transformers can load, or it is one that cannot be saved as tokenizer.json.
    """
    from transformers import AutoTokenizer

    directory = locate(source)
    if not any((directory / name).is_file() for name in (TOKENIZER_FILE, *_VOCABULARY_FILES)):
        raise CheckpointError(f"{directory / TOKENIZER_FILE} is missing: expected a fast tokenizer beside the model")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # tokenizers raises plain Exception
        raise CheckpointError(f"{directory / TOKENIZER_FILE} cannot be loaded by transformers: {error}") from error
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"{source} has a {type(tokenizer).__name__}, which is Python code and cannot be saved as {TOKENIZER_FILE}: "
            "expected a fast tokenizer; choose another --backbone or --teacher (docs/models.md)"
        )
    return tokenizer


def load_model(
    source: str | Path,
    labels: list[str],
    problem: str = "single_label",
    *,
    new_head: bool = False,
    task: str = TextClassification.name,
) -> PreTrainedModel:
    """Loads a latent checkpoint's member (see `load_member`) or a float model (see `load_float`), to evaluate."""
    recover(source)
    directory = locate(source)
    if SECTION in read_json(directory / CONFIG_FILE):
        return load_member(directory)
    return load_float(source, labels, problem, new_head=new_head, task=task).eval()
