# SPDX-License-Identifier: Apache-2.0
"""Boosting and bagging: how often the next member sees each example, and how much each member weighs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bebert_edge.errors import TrainingError

MAX_RATIO = 100.0
"""No example weighs more than this many times another: a few wrong labels must not become the whole training set."""

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda error: error,
    "square": torch.square,
    "exponential": lambda error: 1 - torch.exp(-error),
}
"""The losses of AdaBoost.R2, of errors relative to the largest one."""


def samme(weights: Tensor, mistakes: Tensor, classes: int, rate: float = 1.0) -> tuple[Tensor, float]:
    """One round of SAMME (Zhu, Zou, Rosset and Hastie, "Multi-class AdaBoost", 2009).

    With the member's weighted error `e = sum(w * mistakes) / sum(w)` and `K` classes:

        alpha = rate * (log((1 - e) / e) + log(K - 1))
        w <- w * exp(alpha * mistakes), then w <- max(w, max(w) / MAX_RATIO), then w <- w / mean(w)

    `mistakes` may be shares in [0, 1], such as an example's share of wrong labels in a multi-label task (`classes=2`).
    Then `1 - 2 * mistakes` is the margin of a confidence-rated prediction (Schapire and Singer, "Improved boosting
    algorithms using confidence-rated predictions", 1999), and `exp` is below its chord on [0, 1], so that AdaBoost's
    bound stays: with two classes and rate 1 a round shrinks the exponential loss to `2 * sqrt(e * (1 - e))` of what it
    was, or less. For shares of 0 and 1 that is an equality, and the round is SAMME's. MAX_RATIO gives this up only
    where an example would weigh more than so many times another.

    Args:
        weights: Weight of each example when the member was trained [examples], float, > 0, of any sum.
        mistakes: Whether the member is wrong, bool, or by which share it is wrong, float in [0, 1] [examples],
            **in the same order**.
        classes: Classes of the task, >= 2; 2 for shares.
        rate: Shrinks the round: 1 is SAMME as published; less trusts noisy labels less.

    Returns:
        The weights of the next round (mean 1, dtype of `weights`), and the member's `alpha`, >= 0. A member that is no
        better than chance (`e >= 1 - 1 / K`) has alpha 0 and changes no weight. A member without mistakes changes none
        either; its error is taken as half a mistake of an example of mean weight, which keeps its alpha finite.

    Raises:
        TrainingError: The arguments are misaligned, empty, not finite or outside the ranges above.
    """
    if weights.shape != mistakes.shape or weights.dim() != 1 or len(weights) == 0:
        raise TrainingError(
            f"found {list(weights.shape)} weights and {list(mistakes.shape)} mistakes, expected as many, one or more"
        )
    if classes < 2 or not (math.isfinite(rate) and rate > 0):
        raise TrainingError(f"found {classes} classes and rate {rate}, expected 2 or more classes and a rate > 0")
    share = mistakes.double()
    if not bool(((share >= 0) & (share <= 1)).all()):
        raise TrainingError("found a mistake that is no share, expected bool or numbers in [0, 1]: check for NaN")
    w = _positive(weights)
    error = max(float((w * share).sum() / w.sum()), 0.5 / len(w))
    alpha = rate * (math.log((1 - error) / error) + math.log(classes - 1)) if error < 1 - 1 / classes else 0.0
    w = w * torch.exp(alpha * (share - 1))  # exp(alpha * share) up to a factor, and cannot overflow
    w = w.clamp(min=float(w.max()) / MAX_RATIO)
    return (w / w.mean()).to(weights.dtype), alpha


def adaboost_r2(weights: Tensor, errors: Tensor, loss: str = "linear", rate: float = 1.0) -> tuple[Tensor, float]:
    """One round of AdaBoost.R2 (Drucker, "Improving Regressors using Boosting Techniques", 1997), for regression.

    With the loss `L` of `d = |error| / max |error|` (linear `d`, square `d ** 2`, exponential `1 - exp(-d)`) and its
    weighted mean `e`:

        beta = e / (1 - e),  alpha = rate * log(1 / beta),  w <- w * beta ** (rate * (1 - L))

    That update is `w * exp(alpha * L)` up to a factor: the round of `samme` with two classes and `L` as the mistakes,
    and so it is computed, with the same limit on the ratio of weights.

    Drucker combines members by their weighted median. A weighted mean with weights `alpha` is what the models of this
    project compute instead: it is smooth, and with two members the median is the heavier one.

    Args:
        weights: Weight of each example when the member was trained [examples], float, > 0, of any sum.
        errors: Prediction minus label, or its absolute value [examples], float, **in the same order**.
        loss: `linear`, `square` or `exponential`.
        rate: Shrinks the round: 1 is as published.

    Returns:
        As of `samme`: a member with `e >= 0.5` has alpha 0 and changes no weight; without errors, none either.

    Raises:
        TrainingError: The arguments are misaligned, empty or not finite, or the loss has another name.
    """
    if loss not in LOSSES:
        raise TrainingError(f"the loss of AdaBoost.R2 is {loss!r}, expected one of {', '.join(LOSSES)}")
    size = errors.double().abs()
    if not bool(size.isfinite().all()):
        raise TrainingError("found an error that is not finite: check the predictions of the member for NaN")
    largest = float(size.max()) if len(size) else 0.0
    return samme(weights, LOSSES[loss](size / largest if largest > 0 else size), 2, rate)


def resample(weights: Tensor, seed: int) -> Tensor:
    """Draws as many examples as there are, with replacement, each with a probability that its weight is a share of.

    Training on them is how a learner that takes no weights is boosted (Freund and Schapire, 1997).

    Args:
        weights: Weight of each example [examples], float, > 0, of any sum.
        seed: The same seed draws the same examples.

    Returns:
        Indices of examples [examples], int64, in random order.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(_positive(weights).cpu(), len(weights), replacement=True, generator=generator)


def bootstrap(n: int, seed: int) -> Tensor:
    """A bootstrap sample for bagging (Breiman, 1996): `n` of `n` examples with replacement, int64 [n]."""
    return resample(torch.ones(n), seed)


def member_weights(alphas: Sequence[float]) -> list[float]:
    """Alphas, >= 0, as weights of a mean: their sum is 1. Where none is above 0, all members weigh the same."""
    if not alphas or not all(math.isfinite(alpha) and alpha >= 0 for alpha in alphas):
        raise TrainingError(f"found alphas {list(alphas)}, expected one or more numbers >= 0")
    largest = max(alphas)
    if largest == 0:
        return [1 / len(alphas)] * len(alphas)
    total = sum(alpha / largest for alpha in alphas)
    return [alpha / largest / total for alpha in alphas]


def _positive(weights: Tensor) -> Tensor:
    """The weights as float64 with mean 1, which all are > 0."""
    if len(weights) == 0 or not weights.is_floating_point() or not bool((weights.isfinite() & (weights > 0)).all()):
        raise TrainingError(f"found weights {weights}, expected one or more finite floats > 0")
    w = weights.double()
    return w / w.mean()
