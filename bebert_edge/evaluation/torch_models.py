# SPDX-License-Identifier: Apache-2.0
"""Latent checkpoints and Hugging Face models, run by torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from bebert_edge import checkpoints
from bebert_edge.checkpoints.files import CONFIG_FILE, TENSOR_FILE, read_json, read_tensors
from bebert_edge.config import SPAN_LABELS
from bebert_edge.errors import CheckpointError, EvaluationError
from bebert_edge.evaluation.models import EmbeddingNoise, EvaluatedModel, pad
from bebert_edge.runtime.text import EncodedText, TextEncoder
from bebert_edge.runtime.windows import WindowEncoder
from bebert_edge.training.families import FAMILIES
from bebert_edge.training.latent import load_float, load_member, load_tokenizer
from bebert_edge.training.modules import use_pooler_activation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ENDLESS = 10**6
"""What tokenizers say of themselves when they know no longest input is above this."""
_PROBLEMS = {"single_label_classification": "single_label", "multi_label_classification": "multi_label"}


class _TorchModel(EvaluatedModel):
    models: list[Any]
    pad_id = 0

    def run(
        self, batch: Sequence[EncodedText], index: Sequence[int], noise: EmbeddingNoise | None
    ) -> NDArray[np.float32]:
        """See `EvaluatedModel.run`."""
        feed = {name: torch.from_numpy(array) for name, array in pad(batch, self.pad_id).items()}
        logits = []
        for member, model in enumerate(self.models):
            inputs = feed if _has_token_types(model) else {k: v for k, v in feed.items() if k != "token_type_ids"}
            with torch.inference_mode(), self._noisy(model, noise, member, batch, index):
                logits.append(_logits(model(**inputs)).float().numpy())
        return np.stack(logits)

    @contextmanager
    def _noisy(
        self,
        model: Any,
        noise: EmbeddingNoise | None,
        member: int,
        batch: Sequence[EncodedText],
        index: Sequence[int],
    ) -> Iterator[None]:
        if noise is None:
            yield
            return
        embeddings = getattr(model.base_model, "embeddings", None)
        embeddings = getattr(embeddings, "LayerNorm", embeddings)  # where a projection follows, before it
        if embeddings is None:
            raise EvaluationError(
                f"{self.path}: a {model.config.model_type!r} model has no module 'embeddings' to add noise to: "
                "leave embedding-noise out of --perturb"
            )

        def add(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            output = output.clone()
            for row, (i, text) in enumerate(zip(index, batch, strict=True)):
                tokens = len(text.ids)
                output[row, :tokens] += torch.from_numpy(noise.draw(member, i, tokens, output.shape[-1]))
            return output

        hook = embeddings.register_forward_hook(add)
        try:
            yield
        finally:
            hook.remove()


def _logits(output: Any) -> torch.Tensor:
    """Logits as docs/format.md has them: for answer spans, starts and ends side by side."""
    if hasattr(output, "start_logits"):
        return torch.stack([output.start_logits, output.end_logits], -1)
    logits: torch.Tensor = output.logits
    return logits


def _has_token_types(model: Any) -> bool:
    return int(getattr(model.config, "type_vocab_size", 0) or 0) > 1


_HEADS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
"""Endings of the names of transformers' classes, and what such models are for."""


class LatentModel(_TorchModel):
    """A latent ensemble, or one member, as training computes it in evaluation mode: what its export computes.

    Raises:
        CheckpointError: The checkpoint is damaged or incomplete.
    """

    def __init__(self, directory: Path, *, threads: int | None = None) -> None:
        use_threads(threads)
        packed = checkpoints.load(directory)  # reads and checks everything that the members must agree on
        config = packed.config
        file = directory / checkpoints.ENSEMBLE_FILE
        ensemble = file.is_file()
        names = json.loads(file.read_text(encoding="utf-8"))["members"] if ensemble else ["."]
        self.path, self.kind = str(directory), "latent ensemble" if ensemble else "latent member"
        self.models = [load_member(directory / name) for name in names]
        self.task, self.labels, self.mask_id = config.task.type, config.labels, config.task.mask_id
        self.problem, self.text_pair = config.task.problem, config.task.text_pair
        self._width = config.task.embeds * config.encoder.hidden_size
        self.weights = tuple(config.member_weights)
        self.combination = config.combination
        self.temperature = config.temperature
        self.backend = backend()
        self._reads = packed.tokenizer, config.max_length, config.task.text_pair
        self._encoder = TextEncoder(*self._reads)

    def windows(self) -> WindowEncoder:
        """See `EvaluatedModel.windows`."""
        return WindowEncoder(*self._reads)

    @property
    def width(self) -> int:
        """See `EvaluatedModel.width`."""
        return self._width or super().width

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[EncodedText]:
        """See `EvaluatedModel.encode`."""
        return self._encoder.encode(texts if pairs is None else list(zip(texts, pairs, strict=True)))


class TransformersModel(_TorchModel):
    """A single float model: whatever transformers loads from safetensors for one of `_HEADS`.

    Raises:
        CheckpointError: transformers cannot load model or tokenizer, or there is no classification head.
    """

    def __init__(
        self,
        directory: Path,
        *,
        path: str | None = None,
        threads: int | None = None,
        max_length: int | None = None,
        problem: str | None = None,
    ) -> None:
        import transformers

        use_threads(threads)
        config = read_json(directory / CONFIG_FILE)
        if not (directory / TENSOR_FILE).is_file() and not (directory / f"{TENSOR_FILE}.index.json").is_file():
            read_tensors(directory)  # its error names what is there instead
        architectures = config.get("architectures") or [""]
        head = next((head for head in _HEADS if str(architectures[0]).endswith(head)), None)
        if head is None:
            raise CheckpointError(
                f"{directory} is a {architectures[0] or config.get('model_type')!r}, expected a model for sequence "
                "classification (or token classification, or question answering), or a directory of "
                "sentence-transformers with modules.json: fine-tune it first, e.g. with "
                "'bebert-edge train FILE --backbone DIR -o OUT', and evaluate OUT/teacher"
            )
        try:
            model, info = getattr(transformers, f"AutoModel{head}").from_pretrained(
                directory, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # whatever transformers, safetensors or json make of a damaged file
            raise CheckpointError(f"{directory} cannot be loaded by transformers: {error}") from error
        if info["missing_keys"]:
            raise CheckpointError(
                f"{directory} lacks the tensor {min(info['missing_keys'])}, expected a whole model for sequence "
                "classification: copy it again, or save it again"
            )
        if model.config.model_type == "bert":
            use_pooler_activation(model)  # transformers does not know the setting, which teachers of `train` may have
        self._tokenizer = load_tokenizer(directory)
        self.path, self.kind, self.models = path or str(directory), "transformers", [model.eval()]
        self.labels = tuple(str(model.config.id2label[i]) for i in range(model.config.num_labels))
        self.problem = problem or _problem(model.config)
        if self.problem != "multi_label" and (self.problem == "regression") != (len(self.labels) == 1):
            raise EvaluationError(
                f"{self.path} has {len(self.labels)} labels, which do not fit --problem {self.problem}: "
                "a regression has one, a model of classes two or more"
            )
        self.task, self.text_pair = _HEADS[head], None
        if self.task == "question-answering":
            self.labels, self.text_pair = SPAN_LABELS, True
        self.weights = (1.0,)
        self.backend = backend()
        self.pad_id = self._tokenizer.pad_token_id or 0
        self.max_length = max_length or longest_input(model.config, self._tokenizer)

    def windows(self) -> WindowEncoder:
        """See `EvaluatedModel.windows`."""
        tokenizer: Any = self._tokenizer
        return WindowEncoder(tokenizer.backend_tokenizer.to_str(), self.max_length, bool(self.text_pair))

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[EncodedText]:
        """See `EvaluatedModel.encode`."""
        return encode(self._tokenizer, texts, pairs, self.max_length)


class MaskedModel(_TorchModel):
    """A single float `BertForMaskedLM`, which answers for masks only.

    Raises:
        CheckpointError: transformers cannot load model or tokenizer.
    """

    def __init__(
        self, directory: Path, *, path: str | None = None, threads: int | None = None, max_length: int | None = None
    ) -> None:
        use_threads(threads)
        model = load_float(directory, [], task="fill-mask").eval()
        self._tokenizer = load_tokenizer(directory)
        self.path, self.kind, self.models = path or str(directory), "transformers", [model]
        self.task, self.problem, self.labels, self.text_pair = "fill-mask", "single_label", (), False
        self.mask_id = model.config.mask_id
        self.weights, self.backend = (1.0,), backend()
        self.pad_id = self._tokenizer.pad_token_id or 0
        self.max_length = max_length or longest_input(model.config, self._tokenizer)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[EncodedText]:
        """See `EvaluatedModel.encode`."""
        return encode(self._tokenizer, texts, pairs, self.max_length)


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> list[EncodedText]:
    """Texts, or pairs of texts, as transformers' tokenizer encodes them."""
    encoded = tokenizer(
        list(texts),
        None if pairs is None else list(pairs),
        truncation=True,
        max_length=max_length,
        return_token_type_ids=True,
    )
    seconds = [None] * len(texts) if pairs is None else pairs
    rows = zip(texts, seconds, encoded["input_ids"], encoded["token_type_ids"], strict=True)
    return [EncodedText(text, pair, ids, types, truncated=False) for text, pair, ids, types in rows]


def _problem(config: Any) -> str:
    if config.problem_type is None:
        return "regression" if config.num_labels == 1 else "single_label"
    return _PROBLEMS.get(config.problem_type, str(config.problem_type))


def longest_input(config: Any, tokenizer: Any) -> int:
    """Tokens of the longest input of a float model, as it and its tokenizer say."""
    positions = getattr(config, "max_position_embeddings", _ENDLESS)
    if any(config.model_type in family.model_types and family.positions_after_padding for family in FAMILIES):
        positions -= config.pad_token_id + 1
    return int(min(tokenizer.model_max_length, positions, _ENDLESS))


def use_threads(threads: int | None) -> None:
    """Sets torch's threads."""
    if threads is not None:
        torch.set_num_threads(threads)


def backend() -> str:
    """What computes, for people."""
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"
