# SPDX-License-Identifier: Apache-2.0
"""The family `bert`: what `bebert-edge train` writes (docs/latent.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.bits import pack_bits
from bebert_edge.checkpoints.files import CONFIG_FILE, TENSOR_FILE, read_json, read_tensors, read_tokenizer
from bebert_edge.config import PROBLEMS, EncoderConfig, LayerQuantization, QuantizationConfig, TaskConfig
from bebert_edge.errors import CheckpointError, FormatError

FORMAT_VERSION = 1
SECTION = "bebert_edge"
"""Key of `config.json` that says how a latent checkpoint was binarized."""
MINIMUM_STEP = 1e-6
"""Steps are learned freely and used no smaller than this."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Member:
    """One member as the packed ensemble wants it, tensors without the leading axis."""

    encoder: EncoderConfig
    quantization: QuantizationConfig
    task: TaskConfig
    labels: tuple[str, ...]
    max_length: int
    tensors: dict[str, NDArray[Any]]
    tokenizer: str


def detect(config: dict[str, Any]) -> bool:
    """Whether a `config.json` is of this family."""
    return SECTION in config and config.get("model_type") == "bert"


def binarize_rows(latent: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Bits and scale of each row: the signs of `latent - row mean` (0 counts as +1) and their mean magnitude.

    Means are taken in float64, so that no order of summation matters.
    """
    centred = latent - latent.mean(-1, keepdims=True, dtype=np.float64).astype(np.float32)
    return centred >= 0, np.abs(centred).mean(-1, dtype=np.float64).astype(np.float32)


class _Reader:
    """Hands out the tensors of one file, each checked for shape and finite values."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / TENSOR_FILE
        self.tensors = read_tensors(directory)

    def __call__(self, name: str, *shape: int) -> Floats:
        if name not in self.tensors:
            raise CheckpointError(
                f"{self.path}: tensor {name} is missing, expected shape {list(shape)}: "
                "the checkpoint is incomplete; copy it again or train it again with 'bebert-edge train'"
            )
        tensor = self.tensors.pop(name)
        if tensor.shape != shape:
            raise CheckpointError(
                f"{self.path}: tensor {name} has shape {list(tensor.shape)}, expected {list(shape)} by {CONFIG_FILE}"
            )
        finite = np.isfinite(tensor)
        if not finite.all():
            index = [int(i) for i in np.argwhere(~finite)[0]]
            raise CheckpointError(
                f"{self.path}: tensor {name} is {tensor[tuple(index)]} at {index}, expected finite numbers: "
                "training diverged; train again with a lower --learning-rate"
            )
        return tensor

    def step(self, name: str) -> Floats:
        return np.maximum(self(name), np.float32(MINIMUM_STEP))

    def finish(self) -> None:
        if self.tensors:
            unknown = min(self.tensors)
            raise CheckpointError(f"{self.path}: tensor {unknown} is unknown: docs/latent.md lists the tensors")


def _integer(config: dict[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{path}: {key} is {value!r}, expected an integer >= 1")
    return value


def _encoder(config: dict[str, Any], positions: int, path: Path) -> EncoderConfig:
    epsilon = config.get("layer_norm_eps")
    if not isinstance(epsilon, float) or not math.isfinite(epsilon) or epsilon <= 0:
        raise CheckpointError(f"{path}: layer_norm_eps is {epsilon!r}, expected a number > 0")
    return EncoderConfig(
        vocab_size=_integer(config, "vocab_size", path),
        hidden_size=_integer(config, "hidden_size", path),
        layers=_integer(config, "num_hidden_layers", path),
        heads=_integer(config, "num_attention_heads", path),
        intermediate_size=_integer(config, "intermediate_size", path),
        positions=positions,
        token_types=_integer(config, "type_vocab_size", path),
        layer_norm_epsilon=epsilon,
        activation=config.get("hidden_act", ""),
    )


def _section(config: dict[str, Any], path: Path) -> tuple[int, tuple[str, ...], TaskConfig, int]:
    section = config[SECTION]
    if not isinstance(section, dict):
        raise CheckpointError(f"{path}: {SECTION} is {section!r}, expected an object")
    if section.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: {SECTION}.format_version is {section.get('format_version')!r}, expected {FORMAT_VERSION}: "
            "update bebert-edge to the version that wrote the checkpoint"
        )
    labels = section.get("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise CheckpointError(f"{path}: {SECTION}.labels is {labels!r}, expected a list of strings")
    problem = section.get("problem", "single_label")
    if problem not in PROBLEMS:
        raise CheckpointError(f"{path}: {SECTION}.problem is {problem!r}, expected one of {', '.join(PROBLEMS)}")
    if problem == "regression" and len(labels) != 1:
        raise CheckpointError(f"{path}: {SECTION}.labels is {labels!r}, expected one name for the problem 'regression'")
    text_pair = section.get("text_pair")
    if not isinstance(text_pair, bool):
        raise CheckpointError(f"{path}: {SECTION}.text_pair is {text_pair!r}, expected true or false")
    task = TaskConfig(problem=problem, text_pair=text_pair)
    return _integer(section, "bits", path), tuple(labels), task, _integer(section, "max_length", path)


def _binary(prefix: str, latent: Floats) -> Iterator[tuple[str, NDArray[Any]]]:
    bits, scale = binarize_rows(latent)
    yield f"{prefix}.bits", pack_bits(bits)
    yield f"{prefix}.scale", scale


def _linear(read: _Reader, target: str, source: str, k: int, n: int) -> Iterator[tuple[str, NDArray[Any]]]:
    yield f"{target}.shift", read(f"{source}.quantizer.shift", k)
    yield f"{target}.step", read.step(f"{source}.quantizer.step")
    yield from _binary(target, read(f"{source}.weight", n, k))
    yield f"{target}.bias", read(f"{source}.bias", n)


def _norm(read: _Reader, target: str, source: str, hidden: int) -> Iterator[tuple[str, NDArray[Any]]]:
    for name in ("weight", "bias"):
        yield f"{target}.{name}", read(f"{source}.{name}", hidden)


def _layer(read: _Reader, i: int, shape: EncoderConfig) -> Iterator[tuple[str, NDArray[Any]]]:
    h, f = shape.hidden_size, shape.intermediate_size
    target, source = f"layers.{i}", f"bert.encoder.layer.{i}"
    attention = f"{source}.attention.self"
    yield f"{target}.qkv.shift", read(f"{attention}.input_quantizer.shift", h)
    yield f"{target}.qkv.step", read.step(f"{attention}.input_quantizer.step")
    qkv = ("query", "key", "value")
    yield from _binary(f"{target}.qkv", np.concatenate([read(f"{attention}.{use}.weight", h, h) for use in qkv]))
    yield f"{target}.qkv.bias", np.concatenate([read(f"{attention}.{use}.bias", h) for use in qkv])
    for use in (*qkv, "probability"):
        step = read.step(f"{attention}.{use}_quantizer.step")
        yield f"{target}.attention.{use}_step", np.full(shape.heads, step, np.float32)
    yield from _linear(read, f"{target}.attention_output", f"{source}.attention.output.dense", h, h)
    yield from _norm(read, f"{target}.attention_norm", f"{source}.attention.output.LayerNorm", h)
    yield from _linear(read, f"{target}.ffn_in", f"{source}.intermediate.dense", h, f)
    yield from _linear(read, f"{target}.ffn_out", f"{source}.output.dense", f, h)
    yield from _norm(read, f"{target}.ffn_norm", f"{source}.output.LayerNorm", h)


def _tensors(
    read: _Reader, shape: EncoderConfig, trained_positions: int, labels: int
) -> Iterator[tuple[str, NDArray[Any]]]:
    h = shape.hidden_size
    embeddings = "bert.embeddings"
    yield from _binary("embeddings.word", read(f"{embeddings}.word_embeddings.weight", shape.vocab_size, h))
    position = read(f"{embeddings}.position_embeddings.weight", trained_positions, h)
    yield "embeddings.position", position[: shape.positions]
    yield "embeddings.token_type", read(f"{embeddings}.token_type_embeddings.weight", shape.token_types, h)
    yield from _norm(read, "embeddings.norm", f"{embeddings}.LayerNorm", h)
    for i in range(shape.layers):
        yield from _layer(read, i, shape)
    yield from _linear(read, "pooler", "bert.pooler.dense", h, h)
    yield "classifier.weight", read("classifier.weight", labels, h)
    yield "classifier.bias", read("classifier.bias", labels)


def load_member(directory: Path) -> Member:
    """Reads one member.

    Raises:
        CheckpointError: The directory does not follow docs/latent.md.
    """
    path = directory / CONFIG_FILE
    config = read_json(path)
    bits, labels, task, max_length = _section(config, path)
    trained_positions = _integer(config, "max_position_embeddings", path)
    if max_length > trained_positions:
        raise CheckpointError(f"{path}: {SECTION}.max_length is {max_length}, but it has {trained_positions} positions")
    try:
        shape = _encoder(config, max_length, path)
        LayerQuantization.for_bits(bits)
    except FormatError as error:
        raise CheckpointError(f"{path} cannot be packed: {error}") from error
    read = _Reader(directory)
    tensors = dict(_tensors(read, shape, trained_positions, len(labels)))
    read.finish()
    return Member(
        shape,
        QuantizationConfig.for_bits(bits, shape.layers),
        task,
        labels,
        max_length,
        tensors,
        read_tokenizer(directory, shape.vocab_size),
    )
