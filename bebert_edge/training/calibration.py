# SPDX-License-Identifier: Apache-2.0
"""Combines the members' answers and fits, on held-out examples, the temperature of what comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bebert_edge.config import ALL_COMBINATIONS, PROBLEMS
from bebert_edge.errors import TrainingError

MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 100.0
"""Bounds of a fitted temperature; at the upper one every class is about as likely as the others."""


def combine(member_logits: Tensor, weights: Tensor | Sequence[float], combination: str, problem: str) -> Tensor:
    """The logits of the ensemble, before its temperature.

    - `logits`: the weighted mean of the logits, `sum_e(w_e * z_e)`: a geometric mean of the members' probabilities.
    - `probabilities`: the logits of the weighted mean of the probabilities. For `single_label`
      `log(sum_e(w_e * softmax(z_e)))`, for `multi_label`, label by label, `logit(sum_e(w_e * sigmoid(z_e)))`. Not for
      `regression`.
    - `embeddings`: the direction of the weighted mean of unit vectors. `concatenation`: `sqrt(w_e) * z_e` side by side.

    Args:
        member_logits: [members, examples, classes], float.
        weights: [members], >= 0 and not all 0; used after division by their sum.
        combination: `logits` or `probabilities`.
        problem: `single_label`, `multi_label` or `regression`.

    Returns:
        [examples, classes], dtype of `member_logits`, computed in float64.

    Raises:
        TrainingError: Logits are not finite, weights do not fit, or a name is unknown.
    """
    _require_combination(combination, problem)
    if member_logits.dim() != 3 or not bool(member_logits.isfinite().all()):
        raise TrainingError(
            f"found member logits of shape {list(member_logits.shape)}, "
            "expected [members, examples, classes] of finite numbers: check the members for NaN"
        )
    w = torch.as_tensor(weights, dtype=torch.float64)
    if w.shape != member_logits.shape[:1] or not bool((w.isfinite() & (w >= 0)).all()) or not bool((w > 0).any()):
        found = [round(x, 6) for x in w.flatten().tolist()]
        raise TrainingError(f"found member weights {found}, expected {len(member_logits)} numbers >= 0, not all 0")
    return _combine(member_logits.double(), w / w.sum(), combination, problem).to(member_logits.dtype)


def _combine(z: Tensor, w: Tensor, combination: str, problem: str) -> Tensor:
    if combination == "embeddings":
        return F.normalize(torch.einsum("e,enc->nc", w, z), dim=-1)
    if combination == "concatenation":
        return torch.cat(list(w.sqrt()[:, None, None] * z), dim=-1)
    if combination == "logits":
        return torch.einsum("e,enc->nc", w, z)
    log_w = w.log()[:, None, None]
    if problem == "multi_label":
        return torch.logsumexp(log_w + F.logsigmoid(z), 0) - torch.logsumexp(log_w + F.logsigmoid(-z), 0)
    return torch.logsumexp(log_w + torch.log_softmax(z, -1), 0)


def fit_temperature(logits: Tensor, labels: Tensor, problem: str) -> float:
    """The temperature `T` that minimises the negative log-likelihood of `logits / T` (temperature scaling).

    Guo et al., "On Calibration of Modern Neural Networks" (2017): `T` changes how sure the answers are, never which is
    first. It is fitted to what the ensemble answers, **after** averaging, as Rahaman and Thiery found it must be
    ("Uncertainty Quantification and Deep Ensembles", arXiv 2007.08792, abstract).

    The loss is the mean cross-entropy of the softmax (`single_label`) or the mean binary cross-entropy of the sigmoids
    (`multi_label`). It is convex in `1 / T`, so that bisection of its slope, in float64, finds the minimum.

    Args:
        logits: [examples, classes], float, of examples that no member was trained on.
        labels: [examples] int64 (`single_label`) or [examples, classes] of 0 and 1 (`multi_label`).
        problem: `single_label`, `multi_label` or `regression`.

    Returns:
        `T`, in [MIN_TEMPERATURE, MAX_TEMPERATURE], and these answers where the loss has no minimum:

        - 1.0 if no answer is wrong. The loss then falls without end as `T` falls, but the examples hold no evidence of
          how often the ensemble errs.
        - MAX_TEMPERATURE if the answers are no better than chance, such as all wrong: then none deserves belief.
        - 1.0 for `regression`, which has no probabilities.

    Raises:
        TrainingError: Logits are not finite, there are no examples, or labels do not fit.
    """
    if problem == "regression":
        _require_logits(logits, 2)
        return 1.0
    z, chosen = _choices(logits, labels, problem)
    margins = z - z.gather(-1, chosen[:, None])  # of each class above the right one: > 0 is a mistake
    if not bool((margins > 0).any()):
        return 1.0

    def slope(log_temperature: float) -> float:
        """Of the loss over 1 / T: how much the expected logit is above the right one's, on average."""
        return float((torch.softmax(z * math.exp(-log_temperature), -1) * margins).sum(-1).mean())

    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    if slope(high) >= 0:
        return MAX_TEMPERATURE
    if slope(low) <= 0:
        return MIN_TEMPERATURE
    for _ in range(56):  # halves 9.2 to less than the spacing of float64 around it
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return math.exp((low + high) / 2)


def fit_member_weights(member_logits: Tensor, labels: Tensor, combination: str, problem: str) -> list[float]:
    """Weights of the members, >= 0 with sum 1, that minimise the loss of the ensemble on held-out examples.

    The loss is that of `fit_temperature` at `T = 1`, or the mean squared error for `regression`. It is convex in the
    weights: the cross-entropy of logits that are linear in them, or minus the logarithm of a probability that is. They
    are the softmax of parameters that start equal, so that members that answer alike weigh alike, and L-BFGS with a
    strong-Wolfe line search, in float64, moves those. The temperature is to be fitted afterwards.

    Args:
        member_logits: [members, examples, classes], float, of examples that no member was trained on.
        labels: As of `fit_temperature`; [examples] float for `regression`.
        combination: `logits` or `probabilities`, as of `combine`.
        problem: `single_label`, `multi_label` or `regression`.

    Raises:
        TrainingError: Logits are not finite, there are no examples, or labels do not fit.
    """
    _require_combination(combination, problem)
    _require_logits(member_logits, 3)
    if problem == "regression":
        if labels.shape != member_logits.shape[1:2] or member_logits.shape[2] != 1 or not bool(labels.isfinite().all()):
            raise TrainingError(
                f"found labels of shape {list(labels.shape)} for logits of shape {list(member_logits.shape[1:])}, "
                "expected one finite number for each example and one output"
            )
        target = labels.double()
    else:
        _, target = _choices(member_logits[0], labels, problem)
    # Copies, for what was made in inference mode cannot take part in a gradient.
    with torch.inference_mode(False), torch.enable_grad():
        z, target = member_logits.detach().to(torch.float64, copy=True), target.detach().clone()
        parameters = torch.zeros(len(z), dtype=torch.float64, device=z.device, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [parameters], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            combined = _combine(z, torch.softmax(parameters, 0), combination, problem)
            if problem == "regression":
                value = F.mse_loss(combined[:, 0], target)
            else:
                value = F.cross_entropy(_pairs(combined) if problem == "multi_label" else combined, target)
            value.backward()
            return value

        optimizer.step(loss)
        return [float(weight) for weight in torch.softmax(parameters.detach(), 0)]


def _pairs(logits: Tensor) -> Tensor:
    """Each label of each example as a choice between two classes, no and yes [examples * classes, 2]."""
    return torch.stack([torch.zeros_like(logits), logits], -1).flatten(0, 1)


def _choices(logits: Tensor, labels: Tensor, problem: str) -> tuple[Tensor, Tensor]:
    """Choices among classes, float64 [choices, classes], and which is right, int64 [choices]."""
    _require_logits(logits, 2)
    if problem == "single_label":
        fits = labels.shape == logits.shape[:1] and not labels.is_floating_point()
        if not fits or not bool(((labels >= 0) & (labels < logits.shape[1])).all()):
            raise TrainingError(
                f"found labels of shape {list(labels.shape)} and type {labels.dtype} for logits of shape "
                f"{list(logits.shape)}, expected one integer from 0 to {logits.shape[1] - 1} for each example"
            )
        return logits.double(), labels.long()
    if problem == "multi_label":
        if labels.shape != logits.shape or not bool(((labels == 0) | (labels == 1)).all()):
            raise TrainingError(
                f"found labels of shape {list(labels.shape)} for logits of shape {list(logits.shape)}, "
                "expected 0 or 1 for each class of each example"
            )
        return _pairs(logits.double()), labels.flatten().long()
    raise TrainingError(f"the problem is {problem!r}, expected one of {', '.join(PROBLEMS)}")


def _require_logits(logits: Tensor, dimensions: int) -> None:
    if logits.dim() != dimensions or logits.numel() == 0 or not bool(logits.isfinite().all()):
        shape = ("[examples, classes]", "[members, examples, classes]")[dimensions - 2]
        raise TrainingError(
            f"found logits of shape {list(logits.shape)}, expected {shape} of finite numbers, one example or more: "
            "check the members for NaN"
        )


def _require_combination(combination: str, problem: str) -> None:
    if problem not in PROBLEMS:
        raise TrainingError(f"the problem is {problem!r}, expected one of {', '.join(PROBLEMS)}")
    if combination not in ALL_COMBINATIONS:
        raise TrainingError(f"the combination is {combination!r}, expected one of {', '.join(ALL_COMBINATIONS)}")
    if combination == "probabilities" and problem == "regression":
        raise TrainingError("the combination is 'probabilities', but a regression has none: pass 'logits'")
