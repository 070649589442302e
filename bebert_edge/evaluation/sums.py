# SPDX-License-Identifier: Apache-2.0
"""Metrics as functions of sums over examples, so that the sums of a thousand resamples are one matrix product.

`metrics.py` has the values themselves from scikit-learn and scipy; these formulas are for the bootstrap only, and tests
hold the two against each other. R resamples of N examples give sums `[R, S]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Score = Callable[[Array], Array]
"""Sums `[R, S]` -> values `[R]`."""
CountScore = Callable[[Array, NDArray[Any], NDArray[Any]], Array]
"""How often each example is drawn `[R, N]`, labels and answers `[N]` -> values `[R]`."""


def example_sums(labels: NDArray[Any], answered: NDArray[Any], problem: str, classes: int) -> Array:
    """What is summed for each example `[N, S]`.

    With classes: 1, whether all is right, and by class whether it is right, answered and true. With values: 1, and the
    first and second moments about the means of all.
    """
    if problem == "regression":
        x, y = labels - labels.mean(), answered - answered.mean()
        return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    if problem == "single_label":
        labels, answered = np.eye(classes)[labels], np.eye(classes)[answered]
    count = np.ones((len(labels), 1))
    right = (labels == answered).all(1, keepdims=True)
    return np.hstack([count, right, labels * answered, answered, labels]).astype(np.float64)


class _ClassSums(NamedTuple):
    examples: Array
    right: Array
    class_right: Array
    class_answered: Array
    class_true: Array


def _classes(sums: Array) -> _ClassSums:
    return _ClassSums(sums[:, 0], sums[:, 1], *np.split(sums[:, 2:], 3, axis=1))


def _ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient, 0 where the denominator is."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _f1(sums: Array) -> Array:
    found = _classes(sums)
    return _ratio(2 * found.class_right, found.class_answered + found.class_true)


def accuracy(sums: Array) -> Array:
    """Share of the examples of which all is right."""
    return _ratio(sums[:, 1], sums[:, 0])


def f1_of_class_1(sums: Array) -> Array:
    """F1 of class 1."""
    return _f1(sums)[:, 1]


def f1_macro(sums: Array) -> Array:
    """Mean F1 of all classes."""
    return np.asarray(_f1(sums).mean(1))


def f1_macro_of_present(sums: Array) -> Array:
    """Mean F1 of the classes that are true or answered somewhere, as scikit-learn takes it for a single label."""
    found = _classes(sums)
    present = found.class_answered + found.class_true > 0
    return np.asarray(_f1(sums).sum(1) / present.sum(1))


def f1_micro(sums: Array) -> Array:
    """F1 of all classes' answers together."""
    found = _classes(sums)
    return _ratio(2 * found.class_right.sum(1), (found.class_answered + found.class_true).sum(1))


def matthews(sums: Array) -> Array:
    """Matthews correlation, for K classes as Gorodkin 2004 (doi:10.1016/j.compbiolchem.2004.09.006)."""
    n, right, _, answered, true = _classes(sums)
    covariance = n * right - (answered * true).sum(1)
    variances = (n * n - (answered * answered).sum(1)) * (n * n - (true * true).sum(1))
    return _ratio(covariance, np.sqrt(variances))


def pearson(sums: Array) -> Array:
    """Pearson correlation of values."""
    n, x, y, xx, yy, xy = sums.T
    variances = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    return _ratio(n * xy - x * y, np.sqrt(variances))


def spearman(counts: Array, labels: NDArray[Any], answered: NDArray[Any]) -> Array:
    """Spearman correlation: the Pearson correlation of ranks, which depend on what is drawn."""
    x, y = _ranks(counts, labels), _ranks(counts, answered)
    pairs = [np.ones_like(x), x, y, x * x, y * y, x * y]
    return pearson(np.stack([(counts * values).sum(1) for values in pairs], axis=1))


def _ranks(counts: Array, values: NDArray[Any]) -> Array:
    """Ranks of examples in each resample `[R, N]`, about their mean; equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    _, begins, which = np.unique(values[order], return_index=True, return_inverse=True)
    drawn = np.add.reduceat(counts[:, order], begins, axis=1)  # of each distinct value
    ranks = np.cumsum(drawn, axis=1) - (drawn - 1) / 2 - (counts.shape[1] + 1) / 2
    return np.asarray(ranks[:, which[np.argsort(order)]])


def pearson_and_spearman(counts: Array, labels: NDArray[Any], answered: NDArray[Any]) -> Array:
    """Mean of both correlations, as GLUE takes it."""
    moments = example_sums(labels, answered, "regression", 1)
    return (pearson(counts @ moments) + spearman(counts, labels, answered)) / 2
