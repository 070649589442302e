# SPDX-License-Identifier: Apache-2.0
"""How far probabilities can be believed: likelihood, Brier score, expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.evaluation.models import Array

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Calibration of the probabilities of N answers; less is better.

    Attributes:
        nll: Mean negative log-likelihood of the labels, in nats; for multi-label tasks the mean over labels too.
        brier: Mean squared distance of the probabilities `[C]` from the label's one-hot vector, 0 .. 2 (Brier 1950);
            for multi-label tasks the mean over labels of the squared difference, 0 .. 1.
        ece: Expected calibration error with 15 bins of equal width (Guo et al. 2017, arXiv:1706.04599).
        adaptive_ece: The same with 15 bins of equal counts (Nixon et al. 2019, arXiv:1904.01685).
        confidence: Mean confidence, to be held against the accuracy.
    """

    nll: float
    brier: float
    ece: float
    adaptive_ece: float
    confidence: float


@dataclass(frozen=True)
class Errors:
    """Errors of the values of a regression: root of the mean squared error, and mean absolute error."""

    rmse: float
    mae: float


def probabilities(logits: Array, problem: str) -> Array:
    """Softmax of logits `[..., C]`, or sigmoid for multi-label tasks."""
    if problem == "multi_label":
        return np.asarray(np.exp(-np.logaddexp(0, -logits)))
    return np.asarray(np.exp(log_softmax(logits)))


def log_softmax(logits: Array) -> Array:
    """Logarithms of the softmax of logits `[..., C]`."""
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))


def nll_by_example(logits: Array, labels: NDArray[Any], problem: str) -> Array:
    """Negative log-likelihood of every example's label `[N]`; for multi-label tasks the mean over labels."""
    if problem == "multi_label":
        return np.asarray(np.logaddexp(0, np.where(labels == 1, -logits, logits)).mean(-1))
    return np.asarray(-log_softmax(logits)[np.arange(len(labels)), labels])


def calibration(logits: Array, labels: NDArray[Any], problem: str) -> Calibration:
    """Calibration of logits `[N, C]` on classes `[N]`, or on 0 and 1 `[N, C]` for multi-label tasks."""
    p = probabilities(logits, problem)
    if problem == "multi_label":
        confidence, right = p.ravel(), labels.ravel() == 1
        brier = np.square(p - labels).mean()
    else:
        confidence, right = p.max(-1), p.argmax(-1) == labels
        brier = np.square(p - np.eye(p.shape[1])[labels]).sum(-1).mean()
    return Calibration(
        nll=float(nll_by_example(logits, labels, problem).mean()),
        brier=float(brier),
        ece=expected_calibration_error(confidence, right),
        adaptive_ece=expected_calibration_error(confidence, right, adaptive=True),
        confidence=float(confidence.mean()),
    )


def expected_calibration_error(
    confidence: Array, right: NDArray[np.bool_], *, bins: int = BINS, adaptive: bool = False
) -> float:
    """Sum over bins of (share of the answers in it) * |mean confidence - share that is right|.

    For one label the confidence is the largest probability. For multi-label tasks every label of every example is an
    answer: its confidence is the label's probability, and it is right where the label holds.

    Args:
        confidence: Confidence of each answer `[N]`.
        right: Whether it is right `[N]`.
        bins: Number of bins.
        adaptive: Bins of equal counts in order of confidence, instead of the equal widths (0, 1/bins], (1/bins, 2/bins]
            ... of [0, 1].
    """
    if adaptive:
        parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    else:
        bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
        parts = [np.flatnonzero(bin_of == b) for b in range(bins)]
    gaps = (abs(confidence[part].sum() - right[part].sum()) for part in parts)
    return float(sum(gaps) / len(confidence))


def regression_errors(values: Array, labels: NDArray[Any]) -> Errors:
    """Errors of values `[N]`."""
    difference = values - labels
    return Errors(rmse=float(np.sqrt(np.square(difference).mean())), mae=float(np.abs(difference).mean()))
