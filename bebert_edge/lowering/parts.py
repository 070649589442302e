# SPDX-License-Identifier: Apache-2.0
"""What an ensemble is made of as arguments of the ops: one dataclass for each kind of op or part (docs/ops.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.codes import CodeType
from bebert_edge.config import ACTIVATIONS, EnsembleConfig
from bebert_edge.groups import GroupedTable
from bebert_edge.lowering.ranges import RangeLayer, RangeLinear
from bebert_edge.lowering.rotary import Rotary

Floats = NDArray[np.float32]
ACTIVATION_NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS, start=1)}
"""Value of the op attribute `activation`; 0 is none."""


@dataclass(frozen=True)
class Quantizer:
    """Parameters of a quantization: `shift` and `inverse_step`, both `[E, C]`, and the code type."""

    shift: Floats
    inverse_step: Floats
    code: CodeType

    def channels(self, begin: int, end: int) -> Quantizer:
        """The quantization of channels `begin` .. `end - 1` only."""
        return Quantizer(self.shift[:, begin:end], self.inverse_step[:, begin:end], self.code)

    def equals(self, other: Quantizer) -> bool:
        """Whether the codes of everything are the same."""
        return (
            self.code == other.code
            and np.array_equal(self.shift, other.shift)
            and np.array_equal(self.inverse_step, other.inverse_step)
        )


@dataclass(frozen=True)
class LoweredProduct:
    """A PackedBinaryMatMul: `weight [E, N, R(k)]`, `scale` and `bias` `[E, N]`; or the product of kept weights.

    Kept weights are int8 or float16 `[E, N, k]`.
    `source` is the quantizer of its input whose codes it takes: a place among the outputs of the op before.
    """

    k: int
    source: int
    input_code: CodeType
    weight: NDArray[Any]
    scale: Floats
    bias: Floats

    @property
    def is_binary(self) -> bool:
        """Whether weights are bits."""
        return self.weight.dtype == np.uint8

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the op."""
        return {"k": self.k, "input_code": self.input_code.triple}

    def rows(self, begin: int, end: int) -> LoweredProduct:
        """The product of output channels `begin` .. `end - 1` only."""
        part = slice(begin, end)
        return replace(self, weight=self.weight[:, part], scale=self.scale[:, part], bias=self.bias[:, part])


@dataclass(frozen=True)
class LoweredLinear:
    """The sum of products, from the first to the last; the first brings the bias."""

    products: tuple[LoweredProduct, ...]


@dataclass(frozen=True)
class LoweredQuantizedLinear(LoweredLinear):
    """A sum of products, then the activation (a number of docs/ops.md), then every quantizer of `outputs`.

    With `gated`, the activation of the first half of the channels, times the second half.
    """

    activation: int
    outputs: tuple[Quantizer, ...]
    gated: bool = False

    def rows(self, begin: int, end: int) -> LoweredQuantizedLinear:
        """Output channels `begin` .. `end - 1` only."""
        return replace(
            self,
            products=tuple(product.rows(begin, end) for product in self.products),
            outputs=tuple(output.channels(begin, end) for output in self.outputs),
        )


@dataclass(frozen=True)
class LoweredAttention:
    """A BinaryAttention for every quantizer of `outputs`; scales are `[E, A]`.

    With a `distance_bias` `[E, A, 2 U + 1]` (docs/ops.md) it is a BiasedBinaryAttention, always with softmax.
    """

    heads: int
    head_size: int
    softmax: int
    input_code: CodeType
    probability_code: CodeType
    score_scale: Floats
    probability_inverse_step: Floats
    context_scale: Floats
    outputs: tuple[Quantizer, ...]
    distance_bias: Floats | None = None

    @property
    def op(self) -> str:
        """The name of the op."""
        return "BinaryAttention" if self.distance_bias is None else "BiasedBinaryAttention"

    @property
    def width(self) -> int:
        """Channels of all heads."""
        return self.heads * self.head_size

    def attributes(self, channels: Sequence[int], output: Quantizer) -> dict[str, Any]:
        """The attributes of the op whose query, key and value begin at `channels`, for one of the outputs."""
        return {
            "heads": self.heads,
            "head_size": self.head_size,
            "channels": channels,
            **({"softmax": self.softmax} if self.distance_bias is None else {}),
            "input_code": self.input_code.triple,
            "probability_code": self.probability_code.triple,
            "output_code": output.code.triple,
        }


@dataclass(frozen=True)
class LoweredNorm:
    """An AddLayerNormQuantize, `gamma` and `beta` `[E, C]`. Each quantizer of `outputs` but the first is a Quantize.

    With `keeps_sum`, what goes on beside the codes is not the normalized sum but the sum itself.
    """

    gamma: Floats
    beta: Floats
    outputs: tuple[Quantizer, ...]
    keeps_sum: bool = False


@dataclass(frozen=True)
class LoweredWords:
    """A PackedBinaryEmbedding; leading axes are 1 or E."""

    weight: NDArray[np.uint8]
    scale: Floats


@dataclass(frozen=True)
class LoweredEmbedding:
    """Word rows, a sum of tables, and the tables (float32 or float16) added to them; leading axes are 1 or E.

    A table that the encoder does not have is None. `projection` follows the norm where tables are of another width than
    the layers: its sum is the hidden state, which its outputs quantize.
    """

    k: int
    words: tuple[LoweredWords | GroupedTable, ...]
    position: NDArray[Any] | None
    token_type: NDArray[Any] | None
    norm: LoweredNorm
    projection: LoweredQuantizedLinear | None


@dataclass(frozen=True)
class LoweredLayer:
    """The seven ops of a layer. `qkv` is one linear for query, key and value side by side, or one for each.

    Where there is a `rotary`, queries and keys are rotated before they are quantized.
    """

    qkv: tuple[LoweredQuantizedLinear, ...]
    attention: LoweredAttention
    attention_output: LoweredLinear
    attention_norm: LoweredNorm
    ffn_in: LoweredQuantizedLinear
    ffn_out: LoweredLinear
    ffn_norm: LoweredNorm
    rotary: Rotary | None

    @property
    def query_key_value(self) -> tuple[LoweredQuantizedLinear, ...]:
        """A linear for each of query, key and value."""
        if len(self.qkv) == 3:
            return self.qkv
        (fused,), width = self.qkv, self.attention.width
        return tuple(fused.rows(i * width, (i + 1) * width) for i in range(3))


@dataclass(frozen=True)
class LoweredPooler:
    """A linear of the first token, whose input the last layer's `ffn_norm` quantizes, and a float activation.

    `norm`, if any, is the weight and bias `[E, H]` of the float LayerNorm of that. `inputs` quantize the mean of all
    tokens, where the linear is of that.
    """

    linear: LoweredLinear | RangeLinear
    activation: str
    norm: tuple[Floats, Floats] | None
    inputs: tuple[Quantizer, ...]


@dataclass(frozen=True)
class LoweredClassifier:
    """Float32 `weight [E, labels, H]` and `bias [E, labels]`."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True)
class LoweredMaskHead:
    """What guesses masked tokens: a transform, and a decoder that is the word embeddings themselves.

    The last layer's `ffn_norm` quantizes the transform's input; `norm` follows its `activation` and gives the decoder's
    codes. Logits are `step [E] * (the product of codes and words) + bias [E, V]`.
    """

    transform: LoweredQuantizedLinear
    norm: LoweredNorm
    words: tuple[LoweredWords, ...]
    step: Floats
    bias: Floats


@dataclass(frozen=True)
class LoweredHead:
    """What a task has of its own: `config` is the ensemble's with this task as the only one."""

    config: EnsembleConfig
    pooler: LoweredPooler | None
    classifier: LoweredClassifier | None
    mask: LoweredMaskHead | None = None


@dataclass(frozen=True)
class LoweredEnsemble:
    """A whole ensemble as op arguments. The main task's head is called ""."""

    epsilon: float
    embedding: LoweredEmbedding
    layers: tuple[LoweredLayer | RangeLayer, ...]
    heads: dict[str, LoweredHead]
