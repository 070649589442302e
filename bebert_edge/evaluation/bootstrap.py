# SPDX-License-Identifier: Apache-2.0
"""Percentile bootstrap over examples; all intervals use the same resamples, so that differences are paired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.metrics import Labels, Metric
from bebert_edge.evaluation.models import Array
from bebert_edge.evaluation.sums import example_sums

CONFIDENCE = 0.95
_CHUNK = 50  # resamples in one matrix product


@dataclass(frozen=True)
class Interval:
    """The middle `CONFIDENCE` of what the resamples give."""

    low: float
    high: float


class Bootstrap:
    """Resamples of N examples with replacement (Efron and Tibshirani 1993, chapter 13).

    Args:
        examples: N.
        resamples: How many; 0 for no intervals.
        seed: Seed.

    Raises:
        EvaluationError: There are too few resamples for 95 %.
    """

    def __init__(self, examples: int, resamples: int = 1000, seed: int = 0) -> None:
        if resamples != 0 and resamples < 100:
            raise EvaluationError(f"--bootstrap is {resamples}, expected 100 or more, or 0 for no intervals")
        self.resamples, self.seed = resamples, seed
        generator = np.random.default_rng(seed)
        self._counts = np.empty((resamples, examples), np.uint16)
        for row in self._counts:
            row[:] = np.bincount(generator.integers(examples, size=examples), minlength=examples)

    def sums(self, values: Array) -> Array:
        """Sums over the examples of each resample: `[N, S]` -> `[R, S]`."""
        return self._by_chunk(lambda counts: counts @ values)

    def _by_chunk(self, compute: Callable[[Array], Array]) -> Array:
        begins = range(0, max(self.resamples, 1), _CHUNK)  # one empty chunk, for the shape, where there are none
        return np.concatenate([compute(self._counts[i : i + _CHUNK].astype(np.float64)) for i in begins])

    def means(self, values: NDArray[Any]) -> Array:
        """Means of values `[N]` over each resample: `[R]`."""
        return self.sums(values.astype(np.float64)[:, None])[:, 0] / len(values)

    def scores(self, metric: Metric, labels: Labels, answered: Labels, problem: str, classes: int) -> Array:
        """A metric's value on each resample: `[R]`."""
        if metric.from_sums is not None:
            return metric.from_sums(self.sums(example_sums(labels, answered, problem, classes)))
        assert metric.from_counts is not None
        score = metric.from_counts
        return self._by_chunk(lambda counts: score(counts, labels, answered))

    def interval(self, values: Array) -> Interval | None:
        """The percentile interval of a statistic's values on the resamples; None without resamples."""
        if not len(values):
            return None
        low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Interval(float(low), float(high))
