# SPDX-License-Identifier: Apache-2.0
"""Linears of a binarized model that keep int8 or float16 weights: quantization-aware, on the same codes as binary ones.

Weights of int8 are those of `bebert_edge.kept_weights.int8_rows`, with straight-through gradients to the latent ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bebert_edge.errors import TrainingError
from bebert_edge.kept_weights import INT8_MAXIMUM, WEIGHT_TYPES
from bebert_edge.training.architectures import architecture

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from bebert_edge.training.modules import BinaryLinear


def kept_rows(latent: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Weights (float32: integers, or what float16 holds) and row scales of latent weights, as packing makes them."""
    if kind == "float16":
        return latent.half().float(), torch.ones_like(latent[..., 0])
    scale = latent.abs().amax(-1) / INT8_MAXIMUM
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (latent / safe[..., None]).round().clamp(-INT8_MAXIMUM, INT8_MAXIMUM), scale


def linears(model: PreTrainedModel) -> Iterator[tuple[str, tuple[nn.Linear, ...]]]:
    """The modules of each linear of docs/format.md, by its name; `qkv` may have three."""
    return architecture(model.config).linears(model)


def keep(model: PreTrainedModel, weights: Mapping[str, str]) -> None:
    """Sets the weight types of linears of a binarized model; those that are not named become binary.

    Raises:
        TrainingError: There is no such linear or type.
    """
    modules = dict(linears(model))
    for name, kind in weights.items():
        if name not in modules:
            raise TrainingError(f"weights has {name!r}, expected names of {', '.join(modules)}")
        if kind not in WEIGHT_TYPES:
            raise TrainingError(f"weights[{name!r}] is {kind!r}, expected one of {', '.join(WEIGHT_TYPES)}")
    for name, parts in modules.items():
        for linear in _binary(parts):
            linear.kept = weights.get(name)


def kept_weights(model: PreTrainedModel) -> dict[str, str]:
    """The weight types of the kept linears of a binarized model, by name."""
    found = {name: next(_binary(parts)).kept for name, parts in linears(model)}
    return {name: kind for name, kind in found.items() if kind is not None}


def _binary(parts: tuple[nn.Linear, ...]) -> Iterator[BinaryLinear]:
    from bebert_edge.training.modules import BinaryLinear

    for linear in parts:
        if not isinstance(linear, BinaryLinear):
            raise TrainingError("weights can be kept in a binarized model only: call binarize(model, bits) first")
        yield linear
