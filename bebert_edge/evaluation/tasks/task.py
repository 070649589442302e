# SPDX-License-Identifier: Apache-2.0
"""Evaluations of tasks that have no labels of whole texts: what they have in common, and their report."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.bootstrap import CONFIDENCE, Bootstrap
from bebert_edge.evaluation.models import Array, EvaluatedModel, Progress
from bebert_edge.evaluation.report import Gain, Score

A = TypeVar("A")


@dataclass(frozen=True)
class Measured:
    """A metric's value, and its values on the resamples `[R]`."""

    value: float
    resampled: Array


class TaskEvaluation(ABC, Generic[A]):
    """One task's data and metrics; `A` are the answers of an ensemble, or of one member, to all of the data.

    Attributes:
        task: The task, as `TaskConfig.type` or a part of one.
        counts: How many examples of each kind there are, for people.
        metrics: Names of the metrics, the main one first.
        bootstrap: Resamples of the examples.
    """

    task: str
    counts: Mapping[str, int]
    metrics: tuple[str, ...]
    bootstrap: Bootstrap

    @abstractmethod
    def check(self, model: EvaluatedModel) -> None:
        """Raises EvaluationError if a model does not answer such data."""

    @abstractmethod
    def answers(self, model: EvaluatedModel, batch_size: int, progress: Progress) -> tuple[A, list[A]]:
        """What a model answers, and what each member alone does."""

    @abstractmethod
    def measure(self, answer: A) -> dict[str, Measured]:
        """Every metric by name."""


@dataclass(frozen=True)
class TaskModelReport:
    """One model.

    Attributes:
        path: What was named.
        kind: See `EvaluatedModel`.
        backend: What computed.
        combination: How members become an answer.
        seconds: Time to answer, tokenizing included.
        scores: Every metric of the ensemble, the main one first.
        weights: Weight of every member.
        members: The main metric of each member alone.
        gain: None for a single member.
    """

    path: str
    kind: str
    backend: str
    combination: str
    seconds: float
    scores: dict[str, Score]
    weights: tuple[float, ...]
    members: tuple[Score, ...]
    gain: Gain | None


@dataclass(frozen=True)
class Difference:
    """The main metric of one model less that of another; the bootstrap is paired."""

    first: str
    second: str
    difference: Score


@dataclass(frozen=True)
class TaskReport:
    """A whole evaluation of a task; docs/evaluating.md has the meaning of every field."""

    data: str
    task: str
    counts: dict[str, int]
    metric: str
    resamples: int
    confidence: float
    seed: int
    models: tuple[TaskModelReport, ...]
    comparisons: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


class _Run(Generic[A]):
    """One model's answers, measured."""

    def __init__(
        self, evaluation: TaskEvaluation[A], model: EvaluatedModel, names: Sequence[str], batch_size: int, step: Any
    ) -> None:
        self.model, self.names, self.bootstrap = model, names, evaluation.bootstrap
        begin = time.perf_counter()
        answer, members = evaluation.answers(model, batch_size, lambda done, of: step(model.path, done, of))
        self.seconds = time.perf_counter() - begin
        self.measured = evaluation.measure(answer)
        self.members = [evaluation.measure(member)[names[0]] for member in members]

    @property
    def main(self) -> Measured:
        return self.measured[self.names[0]]

    def score(self, value: float, resampled: Array) -> Score:
        return Score(float(value), self.bootstrap.interval(resampled))

    def difference(self, first: Measured, second: Measured) -> Score:
        return self.score(first.value - second.value, first.resampled - second.resampled)

    def gain(self) -> Gain | None:
        if len(self.members) == 1:
            return None
        values = [member.value for member in self.members]
        best = int(np.argmax(values))
        mean = Measured(float(np.mean(values)), np.mean([member.resampled for member in self.members], axis=0))
        return Gain(self.difference(self.main, mean), self.difference(self.main, self.members[best]), best)

    def report(self) -> TaskModelReport:
        found = {name: self.measured[name] for name in self.names}
        return TaskModelReport(
            path=self.model.path,
            kind=self.model.kind,
            backend=self.model.backend,
            combination=self.model.combination,
            seconds=self.seconds,
            scores={name: self.score(x.value, x.resampled) for name, x in found.items()},
            weights=tuple(self.model.weights),
            members=tuple(self.score(x.value, x.resampled) for x in self.members),
            gain=self.gain(),
        )


def evaluate_task(
    models: Sequence[EvaluatedModel],
    evaluation: TaskEvaluation[Any],
    *,
    name: str = "",
    metrics: Sequence[str] = (),
    metric: str | None = None,
    compare_to: EvaluatedModel | None = None,
    batch_size: int = 32,
    progress: Any = lambda step, done, examples: None,
) -> TaskReport:
    """Evaluates models on a task, and compares each to one of them or to another.

    Args:
        models: The models.
        evaluation: Data and metrics.
        name: What the data are called in the report.
        metrics: Names of metrics; none for all.
        metric: The main metric; by default the first of `metrics`, or else the task's.
        compare_to: What to compare each model to.
        batch_size: Texts at a time.
        progress: Called after each batch: what is answered, examples done, examples in all.

    Raises:
        EvaluationError: A model does not fit the data, or a metric does not exist.
    """
    main = metric or (metrics[0] if metrics else evaluation.metrics[0])
    for wanted in (main, *metrics):
        if wanted not in evaluation.metrics:
            raise EvaluationError(
                f"{wanted!r} is no metric of {evaluation.task}, expected some of {', '.join(evaluation.metrics)}: name "
                "them with --metrics"
            )
    names = list(dict.fromkeys((main, *(metrics or evaluation.metrics))))
    everything = [*models, *([] if compare_to is None or compare_to in models else [compare_to])]
    for model in everything:
        evaluation.check(model)
    runs = [_Run(evaluation, model, names, batch_size, progress) for model in everything]
    comparisons: tuple[Difference, ...] = ()
    if compare_to is not None:
        second = runs[everything.index(compare_to)]
        comparisons = tuple(
            Difference(run.model.path, second.model.path, run.difference(run.main, second.main))
            for run in runs
            if run is not second
        )
    return TaskReport(
        data=name,
        task=evaluation.task,
        counts=dict(evaluation.counts),
        metric=main,
        resamples=evaluation.bootstrap.resamples,
        confidence=CONFIDENCE,
        seed=evaluation.bootstrap.seed,
        models=tuple(run.report() for run in runs),
        comparisons=comparisons,
    )
