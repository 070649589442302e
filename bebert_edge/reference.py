# SPDX-License-Identifier: Apache-2.0
"""The definition of every op, and of a whole ensemble, in numpy: the oracle, written for reading.

Names, argument order and arithmetic follow docs/ops.md. All float arithmetic is binary32 with one rounding per
operation unless it says otherwise; integer sums are taken in int64, or in floats that hold them exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bebert_edge.answer import classify, combine, embed, exact_mean
from bebert_edge.bits import pack_bits, unpack_bits
from bebert_edge.codes import CodeType, from_triple
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.groups import GroupedTable
from bebert_edge.kept_weights import kept_matmul
from bebert_edge.lowering import (
    ACTIVATION_NUMBERS,
    LoweredAttention,
    LoweredHead,
    LoweredLayer,
    LoweredLinear,
    LoweredMaskHead,
    LoweredNorm,
    LoweredPooler,
    LoweredProduct,
    LoweredQuantizedLinear,
    LoweredWords,
    Quantizer,
    lower,
)
from bebert_edge.range_lowering import RangeLayer, RangeLinear

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


def _product(product: LoweredProduct, codes: Codes) -> Floats:
    arguments = product.weight, product.scale, product.bias
    if product.is_binary:
        return packed_binary_matmul(codes, *arguments, **product.attributes)
    return kept_matmul(values(codes, product.input_code, product.k), *arguments)


def _linear(linear: LoweredLinear, codes: Sequence[Codes]) -> Floats:
    """A sum of products, from the first to the last; `codes` are those of each quantizer of the input."""
    y = None
    for product in linear.products:
        term = _product(product, codes[product.source])
        y = term if y is None else y + term
    assert y is not None
    return y


def _quantized_linear(linear: LoweredQuantizedLinear, codes: Sequence[Codes]) -> list[Codes]:
    y = _linear(linear, codes)
    op = gated_quantize if linear.gated else quantize
    return [
        op(y, output.shift, output.inverse_step, output_code=output.code.triple, activation=linear.activation)
        for output in linear.outputs
    ]


def _codes(y: Floats, outputs: Sequence[Quantizer]) -> list[Codes]:
    return [_quantize(y, output.shift, output.inverse_step, output.code.triple) for output in outputs]


def _query_key_value(layer: LoweredLayer, codes: Sequence[Codes], positions: Ids) -> tuple[list[Codes], Sequence[int]]:
    """The tensors that hold query, key and value, and the channels at which they begin in them."""
    width = layer.attention.width
    if layer.rotary is not None:
        *turned, value = layer.query_key_value
        query, key = (
            _codes(layer.rotary.rotate(_linear(linear, codes), positions), linear.outputs)[0] for linear in turned
        )
        return [query, key, *_quantized_linear(value, codes)], (0, 0, 0)
    attended = [_quantized_linear(linear, codes)[0] for linear in layer.qkv]
    return (attended * 3, (0, width, 2 * width)) if len(attended) == 1 else (attended, (0, 0, 0))


def _attention(
    attention: LoweredAttention, attended: Sequence[Codes], channels: Sequence[int], offsets: Ids
) -> list[Codes]:
    query, key, value = attended
    return [
        binary_attention(
            query,
            key,
            value,
            offsets,
            offsets,
            attention.score_scale,
            attention.probability_inverse_step,
            attention.context_scale,
            output.shift,
            output.inverse_step,
            attention.distance_bias,
            **attention.attributes(channels, output),
        )
        for output in attention.outputs
    ]


def _norm(norm: LoweredNorm, x: Floats, residual: Floats, epsilon: float) -> tuple[Floats, list[Codes]]:
    first, *others = norm.outputs
    y, codes = add_layer_norm_quantize(
        x,
        residual,
        norm.gamma,
        norm.beta,
        first.shift,
        first.inverse_step,
        epsilon=epsilon,
        output_code=first.code.triple,
    )
    return x + residual if norm.keeps_sum else y, [codes, *_codes(y, others)]


def _layer(
    layer: LoweredLayer | RangeLayer,
    hidden: Floats,
    codes: Sequence[Codes],
    positions: Ids,
    offsets: Ids,
    epsilon: float,
) -> tuple[Floats, list[Codes]]:
    if isinstance(layer, RangeLayer):
        from bebert_edge.range_reference import range_layer  # it is made of the ops above

        return range_layer(layer, hidden, offsets, epsilon), []
    attended, channels = _query_key_value(layer, codes, positions)
    context = _attention(layer.attention, attended, channels, offsets)
    hidden, codes = _norm(layer.attention_norm, _linear(layer.attention_output, context), hidden, epsilon)
    intermediate = _quantized_linear(layer.ffn_in, codes)
    return _norm(layer.ffn_norm, _linear(layer.ffn_out, intermediate), hidden, epsilon)


def forward(
    ensemble: PackedEnsemble, input_ids: Ids, attention_mask: Ids, token_type_ids: Ids | None = None
) -> tuple[Floats, Floats]:
    """A whole ensemble.

    Args:
        ensemble: The packed ensemble.
        input_ids: int64 `[B, S]`.
        attention_mask: int64 `[B, S]`, 0 where a token is padding. The first token of a sequence always takes part.
        token_type_ids: int64 `[B, S]`, or None for zeros.

    Returns:
        The ensemble's answer and each member's to the main task, float32: logits `[B, labels]` and `[E, B, labels]`;
        for tasks on tokens `[B, S, labels]` and `[E, B, S, labels]`, zeros for padding; or embeddings `[B, H]`, or
        `[B, E H]` if they are concatenated, and `[E, B, H]`.
    """
    return forward_tasks(ensemble, input_ids, attention_mask, token_type_ids)[""]


def forward_tasks(
    ensemble: PackedEnsemble, input_ids: Ids, attention_mask: Ids, token_type_ids: Ids | None = None
) -> dict[str, tuple[Floats, Floats]]:
    """As `forward`, the answers to every task by its name; the main one's is ""."""
    model = lower(ensemble)
    real = np.asarray(attention_mask) != 0
    real[:, :1] = True
    types = np.zeros_like(input_ids) if token_type_ids is None else np.broadcast_to(token_type_ids, input_ids.shape)
    columns = np.nonzero(real)[1]
    offsets = np.concatenate([[0], np.cumsum(real.sum(1))]).astype(np.int64)

    embedding = model.embedding
    word, *second = (_words(words, input_ids[real], embedding.k) for words in embedding.words)
    rows = word + second[0] if second else word
    places = ((embedding.position, columns), (embedding.token_type, types[real]))
    tables = [table[:, index].astype(np.float32) for table, index in places if table is not None]
    residual = sum(tables[1:], tables[0]) if tables else np.zeros_like(rows)
    hidden, codes = _norm(embedding.norm, rows, residual, model.epsilon)
    if embedding.projection is not None:
        hidden = _linear(embedding.projection, codes)
        codes = _codes(hidden, embedding.projection.outputs)
    for layer in model.layers:
        hidden, codes = _layer(layer, hidden, codes, columns, offsets, model.epsilon)

    tokens = input_ids[real]
    return {
        name: _answer(head, hidden, codes, tokens, offsets, real, model.epsilon) for name, head in model.heads.items()
    }


def _answer(
    head: LoweredHead,
    hidden: Floats,
    codes: Sequence[Codes],
    tokens: Ids,
    offsets: Ids,
    real: NDArray[np.bool_],
    epsilon: float,
) -> tuple[Floats, Floats]:
    task = head.config.task
    if head.mask is not None:
        masked = tokens == task.mask_id
        members = _fill(head.mask, [code[:, masked] for code in codes], epsilon)
        return combine(members, head.config), members
    if task.embeds:
        members = embed(hidden, offsets, task.pooling)
        return combine(members, head.config), members
    assert head.classifier is not None
    if task.answers_tokens:
        members = classify(head.classifier, hidden)
        return _pad(combine(members, head.config), real), _pad(members, real)
    assert head.pooler is not None
    first = offsets[:-1]
    if task.pooling == "mean":
        state = exact_mean(hidden, offsets)
        codes = _codes(state, head.pooler.inputs)
    else:
        state, codes = hidden[:, first], [code[:, first] for code in codes]
    pooled = _pool(head.pooler, state, codes, epsilon)
    members = classify(head.classifier, pooled)
    return combine(members, head.config), members


def _fill(head: LoweredMaskHead, codes: Sequence[Codes], epsilon: float) -> Floats:
    """Of the codes of masked tokens `[E, masks, stored H]`, logits `[E, masks, V]`."""
    x = activate(_linear(head.transform, codes), head.transform.activation)
    _, (decoded,) = _norm(head.norm, x, np.zeros_like(x), epsilon)
    (quantizer,) = head.norm.outputs
    nothing, k = np.zeros((1, 1), np.float32), head.norm.gamma.shape[-1]
    first, *second = (
        packed_binary_matmul(decoded, words.weight, words.scale, nothing, k=k, input_code=quantizer.code.triple)
        for words in head.words
    )
    product = first + second[0] if second else first
    return np.asarray(product * head.step[:, None, None] + head.bias[:, None], np.float32)


def _words(words: LoweredWords | GroupedTable, ids: Ids, k: int) -> Floats:
    if isinstance(words, GroupedTable):
        return words.rows(ids)
    return packed_binary_embedding(ids, words.weight, words.scale, k=k)


def _pool(pooler: LoweredPooler, state: Floats, codes: Sequence[Codes], epsilon: float) -> Floats:
    """Of the hidden states of the first tokens `[E, B, H]`, or their means, or of their codes."""
    if isinstance(pooler.linear, RangeLinear):
        from bebert_edge.range_reference import range_linear

        dense = range_linear(pooler.linear, state, np.arange(state.shape[1] + 1))
    else:
        dense = _linear(pooler.linear, codes)
    y = np.tanh(dense) if pooler.activation == "tanh" else activate(dense, ACTIVATION_NUMBERS[pooler.activation])
    if pooler.norm is None:
        return y
    weight, bias = pooler.norm
    deviation = y - y.mean(-1, keepdims=True)
    variance = (deviation * deviation).mean(-1, keepdims=True)
    normal: Floats = deviation / np.sqrt(variance + np.float32(epsilon))
    return normal * weight[:, None] + bias[:, None]


def _pad(x: Floats, real: NDArray[np.bool_]) -> Floats:
    """Numbers of the real tokens `[..., T, labels]` -> `[..., B, S, labels]`, zeros in between."""
    padded = np.zeros((*x.shape[:-2], *real.shape, x.shape[-1]), np.float32)
    padded[..., real, :] = x
    return padded
