# SPDX-License-Identifier: Apache-2.0
"""From the hidden states to the answer in numpy (docs/format.md, "Heads" and "The answer"): part of the oracle."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bebert_edge.config import EnsembleConfig
from bebert_edge.lowering.parts import LoweredClassifier

Floats = NDArray[np.float32]
SMALLEST_NORM = np.float32(1e-12)
"""A vector that is shorter is divided by this, as PyTorch's `normalize` does."""


def classify(classifier: LoweredClassifier, x: Floats) -> Floats:
    """`x [E, ..., H]` -> member logits `[E, ..., labels]`."""
    return np.asarray(x @ classifier.weight.swapaxes(1, 2) + classifier.bias[:, None], np.float32)


def exact_mean(hidden: Floats, offsets: NDArray[np.int64]) -> Floats:
    """The mean of each sequence's hidden states `[E, B, H]`, in float64 and rounded once: it becomes codes."""
    wide = hidden.astype(np.float64)
    means = [wide[:, begin:end].sum(1) / (end - begin) for begin, end in pairwise(offsets)]
    return np.asarray(np.stack(means, 1) if means else wide[:, :0], np.float32)


def embed(hidden: Floats, offsets: NDArray[np.int64], pooling: str) -> Floats:
    """Hidden states `[E, T, H]` of sequences that begin at `offsets` -> unit vectors `[E, B, H]`."""
    begins, ends = offsets[:-1], offsets[1:]
    if pooling == "first":
        return normalize(hidden[:, begins])
    means = [hidden[:, begin:end].mean(1) for begin, end in zip(begins, ends, strict=True)]
    return normalize(np.stack(means, 1) if means else hidden[:, :0])


def normalize(x: Floats) -> Floats:
    """Vectors of length 1; the zero vector stays."""
    return np.asarray(x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), SMALLEST_NORM), np.float32)


def combine(member_answers: Floats, config: EnsembleConfig) -> Floats:
    """The ensemble's answer from its members' (docs/format.md, "The answer").

    Args:
        member_answers: Logits `[E, ..., labels]` or unit vectors `[E, B, H]`, float32.
        config: Weights, combination, temperature and problem.

    Returns:
        Logits `[..., labels]`, or unit vectors `[B, H]` or `[B, E H]`, float32. Averages of probabilities are taken in
        float64 and rounded once.
    """
    weights = np.asarray(config.member_weights, np.float32).reshape(-1, *[1] * (member_answers.ndim - 1))
    if config.combination == "concatenation":
        return np.concatenate(list(member_answers * np.sqrt(weights)), axis=-1)
    if config.combination == "embeddings":
        return normalize((member_answers * weights).sum(0, dtype=np.float32))
    if config.combination == "logits":
        combined = (member_answers * weights).sum(0, dtype=np.float32)
    else:
        combined = _combine_probabilities(member_answers, weights, config.task.problem)
    return np.asarray(combined if config.temperature == 1 else combined / np.float32(config.temperature), np.float32)


def _combine_probabilities(member_logits: Floats, weights: Floats, problem: str) -> Floats:
    z = member_logits.astype(np.float64)
    with np.errstate(divide="ignore"):  # a member of weight 0 does not count
        log_weights = np.log(weights.astype(np.float64))
    if problem == "multi_label":
        log_no = log_weights - np.logaddexp(0, z)  # log(weight * (1 - sigmoid(z))); with + z, log(weight * sigmoid(z))
        combined = np.logaddexp.reduce(log_no + z) - np.logaddexp.reduce(log_no)
    else:
        combined = np.logaddexp.reduce(log_weights + z - np.logaddexp.reduce(z, axis=-1, keepdims=True))
    return np.asarray(combined, np.float32)
