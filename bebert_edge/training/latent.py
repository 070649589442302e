# SPDX-License-Identifier: Apache-2.0
"""Latent checkpoints (docs/latent.md) and float models as torch models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bebert_edge.checkpoints.bert import FORMAT_VERSION, SECTION, detect
from bebert_edge.checkpoints.files import CONFIG_FILE, TENSOR_FILE, TOKENIZER_FILE, read_json, read_tensors
from bebert_edge.errors import CheckpointError, TrainingError
from bebert_edge.training.binarize import binarize

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification, PreTrainedTokenizerBase


def save_member(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    *,
    bits: int,
    labels: list[str],
    text_pair: bool,
    max_length: int,
) -> None:
    """Writes one member, under a temporary name until it is complete; a member that exists is replaced.

    Args:
        model: A binarized model that has seen a batch.
        tokenizer: Its tokenizer.
        directory: Where to write.
        bits: Bits of its activations.
        labels: Names of the classes.
        text_pair: Whether an input is two texts.
        max_length: Tokens of the longest input.

    Raises:
        TrainingError: A parameter is not finite: training diverged.
    """
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().float().contiguous() for name, tensor in model.state_dict().items()}
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise TrainingError(f"training diverged: {name} is not finite; train again with a lower --learning-rate")
    config: dict[str, Any] = model.config.to_dict()
    config.pop("_name_or_path", None)
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
        SECTION: {
            "format_version": FORMAT_VERSION,
            "bits": bits,
            "labels": labels,
            "text_pair": text_pair,
            "max_length": max_length,
        },
    }
    scratch = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tokenizer.save_pretrained(scratch)
    save_file(tensors, scratch / TENSOR_FILE, metadata={"format": "pt"})
    (scratch / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.rmtree(directory, ignore_errors=True)
    scratch.rename(directory)


def load_member(directory: str | Path) -> BertForSequenceClassification:
    """Loads one member of a latent checkpoint.

    Args:
        directory: The member's directory.

    Returns:
        A transformers model in evaluation mode with binarized modules: its logits are those of the exported graph.

    Raises:
        CheckpointError: The directory is no latent checkpoint of family `bert`, or its tensors do not fit.
    """
    from transformers import BertConfig, BertForSequenceClassification

    directory = Path(directory)
    config = read_json(directory / CONFIG_FILE)
    if not detect(config):
        raise CheckpointError(f"{directory} is no latent checkpoint: expected one that 'bebert-edge train' wrote")
    section = config.pop(SECTION)
    tensors = {name: torch.from_numpy(array) for name, array in read_tensors(directory).items()}
    try:
        model = binarize(BertForSequenceClassification(BertConfig.from_dict(config)), section["bits"])
        model.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{directory} does not fit its {CONFIG_FILE}: {error}; 'bebert-edge pack {directory}' says which tensor"
        ) from error
    return model.eval()


def load_float(directory: str | Path, labels: list[str]) -> BertForSequenceClassification:
    """Loads a float model with a classification head of these labels; the head is new where the directory has none.

    Raises:
        CheckpointError: The directory has no BERT in safetensors that transformers can load.
    """
    from transformers import AutoModelForSequenceClassification

    directory = Path(directory)
    config = read_json(directory / CONFIG_FILE)
    if config.get("model_type") != "bert":
        raise CheckpointError(f"{directory} is a {config.get('model_type')!r} model, expected 'bert'")
    if not (directory / TENSOR_FILE).is_file():
        read_tensors(directory)  # its error names what is there instead
    try:
        model: BertForSequenceClassification = AutoModelForSequenceClassification.from_pretrained(
            directory,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={name: i for i, name in enumerate(labels)},
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=False,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{directory} cannot be loaded by transformers: {error}") from error
    return model


def load_tokenizer(directory: str | Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a model directory.

    Raises:
        CheckpointError: The directory has no tokenizer.json that transformers can load.
    """
    from transformers import AutoTokenizer

    directory = Path(directory)
    if not (directory / TOKENIZER_FILE).is_file():
        raise CheckpointError(f"{directory / TOKENIZER_FILE} is missing: expected a fast tokenizer beside the model")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory / TOKENIZER_FILE} cannot be loaded by transformers: {error}") from error
    return tokenizer


def load_model(directory: str | Path, labels: list[str]) -> BertForSequenceClassification:
    """Loads a latent checkpoint's member or a float model, in evaluation mode."""
    if detect(read_json(Path(directory) / CONFIG_FILE)):
        return load_member(directory)
    return load_float(directory, labels).eval()


def latent_weights(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that a float model and its binary twin have in common."""
    return {name: tensor for name, tensor in model.state_dict().items() if "quantizer." not in name}
