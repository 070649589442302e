# SPDX-License-Identifier: Apache-2.0
"""The parts that the ops' functions are made of: ONNX functions of a domain of their own.

Codes are unpacked to *levels*: uint8, one a channel, with one zero point for all: value = level - zero point.
"""

# mypy: ignore-errors
# ruff: noqa: N802, SIM108
# Reason: the bodies are ONNX in Python syntax, read by onnxscript and never run; their names and types are ONNX's.

from __future__ import annotations

from typing import Sequence  # noqa: UP035 - onnxscript takes that of collections.abc for a class on Python 3.10

import numpy as np
from onnx.numpy_helper import from_array
from onnxscript import opset18 as op
from onnxscript import script
from onnxscript.onnx_types import BOOL, DOUBLE, FLOAT, INT32, INT64, UINT8
from onnxscript.values import Opset

from bebert_edge import reference

DOMAIN = "bebert.detail"

detail = Opset(DOMAIN, 1)

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
BITS_OF_BYTE = from_array(_BITS)
SIGNS_OF_BYTE = from_array(2 * _BITS.astype(np.int8) - 1)
BIT_VALUE = from_array(np.exp2(np.arange(8, dtype=np.float32)).reshape(8, 1))
ZERO_DOT = from_array(np.int32(0))
POWERS_OF_TWO = from_array(np.exp2(np.arange(-3, 16, dtype=np.float32)))  # 2^(15 + n) at index n + 18
LOWEST_DOT = from_array(np.int32(-(2**30)))  # below every dot product of up to 2^14 channels
P0, P1, P2, P3, P4, P5 = (from_array(c) for c in reference.GELU_P)
_, Q1, Q2, Q3, Q4, Q5 = (from_array(c) for c in reference.GELU_Q)
C1, C2, C3, C4, C5 = (from_array(c) for c in reference.EXP2_COEFFICIENTS)
LOG2_E = from_array(reference.LOG2_E)
GELU_CUTOFF = from_array(reference.GELU_CUTOFF)
PHI_MIN = from_array(np.float32(2.0**-26))


# Codes


@script(detail)
def UnpackBits(packed: UINT8[...], table: UINT8[256, 8]):
    """Bytes [M, N, R] -> [M, N, 8 R]: each byte's row of a table. Folded, this takes the least memory per weight."""
    rows = op.Gather(table, op.Cast(packed, to=INT32.dtype))
    leading, size = op.Split(op.Shape(packed), [2, 1])
    return op.Reshape(rows, op.Concat(leading, op.Mul(size, [8]), axis=0), allowzero=1)


@script(detail)
def PackBits(bits: BOOL[...]) -> UINT8[...]:
    """[E, T, C] -> bytes [E, T, R(C)]."""
    leading, channels = op.Split(op.Shape(bits), [2, 1])
    words = op.Div(op.Add(channels, [63]), [64])
    padding = op.Concat([0, 0, 0, 0, 0], op.Sub(op.Mul(words, [64]), channels), axis=0)
    padded = op.Pad(op.Cast(bits, to=FLOAT.dtype), padding)
    split = op.Reshape(padded, op.Concat(leading, op.Mul(words, [8]), [8], axis=0), allowzero=1)
    return op.Cast(op.Squeeze(op.MatMul(split, op.Constant(value=BIT_VALUE)), [-1]), to=UINT8.dtype)


@script(detail)
def ZeroPoint(code: Sequence[int]) -> UINT8:
    """The level whose value is 0: -low."""
    return op.Cast(op.Neg(op.Gather(op.Constant(value_ints=code), 1)), to=UINT8.dtype)


@script(detail)
def ScaleBits(bits: UINT8[...], code: Sequence[int]) -> UINT8[...]:
    """Bits -> levels of a one-bit code, whose two values are 1 or 2 apart."""
    values = op.Constant(value_ints=code)
    distance = op.Sub(op.Gather(values, 2), op.Gather(values, 1))
    return op.BitShift(bits, op.Cast(op.Sub(distance, 1), to=UINT8.dtype), direction="LEFT")


@script(detail)
def Levels(codes: UINT8[...], code: Sequence[int]) -> UINT8[...]:
    """Stored codes -> levels, those of a row's padding bits included."""
    if op.Equal(op.Gather(op.Constant(value_ints=code), 0), 1):
        levels = detail.UnpackBits(codes, detail.ScaleBits(op.Constant(value=BITS_OF_BYTE), code=code))
    else:
        levels = op.Identity(codes)
    return levels


@script(detail)
def Above(z: FLOAT[...], code: Sequence[int]) -> BOOL[...]:
    """The bit of a one-bit code: whether z is above the middle of its two values."""
    values = op.Cast(op.Constant(value_ints=code), to=FLOAT.dtype)
    return op.Greater(z, op.Div(op.Add(op.Gather(values, 1), op.Gather(values, 2)), 2.0))


@script(detail)
def RoundToLevel(z: FLOAT[...], code: Sequence[int]) -> UINT8[...]:
    """The level of the nearest code of width 8."""
    values = op.Cast(op.Constant(value_ints=code), to=FLOAT.dtype)
    low = op.Gather(values, 1)
    return op.Cast(op.Sub(op.Round(op.Clip(z, low, op.Gather(values, 2))), low), to=UINT8.dtype)


@script(detail)
def Store(y: FLOAT[...], shift: FLOAT[...], inverse_step: FLOAT[...], code: Sequence[int]) -> UINT8[...]:
    """Quantizes `y` [M, T, C] by parameters [E, C]: stored codes [E, T, stored C]."""
    z = op.Mul(op.Add(y, op.Unsqueeze(shift, [1])), op.Unsqueeze(inverse_step, [1]))
    if op.Equal(op.Gather(op.Constant(value_ints=code), 0), 1):
        codes = detail.PackBits(detail.Above(z, code=code))
    else:
        codes = detail.RoundToLevel(z, code=code)
    return codes


# Arithmetic that is the same number everywhere


@script(detail)
def FixedExp(t: FLOAT[...]) -> FLOAT[...]:
    """rne(32768 * exp(t)) for t <= 0."""
    u = op.Max(op.Mul(t, op.Constant(value=LOG2_E)), -18.0)
    n = op.Round(u)
    f = op.Sub(u, n)
    m4 = op.Add(op.Mul(op.Constant(value=C5), f), op.Constant(value=C4))
    m3 = op.Add(op.Mul(m4, f), op.Constant(value=C3))
    m2 = op.Add(op.Mul(m3, f), op.Constant(value=C2))
    m1 = op.Add(op.Mul(m2, f), op.Constant(value=C1))
    m = op.Add(op.Mul(m1, f), 1.0)
    power = op.Gather(op.Constant(value=POWERS_OF_TWO), op.Cast(op.Add(n, 18.0), to=INT32.dtype))
    return op.Round(op.Mul(m, power))


@script(detail)
def Gelu(x: FLOAT[...]) -> FLOAT[...]:
    """The product of x and Phi(x), Phi as a rational function."""
    cutoff = op.Constant(value=GELU_CUTOFF)
    xc = op.Clip(x, op.Neg(cutoff), cutoff)
    s = op.Mul(xc, xc)
    p4 = op.Add(op.Mul(op.Constant(value=P5), s), op.Constant(value=P4))
    p3 = op.Add(op.Mul(p4, s), op.Constant(value=P3))
    p2 = op.Add(op.Mul(p3, s), op.Constant(value=P2))
    p1 = op.Add(op.Mul(p2, s), op.Constant(value=P1))
    p = op.Add(op.Mul(p1, s), op.Constant(value=P0))
    q4 = op.Add(op.Mul(op.Constant(value=Q5), s), op.Constant(value=Q4))
    q3 = op.Add(op.Mul(q4, s), op.Constant(value=Q3))
    q2 = op.Add(op.Mul(q3, s), op.Constant(value=Q2))
    q1 = op.Add(op.Mul(q2, s), op.Constant(value=Q1))
    q = op.Add(op.Mul(q1, s), 1.0)
    phi = op.Clip(op.Add(op.Div(op.Mul(xc, p), q), 0.5), op.Constant(value=PHI_MIN), 1.0)
    return op.Where(op.LessOrEqual(x, op.Neg(cutoff)), 0.0, op.Mul(x, phi))


@script(detail)
def Activate(y: FLOAT[...], activation: int) -> FLOAT[...]:
    """0 none, 1 ReLU, 2 GELU."""
    if op.Equal(activation, 2):
        result = detail.Gelu(y)
    else:
        if op.Equal(activation, 1):
            result = op.Relu(y)
        else:
            result = op.Identity(y)
    return result


# Attention works on sequences padded to the longest one; its input and output are not padded


@script(detail)
def PaddedIndex(offsets: INT64[...]) -> tuple[INT64[...], BOOL[...]]:
    """The token of every place of the padded batch, and whether the place is real: [B, S]; other places get -1."""
    begin = op.Slice(offsets, [0], [-1])
    end = op.Slice(offsets, [1], [9223372036854775807])
    longest = op.ReduceMax(op.Concat([1], op.Sub(end, begin), axis=0), keepdims=0)
    index = op.Add(op.Unsqueeze(begin, [1]), op.Unsqueeze(op.Range(0, longest, 1), [0]))
    real = op.Less(index, op.Unsqueeze(end, [1]))
    return op.Where(real, index, -1), real


@script(detail)
def PadHeads(
    codes: UINT8[...], index: INT64[...], begin: INT64[1], heads: int, size: int, code: Sequence[int]
) -> UINT8[...]:
    """Levels of heads * size channels from `begin` on, [E, B, A, S, D]; places that are not real hold level 0."""
    a = op.Unsqueeze(heads, [0])
    d = op.Unsqueeze(size, [0])
    levels = op.Slice(detail.Levels(codes, code=code), begin, op.Add(begin, op.Mul(a, d)), [-1])
    padded = op.Gather(op.Pad(levels, [0, 0, 0, 0, 1, 0]), index, axis=1)  # -1 is the row that Pad adds
    split = op.Reshape(padded, op.Concat(op.Slice(op.Shape(padded), [0], [-1]), a, d, axis=0), allowzero=1)
    return op.Transpose(split, perm=[0, 1, 3, 2, 4])


@script(detail)
def ProbabilityLevels(z: FLOAT[...], real: BOOL[...], code: Sequence[int]) -> UINT8[...]:
    """Levels of the quantized probabilities; keys that are not real get the level of value 0."""
    if op.Equal(op.Gather(op.Constant(value_ints=code), 0), 1):
        levels = detail.ScaleBits(op.Cast(detail.Above(z, code=code), to=UINT8.dtype), code=code)
    else:
        levels = detail.RoundToLevel(z, code=code)
    return op.Where(real, levels, detail.ZeroPoint(code=code))


@script(detail)
def ScaledProbabilities(
    dot: INT32[...], real: BOOL[...], score_scale: FLOAT[...], inverse_step: FLOAT[...], softmax: int
) -> FLOAT[...]:
    """Attention probabilities in units of their step: [E, B, A, Sq, Sk]; scales [E, 1, A, 1, 1]."""
    if op.Cast(softmax, to=BOOL.dtype):
        masked = op.Where(real, dot, op.Constant(value=LOWEST_DOT))
        below = op.Cast(op.Sub(masked, op.ReduceMax(masked, [-1])), to=FLOAT.dtype)
        e = op.Where(real, detail.FixedExp(op.Mul(below, score_scale)), 0.0)
        # In binary64: a sum of more than 512 keys may not fit 24 bits, and is then rounded once.
        total = op.Cast(op.ReduceSum(op.Cast(e, to=DOUBLE.dtype), [-1]), to=FLOAT.dtype)
        z = op.Mul(e, op.Div(inverse_step, op.Max(total, 1.0)))  # a sequence without keys sums to 0
    else:
        z = op.Cast(op.Greater(dot, op.Constant(value=ZERO_DOT)), to=FLOAT.dtype)
    return z


# Products


@script(detail)
def Product(codes: UINT8[...], weight: UINT8[...], k: int, code: Sequence[int]) -> INT32[...]:
    """Codes [M, T, stored K] times sign weights [E, N, R(K)]: exact integers [E, T, N]."""
    size = op.Unsqueeze(k, [0])
    levels = op.Slice(detail.Levels(codes, code=code), [0], size, [-1])
    unpacked = detail.UnpackBits(weight, op.Constant(value=SIGNS_OF_BYTE))
    if op.Equal(op.Gather(op.Shape(unpacked), 2), k):
        signs = op.Identity(unpacked)  # without padding bits there is no copy to keep in memory
    else:
        signs = op.Slice(unpacked, [0], size, [-1])
    return op.MatMulInteger(levels, op.Transpose(signs, perm=[0, 2, 1]), detail.ZeroPoint(code=code))


@script(detail)
def ScaledProduct(
    codes: UINT8[...], weight: UINT8[...], scale: FLOAT[...], bias: FLOAT[...], k: int, code: Sequence[int]
) -> FLOAT[...]:
    """float(product) * scale + bias: [E, T, N]."""
    product = op.Cast(detail.Product(codes, weight, k=k, code=code), to=FLOAT.dtype)
    return op.Add(op.Mul(product, op.Unsqueeze(scale, [1])), op.Unsqueeze(bias, [1]))


PARTS = (
    UnpackBits,
    PackBits,
    ZeroPoint,
    ScaleBits,
    Levels,
    Above,
    RoundToLevel,
    Store,
    FixedExp,
    Gelu,
    Activate,
    PaddedIndex,
    PadHeads,
    ProbabilityLevels,
    ScaledProbabilities,
    Product,
    ScaledProduct,
)
"""All of them, callees first."""
