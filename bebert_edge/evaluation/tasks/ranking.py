# SPDX-License-Identifier: Apache-2.0
"""Metrics of ranked documents, a number for each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.evaluation.bootstrap import Bootstrap
from bebert_edge.evaluation.models import Array
from bebert_edge.evaluation.tasks.task import Measured

K = 10
"""Documents that the reader of a ranking looks at."""


def reciprocal_rank(found: Array, k: int = K) -> float:
    """1 / the place of the first relevant document among the first `k`; 0 where there is none (MRR's summand).

    Args:
        found: Relevance of the documents in the order of their scores; relevant is more than 0.
        k: How far to look.
    """
    places = np.flatnonzero(found[:k] > 0)
    return 1 / (1 + float(places[0])) if len(places) else 0.0


def ndcg(found: Array, judged: Array, k: int = K) -> float:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002), with relevance itself as gain.

    Args:
        found: As for `reciprocal_rank`.
        judged: Relevance of all documents that were judged for the query.
        k: How far to look.
    """
    ideal = _discounted(np.sort(judged)[::-1][:k])
    return _discounted(found[:k]) / ideal if ideal > 0 else 0.0


def _discounted(relevance: Array) -> float:
    return float((relevance / np.log2(np.arange(2, len(relevance) + 2))).sum())


def recall(found: Array, judged: Array, k: int) -> float:
    """Share of the relevant documents that are among the first `k`."""
    relevant = int((judged > 0).sum())
    return float((found[:k] > 0).sum() / relevant) if relevant else 0.0


def order(scores: NDArray[Any], relevance: Array) -> NDArray[np.int64]:
    """Documents by their scores, the highest first; of equal scores the less relevant: a tie earns nothing."""
    return np.lexsort((relevance, -scores))


def means(values: Mapping[str, Sequence[float]], bootstrap: Bootstrap) -> dict[str, Measured]:
    """Means of metrics over queries."""
    arrays = {name: np.asarray(numbers, np.float64) for name, numbers in values.items()}
    return {name: Measured(float(array.mean()), bootstrap.means(array)) for name, array in arrays.items()}
