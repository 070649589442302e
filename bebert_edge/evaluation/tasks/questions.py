# SPDX-License-Identifier: Apache-2.0
"""Question answering: exact match and F1 of answers, as SQuAD's script computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.bootstrap import Bootstrap
from bebert_edge.evaluation.models import Array, EvaluatedModel, Progress
from bebert_edge.evaluation.tasks.task import Measured, TaskEvaluation
from bebert_edge.evaluation.tasks.windows import window_logits
from bebert_edge.runtime.answers import best_span
from bebert_edge.runtime.windows import WindowedText
from bebert_edge.training.squad import best_scores

if TYPE_CHECKING:
    from bebert_edge.training.question_files import QuestionExamples

Answers = list[str]


class Questions(TaskEvaluation[Answers]):
    """Exact match and F1 of answers. Where every question has an answer, a model must give one.

    Args:
        data: Questions, texts and answers.
        resamples: Of the bootstrap over questions.
        seed: Of the bootstrap.
    """

    task = "question-answering"
    metrics = ("f1", "exact_match")

    def __init__(self, data: QuestionExamples, resamples: int = 1000, seed: int = 0) -> None:
        self.data = data
        self.counts = {"questions": len(data), "without an answer": sum(not found for found in data.answers)}
        self.bootstrap = Bootstrap(len(data), resamples, seed)

    def check(self, model: EvaluatedModel) -> None:
        """See `TaskEvaluation.check`."""
        if model.task != self.task:
            raise EvaluationError(
                f"{model.path} is a model for {model.task}, expected one that answers questions: train one with --task "
                f"{self.task}"
            )

    def answers(self, model: EvaluatedModel, batch_size: int, progress: Progress) -> tuple[Answers, list[Answers]]:
        """See `TaskEvaluation.answers`."""
        combined: Answers = []
        members: list[Answers] = [[] for _ in range(model.members)]
        items = list(zip(self.data.questions, self.data.contexts, strict=True))
        for text, windows in window_logits(model, items, batch_size, progress):
            combined.append(self._answer(text, [window.answer for window in windows]))
            for i, answers in enumerate(members):
                answers.append(self._answer(text, [window.members[i] / model.temperature for window in windows]))
        return combined, members

    def _answer(self, text: WindowedText, logits: list[Array]) -> str:
        best, nothing = best_span(text, logits)
        return "" if nothing > best.score and not self.data.answerable else text.text[best.start : best.end]

    def measure(self, answer: Answers) -> dict[str, Measured]:
        """See `TaskEvaluation.measure`."""
        truths = ([text for text, _ in answers] for answers in self.data.answers)
        scores = np.array([best_scores(found, truth) for found, truth in zip(answer, truths, strict=True)])
        exact, f1 = scores.T
        values = {"f1": f1, "exact_match": exact}
        return {name: Measured(float(x.mean()), self.bootstrap.means(x)) for name, x in values.items()}
