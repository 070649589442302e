# SPDX-License-Identifier: Apache-2.0
"""SAMME (Zhu et al., 2009): example weights from the mistakes of the members so far, and the weights of the members."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bebert_edge.errors import TrainingError


def samme(weights: Tensor, mistakes: Tensor, classes: int, rate: float = 1.0) -> tuple[Tensor, float]:
    """One round of boosting.

    Args:
        weights: Weight of each example when the member was trained [examples], float, > 0.
        mistakes: Whether the member is wrong [examples], bool, **in the same order**.
        classes: Classes of the task, >= 2.
        rate: Shrinks the round: 1 is SAMME as published; less trusts noisy labels less.

    Returns:
        The weights of the next round, with mean 1, and the member's `alpha`. A member that is no better than chance has
        alpha 0 and leaves the weights as they are.
    """
    if weights.shape != mistakes.shape or weights.dim() != 1 or len(weights) == 0:
        raise TrainingError(
            f"found {list(weights.shape)} weights and {list(mistakes.shape)} mistakes, expected as many"
        )
    weights = weights.double() / weights.double().mean()
    error = float((weights * mistakes).sum() / weights.sum())
    # A member without mistakes would weigh infinitely much; half a mistake is what its sample can tell from none.
    error = max(error, 0.5 / len(weights))
    alpha = max(rate * (math.log((1 - error) / error) + math.log(classes - 1)), 0.0) if error < 1 else 0.0
    weights = torch.where(mistakes, weights * math.exp(alpha), weights)
    return (weights / weights.mean()).float(), alpha


def member_weights(alphas: list[float]) -> list[float]:
    """Alphas as weights of a mean of logits: their sum is 1. Without any that is positive, all weigh the same."""
    total = sum(alphas)
    return [alpha / total for alpha in alphas] if total > 0 else [1 / len(alphas)] * len(alphas)
