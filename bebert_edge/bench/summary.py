# SPDX-License-Identifier: Apache-2.0
"""What is said of a list of times: percentiles of the times, and of the ratios of two lists taken in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Times of one contender in milliseconds."""

    median: float
    p95: float
    best: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Summary:
        """Summarises times in seconds, of which there must be one or more."""
        median, p95, best = (1e3 * float(np.percentile(seconds, q)) for q in (50, 95, 0))
        return cls(median, p95, best)


@dataclass(frozen=True)
class Ratio:
    """How many times as long another one took, from the ratios of single rounds."""

    median: float
    p5: float
    p95: float

    @classmethod
    def of(cls, others: Sequence[float], seconds: Sequence[float]) -> Ratio:
        """Summarises `others[i] / seconds[i]`, both from round i, so that what slows a round slows both sides of it."""
        ratios = np.asarray(others) / np.asarray(seconds)
        median, p5, p95 = (float(np.percentile(ratios, q)) for q in (50, 5, 95))
        return cls(median, p5, p95)
