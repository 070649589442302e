# SPDX-License-Identifier: Apache-2.0
"""Logits to answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebert_edge.config import EnsembleConfig
from bebert_edge.errors import ModelError
from bebert_edge.runtime.text import EncodedText

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """The answer for one input.

    Attributes:
        text: The input.
        pair: Its second text, for tasks on pairs.
        label: `labels`, joined by `", "`.
        labels: The most probable label; for multi-label tasks every label above 0.5, perhaps none; for regression the
            name of the value.
        score: Probability of the most probable label; for regression the value.
        scores: One number per label: probabilities (softmax; sigmoid for multi-label tasks) or the value (regression).
        logits: The ensemble's logits that `scores` come from.
        member_labels: What each member alone would answer.
        member_scores: The scores of each member alone, at the ensemble's temperature: of its logits divided by it.
        members_agree: How many members alone give exactly `labels`; None for regression.
        tokens: Tokens that the model read, special tokens included.
        truncated: Whether the input was longer than the model's longest input, and its end was not read.
    """

    text: str
    pair: str | None
    label: str
    labels: tuple[str, ...]
    score: float
    scores: tuple[float, ...]
    logits: tuple[float, ...]
    member_labels: tuple[str, ...]
    member_scores: tuple[tuple[float, ...], ...]
    members_agree: int | None
    tokens: int
    truncated: bool


def scores_of(logits: NDArray[np.floating], problem: str) -> Scores:
    """Scores of logits `[..., labels]`: softmax, sigmoid or the values themselves, by `TaskConfig.problem`."""
    wide = logits.astype(np.float64)
    if problem == "regression":
        return wide
    if problem == "multi_label":
        return np.exp(-np.logaddexp(0, -wide))
    exponentials = np.exp(wide - wide.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def check_finite(numbers: NDArray[np.floating], subject: str) -> None:
    """Raises ModelError if one of a model's numbers is not finite; `subject` says what they are, with its verb."""
    if not np.isfinite(numbers).all():
        raise ModelError(
            f"the model's {subject} not finite: its weights are damaged. Copy the file again, or export it again"
        )


def _labels(scores: Scores, config: EnsembleConfig) -> tuple[str, ...]:
    if config.task.problem == "multi_label":
        return tuple(label for label, score in zip(config.labels, scores, strict=True) if score > 0.5)
    return (config.labels[int(scores.argmax())],)


def _join(labels: tuple[str, ...]) -> str:
    return ", ".join(labels)


def predict(
    encoded: EncodedText, logits: NDArray[np.float32], member_logits: NDArray[np.float32], config: EnsembleConfig
) -> Prediction:
    """Turns the logits `[labels]` and member logits `[members, labels]` of one input into an answer.

    Raises:
        ModelError: A logit is not finite.
    """
    check_finite(logits, f"logits for {encoded.text[:40]!r} are")
    scores = scores_of(logits, config.task.problem)
    member_scores = scores_of(member_logits / config.temperature, config.task.problem)
    labels = _labels(scores, config)
    member_labels = [_labels(member, config) for member in member_scores]
    return Prediction(
        text=encoded.text,
        pair=encoded.pair,
        label=_join(labels),
        labels=labels,
        score=float(scores.max()),
        scores=tuple(scores.tolist()),
        logits=tuple(logits.tolist()),
        member_labels=tuple(_join(member) for member in member_labels),
        member_scores=tuple(tuple(member) for member in member_scores.tolist()),
        members_agree=None if config.task.problem == "regression" else member_labels.count(labels),
        tokens=len(encoded.ids),
        truncated=encoded.truncated,
    )
