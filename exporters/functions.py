# SPDX-License-Identifier: Apache-2.0
"""Every op of the domain `bebert` as an ONNX function: its definition (docs/ops.md) in standard operators of opset 18.

The functions are attached to every exported model, so that it also runs where the native library is not registered,
with bit-identical codes. Runtimes inline the bodies and fold what depends on constants only; therefore

- a choice by an attribute is an `If`, of which one branch is left after folding;
- products are `MatMulInteger`: exact, and weights unpacked by folding take one byte each, not four.
"""

# mypy: ignore-errors
# Reason: the bodies are ONNX in Python syntax, read by onnxscript and never run; their types are ONNX's.

from __future__ import annotations

from collections.abc import Collection
from typing import Sequence  # noqa: UP035 - onnxscript takes that of collections.abc for a class on Python 3.10

import numpy as np
import onnx
from onnx.numpy_helper import from_array
from onnxscript import opset18 as op
from onnxscript import script
from onnxscript.onnx_types import DOUBLE, FLOAT, INT64, UINT8
from onnxscript.values import Opset

from bebert_edge.exporters import distance_bias, function_parts
from bebert_edge.exporters.function_parts import SIGNS_OF_BYTE, detail

DOMAIN = "bebert"
VERSION = 1

ops = Opset(DOMAIN, VERSION)

ZERO = from_array(np.float64(0))
ONE = from_array(np.float64(1))


@script(ops)
def PackedBinaryEmbedding(ids: INT64[...], weight: UINT8[...], scale: FLOAT[...], k: int) -> FLOAT[...]:
    """See docs/ops.md."""
    # Gather would count a negative id from the end; V is out of range, and so an error.
    index = op.Where(op.Less(ids, 0), op.Gather(op.Shape(weight), 1), ids)
    rows = op.Gather(weight, index, axis=1)
    signs = detail.UnpackBits(rows, op.Cast(op.Constant(value=SIGNS_OF_BYTE), to=FLOAT.dtype))
    row_scale = op.Unsqueeze(op.Gather(scale, index, axis=1), [-1])
    return op.Mul(op.Slice(signs, [0], op.Unsqueeze(k, [0]), [-1]), row_scale)


@script(ops)
def Quantize(
    x: FLOAT[...], shift: FLOAT[...], inverse_step: FLOAT[...], output_code: Sequence[int], activation: int
) -> UINT8[...]:
    """See docs/ops.md."""
    return detail.Store(detail.Activate(x, activation=activation), shift, inverse_step, code=output_code)


@script(ops)
def GatedQuantize(
    x: FLOAT[...], shift: FLOAT[...], inverse_step: FLOAT[...], output_code: Sequence[int], activation: int
) -> UINT8[...]:
    """See docs/ops.md."""
    first, second = op.Split(x, num_outputs=2, axis=-1)
    y = op.Mul(detail.Activate(first, activation=activation), second)
    return detail.Store(y, shift, inverse_step, code=output_code)


@script(ops)
def PackedBinaryMatMul(
    codes: UINT8[...], weight: UINT8[...], scale: FLOAT[...], bias: FLOAT[...], k: int, input_code: Sequence[int]
) -> FLOAT[...]:
    """See docs/ops.md."""
    return detail.ScaledProduct(codes, weight, scale, bias, k=k, code=input_code)


@script(ops)
def PackedBinaryMatMulQuantize(
    codes: UINT8[...],
    weight: UINT8[...],
    scale: FLOAT[...],
    bias: FLOAT[...],
    shift: FLOAT[...],
    inverse_step: FLOAT[...],
    k: int,
    input_code: Sequence[int],
    output_code: Sequence[int],
    activation: int,
) -> UINT8[...]:
    """See docs/ops.md."""
    y = detail.ScaledProduct(codes, weight, scale, bias, k=k, code=input_code)
    return detail.Store(detail.Activate(y, activation=activation), shift, inverse_step, code=output_code)


@script(ops)
def BinaryAttention(
    query: UINT8[...],
    key: UINT8[...],
    value: UINT8[...],
    query_offsets: INT64[...],
    key_offsets: INT64[...],
    score_scale: FLOAT[...],
    probability_inverse_step: FLOAT[...],
    context_scale: FLOAT[...],
    shift: FLOAT[...],
    inverse_step: FLOAT[...],
    heads: int,
    head_size: int,
    channels: Sequence[int],
    softmax: int,
    input_code: Sequence[int],
    probability_code: Sequence[int],
    output_code: Sequence[int],
) -> UINT8[...]:
    """See docs/ops.md."""
    begin_query, begin_key, begin_value = op.Split(op.Constant(value_ints=channels), num_outputs=3)
    query_index, query_real = detail.PaddedIndex(query_offsets)
    key_index, key_real = detail.PaddedIndex(key_offsets)
    q = detail.PadHeads(query, query_index, begin_query, heads=heads, size=head_size, code=input_code)
    k = detail.PadHeads(key, key_index, begin_key, heads=heads, size=head_size, code=input_code)
    v = detail.PadHeads(value, key_index, begin_value, heads=heads, size=head_size, code=input_code)
    zero = detail.ZeroPoint(code=input_code)

    dot = op.MatMulInteger(q, op.Transpose(k, perm=[0, 1, 2, 4, 3]), zero, zero)
    real = op.Unsqueeze(key_real, [1, 2])  # [B, 1, 1, Sk]
    z = detail.ScaledProbabilities(
        dot,
        real,
        op.Unsqueeze(score_scale, [1, 3, 4]),
        op.Unsqueeze(probability_inverse_step, [1, 3, 4]),
        softmax=softmax,
    )
    p = detail.ProbabilityLevels(z, real, code=probability_code)
    context = op.MatMulInteger(p, v, detail.ZeroPoint(code=probability_code), zero)

    y = op.Mul(op.Cast(context, to=FLOAT.dtype), op.Unsqueeze(context_scale, [1, 3, 4]))
    real_places = op.Reshape(query_real, [-1])
    width = op.Mul(op.Unsqueeze(heads, [0]), op.Unsqueeze(head_size, [0]))
    places = op.Reshape(
        op.Transpose(y, perm=[0, 1, 3, 2, 4]),
        op.Concat(op.Slice(op.Shape(y), [0], [1]), op.Shape(real_places), width, axis=0),
        allowzero=1,
    )
    tokens = op.Compress(places, real_places, axis=1)
    return detail.Store(tokens, shift, inverse_step, code=output_code)


@script(ops)
def BiasedBinaryAttention(
    query: UINT8[...],
    key: UINT8[...],
    value: UINT8[...],
    query_offsets: INT64[...],
    key_offsets: INT64[...],
    score_scale: FLOAT[...],
    probability_inverse_step: FLOAT[...],
    context_scale: FLOAT[...],
    shift: FLOAT[...],
    inverse_step: FLOAT[...],
    distance_bias: FLOAT[...],
    heads: int,
    head_size: int,
    channels: Sequence[int],
    input_code: Sequence[int],
    probability_code: Sequence[int],
    output_code: Sequence[int],
) -> UINT8[...]:
    """See docs/ops.md; the body is BinaryAttention's but for `z`."""
    begin_query, begin_key, begin_value = op.Split(op.Constant(value_ints=channels), num_outputs=3)
    query_index, query_real = detail.PaddedIndex(query_offsets)
    key_index, key_real = detail.PaddedIndex(key_offsets)
    q = detail.PadHeads(query, query_index, begin_query, heads=heads, size=head_size, code=input_code)
    k = detail.PadHeads(key, key_index, begin_key, heads=heads, size=head_size, code=input_code)
    v = detail.PadHeads(value, key_index, begin_value, heads=heads, size=head_size, code=input_code)
    zero = detail.ZeroPoint(code=input_code)

    dot = op.MatMulInteger(q, op.Transpose(k, perm=[0, 1, 2, 4, 3]), zero, zero)
    real = op.Unsqueeze(key_real, [1, 2])  # [B, 1, 1, Sk]
    z = detail.BiasedProbabilities(
        dot,
        real,
        op.Unsqueeze(score_scale, [1, 3, 4]),
        op.Unsqueeze(probability_inverse_step, [1, 3, 4]),
        detail.DistanceBias(distance_bias, query_index, key_index),
    )
    p = detail.ProbabilityLevels(z, real, code=probability_code)
    context = op.MatMulInteger(p, v, detail.ZeroPoint(code=probability_code), zero)

    y = op.Mul(op.Cast(context, to=FLOAT.dtype), op.Unsqueeze(context_scale, [1, 3, 4]))
    real_places = op.Reshape(query_real, [-1])
    width = op.Mul(op.Unsqueeze(heads, [0]), op.Unsqueeze(head_size, [0]))
    places = op.Reshape(
        op.Transpose(y, perm=[0, 1, 3, 2, 4]),
        op.Concat(op.Slice(op.Shape(y), [0], [1]), op.Shape(real_places), width, axis=0),
        allowzero=1,
    )
    tokens = op.Compress(places, real_places, axis=1)
    return detail.Store(tokens, shift, inverse_step, code=output_code)


@script(ops)
def AddLayerNormQuantize(
    x: FLOAT[...],
    residual: FLOAT[...],
    gamma: FLOAT[...],
    beta: FLOAT[...],
    shift: FLOAT[...],
    inverse_step: FLOAT[...],
    epsilon: float,
    output_code: Sequence[int],
) -> tuple[FLOAT[...], UINT8[...]]:
    """See docs/ops.md."""
    v = op.Add(x, residual)
    wide = op.Cast(v, to=DOUBLE.dtype)
    mean = op.ReduceMean(wide, [-1])
    square = op.ReduceMean(op.Mul(wide, wide), [-1])
    variance = op.Max(op.Sub(square, op.Mul(mean, mean)), op.Constant(value=ZERO))
    deviation = op.Sqrt(op.Add(variance, op.Cast(op.Constant(value_float=epsilon), to=DOUBLE.dtype)))
    rstd = op.Cast(op.Div(op.Constant(value=ONE), deviation), to=FLOAT.dtype)
    normal = op.Mul(op.Sub(v, op.Cast(mean, to=FLOAT.dtype)), rstd)
    y = op.Add(op.Mul(normal, op.Unsqueeze(gamma, [1])), op.Unsqueeze(beta, [1]))
    return y, detail.Store(y, shift, inverse_step, code=output_code)


OPS = (
    PackedBinaryEmbedding,
    Quantize,
    PackedBinaryMatMul,
    PackedBinaryMatMulQuantize,
    BinaryAttention,
    AddLayerNormQuantize,
)
"""What every model has."""

RARE_OPS = {
    "GatedQuantize": (GatedQuantize,),
    "BiasedBinaryAttention": (*distance_bias.PARTS, BiasedBinaryAttention),
}
"""What only models have that use it, with its parts: the others' files stay as they are."""


def function_protos(used: Collection[str] = (), others=()) -> list[onnx.FunctionProto]:
    """The ops and their parts, to be attached to a model whose opset is 18.

    Args:
        used: Op types of the model's nodes.
        others: Functions made of those, which the model has too.
    """
    rare = [function for name, functions in RARE_OPS.items() if name in used for function in functions]
    functions = (*function_parts.PARTS, *OPS, *rare, *others)  # callees first
    protos = [function.to_function_proto() for function in functions]
    for proto in protos:
        # onnxscript leaves out domains that only the branches of an `If` use.
        del proto.opset_import[:]
        proto.opset_import.extend(opset_imports())
    return protos


def opset_imports() -> list[onnx.OperatorSetIdProto]:
    """The opsets of the functions, and of every graph that contains them."""
    versions = {"": op.version, DOMAIN: VERSION, function_parts.DOMAIN: function_parts.detail.version}
    return [onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()]
