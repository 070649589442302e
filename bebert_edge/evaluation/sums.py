# SPDX-License-Identifier: Apache-2.0
"""Metrics as functions of sums over examples, so that the sums of a thousand resamples are one matrix product.

`metrics.py` has the values themselves from scikit-learn and scipy; these formulas are for the bootstrap only, and tests
hold the two against each other. R resamples of N examples give sums `[R, S]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Score = Callable[[Array], Array]
"""Sums `[R, S]` -> values `[R]`."""


def example_sums(labels: NDArray[Any], answered: NDArray[Any], problem: str, classes: int) -> Array:
    """What is summed for each example: `[N, S]`."""
    if problem == "regression":
        return moments.of(labels, answered)
    if problem == "single_label":
        hot = np.eye(classes)
        labels, answered = hot[labels], hot[answered]
    return class_sums.of(labels, answered)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient, 0 where the denominator is."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


class class_sums:  # noqa: N801 - a namespace
    """Of examples whose labels and answers are 0 or 1 `[N, C]`: 1, right, and by class right, answered and true."""

    @staticmethod
    def of(labels: NDArray[Any], answered: NDArray[Any]) -> Array:
        count = np.ones((len(labels), 1))
        right = (labels == answered).all(1, keepdims=True)
        return np.hstack([count, right, labels * answered, answered, labels]).astype(np.float64)

    @staticmethod
    def _split(sums: Array) -> tuple[Array, ...]:
        return (sums[:, 0], sums[:, 1], *np.split(sums[:, 2:], 3, axis=1))

    @staticmethod
    def accuracy(sums: Array) -> Array:
        return sums[:, 1] / sums[:, 0]

    @staticmethod
    def _f1(sums: Array) -> tuple[Array, Array]:
        _, _, right, answered, true = class_sums._split(sums)
        return _ratio(2 * right, answered + true), answered + true > 0

    @staticmethod
    def f1_of_class_1(sums: Array) -> Array:
        return class_sums._f1(sums)[0][:, 1]

    @staticmethod
    def f1_macro(sums: Array) -> Array:
        return class_sums._f1(sums)[0].mean(1)

    @staticmethod
    def f1_macro_of_present(sums: Array) -> Array:
        f1, present = class_sums._f1(sums)
        return f1.sum(1) / present.sum(1)

    @staticmethod
    def f1_micro(sums: Array) -> Array:
        _, _, right, answered, true = class_sums._split(sums)
        return _ratio(2 * right.sum(1), (answered + true).sum(1))

    @staticmethod
    def matthews(sums: Array) -> Array:
        """For K classes (Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006)."""
        n, correct, _, answered, true = class_sums._split(sums)
        covariance = n * correct - (answered * true).sum(1)
        variances = (n * n - (answered * answered).sum(1)) * (n * n - (true * true).sum(1))
        return _ratio(covariance, np.sqrt(variances))


class moments:  # noqa: N801 - a namespace
    """Of examples whose labels and answers are values: 1, and first and second moments about the mean of all."""

    @staticmethod
    def of(labels: NDArray[Any], answered: NDArray[Any]) -> Array:
        x, y = labels - labels.mean(), answered - answered.mean()
        return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)

    @staticmethod
    def pearson(sums: Array) -> Array:
        n, x, y, xx, yy, xy = sums.T
        variances = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
        return _ratio(n * xy - x * y, np.sqrt(variances))
