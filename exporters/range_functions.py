# SPDX-License-Identifier: Apache-2.0
"""The ops on ranges of sequences as ONNX functions: attached to models that use them (docs/ops.md).

They have no kernels in the native library. A runtime that has it runs these bodies for them, and kernels for the rest.
"""

# mypy: ignore-errors
# ruff: noqa: N802
# Reason: the bodies are ONNX in Python syntax, read by onnxscript and never run; their names and types are ONNX's.

from __future__ import annotations

from typing import Sequence  # noqa: UP035 - onnxscript takes that of collections.abc for a class on Python 3.10

import numpy as np
from onnx.numpy_helper import from_array
from onnxscript import opset18 as op
from onnxscript import script
from onnxscript.onnx_types import DOUBLE, FLOAT, INT32, INT64, UINT8

from bebert_edge.exporters.function_parts import C1, C2, C3, C4, C5, LOG2_E, LOWEST_DOT, detail
from bebert_edge.exporters.functions import ops
from bebert_edge.reference import ranges as range_reference

LEAST_MAGNITUDE = from_array(range_reference.LEAST_MAGNITUDE)
SPAN_EPSILON = from_array(range_reference.SPAN_EPSILON)
LOWEST = from_array(np.finfo(np.float32).min)
HIGHEST = from_array(np.finfo(np.float32).max)
POWERS_OF_TWO = from_array(np.exp2(np.arange(-3, 25, dtype=np.float32)))  # 2^(24 + n) at index n + 27


@script(detail)
def FineExp(t: FLOAT[...]) -> FLOAT[...]:
    """rne(2^24 * exp(t)) for t <= 0."""
    u = op.Max(op.Mul(t, op.Constant(value=LOG2_E)), -27.0)
    n = op.Round(u)
    f = op.Sub(u, n)
    m4 = op.Add(op.Mul(op.Constant(value=C5), f), op.Constant(value=C4))
    m3 = op.Add(op.Mul(m4, f), op.Constant(value=C3))
    m2 = op.Add(op.Mul(m3, f), op.Constant(value=C2))
    m1 = op.Add(op.Mul(m2, f), op.Constant(value=C1))
    m = op.Add(op.Mul(m1, f), 1.0)
    power = op.Gather(op.Constant(value=POWERS_OF_TWO), op.Cast(op.Add(n, 27.0), to=INT32.dtype))
    return op.Round(op.Mul(m, power))


@script(detail)
def ClipToEnds(y: FLOAT[...], clip: FLOAT[...]) -> FLOAT[...]:
    """No more than the second end, no less than the first; `clip` [..., 2] broadcasts to `y` but for its last axis."""
    low, high = op.Split(clip, num_outputs=2, axis=-1)
    return op.Max(op.Min(y, high), low)


@script(detail)
def SpanAndOffset(least: FLOAT[...], most: FLOAT[...], code: Sequence[int]) -> tuple[FLOAT[...], FLOAT[...]]:
    """The span of codes for numbers between two, of which the step is a part, and their offset."""
    if op.Less(op.Gather(op.Constant(value_ints=code), 1), 0):
        span = op.Max(op.Neg(least), most, op.Constant(value=LEAST_MAGNITUDE))
        offset = op.Mul(least, 0.0)
    else:
        span = op.Add(op.Sub(most, least), op.Constant(value=SPAN_EPSILON))
        offset = op.Identity(least)
    return span, offset


@script(detail)
def RangeLevels(y: FLOAT[...], span: FLOAT[...], offset: FLOAT[...], code: Sequence[int]) -> UINT8[...]:
    """Levels of numbers in their range."""
    values = op.Cast(op.Constant(value_ints=code), to=FLOAT.dtype)
    high = op.Gather(values, 2)
    if op.Less(op.Gather(op.Constant(value_ints=code), 1), 0):
        z = op.Mul(y, op.Div(high, span))
    else:
        z = op.Mul(op.Div(op.Sub(y, offset), span), high)
    return detail.RoundToLevel(z, code=code)


@script(detail)
def Highest(code: Sequence[int]) -> FLOAT:
    """The largest value of a code."""
    return op.Cast(op.Gather(op.Constant(value_ints=code), 2), to=FLOAT.dtype)


@script(ops)
def SequenceRange(x: FLOAT[...], offsets: INT64[...], activation: int) -> tuple[FLOAT[...], FLOAT[...], FLOAT[...]]:
    """See docs/ops.md."""
    y = detail.Activate(x, activation=activation)
    index, real = detail.PaddedIndex(offsets)
    places = op.Unsqueeze(real, [2])  # [B, S, 1]
    least_there = op.Gather(op.ReduceMin(y, [-1]), index, axis=1)  # [E, B, S, 1]
    most_there = op.Gather(op.ReduceMax(y, [-1]), index, axis=1)
    least = op.ReduceMin(op.Where(places, least_there, op.Constant(value=HIGHEST)), [2], keepdims=0)  # [E, B, 1]
    most = op.ReduceMax(op.Where(places, most_there, op.Constant(value=LOWEST)), [2], keepdims=0)
    sequence = op.Gather(op.NonZero(real), 0)  # of every token
    # Of no numbers at all, onnxruntime's reductions have the shape of what they reduce.
    shape = op.Concat(op.Slice(op.Shape(y), [0], [-1]), [1], axis=0)
    least_of_token = op.Reshape(op.Gather(least, sequence, axis=1), shape, allowzero=1)
    return y, least_of_token, op.Reshape(op.Gather(most, sequence, axis=1), shape, allowzero=1)


@script(ops)
def RangeQuantize(
    y: FLOAT[...], least: FLOAT[...], most: FLOAT[...], clip: FLOAT[...], output_code: Sequence[int]
) -> tuple[UINT8[...], FLOAT[...], FLOAT[...]]:
    """See docs/ops.md."""
    ends = op.Unsqueeze(clip, [1])
    clipped_least = detail.ClipToEnds(least, ends)
    clipped_most = detail.ClipToEnds(most, ends)
    span, offset = detail.SpanAndOffset(clipped_least, clipped_most, code=output_code)
    codes = detail.RangeLevels(detail.ClipToEnds(y, ends), span, offset, code=output_code)
    return codes, op.Div(span, detail.Highest(code=output_code)), offset


@script(ops)
def RangeAttention(
    query: UINT8[...],
    key: UINT8[...],
    value: UINT8[...],
    query_step: FLOAT[...],
    key_step: FLOAT[...],
    value_step: FLOAT[...],
    offsets: INT64[...],
    clip: FLOAT[...],
    heads: int,
    head_size: int,
    input_code: Sequence[int],
    probability_code: Sequence[int],
) -> FLOAT[...]:
    """See docs/ops.md."""
    index, real = detail.PaddedIndex(offsets)
    q = detail.PadHeads(query, index, [0], heads=heads, size=head_size, code=input_code)
    k = detail.PadHeads(key, index, [0], heads=heads, size=head_size, code=input_code)
    v = detail.PadHeads(value, index, [0], heads=heads, size=head_size, code=input_code)
    zero = detail.ZeroPoint(code=input_code)
    first = op.Slice(offsets, [0], [-1])
    q_step = op.Unsqueeze(op.Gather(query_step, first, axis=1), [3, 4])  # [E, B, 1, 1, 1]
    k_step = op.Unsqueeze(op.Gather(key_step, first, axis=1), [3, 4])
    v_step = op.Unsqueeze(op.Gather(value_step, first, axis=1), [3, 4])

    dot = op.MatMulInteger(q, op.Transpose(k, perm=[0, 1, 2, 4, 3]), zero, zero)
    real_key = op.Unsqueeze(real, [1, 2])  # [B, 1, 1, S]
    masked = op.Where(real_key, dot, op.Constant(value=LOWEST_DOT))
    below = op.Cast(op.Sub(masked, op.ReduceMax(masked, [-1])), to=FLOAT.dtype)
    root = op.Sqrt(op.Cast(head_size, to=FLOAT.dtype))
    score_scale = op.Div(op.Mul(q_step, k_step), root)
    e = op.Where(real_key, detail.FineExp(op.Mul(below, score_scale)), 0.0)
    total = op.Cast(op.ReduceSum(op.Cast(e, to=DOUBLE.dtype), [-1]), to=FLOAT.dtype)
    p = detail.ClipToEnds(op.Div(e, total), op.Unsqueeze(clip, [1, 2, 3]))

    real_pair = op.And(real_key, op.Unsqueeze(real, [1, 3]))  # [B, 1, S, S]
    least = op.ReduceMin(op.Where(real_pair, p, op.Constant(value=HIGHEST)), [2, 3, 4])
    most = op.ReduceMax(op.Where(real_pair, p, op.Constant(value=LOWEST)), [2, 3, 4])
    p_span, p_offset = detail.SpanAndOffset(least, most, code=probability_code)
    p_zero = detail.ZeroPoint(code=probability_code)
    levels = op.Where(real_key, detail.RangeLevels(p, p_span, p_offset, code=probability_code), p_zero)
    p_step = op.Div(p_span, detail.Highest(code=probability_code))
    acc = op.Cast(op.MatMulInteger(levels, v, p_zero, zero), to=FLOAT.dtype)
    sums = op.Cast(op.MatMulInteger(op.Cast(real_key, to=UINT8.dtype), v, p_zero, zero), to=FLOAT.dtype)
    # Not acc * (p_step * v_step): onnxruntime makes a MatMulIntegerToFloat of that, which rounds in another order.
    y = op.Add(op.Mul(op.Mul(acc, p_step), v_step), op.Mul(op.Mul(sums, p_offset), v_step))

    places = op.Reshape(real, [-1])
    width = op.Mul(op.Unsqueeze(heads, [0]), op.Unsqueeze(head_size, [0]))
    rows = op.Reshape(
        op.Transpose(y, perm=[0, 1, 3, 2, 4]),
        op.Concat(op.Slice(op.Shape(y), [0], [1]), op.Shape(places), width, axis=0),
        allowzero=1,
    )
    return op.Compress(rows, places, axis=1)


FUNCTIONS = (FineExp, ClipToEnds, SpanAndOffset, RangeLevels, Highest, SequenceRange, RangeQuantize, RangeAttention)
"""All of them, callees first."""
