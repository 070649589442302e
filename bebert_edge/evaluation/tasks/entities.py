# SPDX-License-Identifier: Apache-2.0
"""Token classification: entities by place and type, as CoNLL-2003 and seqeval count them, and labels of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.bootstrap import Bootstrap
from bebert_edge.evaluation.models import Array, EvaluatedModel, Progress
from bebert_edge.evaluation.tasks.task import Measured, TaskEvaluation
from bebert_edge.evaluation.tasks.windows import read_windows
from bebert_edge.runtime.entities import first_tokens
from bebert_edge.runtime.tags import OUTSIDE, chunk_counts, chunks

if TYPE_CHECKING:
    from bebert_edge.training.token_files import TokenExamples

Tags = list[list[str]]
"""The tag of every word of every sentence."""


class Entities(TaskEvaluation[Tags]):
    """Precision, recall and F1 of entities of all sentences together, and the share of words with the right tag.

    An entity is right if all its words and its type are. Words without a token are answered `O`.

    Args:
        data: Sentences with tags.
        resamples: Of the bootstrap over sentences.
        seed: Of the bootstrap.
    """

    task = "token-classification"
    metrics = ("f1", "precision", "recall", "accuracy")

    def __init__(self, data: TokenExamples, resamples: int = 1000, seed: int = 0) -> None:
        self.words = data.tokens
        self._data = data
        self._name(data.label_names)
        self.bootstrap = Bootstrap(len(data), resamples, seed)

    def _name(self, names: Sequence[str]) -> None:
        self.tags = [[names[tag] for tag in tags] for tags in self._data.tags]
        self.counts = {
            "sentences": len(self.tags),
            "words": sum(map(len, self.words)),
            "entities": sum(len(chunks(tags)) for tags in self.tags),
        }

    def check(self, model: EvaluatedModel) -> None:
        """See `TaskEvaluation.check`. Tags that are numbers are those of the model's labels."""
        if model.task != self.task:
            raise EvaluationError(
                f"{model.path} is a model for {model.task}, expected one that labels words: train one with --task "
                f"{self.task}"
            )
        names = self._data.label_names
        if all(name.isdecimal() for name in names) and len(names) <= len(model.labels):
            self._name(model.labels)
        unknown = sorted({tag for tags in self.tags for tag in tags} - set(model.labels))
        if unknown:
            raise EvaluationError(
                f"the data have the tag {unknown[0]!r}, {model.path} has {', '.join(model.labels)}: expected the same"
            )

    def answers(self, model: EvaluatedModel, batch_size: int, progress: Progress) -> tuple[Tags, list[Tags]]:
        """See `TaskEvaluation.answers`."""
        combined: Tags = []
        members: list[Tags] = [[] for _ in range(model.members)]
        texts = [" ".join(words) for words in self.words]
        for (text, found), words in zip(read_windows(model, texts, batch_size, progress), self.words, strict=True):
            firsts = first_tokens(text.spans, words)
            tokens = list(firsts.values())
            combined.append(_tags(model, found.answer[tokens], firsts, len(words)))
            for tags, logits in zip(members, found.members, strict=True):
                tags.append(_tags(model, logits[tokens], firsts, len(words)))
        return combined, members

    def measure(self, answer: Tags) -> dict[str, Measured]:
        """See `TaskEvaluation.measure`."""
        sums = np.array([[*self._words(i, tags), *chunk_counts(self.tags[i], tags)] for i, tags in enumerate(answer)])
        whole, drawn = (self._scores(x) for x in (sums.sum(0, keepdims=True), self.bootstrap.sums(sums.astype(float))))
        return {name: Measured(float(whole[name][0]), drawn[name]) for name in self.metrics}

    def _words(self, sentence: int, tags: Sequence[str]) -> tuple[int, int]:
        truth = self.tags[sentence]
        return len(truth), sum(a == b for a, b in zip(truth, tags, strict=True))

    @staticmethod
    def _scores(sums: Array) -> dict[str, Array]:
        """Metrics of sums `[R, 5]`: words, right ones, right entities, found ones, true ones."""
        words, right_words, right, found, true = np.asarray(sums, np.float64).T
        return {
            "f1": _ratio(2 * right, found + true),
            "precision": _ratio(right, found),
            "recall": _ratio(right, true),
            "accuracy": _ratio(right_words, words),
        }


def _tags(model: EvaluatedModel, logits: Array, firsts: dict[int, int], words: int) -> list[str]:
    tags = [OUTSIDE] * words
    for word, label in zip(firsts, logits.argmax(-1).tolist(), strict=True):
        tags[word] = model.labels[label]
    return tags


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
