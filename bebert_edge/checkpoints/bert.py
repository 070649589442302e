# SPDX-License-Identifier: Apache-2.0
"""The family `bert`: what `bebert-edge train` writes (docs/latent.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge import groups
from bebert_edge.bits import pack_bits
from bebert_edge.checkpoints.member import Member
from bebert_edge.checkpoints.parts import Tensors, classifier, norm, tables
from bebert_edge.checkpoints.source import Floats, Reader, Source
from bebert_edge.config import PROBLEMS, TASK_TYPES, EncoderConfig, QuantizationConfig, TaskConfig
from bebert_edge.ensemble import linear_names
from bebert_edge.errors import CheckpointError
from bebert_edge.kept_weights import WEIGHT_TYPES, int8_rows

NAME = "bert"
FORMAT_VERSION = 1
SECTION = "bebert_edge"
"""Key of `config.json` that says how a latent checkpoint was binarized."""
_LAST_LAYERS = {"question-answering": "qa_outputs"}
"""Names of last layers, by task, that transformers does not call `classifier`."""
MINIMUM_STEP = 1e-6
"""Steps are learned freely and used no smaller than this."""


def detect(config: Mapping[str, Any], names: Collection[str] = ()) -> bool:
    """Whether a checkpoint is of this family: its `config.json` says so, whatever its tensors are called."""
    return SECTION in config and config.get("model_type") == "bert"


def binarize_rows(latent: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Bits and scale of each row: the signs of `latent - row mean` (0 counts as +1) and their mean magnitude.

    Means are taken in float64, so that no order of summation matters.
    """
    centred = latent - latent.mean(-1, keepdims=True, dtype=np.float64).astype(np.float32)
    return centred >= 0, np.abs(centred).mean(-1, dtype=np.float64).astype(np.float32)


def read_step(read: Reader, name: str) -> Floats:
    """A step, as it is used."""
    return np.maximum(read(name), np.float32(MINIMUM_STEP))


def _integer(section: Mapping[str, Any], key: str, path: Path) -> int:
    value = section.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{path}: {SECTION}.{key} is {value!r}, expected an integer >= 1")
    return value


def read_section(config: Mapping[str, Any], path: Path) -> tuple[int, tuple[str, ...], TaskConfig, int]:
    """Bits, labels, task and longest input, as the section of a latent member's `config.json` has them.

    Raises:
        CheckpointError: It does not follow docs/latent.md.
    """
    section = config.get(SECTION)
    if not isinstance(section, dict):
        raise CheckpointError(f"{path}: {SECTION} is {section!r}, expected an object")
    if section.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: {SECTION}.format_version is {section.get('format_version')!r}, expected {FORMAT_VERSION}: "
            "update bebert-edge to the version that wrote the checkpoint"
        )
    labels = section.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise CheckpointError(f"{path}: {SECTION}.labels is {labels!r}, expected a list of strings")
    problem = section.get("problem", "single_label")
    if problem not in PROBLEMS:
        raise CheckpointError(f"{path}: {SECTION}.problem is {problem!r}, expected one of {', '.join(PROBLEMS)}")
    if problem == "regression" and len(labels) != 1:
        raise CheckpointError(f"{path}: {SECTION}.labels is {labels!r}, expected one name for the problem 'regression'")
    task_type = section.get("task", "text-classification")
    if task_type not in TASK_TYPES:
        raise CheckpointError(f"{path}: {SECTION}.task is {task_type!r}, expected one of {', '.join(TASK_TYPES)}")
    if not labels and task_type not in ("sentence-embedding", "fill-mask"):
        raise CheckpointError(f"{path}: {SECTION}.labels is [], expected one name or more")
    text_pair = section.get("text_pair")
    if not isinstance(text_pair, bool):
        raise CheckpointError(f"{path}: {SECTION}.text_pair is {text_pair!r}, expected true or false")
    task = TaskConfig(task_type, problem, text_pair, section.get("pooling", "first"), section.get("mask_id"))
    if task.pooled and task.pooling != "first":
        raise CheckpointError(
            f"{path}: {SECTION}.pooling is {task.pooling!r}, expected none for the task {task_type!r}"
        )
    return _integer(section, "bits", path), tuple(labels), task, _integer(section, "max_length", path)


def read_kept(section: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Types of the weights that have more than one bit, by the name of the linear."""
    kept = section.get("weights", {})
    if not isinstance(kept, dict):
        raise CheckpointError(f"{path}: {SECTION}.weights is {kept!r}, expected an object")
    for name, kind in kept.items():
        if kind not in WEIGHT_TYPES:
            expected = ", ".join(WEIGHT_TYPES)
            raise CheckpointError(f"{path}: {SECTION}.weights[{name!r}] is {kind!r}, expected one of {expected}")
    return kept


def check_kept(kept: Mapping[str, str], tensors: Collection[str], path: Path) -> None:
    """Checks that there are linears of these names among packed tensors.

    Raises:
        CheckpointError: There is none of one of them.
    """
    linears = linear_names(tensors)
    for name in kept:
        if name not in linears:
            raise CheckpointError(f"{path}: {SECTION}.weights has {name!r}, expected names of {', '.join(linears)}")


def binary(prefix: str, latent: Floats) -> Tensors:
    """The packed rows of latent weights."""
    bits, scale = binarize_rows(latent)
    yield f"{prefix}.bits", pack_bits(bits)
    yield f"{prefix}.scale", scale


def kind_of_words(source: Source) -> str:
    """How word embeddings are to be stored: as they were trained for, or, if not binary, as the user said."""
    kind: str = source.config[SECTION].get("embeddings", "binary")
    return kind if kind == "binary" or source.embeddings is None else source.embeddings


def words(read: Reader, name: str, shape: EncoderConfig, kind: str) -> Tensors:
    """Word embeddings of this kind, of a latent table."""
    table, target = read(name, shape.vocab_size, shape.embedding_size), "embeddings.word"
    if kind == "binary":
        yield from binary(target, table)
    elif kind in tuple(groups.BITS):
        codes, scale = groups.quantize(table, kind)
        yield f"{target}.codes", codes
        yield f"{target}.scale", scale
    else:
        kinds = ", ".join(("binary", *groups.BITS))
        raise CheckpointError(f"{read.path}: {SECTION}.embeddings is {kind!r}, expected one of {kinds}")


def weights(prefix: str, latent: Floats, kept: Mapping[str, str]) -> Tensors:
    """The packed weights of a linear: binary rows, or what it keeps."""
    kind = kept.get(prefix)
    if kind is None:
        yield from binary(prefix, latent)
    elif kind == "int8":
        weight, scale = int8_rows(latent)
        yield f"{prefix}.weight", weight
        yield f"{prefix}.scale", scale
    else:
        with np.errstate(over="ignore"):  # what is infinite is refused with the tensor's name
            yield f"{prefix}.weight", latent.astype(np.float16)


def _linear(read: Reader, target: str, source: str, k: int, n: int, kept: Mapping[str, str]) -> Tensors:
    yield f"{target}.shift", read(f"{source}.quantizer.shift", k)
    yield f"{target}.step", read_step(read, f"{source}.quantizer.step")
    yield from weights(target, read(f"{source}.weight", n, k), kept)
    yield f"{target}.bias", read(f"{source}.bias", n)


def _layer(read: Reader, i: int, shape: EncoderConfig, kept: Mapping[str, str]) -> Tensors:
    h, f = shape.hidden_size, shape.intermediate_size
    target, source = f"layers.{i}", f"bert.encoder.layer.{i}"
    attention = f"{source}.attention.self"
    yield f"{target}.qkv.shift", read(f"{attention}.input_quantizer.shift", h)
    yield f"{target}.qkv.step", read_step(read, f"{attention}.input_quantizer.step")
    qkv = ("query", "key", "value")
    latent = np.concatenate([read(f"{attention}.{use}.weight", h, h) for use in qkv])
    yield from weights(f"{target}.qkv", latent, kept)
    yield f"{target}.qkv.bias", np.concatenate([read(f"{attention}.{use}.bias", h) for use in qkv])
    for use in (*qkv, "probability"):
        step = read_step(read, f"{attention}.{use}_quantizer.step")
        yield f"{target}.attention.{use}_step", np.full(shape.heads, step, np.float32)
    yield from _linear(read, f"{target}.attention_output", f"{source}.attention.output.dense", h, h, kept)
    yield from norm(read, f"{target}.attention_norm", f"{source}.attention.output.LayerNorm", h)
    yield from _linear(read, f"{target}.ffn_in", f"{source}.intermediate.dense", h, f, kept)
    yield from _linear(read, f"{target}.ffn_out", f"{source}.output.dense", f, h, kept)
    yield from norm(read, f"{target}.ffn_norm", f"{source}.output.LayerNorm", h)


def _tensors(
    read: Reader,
    shape: EncoderConfig,
    trained_positions: int,
    task: TaskConfig,
    labels: int,
    kept: Mapping[str, str],
    embeddings: str,
) -> Tensors:
    h, width = shape.hidden_size, shape.embedding_size
    yield from words(read, "bert.embeddings.word_embeddings.weight", shape, embeddings)
    yield from tables(read, shape, trained_positions)
    if shape.projected:
        yield from _linear(read, "embeddings.projection", "bert.embeddings.projection", width, h, kept)
    for i in range(shape.distinct_layers):
        yield from _layer(read, i, shape, kept)
    if task.pooled:
        yield from _linear(read, "pooler", "bert.pooler.dense", h, h, kept)
    if task.fills:
        yield from _linear(read, "transform", "transform.dense", h, h, kept)
        yield from norm(read, "transform.norm", "transform.LayerNorm", h)
        yield "decoder.shift", read("decoder.quantizer.shift", h)
        yield "decoder.step", read_step(read, "decoder.quantizer.step")
        yield "decoder.bias", read("decoder.bias", shape.vocab_size)
    elif not task.embeds:
        yield from classifier(read, labels, h, _LAST_LAYERS.get(task.type, "classifier"))


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
    section = source.config[SECTION]
    furthest = _integer(section, "distance_bias", path) if "distance_bias" in section else 0
    kept_distances = min(furthest, max_length - 1)
    shape = source.encoder(
        positions=max_length,
        layer_norm_epsilon=source.number("layer_norm_eps"),
        activation=source.config.get("hidden_act", ""),
        pooler_activation=section.get("pooler_activation", "tanh"),
        embedding_size=section.get("embedding_size", 0),
        distinct_layers=section.get("distinct_layers", 0),
        distance_biases=(kept_distances,) if furthest else (),
    )
    embeddings = kind_of_words(source)
    read = Reader(source)
    kept = read_kept(section, path)
    tensors = dict(_tensors(read, shape, trained_positions, task, len(labels), kept, embeddings))
    if furthest:
        table = read("bert.encoder.distance_bias", shape.heads, 2 * furthest + 1)
        tensors["distance_bias"] = table[:, furthest - kept_distances : furthest + kept_distances + 1]
    read.finish()
    check_kept(kept, tensors, path)
    quantization = replace(QuantizationConfig.for_bits(bits, shape, embeddings), weights=kept)
    return Member(shape, quantization, task, labels, max_length, tensors, source.tokenizer)
