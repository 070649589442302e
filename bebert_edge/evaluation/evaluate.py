# SPDX-License-Identifier: Apache-2.0
"""Evaluates models on labelled text: scores, calibration, members, robustness, comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.bootstrap import CONFIDENCE, Bootstrap
from bebert_edge.evaluation.calibration import Calibration, Errors, calibration, regression_errors
from bebert_edge.evaluation.data import EvaluationData, column_orders
from bebert_edge.evaluation.diversity import diversity
from bebert_edge.evaluation.metrics import Labels, Metric, answers, choose
from bebert_edge.evaluation.models import BATCH_SIZE, Array, EmbeddingNoise, EvaluatedModel, MemberLogits
from bebert_edge.evaluation.perturbation import Perturbation, perturb
from bebert_edge.evaluation.report import (
    Comparison,
    Gain,
    McNemar,
    MemberRow,
    ModelReport,
    Report,
    Robustness,
    Score,
)

Progress = Callable[[str, int, int], None]
"""Called after each batch: what is being answered, examples done, examples in all."""


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Attributes:
        metrics: Names of metrics; none for all of the task. The first is the main one where `metric` names none.
        metric: The main metric; by default that of the data if they have one, or else `metrics.MAIN` of the problem.
        perturbations: What to try robustness against.
        draws: How often each perturbation is drawn anew, to be averaged.
        resamples: Resamples of the bootstrap; 0 for no intervals.
        seed: Seed of bootstrap and perturbations.
        batch_size: Texts at a time.
    """

    metrics: Sequence[str] = ()
    metric: str | None = None
    perturbations: Sequence[Perturbation] = ()
    draws: int = 1
    resamples: int = 1000
    seed: int = 0
    batch_size: int = BATCH_SIZE


def evaluate(
    models: Sequence[EvaluatedModel],
    data: EvaluationData,
    settings: Settings,
    *,
    name: str = "",
    compare_to: EvaluatedModel | None = None,
    progress: Progress = lambda step, done, examples: None,
) -> Report:
    """Evaluates models, and compares each to one of them or to another.

    Args:
        models: The models.
        data: Labelled texts.
        settings: How.
        name: What the data are called in the report.
        compare_to: What to compare each model to.
        progress: Called after each batch.

    Raises:
        EvaluationError: Models, data or settings do not fit together.
        ModelError: A model's answers are not finite.
    """
    everything = [*models, *([] if compare_to is None or compare_to in models else [compare_to])]
    orders = column_orders(everything, data)
    for model in everything:
        model.check_pairs(data.pairs is not None)
    task = _Task(data, settings, progress)
    runs = [_Run(task, model, order) for model, order in zip(everything, orders, strict=True)]
    reports = tuple(run.report() for run in runs)
    comparisons: tuple[Comparison, ...] = ()
    if compare_to is not None:
        second = runs[everything.index(compare_to)]
        comparisons = tuple(task.compare(run, second) for run in runs if run is not second)
    return Report(
        data=name,
        examples=len(data),
        problem=data.problem,
        labels=data.label_names,
        metric=task.main.name,
        resamples=settings.resamples,
        confidence=CONFIDENCE,
        seed=settings.seed,
        draws=settings.draws,
        models=reports,
        comparisons=comparisons,
    )


class _Task:
    """What all models have in common: the data, the metrics and the resamples."""

    def __init__(self, data: EvaluationData, settings: Settings, progress: Progress) -> None:
        if settings.draws < 1:
            raise EvaluationError(f"--draws is {settings.draws}, expected 1 or more")
        self.data, self.settings, self.progress = data, settings, progress
        main = settings.metric or (None if settings.metrics else data.metric)
        self.metrics = choose(settings.metrics, main, data.problem, data.classes)
        self.main = self.metrics[0]
        self.bootstrap = Bootstrap(len(data), settings.resamples, settings.seed)

    def answers(self, logits: Array) -> Labels:
        return answers(logits, self.data.problem)

    def value(self, logits: Array) -> float:
        return self.main.score(self.data.labels, self.answers(logits))

    def resampled(self, logits: Array, metric: Metric | None = None) -> Array:
        data = self.data
        return self.bootstrap.scores(metric or self.main, data.labels, self.answers(logits), data.problem, data.classes)

    def score(self, value: float, resampled: Array) -> Score:
        return Score(value, self.bootstrap.interval(resampled))

    def calibration(self, logits: Array) -> Calibration | Errors:
        if self.data.problem == "regression":
            return regression_errors(logits[:, 0], self.data.labels)
        return calibration(logits, self.data.labels, self.data.problem)

    def compare(self, first: _Run, second: _Run) -> Comparison:
        a, b = first.logits.answer, second.logits.answer
        mcnemar, equal = None, None
        if self.data.problem != "regression":
            answered = [self.answers(logits).reshape(len(self.data), -1) for logits in (a, b)]
            labels = self.data.labels.reshape(len(self.data), -1)
            mcnemar = _mcnemar(*((labels == found).all(1) for found in answered))
            equal = float((answered[0] == answered[1]).all(1).mean())
        return Comparison(
            first=first.model.path,
            second=second.model.path,
            difference=self.score(first.value - second.value, first.resampled - second.resampled),
            mcnemar=mcnemar,
            equal_answers=equal,
            largest_logit_difference=float(np.abs(a - b).max()),
        )


def _mcnemar(first: Labels, second: Labels) -> McNemar:
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    differ = only_first + only_second
    return McNemar(only_first, only_second, float(binomtest(only_first, differ).pvalue) if differ else 1.0)


class _Run:
    """One model's answers to the unperturbed texts, and what follows from them."""

    def __init__(self, task: _Task, model: EvaluatedModel, order: Sequence[int]) -> None:
        self.task, self.model, self.order = task, model, order
        begin = time.perf_counter()
        self.logits = self.predict()
        self.seconds = time.perf_counter() - begin
        self.value = task.value(self.logits.answer)
        self.resampled = task.resampled(self.logits.answer)
        self.member_values = np.array([task.value(member) for member in self.logits.members])
        self.member_resampled = np.stack([task.resampled(member) for member in self.logits.members])

    def predict(self, perturbation: Perturbation | None = None, draw: int = 0) -> MemberLogits:
        data, settings = self.task.data, self.task.settings
        texts, pairs, noise, step = data.texts, data.pairs, None, self.model.path
        if perturbation is not None:
            seed = settings.seed + draw
            step = f"{step}, {perturbation.kind} {perturbation.strength:g}"
            if perturbation.on_text:
                texts = perturb(texts, perturbation, seed)
                pairs = None if pairs is None else perturb(pairs, perturbation, seed, second=True)
            else:
                noise = EmbeddingNoise(perturbation.strength, seed)
        found = self.model.predict(
            texts,
            pairs,
            noise=noise,
            batch_size=settings.batch_size,
            progress=lambda done, examples: self.task.progress(step, done, examples),
        )
        return found.columns(self.order)

    def report(self) -> ModelReport:
        task, model, logits = self.task, self.model, self.logits
        labels = task.data.labels
        scores = {
            metric.name: task.score(
                metric.score(labels, task.answers(logits.answer)), task.resampled(logits.answer, metric)
            )
            for metric in task.metrics
        }
        rows = zip(logits.members, model.weights, self.member_values, self.member_resampled, strict=True)
        return ModelReport(
            path=model.path,
            kind=model.kind,
            backend=model.backend,
            combination=model.combination,
            temperature=model.temperature,
            seconds=self.seconds,
            scores=scores,
            calibration=task.calibration(logits.answer),
            members=tuple(
                MemberRow(weight, task.score(float(value), resampled), task.calibration(member))
                for member, weight, value, resampled in rows
            ),
            diversity=diversity(logits, labels),
            gain=self.gain() if model.members > 1 else None,
            robustness=tuple(self.robustness(perturbation) for perturbation in task.settings.perturbations),
        )

    def gain(self) -> Gain:
        score, best = self.task.score, int(self.member_values.argmax())
        return Gain(
            over_mean=score(
                float(self.value - self.member_values.mean()), self.resampled - self.member_resampled.mean(0)
            ),
            over_best=score(float(self.value - self.member_values[best]), self.resampled - self.member_resampled[best]),
            best=best,
        )

    def robustness(self, perturbation: Perturbation) -> Robustness:
        task = self.task
        drawn = [self.scores_under(perturbation, draw) for draw in range(task.settings.draws)]
        value, resampled, members, members_resampled = (np.mean(found, axis=0) for found in zip(*drawn, strict=True))
        loss, losses = self.value - value, self.resampled - resampled
        member_loss, member_losses = self.member_values - members, self.member_resampled - members_resampled
        mean, means = member_loss.mean(), member_losses.mean(0)
        return Robustness(
            kind=perturbation.kind,
            strength=perturbation.strength,
            score=task.score(float(value), resampled),
            loss=task.score(float(loss), losses),
            mean_member_loss=task.score(float(mean), means),
            member_losses=tuple(member_loss.tolist()),
            advantage=task.score(float(mean - loss), means - losses),
            loses_more_than=tuple(i for i, member in enumerate(member_loss.tolist()) if member < loss),
        )

    def scores_under(self, perturbation: Perturbation, draw: int) -> tuple[float, Array, Array, Array]:
        """The main metric of the ensemble and of the members, each with its values on the resamples."""
        task, logits = self.task, self.predict(perturbation, draw)
        members = logits.members
        return (
            task.value(logits.answer),
            task.resampled(logits.answer),
            np.array([task.value(member) for member in members]),
            np.stack([task.resampled(member) for member in members]),
        )
