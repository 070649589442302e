# SPDX-License-Identifier: Apache-2.0
"""EdgeModel: texts in, answers out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.config import EnsembleConfig
from bebert_edge.ensemble import head_prefix
from bebert_edge.errors import ModelError, RuntimeInputError
from bebert_edge.metadata import ModelMetadata
from bebert_edge.runtime.answers import find_answer
from bebert_edge.runtime.backend import Backend
from bebert_edge.runtime.embedding import Embedding, embedding
from bebert_edge.runtime.entities import TokenPrediction, find_entities, joined
from bebert_edge.runtime.filling import FilledText, fill
from bebert_edge.runtime.prediction import predict
from bebert_edge.runtime.ranking import RankedDocument, rank
from bebert_edge.runtime.session import open_model
from bebert_edge.runtime.text import EncodedText, Text, TextEncoder
from bebert_edge.runtime.windows import Window, WindowedText, WindowEncoder

Numbers = NDArray[np.float32]
Answers = tuple[Numbers, Numbers]
"""The ensemble's answer, and its members'."""

WINDOW_BATCHES = 16
"""Batches of input that are sorted by length together: batches of like lengths, bounded memory."""


def _entities(
    text: WindowedText, logits: list[Numbers], members: list[Numbers], config: EnsembleConfig
) -> TokenPrediction:
    return find_entities(text, joined(text, logits), joined(text, members), config)


_TokenAnswer = Callable[[WindowedText, list[Numbers], list[Numbers], EnsembleConfig], Any]
_TOKEN_ANSWERS: dict[str, _TokenAnswer] = {"token-classification": _entities, "question-answering": find_answer}
"""What tasks on tokens make of a text, of the logits of its windows, and of those of the members."""


def default_model_path() -> Path:
    """Path of the model that ships in the package; it may be absent from a source tree."""
    return Path(str(files("bebert_edge"))) / "models" / "sst2.onnx"


class EdgeModel:
    """A binary ensemble in one .onnx file, ready to answer. Safe to share between threads.

    Attributes:
        config: The configuration of the ensemble, with the task that is answered as the only one.

    Example:
        >>> model = EdgeModel("sst2.onnx", threads=1)
        >>> model.predict(["a gorgeous, witty, seductive movie"])[0].label
        'positive'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str = "cpu",
        threads: int | None = None,
        require_native: bool = False,
    ) -> None:
        """Loads the model, its tokenizer and its labels from one file.

        Args:
            path: An .onnx file written by `bebert-edge export`.
            device: `"cpu"`.
            threads: Threads of one call; None for one per core.
            require_native: Raise instead of running without the native library.

        Raises:
            DeviceError: Unknown device.
            RuntimeInputError: `threads` is less than 1.
            ModelError: The file is missing, damaged, or not made by bebert-edge.
            NativeLibraryError: The native library is required, or a CPU path is forced by the environment variable
                `BEBERT_EDGE_KERNEL`, and the library is missing, does not load or lacks that path.
        """
        self._path = Path(path)
        self._model = open_model(path, device=device, threads=threads, require_native=require_native)
        self._use("")

    def _use(self, task: str) -> None:
        self._prefix, self.config = head_prefix(task), self.metadata.config.of(task)
        kind = self.config.task
        encoder = WindowEncoder if kind.answers_tokens else TextEncoder
        self._encoder = encoder(self.metadata.tokenizer, self.config.max_length, kind.text_pair)

    def __repr__(self) -> str:
        return f"EdgeModel({str(self._path)!r}): {self.members} members, {len(self.labels)} labels, {self.backend}"

    @property
    def metadata(self) -> ModelMetadata:
        """Everything that the file says about itself."""
        return self._model.metadata

    @property
    def backend(self) -> Backend:
        """What runs the model: the native library and its CPU path, or the portable path and why."""
        return self._model.backend

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, in the order of the logits."""
        return self.config.labels

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that the file answers; the main one is ""."""
        return self.metadata.config.task_names

    def of(self, task: str) -> EdgeModel:
        """The same loaded model for another of its tasks: its labels, its answers.

        Raises:
            RuntimeInputError: It has no task of this name.
        """
        if task not in self.tasks:
            names = ", ".join(self.tasks[1:])
            expected = f"expected one of {names}, or none for the main one" if names else "it has only one: name none"
            raise RuntimeInputError(f"{self._path} has no task {task!r}, {expected}")
        if head_prefix(task) == self._prefix:
            return self
        model = copy(self)
        model._use(task)
        return model

    @property
    def members(self) -> int:
        """Members of the ensemble."""
        return self.metadata.members

    @property
    def max_length(self) -> int:
        """Tokens of the longest input, special tokens included; what is longer loses its end."""
        return self.metadata.max_length

    def predict(self, texts: Iterable[Text], *, batch_size: int = 32) -> list[Any]:
        """Answers every text, in order: with a `Prediction`, or by task a `TokenPrediction` or `QuestionPrediction`.

        Args:
            texts: Texts, or (text, pair) tuples if the task is on pairs. An empty text is answered from the special
                tokens alone; one longer than `max_length` loses its end and is marked as truncated, but for tasks on
                tokens, which read it in windows.
            batch_size: Texts per call of onnxruntime. Answers do not depend on it.

        Raises:
            RuntimeInputError: A text is of the wrong type, or `batch_size` is less than 1.
            ModelError: The model is damaged.
        """
        return list(self.stream(texts, batch_size=batch_size))

    def stream(self, texts: Iterable[Text], *, batch_size: int = 32) -> Iterator[Any]:
        """As `predict`, for input of any size: reads some texts at a time and yields answers in order."""
        config = self.config
        self._expect(not config.task.embeds and not config.task.fills, "has no label for a whole text")
        if config.task.answers_tokens:
            answer = _TOKEN_ANSWERS[config.task.type]
            return (
                answer(text, [one for one, _ in found], [members for _, members in found], config)
                for text, found in self._read(texts, batch_size)
            )
        return (predict(text, logits, members, config) for text, logits, members in self._answer(texts, batch_size))

    def logits(self, texts: Iterable[Text], *, batch_size: int = 32) -> Numbers:
        """The ensemble's logits of every text: float32 `[texts, labels]`. Arguments and errors as `predict`.

        Raises:
            RuntimeInputError: The model's task has no logits of a whole text.
        """
        self._expect(self.config.task.pooled, "has no logits of a whole text")
        rows = [logits for _, logits, _ in self._answer(texts, batch_size)]
        return np.stack(rows) if rows else np.zeros((0, len(self.labels)), np.float32)

    def rank(self, query: str, documents: Iterable[str], *, batch_size: int = 32) -> list[RankedDocument]:
        """Scores documents for a query: the best one first, of equal ones the one that came first.

        Args:
            query: The query.
            documents: The documents. Of a query and a document longer than `max_length` the longer loses its end.
            batch_size: Documents per call of onnxruntime.

        Raises:
            RuntimeInputError: The model gives no one score of two texts, an input is no str, or `batch_size` is less
                than 1.
            ModelError: The model is damaged.
        """
        config = self.config
        self._expect(config.task.text_pair and config.task.pooled and len(self.labels) == 1, "cannot rank documents")
        if isinstance(documents, str):
            raise RuntimeInputError("documents is one str, expected a list of them: write [document]")
        return rank(self.predict([(query, document) for document in documents], batch_size=batch_size))

    def embed(self, texts: Iterable[str], *, batch_size: int = 32) -> Numbers:
        """The embeddings of texts: float32 `[texts, embedding_size]`, of length 1, so that products are cosines.

        Args:
            texts: Texts. One longer than `max_length` loses its end.
            batch_size: Texts per call of onnxruntime.

        Raises:
            RuntimeInputError: The model gives no embeddings, a text is no str, or `batch_size` is less than 1.
            ModelError: The model is damaged.
        """
        rows = [np.asarray(found.vector, np.float32) for found in self.stream_embeddings(texts, batch_size=batch_size)]
        return np.stack(rows) if rows else np.zeros((0, self.embedding_size), np.float32)

    def stream_embeddings(self, texts: Iterable[str], *, batch_size: int = 32) -> Iterator[Embedding]:
        """As `embed`, one `Embedding` after the other, for input of any size. Arguments and errors as `embed`."""
        config = self.config
        self._expect(config.task.embeds, "gives no embeddings")
        answers = self._answer(texts, batch_size)
        return (embedding(text, vector, members, config) for text, vector, members in answers)

    def fill(self, texts: Iterable[str], *, top: int = 5, batch_size: int = 32) -> list[FilledText]:
        """Guesses the masked tokens of texts, each by itself.

        Args:
            texts: Texts with the tokenizer's mask, `[MASK]` or `<mask>`, for each token to be guessed.
            top: Guesses for each.
            batch_size: Texts per call of onnxruntime.

        Raises:
            RuntimeInputError: The model guesses no tokens, a text is no str or has no mask, or a number is less than 1.
            ModelError: The model is damaged.
        """
        return list(self.stream_filled(texts, top=top, batch_size=batch_size))

    def stream_filled(self, texts: Iterable[str], *, top: int = 5, batch_size: int = 32) -> Iterator[FilledText]:
        """As `fill`, for input of any size. Arguments and errors as `fill`."""
        self._expect(self.config.task.fills, "guesses no tokens")
        if top < 1:
            raise RuntimeInputError(f"top is {top}, expected an integer >= 1")
        answers, config, encoder = self._answer(texts, batch_size), self.config, self._encoder
        assert isinstance(encoder, TextEncoder)
        return (fill(text, logits, members, config, encoder.tokenizer, top) for text, logits, members in answers)

    @property
    def embedding_size(self) -> int:
        """Numbers of an embedding; 0 for models that give none."""
        return self.config.embedding_size

    def _expect(self, fits: bool, reason: str) -> None:
        if not fits:
            raise RuntimeInputError(f"{self._path} {reason}: it is a model for {self.config.task.type}")

    def _answer(self, texts: Iterable[Text], batch_size: int) -> Iterator[tuple[EncodedText, Numbers, Numbers]]:
        """Every text with the ensemble's answer and its members': `[labels]` and `[members, labels]`.

        For embeddings they are `[size]` and `[members, H]`; for masks `[masks, V]` and `[members, masks, V]`.
        """
        return ((text, *found[0]) for text, found in self._read(texts, batch_size))

    def _read(self, texts: Iterable[Text], batch_size: int) -> Iterator[tuple[Any, list[Answers]]]:
        """Every text as the encoder gives it, with the answers for each of its windows; most tasks have one window."""
        if isinstance(texts, str):
            raise RuntimeInputError("texts is one str, expected a list of them: write [text]")
        if batch_size < 1:
            raise RuntimeInputError(f"batch_size is {batch_size}, expected an integer >= 1")
        return self._read_some(iter(texts), batch_size)

    def _read_some(self, texts: Iterator[Text], batch_size: int) -> Iterator[tuple[Any, list[Answers]]]:
        first = 0
        # One text at a time needs no like lengths: a live source then gets each answer at once. Answers that are whole
        # vocabularies are too large to be kept for later.
        size = WINDOW_BATCHES * batch_size if batch_size > 1 and not self.config.task.fills else batch_size
        while some := list(islice(texts, size)):
            encoded = self._encoder.encode(some, first)
            windows = [[text] if isinstance(text, EncodedText) else text.windows for text in encoded]
            answers = self._run_sorted([window for parts in windows for window in parts], batch_size)
            for text, parts in zip(encoded, windows, strict=True):
                yield text, list(islice(answers, len(parts)))
            first += len(some)

    def _run_sorted(
        self, windows: Sequence[EncodedText | Window], batch_size: int
    ) -> Iterator[tuple[Numbers, Numbers]]:
        """The answers for windows in their order, computed in batches of like lengths."""
        answers: dict[int, Answers] = {}
        by_length = sorted(range(len(windows)), key=lambda i: len(windows[i].ids))
        for start in range(0, len(windows), batch_size):
            batch = by_length[start : start + batch_size]
            texts = [windows[i] for i in batch]
            combined, members = self._run(texts)
            for row, i in zip(self._rows(texts), batch, strict=True):
                answers[i] = combined[row], members[:, row]
        for i, window in enumerate(windows):
            combined, members = answers.pop(i)
            if self.config.task.answers_tokens:
                combined, members = combined[: len(window.ids)], members[:, : len(window.ids)]
            yield combined, members

    def _rows(self, batch: Sequence[EncodedText | Window]) -> Sequence[int | slice]:
        """Where each text's answer is in that to the batch."""
        if not self.config.task.fills:
            return range(len(batch))
        ends = np.cumsum([self._masks(text) for text in batch]).tolist()
        return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _masks(self, text: EncodedText | Window) -> int:
        mask_id = self.config.task.mask_id
        return 0 if mask_id is None else text.ids.count(mask_id)

    def _run(self, batch: Sequence[EncodedText | Window]) -> tuple[Numbers, Numbers]:
        shape = len(batch), max(len(text.ids) for text in batch)
        feed = {name: np.zeros(shape, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
        for row, text in enumerate(batch):
            length = len(text.ids)
            feed["input_ids"][row, :length] = text.ids
            feed["attention_mask"][row, :length] = 1
            feed["token_type_ids"][row, :length] = text.type_ids
        try:
            outputs = [self._prefix + name for name in self.config.task.outputs]
            combined, members = self._model.session.run(outputs, feed)
        except Exception as error:  # the exceptions of onnxruntime have no public base class
            reason = " ".join(str(error).split())
            raise ModelError(f"{self._path} failed: {reason:.300}. Copy the file again, or export it again") from error
        expected = self._shapes(*shape, sum(map(self._masks, batch)))
        if (combined.shape, members.shape) != expected:
            raise ModelError(
                f"{self._path} answers with shapes {[list(combined.shape), list(members.shape)]}, expected "
                f"{[list(shape) for shape in expected]}: the file is damaged. Export it again"
            )
        return combined, members

    def _shapes(self, texts: int, tokens: int, masks: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the two outputs."""
        config = self.config
        places = (texts, tokens) if config.task.answers_tokens else (texts,)
        places = (masks,) if config.task.fills else places
        width = config.logits_size
        return (*places, config.embedding_size or width), (config.members, *places, width)
