# SPDX-License-Identifier: Apache-2.0
"""A whole ensemble in numpy, made of the ops: what every exported model is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
from bebert_edge.lowering.ranges import RangeLayer, RangeLinear
from bebert_edge.reference.answer import classify, combine, embed, exact_mean
from bebert_edge.reference.ops import (
    Codes,
    Floats,
    Ids,
    activate,
    add_layer_norm_quantize,
    binary_attention,
    gated_quantize,
    packed_binary_embedding,
    packed_binary_matmul,
    quantize,
    values,
)
from bebert_edge.reference.ranges import range_layer, range_linear


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
    return [quantize(y, output.shift, output.inverse_step, output_code=output.code.triple) for output in outputs]


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
