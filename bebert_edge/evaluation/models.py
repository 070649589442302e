# SPDX-License-Identifier: Apache-2.0
"""One door to every kind of model: texts in, the logits of every member out."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebert_edge.checkpoints import ENSEMBLE_FILE
from bebert_edge.checkpoints.bert import SECTION
from bebert_edge.checkpoints.files import CONFIG_FILE, read_json
from bebert_edge.checkpoints.pooling import MODULES_FILE
from bebert_edge.ensemble import is_packed
from bebert_edge.errors import EvaluationError, ModelError
from bebert_edge.runtime.text import EncodedText
from bebert_edge.runtime.windows import WindowEncoder

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called after each batch: examples done, examples in all."""

BATCH_SIZE = 32


@dataclass(frozen=True)
class EmbeddingNoise:
    """Gaussian noise on the output of the embeddings, after their LayerNorm.

    As the public code of BEBERT adds it, every member draws its own. What a member adds to a text depends on `seed`,
    the member and the number of the text only, and is the same at every `std` but for its size.

    Attributes:
        std: Standard deviation of the noise.
        seed: Seed.
    """

    std: float
    seed: int = 0

    def draw(self, member: int, example: int, tokens: int, hidden_size: int) -> NDArray[np.float32]:
        """What one member adds to one text: float32 `[tokens, hidden_size]`."""
        generator = np.random.default_rng([self.seed, member, example])
        return generator.standard_normal((tokens, hidden_size), np.float32) * np.float32(self.std)


@dataclass(frozen=True)
class MemberLogits:
    """What a model answers to N texts.

    Attributes:
        members: Logits of every member: float64 `[E, N, C]`.
        weights: Weight of every member `[E]`; their sum is 1.
        combination: What the members' weighted mean is taken of (docs/format.md, "The answer", "Heads").
        temperature: What the combined logits are divided by.
        problem: `single_label`, `multi_label`, `regression`, or `embedding`: logits are then unit vectors.
    """

    members: Array
    weights: Array
    combination: str
    temperature: float
    problem: str

    @property
    def answer(self) -> Array:
        """The ensemble's logits `[N, C]`, for regression its values, or its embeddings."""
        return combine(self.members, self.weights, self.combination, self.problem) / self.temperature

    def columns(self, order: Sequence[int]) -> MemberLogits:
        """The same with classes in another order."""
        return replace(self, members=self.members[..., list(order)])


def combine(members: Array, weights: Array, combination: str, problem: str) -> Array:
    """Combines the logits of members `[E, N, C]` by their weights `[E]`, sum 1, into logits `[N, C]`.

    `probabilities` gives the logarithm of the weighted mean of the members' softmax; for multi-label tasks the logit of
    the weighted mean of their sigmoids. Values of a regression are always averaged themselves. Of unit vectors
    `embeddings` gives the direction of the weighted mean, `concatenation` all side by side: `[N, E * C]`.
    """
    if combination == "concatenation":
        return np.concatenate(list(np.sqrt(weights)[:, None, None] * members), axis=-1)
    if combination == "embeddings":
        mean = np.tensordot(weights, members, 1)
        return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12))
    if combination == "logits" or problem == "regression":
        return np.asarray(np.tensordot(weights, members, 1))
    with np.errstate(divide="ignore"):  # a member may weigh nothing
        log_weights = np.log(weights)[:, None, None]
    if problem == "multi_label":
        holds, holds_not = (
            np.logaddexp.reduce(log_weights - np.logaddexp(0, sign * members), axis=0) for sign in (-1, 1)
        )
        return np.asarray(holds - holds_not)
    log_softmax = members - np.logaddexp.reduce(members, axis=-1, keepdims=True)
    return np.asarray(np.logaddexp.reduce(log_weights + log_softmax, axis=0))


class EvaluatedModel(ABC):
    """A model of any kind.

    Attributes:
        path: The file or directory that was named.
        kind: `packed ensemble`, `latent ensemble`, `latent member`, `onnx` or `transformers`.
        task: One of `bebert_edge.config.TASK_TYPES`; what a model of pairs with one label may be used for is not said.
        labels: One name per logit.
        problem: `single_label`, `multi_label`, `regression` or `embedding`.
        text_pair: Whether an input is two texts; None for a model that does not say.
        mask_id: The token that stands for those to be guessed, of models for fill-mask.
        weights: Weight of every member; their sum is 1.
        combination: What the members' mean is taken of.
        temperature: What the combined logits are divided by.
        backend: What computes, for people.
    """

    path: str
    kind: str
    task: str = "text-classification"
    labels: tuple[str, ...]
    problem: str
    text_pair: bool | None
    mask_id: int | None = None
    weights: tuple[float, ...]
    combination: str = "logits"
    temperature: float = 1.0
    backend: str = ""

    @property
    def members(self) -> int:
        """Members of the ensemble; 1 for a single model."""
        return len(self.weights)

    @property
    def width(self) -> int:
        """Numbers that a member answers a text with: a logit for each label, or those of an embedding."""
        return len(self.labels)

    def predict(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        noise: EmbeddingNoise | None = None,
        batch_size: int = BATCH_SIZE,
        progress: Progress | None = None,
    ) -> MemberLogits:
        """Answers every text, in order.

        Args:
            texts: The texts.
            pairs: The second text of each, for models on pairs.
            noise: Noise to add to the output of the embeddings.
            batch_size: Texts at a time; answers do not depend on it, but for the rounding of float models.
            progress: Called after each batch.

        Raises:
            EvaluationError: The texts are not what the model reads, or it cannot add noise.
            ModelError: A logit is not finite.
        """
        self.check_pairs(pairs is not None)
        encoded = self.encode(texts, pairs)
        logits = np.empty((self.members, len(encoded), self.width), np.float64)
        by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
        for begin in range(0, len(encoded), batch_size):
            index = by_length[begin : begin + batch_size]
            logits[:, index] = self.run([encoded[i] for i in index], index, noise)
            if progress is not None:
                progress(begin + len(index), len(encoded))
        if not np.isfinite(logits).all():
            _, example, _ = np.argwhere(~np.isfinite(logits))[0]
            raise ModelError(
                f"{self.path}: the answer for {texts[example][:40]!r} is not finite: its weights are damaged. "
                "Copy the model again, or train it again"
            )
        return MemberLogits(logits, np.array(self.weights), self.combination, self.temperature, self.problem)

    def check_pairs(self, given: bool) -> None:
        """Raises EvaluationError if the model reads pairs of texts and got none, or the other way round."""
        if self.text_pair is True and not given:
            raise EvaluationError(
                f"{self.path} reads pairs of texts: name their columns, --text-column A --text-pair-column B"
            )
        if self.text_pair is False and given:
            raise EvaluationError(
                f"{self.path} reads single texts: name their column, --text-column NAME, and no second"
            )

    def windows(self) -> WindowEncoder:
        """The tokenizer for tasks on tokens.

        Raises:
            EvaluationError: It is a model for other tasks.
        """
        raise EvaluationError(f"{self.path} is a model for {self.task}, which has no answers for tokens")

    @abstractmethod
    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[EncodedText]:
        """Tokenizes texts as the model reads them, cut to its longest input."""

    @abstractmethod
    def run(
        self, batch: Sequence[EncodedText], index: Sequence[int], noise: EmbeddingNoise | None
    ) -> NDArray[np.floating]:
        """Logits (or embeddings) `[E, B, C]` of a batch, or `[E, B, S, C]`; `index` are the numbers of its texts."""


def pad(batch: Sequence[EncodedText], pad_id: int = 0) -> dict[str, NDArray[np.int64]]:
    """A batch as int64 `[B, S]` arrays, padded on the right."""
    shape = len(batch), max(len(text.ids) for text in batch)
    feed = {name: np.zeros(shape, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    feed["input_ids"][:] = pad_id
    for row, text in enumerate(batch):
        length = len(text.ids)
        feed["input_ids"][row, :length] = text.ids
        feed["attention_mask"][row, :length] = 1
        feed["token_type_ids"][row, :length] = text.type_ids
    return feed


def open_model(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    max_length: int | None = None,
    problem: str | None = None,
) -> EvaluatedModel:
    """Opens a model of any kind.

    Args:
        path: An .onnx file of `bebert-edge export`; the directory of a packed ensemble, of a latent ensemble or of one
            of its members (docs/latent.md); or a Hugging Face directory of any model for sequence classification or of
            sentence-transformers, a `BertForMaskedLM`, or the name of a BERT on the Hugging Face hub.
        threads: Threads of one call; None for what onnxruntime and torch choose.
        max_length: Tokens of the longest input of a Hugging Face model; by default what model and tokenizer say.
        problem: `single_label`, `multi_label` or `regression`, for a Hugging Face model that does not say it.

    Raises:
        EvaluationError: The path is none of these.
        ModelError, FormatError, CheckpointError: It is, but cannot be loaded.
    """
    source = Path(path)
    if source.suffix == ".onnx" and not source.is_dir():
        from bebert_edge.evaluation.onnx_models import OnnxModel

        return OnnxModel(source, threads=threads)
    if source.is_file():
        raise EvaluationError(
            f"{source} is a file, expected one that ends in .onnx, or the directory of a packed ensemble, a latent "
            "ensemble or a Hugging Face model"
        )
    if not source.exists():
        from bebert_edge.training.latent import locate

        source = locate(source)
    if (source / ENSEMBLE_FILE).is_file():
        from bebert_edge.evaluation.torch_models import LatentModel

        return LatentModel(source, threads=threads)
    if is_packed(source):
        from bebert_edge.evaluation.onnx_models import open_packed

        return open_packed(source, threads=threads)
    config = read_json(source / CONFIG_FILE)
    if SECTION in config:
        from bebert_edge.evaluation.torch_models import LatentModel

        return LatentModel(source, threads=threads)
    if (source / MODULES_FILE).is_file():
        from bebert_edge.evaluation.sentence_models import SentenceModel

        return SentenceModel(source, path=str(path), threads=threads, max_length=max_length)
    if str((config.get("architectures") or [""])[0]) in ("BertForMaskedLM", "BertForFillMask"):
        from bebert_edge.evaluation.torch_models import MaskedModel

        return MaskedModel(source, path=str(path), threads=threads, max_length=max_length)
    from bebert_edge.evaluation.torch_models import TransformersModel

    return TransformersModel(source, path=str(path), threads=threads, max_length=max_length, problem=problem)
