# SPDX-License-Identifier: Apache-2.0
"""PackedEnsemble -> the arguments of every op: the one place where steps become inverse steps and product scales.

The reference and the exporter both read this, so they cannot differ in a rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.codes import CODE_TYPES, CodeType
from bebert_edge.config import ACTIVATIONS
from bebert_edge.ensemble import PackedEnsemble

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


@dataclass(frozen=True)
class LoweredLinear:
    """A PackedBinaryMatMul: `weight [E, N, R(k)]`, `scale` and `bias` `[E, N]`."""

    k: int
    input_code: CodeType
    weight: NDArray[np.uint8]
    scale: Floats
    bias: Floats


@dataclass(frozen=True)
class LoweredQuantizedLinear(LoweredLinear):
    """A PackedBinaryMatMulQuantize."""

    activation: int
    output: Quantizer

    def rows(self, begin: int, end: int) -> LoweredQuantizedLinear:
        """The product of output channels `begin` .. `end - 1` only."""
        return replace(
            self,
            weight=self.weight[:, begin:end],
            scale=self.scale[:, begin:end],
            bias=self.bias[:, begin:end],
            output=self.output.channels(begin, end),
        )


@dataclass(frozen=True)
class LoweredAttention:
    """A BinaryAttention over the codes of one fused query-key-value product; scales are `[E, A]`."""

    heads: int
    head_size: int
    channels: tuple[int, int, int]
    softmax: int
    input_code: CodeType
    probability_code: CodeType
    score_scale: Floats
    probability_inverse_step: Floats
    context_scale: Floats
    output: Quantizer


@dataclass(frozen=True)
class LoweredNorm:
    """An AddLayerNormQuantize: `gamma` and `beta` `[E, C]`."""

    gamma: Floats
    beta: Floats
    output: Quantizer


@dataclass(frozen=True)
class LoweredEmbedding:
    """Word rows and the tables that are added to them; leading axes are 1 or E."""

    k: int
    weight: NDArray[np.uint8]
    scale: Floats
    position: Floats
    token_type: Floats
    norm: LoweredNorm


@dataclass(frozen=True)
class LoweredLayer:
    """The seven ops of a layer."""

    qkv: LoweredQuantizedLinear
    attention: LoweredAttention
    attention_output: LoweredLinear
    attention_norm: LoweredNorm
    ffn_in: LoweredQuantizedLinear
    ffn_out: LoweredLinear
    ffn_norm: LoweredNorm


@dataclass(frozen=True)
class LoweredEnsemble:
    """A whole ensemble as op arguments.

    The last layer's `ffn_norm` quantizes for the pooler. `classifier_weight` is `[E, labels, H]`, `classifier_bias`
    `[E, labels]`.
    """

    epsilon: float
    embedding: LoweredEmbedding
    layers: tuple[LoweredLayer, ...]
    pooler: LoweredLinear
    classifier_weight: Floats
    classifier_bias: Floats


def _inverse(step: NDArray[Any]) -> Floats:
    return (np.float32(1) / step.astype(np.float32)).astype(np.float32)


class _Lowering:
    def __init__(self, ensemble: PackedEnsemble) -> None:
        self.config = ensemble.config
        self.tensors = ensemble.tensors

    def input_quantizer(self, linear: str, code: CodeType) -> Quantizer:
        """The quantizer in front of a linear: one step for all channels of a member."""
        shift: Floats = self.tensors[f"{linear}.shift"]
        step = np.broadcast_to(self.tensors[f"{linear}.step"][:, None], shift.shape)
        return Quantizer(shift, _inverse(step), code)

    def layer_code(self, i: int, use: str) -> CodeType:
        return self.config.quantization.layers[i].code(use)

    def hidden_quantizer(self, i: int) -> Quantizer:
        """The quantizer of layer `i`'s input; after the last layer, the pooler's."""
        if i == self.config.encoder.layers:
            return self.input_quantizer("pooler", CODE_TYPES[self.config.quantization.pooler])
        return self.input_quantizer(f"layers.{i}.qkv", self.layer_code(i, "hidden"))

    def linear(self, name: str, input_code: CodeType) -> LoweredLinear:
        scale = self.tensors[f"{name}.step"][:, None] * self.tensors[f"{name}.scale"]
        k = self.tensors[f"{name}.shift"].shape[-1]
        return LoweredLinear(k, input_code, self.tensors[f"{name}.bits"], scale, self.tensors[f"{name}.bias"])

    def quantized_linear(
        self, name: str, input_code: CodeType, output: Quantizer, activation: int = 0
    ) -> LoweredQuantizedLinear:
        linear = self.linear(name, input_code)
        return LoweredQuantizedLinear(**vars(linear), activation=activation, output=output)

    def norm(self, name: str, output: Quantizer) -> LoweredNorm:
        return LoweredNorm(self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], output)

    def qkv_quantizer(self, i: int) -> Quantizer:
        """Steps of query, key and value side by side, each head's repeated over its channels; the bias is the shift."""
        head_size = self.config.encoder.head_size
        steps = [self.tensors[f"layers.{i}.attention.{use}_step"] for use in ("query", "key", "value")]
        step = np.concatenate([np.repeat(s, head_size, axis=1) for s in steps], axis=1)
        return Quantizer(np.zeros_like(step), _inverse(step), self.layer_code(i, "attention"))

    def attention(self, i: int) -> LoweredAttention:
        encoder = self.config.encoder
        query, key, value, probability = (
            self.tensors[f"layers.{i}.attention.{use}_step"].astype(np.float64)
            for use in ("query", "key", "value", "probability")
        )
        return LoweredAttention(
            heads=encoder.heads,
            head_size=encoder.head_size,
            channels=(0, encoder.hidden_size, 2 * encoder.hidden_size),
            softmax=1,
            input_code=self.layer_code(i, "attention"),
            probability_code=self.layer_code(i, "probability"),
            score_scale=(query * key / np.sqrt(encoder.head_size)).astype(np.float32),
            probability_inverse_step=_inverse(probability),
            context_scale=(probability * value).astype(np.float32),
            output=self.input_quantizer(f"layers.{i}.attention_output", self.layer_code(i, "context")),
        )

    def layer(self, i: int) -> LoweredLayer:
        name = f"layers.{i}"
        codes = {use: self.layer_code(i, use) for use in ("hidden", "context", "ffn", "intermediate")}
        activation = ACTIVATION_NUMBERS[self.config.encoder.activation]
        intermediate = self.input_quantizer(f"{name}.ffn_out", codes["intermediate"])
        return LoweredLayer(
            qkv=self.quantized_linear(f"{name}.qkv", codes["hidden"], self.qkv_quantizer(i)),
            attention=self.attention(i),
            attention_output=self.linear(f"{name}.attention_output", codes["context"]),
            attention_norm=self.norm(f"{name}.attention_norm", self.input_quantizer(f"{name}.ffn_in", codes["ffn"])),
            ffn_in=self.quantized_linear(f"{name}.ffn_in", codes["ffn"], intermediate, activation),
            ffn_out=self.linear(f"{name}.ffn_out", codes["intermediate"]),
            ffn_norm=self.norm(f"{name}.ffn_norm", self.hidden_quantizer(i + 1)),
        )

    def embedding(self) -> LoweredEmbedding:
        return LoweredEmbedding(
            k=self.config.encoder.hidden_size,
            weight=self.tensors["embeddings.word.bits"],
            scale=self.tensors["embeddings.word.scale"],
            position=self.tensors["embeddings.position"],
            token_type=self.tensors["embeddings.token_type"],
            norm=self.norm("embeddings.norm", self.hidden_quantizer(0)),
        )


def lower(ensemble: PackedEnsemble) -> LoweredEnsemble:
    """Folds the tensors of a valid ensemble into the arguments of the ops of docs/ops.md."""
    lowering, config = _Lowering(ensemble), ensemble.config
    return LoweredEnsemble(
        epsilon=config.encoder.layer_norm_epsilon,
        embedding=lowering.embedding(),
        layers=tuple(lowering.layer(i) for i in range(config.encoder.layers)),
        pooler=lowering.linear("pooler", CODE_TYPES[config.quantization.pooler]),
        classifier_weight=ensemble.tensors["classifier.weight"],
        classifier_bias=ensemble.tensors["classifier.bias"],
    )
