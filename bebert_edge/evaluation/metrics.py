# SPDX-License-Identifier: Apache-2.0
"""The metrics of GLUE and of multi-label tasks, by scikit-learn and scipy, of labels and answers.

Labels and answers are classes `[N]`, 0 or 1 `[N, C]` for multi-label tasks, or values `[N]` for regression.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation import sums
from bebert_edge.evaluation.models import Array

Labels = NDArray[Any]

MAIN = {"single_label": "accuracy", "multi_label": "f1_micro", "regression": "pearson"}
"""The metric that stands for all, by problem, where none is named."""


def answers(logits: Array, problem: str) -> Labels:
    """What logits `[..., N, C]` answer.

    The first of equal largest logits wins; of several labels, those hold whose logit is above 0.
    """
    if problem == "regression":
        return logits[..., 0]
    return (logits > 0).astype(np.int64) if problem == "multi_label" else logits.argmax(-1)


@dataclass(frozen=True)
class Metric:
    """A metric; more is better.

    Attributes:
        name: Its name in tables, JSON and `--metric`.
        score: Its value for labels and answers.
        from_sums: Its values for the sums over resampled examples (`sums.py`); None where it is no function of sums.
        from_counts: Its values for counts of examples `[R, N]`, labels and answers, where `from_sums` is None.
    """

    name: str
    score: Callable[[Labels, Labels], float]
    from_sums: sums.Score | None = None
    from_counts: sums.CountScore | None = None


def _accuracy(labels: Labels, answered: Labels) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, answered))


def _f1(average: str) -> Callable[[Labels, Labels], float]:
    def score(labels: Labels, answered: Labels) -> float:
        from sklearn.metrics import f1_score

        return float(f1_score(labels, answered, average=average, zero_division=0))

    return score


def _matthews(labels: Labels, answered: Labels) -> float:
    from sklearn.metrics import matthews_corrcoef

    return 0.0 if _constant(labels, answered) else float(matthews_corrcoef(labels, answered))


def _pearson(labels: Labels, answered: Labels) -> float:
    from scipy.stats import pearsonr

    return 0.0 if _constant(labels, answered) else float(pearsonr(labels, answered).statistic)


def _spearman(labels: Labels, answered: Labels) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _constant(labels, answered) else float(spearmanr(labels, answered).statistic)


def _constant(labels: Labels, answered: Labels) -> bool:
    """Whether no correlation is defined: where labels or answers are all the same, it is given as 0."""
    return bool(np.ptp(labels) == 0 or np.ptp(answered) == 0)


def _both(labels: Labels, answered: Labels) -> float:
    return (_pearson(labels, answered) + _spearman(labels, answered)) / 2


_ACCURACY = Metric("accuracy", _accuracy, sums.accuracy)
_MATTHEWS = Metric("matthews", _matthews, sums.matthews)
_F1_MICRO = Metric("f1_micro", _f1("micro"), sums.f1_micro)
_TWO_CLASSES = (_ACCURACY, Metric("f1", _f1("binary"), sums.f1_of_class_1), _MATTHEWS)
_CLASSES = (_ACCURACY, Metric("f1_macro", _f1("macro"), sums.f1_macro_of_present), _F1_MICRO, _MATTHEWS)
_MULTI_LABEL = (_F1_MICRO, Metric("f1_macro", _f1("macro"), sums.f1_macro), _ACCURACY)
_REGRESSION = (
    Metric("pearson", _pearson, sums.pearson),
    Metric("spearman", _spearman, from_counts=sums.spearman),
    Metric("pearson_spearman", _both, from_counts=sums.pearson_and_spearman),
)


def metrics_for(problem: str, classes: int) -> tuple[Metric, ...]:
    """The metrics of a task with so many classes."""
    if problem == "single_label":
        return _TWO_CLASSES if classes == 2 else _CLASSES
    return _MULTI_LABEL if problem == "multi_label" else _REGRESSION


def choose(names: Sequence[str], main: str | None, problem: str, classes: int) -> list[Metric]:
    """Metrics of a task by name, the main one first.

    Args:
        names: The metrics; none for all of the task.
        main: The main metric; by default the first of `names`, or else `MAIN[problem]`.
        problem: `single_label`, `multi_label` or `regression`.
        classes: Logits of an example.

    Raises:
        EvaluationError: The task has no such metric.
    """
    available = {metric.name: metric for metric in metrics_for(problem, classes)}
    main = main or (names[0] if names else MAIN[problem])
    for name in (main, *names):
        if name not in available:
            raise EvaluationError(
                f"{name!r} is no metric of a {problem} task of {classes} label{'s' if classes > 1 else ''}, "
                f"expected some of {', '.join(available)}: name them with --metrics"
            )
    return [available[name] for name in dict.fromkeys((main, *(names or available)))]
