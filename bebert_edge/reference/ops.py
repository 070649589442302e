# SPDX-License-Identifier: Apache-2.0
"""The definition of every op in numpy: the oracle, written for reading.

Names, argument order and arithmetic follow docs/ops.md. All float arithmetic is binary32 with one rounding per
operation unless it says otherwise; integer sums are taken in int64, or in floats that hold them exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bebert_edge.bits import pack_bits, unpack_bits
from bebert_edge.codes import CodeType, from_triple

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Ids = NDArray[np.int64]
Code = Sequence[int]
LOG2_E = np.float32(1.4426950408889634)
EXP2_COEFFICIENTS = np.array(
    [0.6931470036506653, 0.24022242426872253, 0.05550733581185341, 0.009671512991189957, 0.001326472731307149],
    np.float32,
)

GELU_CUTOFF = np.float32(5.5547)
GELU_P = np.array(
    [
        0.39894193410873413,
        0.035520654171705246,
        0.004784971475601196,
        0.00018675551109481603,
        6.560832844115794e-06,
        2.193209169831789e-08,
    ],
    np.float32,
)

GELU_Q = np.array(
    [
        1.0,
        0.2557002305984497,
        0.029615813866257668,
        0.0019842907786369324,
        7.988296420080587e-05,
        1.1893866940226872e-06,
    ],
    np.float32,
)


def _horner(coefficients: Floats, x: Floats) -> Floats:
    """Evaluates a polynomial whose coefficients are given from the lowest power up."""
    result = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = result * x + coefficient
    return result


def fixed_exp(t: Floats, bits: int = 15) -> Floats:
    """`exp(t)` for `t <= 0` as an integer multiple of `2^-bits`, 0 .. `2^bits`, held in float32; at most 24 bits."""
    u = np.maximum(t.astype(np.float32) * LOG2_E, np.float32(-bits - 3))
    n = np.rint(u)
    m = _horner(np.concatenate([np.ones(1, np.float32), EXP2_COEFFICIENTS]), u - n)
    scaled: Floats = np.ldexp(m, n.astype(np.int32) + bits)
    return np.rint(scaled)


def gelu(x: Floats) -> Floats:
    """`x * Phi(x)`, Phi as a rational function: the same float32 number on every machine."""
    clipped = np.clip(x, -GELU_CUTOFF, GELU_CUTOFF)
    square = clipped * clipped
    phi = np.float32(0.5) + clipped * _horner(GELU_P, square) / _horner(GELU_Q, square)
    phi = np.clip(phi, np.float32(2.0**-26), np.float32(1))
    return np.where(x <= -GELU_CUTOFF, np.float32(0), x * phi)


def activate(y: Floats, activation: int) -> Floats:
    """The activation before a quantization: 0 none, 1 ReLU, 2 GELU."""
    if activation == 1:
        return np.maximum(y, np.float32(0))
    return gelu(y) if activation == 2 else y


def values(codes: Codes, code: CodeType, channels: int) -> NDArray[np.int64]:
    """The integers that stored codes `[..., stored_channels]` stand for: `[..., channels]`."""
    levels = unpack_bits(codes, channels) if code.width == 1 else codes[..., :channels]
    return code.low + code.stride * levels.astype(np.int64)


def store(z: Floats, code: CodeType) -> Codes:
    """Rounds `z` `[..., channels]` to codes and stores them: `[..., stored_channels]`."""
    if code.width == 1:
        return pack_bits(z > (code.low + code.high) / 2)
    clipped = np.clip(z, np.float32(code.low), np.float32(code.high))
    return (np.rint(clipped) - code.low).astype(np.uint8)


def _quantize(y: Floats, shift: Floats, inverse_step: Floats, output_code: Code) -> Codes:
    """Quantizes `[E, T, C]` with per-channel `[E, C]` parameters."""
    return store((y + shift[:, None]) * inverse_step[:, None], from_triple(output_code))


def packed_binary_embedding(ids: Ids, weight: Codes, scale: Floats, *, k: int) -> Floats:
    """`ids [T]`, `weight [M, V, R(k)]`, `scale [M, V]` -> rows `[M, T, k]`."""
    sign = np.where(unpack_bits(weight[:, ids], k), np.float32(1), np.float32(-1))
    return sign * scale[:, ids, None]


def quantize(x: Floats, shift: Floats, inverse_step: Floats, *, output_code: Code, activation: int = 0) -> Codes:
    """`x [M, T, C]` -> codes `[E, T, stored C]`."""
    return _quantize(activate(x, activation), shift, inverse_step, output_code)


def gated_quantize(x: Floats, shift: Floats, inverse_step: Floats, *, output_code: Code, activation: int = 0) -> Codes:
    """`x [M, T, 2 C]` -> codes `[E, T, stored C]` of the activation of the first half times the second."""
    first, second = np.split(x, 2, axis=-1)
    return _quantize(activate(first, activation) * second, shift, inverse_step, output_code)


def packed_binary_matmul(
    codes: Codes, weight: Codes, scale: Floats, bias: Floats, *, k: int, input_code: Code
) -> Floats:
    """`codes [M, T, stored k]`, `weight [E, N, R(k)]`, `scale`, `bias [E, N]` -> `[E, T, N]`."""
    code = from_triple(input_code)
    # Partial sums are integers below this bound, exact in binary32 up to 2^24.
    exact = np.float32 if k * max(-code.low, code.high) <= 2**24 else np.float64
    x = values(codes, code, k).astype(exact)
    w = np.where(unpack_bits(weight, k), exact(1), exact(-1))
    accumulated = x @ w.swapaxes(1, 2)
    return accumulated.astype(np.float32) * scale[:, None] + bias[:, None]


def packed_binary_matmul_quantize(
    codes: Codes,
    weight: Codes,
    scale: Floats,
    bias: Floats,
    shift: Floats,
    inverse_step: Floats,
    *,
    k: int,
    input_code: Code,
    output_code: Code,
    activation: int = 0,
) -> Codes:
    """As `packed_binary_matmul`, then activation and quantization: codes `[E, T, stored N]`."""
    y = packed_binary_matmul(codes, weight, scale, bias, k=k, input_code=input_code)
    return _quantize(activate(y, activation), shift, inverse_step, output_code)


def binary_attention(
    query: Codes,
    key: Codes,
    value: Codes,
    query_offsets: Ids,
    key_offsets: Ids,
    score_scale: Floats,
    probability_inverse_step: Floats,
    context_scale: Floats,
    shift: Floats,
    inverse_step: Floats,
    distance_bias: Floats | None = None,
    *,
    heads: int,
    head_size: int,
    channels: Sequence[int],
    softmax: int = 1,
    input_code: Code,
    probability_code: Code,
    output_code: Code,
) -> Codes:
    """Attention of codes within each sequence: codes `[E, Tq, stored heads * head_size]`.

    With a `distance_bias` `[E, A, 2 U + 1]` it is the op BiasedBinaryAttention.
    """
    width = heads * head_size
    code, probability = from_triple(input_code), from_triple(probability_code)

    def split(stored: Codes, begin: int) -> NDArray[np.int64]:  # [E, A, T, D]
        members, tokens = stored.shape[:2]
        head_values = values(stored, code, begin + width)[..., begin:]
        return head_values.reshape(members, tokens, heads, head_size).swapaxes(1, 2)

    q, k, v = (split(stored, begin) for stored, begin in zip((query, key, value), channels, strict=True))
    context = np.zeros(q.shape, np.int64)
    for b in range(len(query_offsets) - 1):
        rows = slice(query_offsets[b], query_offsets[b + 1])
        columns = slice(key_offsets[b], key_offsets[b + 1])
        if rows.start == rows.stop or columns.start == columns.stop:
            continue
        dot = q[:, :, rows] @ k[:, :, columns].swapaxes(2, 3)
        if softmax:
            e = _exponentials(dot, score_scale[..., None, None], distance_bias)
            total = e.sum(-1, keepdims=True, dtype=np.int64).astype(np.float32)
            z = e * (probability_inverse_step[..., None, None] / total)
        else:
            z = (dot > 0).astype(np.float32)
        p = values(store(z, probability), probability, dot.shape[-1])
        context[:, :, rows] = p @ v[:, :, columns]
    y = context.astype(np.float32) * context_scale[..., None, None]
    y = y.swapaxes(1, 2).reshape(y.shape[0], y.shape[2], width)
    return _quantize(y, shift, inverse_step, output_code)


def _exponentials(dot: NDArray[np.int64], score_scale: Floats, distance_bias: Floats | None) -> Floats:
    """Of the scores of every query `[E, A, Sq, Sk]`, less the largest."""
    if distance_bias is None:
        below = (dot - dot.max(-1, keepdims=True)).astype(np.float32)
        return fixed_exp(below * score_scale)
    queries, keys = dot.shape[-2:]
    most = distance_bias.shape[-1] // 2
    distance = np.arange(keys) - np.arange(queries)[:, None]
    scores = dot.astype(np.float32) * score_scale + distance_bias[..., np.clip(distance, -most, most) + most]
    return fixed_exp(scores - scores.max(-1, keepdims=True))


def add_layer_norm_quantize(
    x: Floats,
    residual: Floats,
    gamma: Floats,
    beta: Floats,
    shift: Floats,
    inverse_step: Floats,
    *,
    epsilon: float,
    output_code: Code,
) -> tuple[Floats, Codes]:
    """`x + residual` `[1 or E, T, C]` -> LayerNorm `[E, T, C]` and its codes; statistics in float64."""
    v = x + residual
    wide = v.astype(np.float64)
    mean = wide.mean(-1, keepdims=True)
    variance = np.maximum((wide * wide).mean(-1, keepdims=True) - mean * mean, 0)
    rstd = 1 / np.sqrt(variance + np.float64(np.float32(epsilon)))
    y = (v - mean.astype(np.float32)) * rstd.astype(np.float32) * gamma[:, None] + beta[:, None]
    return y, _quantize(y, shift, inverse_step, output_code)
