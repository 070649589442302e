# SPDX-License-Identifier: Apache-2.0
"""The definition of the ops on ranges of sequences, and of the layers made of them, in numpy (docs/ops.md)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bebert_edge.codes import from_triple
from bebert_edge.lowering import LoweredNorm
from bebert_edge.lowering.ranges import RangeLayer, RangeLinear, RangeQuantizer
from bebert_edge.reference.ops import (
    Code,
    Codes,
    Floats,
    Ids,
    activate,
    add_layer_norm_quantize,
    fixed_exp,
    packed_binary_matmul,
    store,
    values,
)

LEAST_MAGNITUDE = np.float32(2.0**-100)
"""Stands for the largest magnitude of codes that are all 0."""
SPAN_EPSILON = np.float32(1e-8)
"""Added to the span of codes with an offset (BinaryBERT, transformer/utils_quant.py, AsymQuantizer)."""


def _sequences(offsets: Ids) -> Iterator[slice]:
    """The tokens of each sequence that has any."""
    for begin, end in pairwise(offsets):
        if begin < end:
            yield slice(begin, end)


def _clip(y: Floats, clip: Floats) -> Floats:
    """Clips `[E, ...]` to the two ends of each member's `[E, 2]`."""
    low, high = (end.reshape(-1, *[1] * (y.ndim - 1)) for end in clip.T)
    clipped: Floats = np.maximum(np.minimum(y, high), low)
    return clipped


def sequence_range(x: Floats, offsets: Ids, *, activation: int = 0) -> tuple[Floats, Floats, Floats]:
    """`x [E, T, C]` after the activation, and its `least` and `most` in each token's sequence, `[E, T, 1]`."""
    y = activate(x, activation)
    least, most = np.zeros((2, *y.shape[:2], 1), np.float32)
    for tokens in _sequences(offsets):
        least[:, tokens] = y[:, tokens].min((1, 2), keepdims=True)
        most[:, tokens] = y[:, tokens].max((1, 2), keepdims=True)
    return y, least, most


def range_quantize(
    y: Floats, least: Floats, most: Floats, clip: Floats, *, output_code: Code
) -> tuple[Codes, Floats, Floats]:
    """`y [E, ...]` between `least` and `most` -> its codes, and what they stand for: `step` and `offset`."""
    code = from_triple(output_code)
    y, least, most = (_clip(x, clip) for x in (y, least, most))
    z: Floats
    span: Floats
    step: Floats
    if code.low < 0:
        span, offset = np.maximum(np.maximum(-least, most), LEAST_MAGNITUDE), np.zeros_like(least)
        z = y * (np.float32(code.high) / span)
    else:
        span, offset = (most - least) + SPAN_EPSILON, least
        z = (y - offset) / span * np.float32(code.high)
    step = span / np.float32(code.high)
    return store(z, code), step, offset


def range_attention(
    query: Codes,
    key: Codes,
    value: Codes,
    query_step: Floats,
    key_step: Floats,
    value_step: Floats,
    offsets: Ids,
    clip: Floats,
    *,
    heads: int,
    head_size: int,
    input_code: Code,
    probability_code: Code,
) -> Floats:
    """Attention of codes `[E, T, heads * head_size]` within each sequence, as float32 of the same shape."""
    code, probability = from_triple(input_code), from_triple(probability_code)
    width = heads * head_size
    context = np.zeros((*query.shape[:2], width), np.float32)

    def split(stored: Codes) -> NDArray[np.int64]:  # [E, A, S, D]
        return values(stored, code, width).reshape(*stored.shape[:2], heads, head_size).swapaxes(1, 2)

    for tokens in _sequences(offsets):
        q, k, v = (split(stored[:, tokens]) for stored in (query, key, value))
        # One step for the whole sequence, [E, 1, 1, 1].
        q_step, k_step, v_step = (step[:, tokens][:, :1, :, None] for step in (query_step, key_step, value_step))
        dot = q @ k.swapaxes(2, 3)
        score_scale = q_step * k_step / np.sqrt(np.float32(head_size))
        below = (dot - dot.max(-1, keepdims=True)).astype(np.float32)
        e = fixed_exp(below * score_scale, bits=24)
        total = e.sum(-1, keepdims=True, dtype=np.float64).astype(np.float32)
        p = e / total
        least, most = p.min((1, 2, 3), keepdims=True), p.max((1, 2, 3), keepdims=True)
        codes, p_step, p_offset = range_quantize(p, least, most, clip, output_code=probability_code)
        acc = (values(codes, probability, codes.shape[-1]) @ v).astype(np.float32)
        sums = v.sum(2, keepdims=True).astype(np.float32)
        y = acc * p_step * v_step + sums * p_offset * v_step
        context[:, tokens] = y.swapaxes(1, 2).reshape(*y.shape[:1], -1, width)
    return context


def range_linear(linear: RangeLinear, x: Floats, offsets: Ids) -> Floats:
    """The sum of products of `x [E, T, K]`, from the first to the last, and the bias last: `[E, T, N]`."""
    ranged = sequence_range(x, offsets, activation=linear.activation)
    quantized = [_quantize(use, ranged) for use in linear.quantizers]
    total = None
    for product in linear.products:
        codes, step, offset = quantized[product.source]
        zeros = np.zeros_like(linear.bias)
        y = packed_binary_matmul(codes, product.weight, product.scale, zeros, **product.attributes) * step
        if product.offset_scale is not None:
            y = y + offset * product.offset_scale[:, None]
        total = y if total is None else total + y
    assert total is not None
    return total + linear.bias[:, None]


def _quantize(quantizer: RangeQuantizer, ranged: tuple[Floats, Floats, Floats]) -> tuple[Codes, Floats, Floats]:
    return range_quantize(*ranged, quantizer.clip, output_code=quantizer.code.triple)


def _norm(norm: LoweredNorm, x: Floats, residual: Floats, epsilon: float) -> Floats:
    unused = norm.outputs[0]
    parameters = (norm.gamma, norm.beta, unused.shift, unused.inverse_step)
    return add_layer_norm_quantize(x, residual, *parameters, epsilon=epsilon, output_code=unused.code.triple)[0]


def range_layer(layer: RangeLayer, hidden: Floats, offsets: Ids, epsilon: float) -> Floats:
    """A layer: `[E, T, H]` to `[E, T, H]`."""
    attention = layer.attention
    query, key, value = (
        _quantize(use, sequence_range(range_linear(linear, hidden, offsets), offsets))
        for linear, use in zip(layer.qkv, attention.inputs, strict=True)
    )
    codes, steps = (query[0], key[0], value[0]), (query[1], key[1], value[1])
    clip = attention.probability.clip
    context = range_attention(*codes, *steps, offsets, clip, **attention.attributes)
    projected = range_linear(layer.attention_output, context, offsets)
    hidden = _norm(layer.attention_norm, projected, hidden, epsilon)
    projected = range_linear(layer.ffn_out, range_linear(layer.ffn_in, hidden, offsets), offsets)
    return _norm(layer.ffn_norm, projected, hidden, epsilon)
