# SPDX-License-Identifier: Apache-2.0
"""The family `modernbert`: ModernBERTs that `bebert-edge train` wrote (docs/latent.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bebert_edge.checkpoints.bert import (
    SECTION,
    check_kept,
    kind_of_words,
    read_kept,
    read_section,
    read_step,
    weights,
    words,
)
from bebert_edge.checkpoints.member import Member
from bebert_edge.checkpoints.parts import Tensors, classifier
from bebert_edge.checkpoints.source import Reader, Source
from bebert_edge.config import EncoderConfig, QuantizationConfig
from bebert_edge.errors import CheckpointError

NAME = "modernbert"
_POOLINGS = {"cls": "first", "mean": "mean"}
"""`task.pooling` by `classifier_pooling`."""
_LOCAL = "sliding_attention"
_HIDDEN = -1e30
"""Added to the score of a key outside of the window: so low that it gets none of the attention."""


def detect(config: Mapping[str, Any], names: Collection[str] = ()) -> bool:
    """Whether a checkpoint is of this family: its `config.json` says so, whatever its tensors are called."""
    return SECTION in config and config.get("model_type") == "modernbert"


def _bias(read: Reader, target: str, source: str, n: int) -> Tensors:
    """A bias; zeros where the model has none."""
    yield f"{target}.bias", read(f"{source}.bias", n) if read.has(f"{source}.bias") else np.zeros(n, np.float32)


def _norm(read: Reader, target: str, source: str, hidden: int) -> Tensors:
    yield f"{target}.weight", read(f"{source}.weight", hidden)
    yield from _bias(read, target, source, hidden)


def _linear(read: Reader, target: str, source: str, k: int, n: int, kept: Mapping[str, str]) -> Tensors:
    yield f"{target}.shift", read(f"{source}.quantizer.shift", k)
    yield f"{target}.step", read_step(read, f"{source}.quantizer.step")
    yield from weights(target, read(f"{source}.weight", n, k), kept)
    yield from _bias(read, target, source, n)


def _layer(read: Reader, i: int, shape: EncoderConfig, kept: Mapping[str, str]) -> Tensors:
    """A layer: its second norm follows attention, and the first of the next layer, or the final one, the other sum."""
    h, f, target, source = shape.hidden_size, shape.intermediate_size, f"layers.{i}", f"model.layers.{i}"
    yield from _linear(read, f"{target}.qkv", f"{source}.attn.Wqkv", h, 3 * h, kept)
    for use in ("query", "key", "value", "probability"):
        step = read_step(read, f"{source}.attn.{use}_quantizer.step")
        yield f"{target}.attention.{use}_step", np.full(shape.heads, step, np.float32)
    yield from _linear(read, f"{target}.attention_output", f"{source}.attn.Wo", h, h, kept)
    yield from _norm(read, f"{target}.attention_norm", f"{source}.mlp_norm", h)
    yield from _linear(read, f"{target}.ffn_in", f"{source}.mlp.Wi", h, 2 * f, kept)
    yield from _linear(read, f"{target}.ffn_out", f"{source}.mlp.Wo", f, h, kept)
    last = i == shape.layers - 1
    after = "model.final_norm" if last else f"model.layers.{i + 1}.attn_norm"
    yield from _norm(read, f"{target}.ffn_norm", after, h)


def _tensors(read: Reader, shape: EncoderConfig, labels: int, kept: Mapping[str, str], embeddings: str) -> Tensors:
    h = shape.hidden_size
    yield from words(read, "model.embeddings.tok_embeddings.weight", shape, embeddings)
    yield from _norm(read, "embeddings.norm", "model.embeddings.norm", h)
    for i in range(shape.layers):
        yield from _layer(read, i, shape, kept)
    yield from _linear(read, "pooler", "head.dense", h, h, kept)
    yield from _norm(read, "pooler.norm", "head.norm", h)
    yield from classifier(read, labels, h)


def _rotary_bases(source: Source) -> tuple[float, ...]:
    """The base of each layer, by its type of attention."""
    types, parameters = source.config.get("layer_types"), source.config.get("rope_parameters")
    try:
        return tuple(float(parameters[kind]["rope_theta"]) for kind in types)  # type: ignore[index,union-attr]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source.config_path}: layer_types is {types!r} and rope_parameters {parameters!r}, expected a list of "
            "types of attention, and an object with the 'rope_theta' of each"
        ) from error


def _distance_biases(source: Source, max_length: int) -> tuple[int, ...]:
    """The U of each layer's bias by distance, which makes its window; 0 for layers that see all tokens."""
    types = source.config.get("layer_types", [])
    if _LOCAL not in types:
        return ()
    # No tokens are further apart than the first and the last of the longest input.
    distance = min(source.integer("local_attention") // 2 + 1, max(max_length - 1, 1))
    return tuple(distance if kind == _LOCAL else 0 for kind in types)


def _windows(source: Source, shape: EncoderConfig) -> Tensors:
    """Biases that hide the keys that are further away than the window reaches."""
    reach = source.integer("local_attention") // 2 if shape.distance_biases else 0
    for i, distance in enumerate(shape.distance_biases):
        if distance:
            row = np.where(np.abs(np.arange(-distance, distance + 1)) <= reach, 0, _HIDDEN).astype(np.float32)
            name = "distance_bias" if len(shape.distance_biases) == 1 else f"layers.{i}.attention.distance_bias"
            yield name, np.tile(row, (shape.heads, 1))


def read(source: Source) -> Member:
    """Reads one member.

    Raises:
        CheckpointError: It does not follow docs/latent.md.
        FormatError: Its configuration is of no encoder, or of no number of bits, that can be packed.
    """
    path = source.config_path
    bits, labels, task, max_length = read_section(source.config, path)
    labels, max_length = source.chosen_labels(len(labels)) or labels, source.max_length or max_length
    trained_positions = source.integer("max_position_embeddings")
    if max_length > trained_positions:
        raise CheckpointError(f"{path}: max_length is {max_length}, but it has {trained_positions} positions")
    if task.type != "text-classification":
        raise CheckpointError(f"{path}: {SECTION}.task is {task.type!r}, expected 'text-classification'")
    pooling = source.config.get("classifier_pooling", "cls")
    if pooling not in _POOLINGS:
        raise CheckpointError(f"{path}: classifier_pooling is {pooling!r}, expected one of {', '.join(_POOLINGS)}")
    task = replace(task, pooling=_POOLINGS[pooling])
    shape = source.encoder(
        positions=max_length,
        token_types=0,
        layer_norm_epsilon=source.number("norm_eps"),
        activation=source.config.get("hidden_activation", ""),
        pooler_activation=source.config.get("classifier_activation", ""),
        norm="pre",
        gated=True,
        rotary_bases=_rotary_bases(source),
        pooler_norm=True,
        distance_biases=_distance_biases(source, max_length),
    )
    read = Reader(source)
    kept = read_kept(source.config[SECTION], path)
    embeddings = kind_of_words(source)
    tensors = dict(_tensors(read, shape, len(labels), kept, embeddings))
    read.finish()
    check_kept(kept, tensors, path)
    tensors |= dict(_windows(source, shape))
    quantization = replace(QuantizationConfig.for_bits(bits, shape, embeddings), weights=kept)
    return Member(shape, quantization, task, labels, max_length, tensors, source.tokenizer)
