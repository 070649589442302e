# SPDX-License-Identifier: Apache-2.0
"""Semantic textual similarity: cosines of the embeddings of two texts against scores that people gave them."""

from __future__ import annotations

import numpy as np

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.bootstrap import Bootstrap
from bebert_edge.evaluation.metrics import metrics_for
from bebert_edge.evaluation.models import Array, EvaluatedModel, Progress
from bebert_edge.evaluation.tasks.task import Measured, TaskEvaluation
from bebert_edge.training.files import Examples


def check_embeds(model: EvaluatedModel) -> None:
    """Raises EvaluationError unless a model gives embeddings."""
    if model.problem != "embedding":
        raise EvaluationError(
            f"{model.path} is a model for {model.task}, expected one that gives embeddings: train one with --task "
            "sentence-embedding"
        )


class Similarity(TaskEvaluation[Array]):
    """Correlations of cosines with scores. Answers are cosines `[N]`.

    Args:
        data: Pairs of texts with scores, a regression.
        resamples: Of the bootstrap over pairs.
        seed: Of the bootstrap.
    """

    task = "sentence-embedding"
    metrics = ("spearman", "pearson")

    def __init__(self, data: Examples, resamples: int = 1000, seed: int = 0) -> None:
        if data.pairs is None:
            raise EvaluationError(
                "the data have no second text: name the columns, --text-column A --text-pair-column B"
            )
        self.texts, self.pairs, self.scores = data.texts, data.pairs, np.array(data.labels, np.float64)
        self.counts = {"pairs": len(data)}
        self.bootstrap = Bootstrap(len(data), resamples, seed)

    def check(self, model: EvaluatedModel) -> None:
        """See `TaskEvaluation.check`."""
        check_embeds(model)

    def answers(self, model: EvaluatedModel, batch_size: int, progress: Progress) -> tuple[Array, list[Array]]:
        """See `TaskEvaluation.answers`."""
        texts = list(dict.fromkeys([*self.texts, *self.pairs]))
        rows = {text: i for i, text in enumerate(texts)}
        found = model.predict(texts, batch_size=batch_size, progress=progress)
        first, second = ([rows[text] for text in side] for side in (self.texts, self.pairs))

        def cosines(vectors: Array) -> Array:
            return np.asarray((vectors[first] * vectors[second]).sum(-1))

        return cosines(found.answer), [cosines(member) for member in found.members]

    def measure(self, answer: Array) -> dict[str, Measured]:
        """See `TaskEvaluation.measure`."""
        return {
            metric.name: Measured(
                metric.score(self.scores, answer),
                self.bootstrap.scores(metric, self.scores, answer, "regression", 1),
            )
            for metric in metrics_for("regression", 1)
            if metric.name in self.metrics
        }
