# SPDX-License-Identifier: Apache-2.0
"""Layers whose activations are quantized in the range that they have in their sequence, as op arguments.

Their linears take floats and give floats (docs/ops.md, "Ranges of sequences"): the range of a tensor is known only when
all of it is there, so nothing can be quantized behind the product that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.bits import unpack_bits
from bebert_edge.codes import CodeType
from bebert_edge.config import EnsembleConfig
from bebert_edge.ensemble import linear_sizes, term_names
from bebert_edge.lowering.distinct import distinct

if TYPE_CHECKING:  # lowering makes these layers
    from bebert_edge.lowering import LoweredNorm

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class RangeQuantizer:
    """Parameters of a RangeQuantize: `clip` `[E, 2]` and the code type."""

    clip: Floats
    code: CodeType

    def equals(self, other: RangeQuantizer) -> bool:
        """Whether the codes of everything are the same."""
        return self.code == other.code and np.array_equal(self.clip, other.clip)


@dataclass(frozen=True)
class RangeProduct:
    """A product of codes of one range: `weight [E, N, R(k)]`, `scale [E, N]`.

    `source` is the quantizer of the input whose codes it takes. `offset_scale` `[E, N]` is what an input of 1 in all
    channels gives, where codes have an offset.
    """

    k: int
    source: int
    code: CodeType
    weight: NDArray[np.uint8]
    scale: Floats
    offset_scale: Floats | None

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the PackedBinaryMatMul."""
        return {"k": self.k, "input_code": self.code.triple}


@dataclass(frozen=True)
class RangeLinear:
    """The sum of products and the bias `[E, N]`; `activation` (a number of docs/ops.md) comes before quantization."""

    quantizers: tuple[RangeQuantizer, ...]
    products: tuple[RangeProduct, ...]
    bias: Floats
    activation: int


@dataclass(frozen=True)
class RangeAttention:
    """Quantizers of query, key and value, and a RangeAttention."""

    heads: int
    head_size: int
    inputs: tuple[RangeQuantizer, RangeQuantizer, RangeQuantizer]
    probability: RangeQuantizer

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the op."""
        return {
            "heads": self.heads,
            "head_size": self.head_size,
            "input_code": self.inputs[0].code.triple,
            "probability_code": self.probability.code.triple,
        }


@dataclass(frozen=True)
class RangeLayer:
    """A layer. Codes that the norms give are not used."""

    qkv: tuple[RangeLinear, RangeLinear, RangeLinear]
    attention: RangeAttention
    attention_output: RangeLinear
    attention_norm: LoweredNorm
    ffn_in: RangeLinear
    ffn_out: RangeLinear
    ffn_norm: LoweredNorm


def range_layer(
    config: EnsembleConfig,
    tensors: Mapping[str, NDArray[Any]],
    i: int,
    norms: tuple[LoweredNorm, LoweredNorm],
    activation: int,
) -> RangeLayer:
    """Layer `i` with these norms after attention and after the feed-forward products."""
    code = config.quantization.layers[i].code

    def linear(use: str, input_code: str, activation: int = 0) -> RangeLinear:
        terms, (k, _) = term_names(f"layers.{i}.{use}", config.quantization.terms), linear_sizes(config)[use]
        return range_linear(tensors, terms, code(input_code), k, activation)

    def quantizer(use: str, output_code: str) -> RangeQuantizer:
        return RangeQuantizer(tensors[f"layers.{i}.attention.{use}_clip"], code(output_code))

    return RangeLayer(
        qkv=(linear("query", "hidden"), linear("key", "hidden"), linear("value", "hidden")),
        attention=RangeAttention(
            config.encoder.heads,
            config.encoder.head_size,
            inputs=(quantizer("query", "attention"), quantizer("key", "attention"), quantizer("value", "attention")),
            probability=quantizer("probability", "probability"),
        ),
        attention_output=linear("attention_output", "context"),
        attention_norm=norms[0],
        ffn_in=linear("ffn_in", "ffn"),
        ffn_out=linear("ffn_out", "intermediate", activation),
        ffn_norm=norms[1],
    )


def range_linear(
    tensors: Mapping[str, NDArray[Any]], terms: list[str], code: CodeType, k: int, activation: int = 0
) -> RangeLinear:
    """A linear of `k` input channels whose terms' tensors have these prefixes."""
    quantizers, sources = distinct([RangeQuantizer(tensors[f"{term}.clip"], code) for term in terms])
    products = []
    for term, source in zip(terms, sources, strict=True):
        weight, scale = tensors[f"{term}.bits"], tensors[f"{term}.scale"]
        offset_scale = None
        if code.low == 0:
            row_sums = 2 * unpack_bits(weight, k).sum(-1, dtype=np.int64) - k
            offset_scale = scale * row_sums.astype(np.float32)
        products.append(RangeProduct(k, source, code, weight, scale, offset_scale))
    return RangeLinear(quantizers, tuple(products), tensors[f"{terms[0]}.bias"], activation)
