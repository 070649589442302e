# SPDX-License-Identifier: Apache-2.0
"""Starts for binary members: two from one ternary model, or one from a member with more bits.

Binary weights are harder to train than ternary ones, and a binary model that begins where a ternary one ended ends
better (BinaryBERT: Bai et al., 2021). BinaryBERT splits each ternary weight into two binary ones, whose sum it is, in a
model of twice the width. An ensemble has no wide members but averages narrow ones, so here two members take a half
each, and the *mean* of their binary weights is the ternary weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bebert_edge.errors import TrainingError
from bebert_edge.training.modules import BinaryEmbedding, BinaryLinear, ternarize_rows
from bebert_edge.training.quantization import Quantizer

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification


def split_rows(latent: Tensor) -> tuple[Tensor, Tensor]:
    """Two latent matrices whose binary weights have the ternary weights of `latent` as their mean.

    Where the ternary weight is not 0, both halves have its sign. Where it is 0 they have opposite signs: the first half
    is positive in the larger half of these weights. The magnitudes are those of Bai et al. (a share `a` of a weight
    that is not 0, `b` more than one that is), then rescaled on either side of zero: our binary weights are signs of the
    weights less their row mean, so a half needs a row mean of 0.

    Args:
        latent: Latent weights [rows, channels], float32.

    Returns:
        Two tensors like `latent`. Rows of equal weights become zeros.
    """
    codes, scale = (x.double() for x in ternarize_rows(latent))
    centred = latent.double()
    centred = centred - centred.mean(1, keepdim=True)
    magnitude = centred.abs()
    kept = codes.abs()
    count, total = kept.sum(1), magnitude.sum(1)
    kept_total = (magnitude * kept).sum(1).clamp(min=1e-30)
    zeros = latent.shape[1] - count
    a = ((2 * kept_total - total) / (2 * kept_total)).clamp(0.05, 0.95)[:, None]
    b = ((latent.shape[1] * scale - total) / (2 * zeros.clamp(min=1)))[:, None]
    rank = centred.masked_fill(kept > 0, torch.inf).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    upper = torch.where(rank >= (zeros // 2)[:, None], 1.0, -1.0).double()  # of the zeros, the larger half
    first = torch.where(kept > 0, a * centred, upper * (magnitude + b))
    second = torch.where(kept > 0, (1 - a) * centred, -upper * b)
    return _balance(first, scale).to(latent.dtype), _balance(second, scale).to(latent.dtype)


def _balance(half: Tensor, scale: Tensor) -> Tensor:
    """Rescales a row's positive and negative weights, to a mean of 0 and a mean magnitude of `scale`."""
    side = (half.shape[1] * scale / 2)[:, None]
    positive, negative = half.clamp(min=0), half.clamp(max=0)
    factors = (side / part.abs().sum(1, keepdim=True).clamp(min=1e-30) for part in (positive, negative))
    return positive * next(factors) + negative * next(factors)


def split(model: BertForSequenceClassification) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two states for binary members, from one model with ternary weights (ternary weight splitting).

    Args:
        model: A model that `binarize(..., ternary=True)` made.

    Returns:
        Two state dicts with the names of `model`'s, that a model of `binarize` with as many bits can load. Binary
        weights are as :func:`split_rows` says, all else (kept weights too) is equal.

    Raises:
        TrainingError: The weights of the model are not ternary.
    """
    first, second = ({name: tensor.detach().clone() for name, tensor in model.state_dict().items()} for _ in range(2))
    modules = {n: m for n, m in model.named_modules() if isinstance(m, BinaryLinear | BinaryEmbedding)}
    modules = {name: m for name, m in modules.items() if not getattr(m, "kept", None)}
    if not modules or not all(module.ternary for module in modules.values()):
        raise TrainingError("a model to split has ternary weights: make it by binarize(model, bits, ternary=True)")
    for name in modules:
        key = f"{name}.weight"
        first[key], second[key] = split_rows(first[key])
    return first, second


def continue_from(student: nn.Module, member: nn.Module) -> None:
    """Starts a student where a member with other bits ended, as the stages of BiT do (Liu et al., 2022).

    Latent weights and shifts are copied. A step is copied where the bits agree; otherwise the student's first batch
    sets it anew, for the best step depends on how many codes there are.

    Args:
        student: A binarized model, or a part of one; it is changed.
        member: One of the same shape, with any bits; its weights may be ternary.

    Raises:
        TrainingError: The shapes differ.
    """
    state = member.state_dict()
    theirs = {name: module for name, module in member.named_modules() if isinstance(module, Quantizer)}
    for name, module in student.named_modules():
        if isinstance(module, Quantizer) and name in theirs and theirs[name].bits != module.bits:
            state[f"{name}.step"] = torch.full_like(module.step, torch.nan)
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(f"a student cannot continue from a member of another shape: {error}") from error
