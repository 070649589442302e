# SPDX-License-Identifier: Apache-2.0
"""PackedEnsemble: the one data structure between checkpoints and ONNX (docs/format.md)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bebert_edge import groups
from bebert_edge.bits import padding_is_zero, row_bytes
from bebert_edge.config import EnsembleConfig, QuantizationConfig
from bebert_edge.errors import FormatError
from bebert_edge.kept_weights import FLOAT16_ROW_LIMIT

CONFIG_FILE = "config.json"
TENSOR_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
FILES = (CONFIG_FILE, TENSOR_FILE, TOKENIZER_FILE)


@dataclass(frozen=True)
class TensorSpec:
    """What docs/format.md says of one tensor.

    Attributes:
        kind: `bits` (uint8 rows of `channels` bits), `float`, `scale` (float >= 0), `step` (float > 0), `clip` (pairs
            of floats, the first below the second), `int8` or `float16` for kept weights, or `bytes` or `nibbles` (uint8
            rows of `channels` codes of 8 or 4 bits).
        shape: Shape with all members on the leading axis.
        part: The line of the size report that it counts for.
        channels: Bits of a row, for `bits`.
        shareable: Whether the leading axis may be 1: one table for all members.
        uniform: Whether the last axis of the stored tensor is 1 where all channels of every member have one number.
        half: Whether float16 is allowed.
    """

    kind: Literal["bits", "float", "scale", "step", "clip", "int8", "float16", "bytes", "nibbles"]
    shape: tuple[int, ...]
    part: str
    channels: int = 0
    shareable: bool = False
    uniform: bool = False
    half: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 for bits and codes, that of kept weights, float32 otherwise."""
        kinds = {"bits": "uint8", "bytes": "uint8", "nibbles": "uint8", "int8": "int8", "float16": "float16"}
        return np.dtype(kinds.get(self.kind, "float32"))

    @property
    def dtypes(self) -> list[np.dtype[Any]]:
        """What is allowed."""
        return [self.dtype, np.dtype(np.float16)] if self.half else [self.dtype]

    def stored(self, array: NDArray[Any]) -> NDArray[Any]:
        """The tensor as the file has it."""
        if self.uniform and array.shape[-1] > 1 and (array == array[..., :1]).all():
            return np.ascontiguousarray(array[..., :1])
        return np.ascontiguousarray(array)

    def restored(self, array: NDArray[Any]) -> NDArray[Any]:
        """The tensor that the file's stands for."""
        if self.uniform and array.shape[-1] == 1:
            return np.repeat(array, self.shape[-1], axis=-1)
        return array


def term_names(linear: str, terms: int) -> list[str]:
    """Prefixes of the tensors of a linear's terms (docs/format.md, "Linears")."""
    return [linear, f"{linear}.second"][:terms]


def linear_terms(linear: str, quantization: QuantizationConfig) -> list[str]:
    """The same of a linear of this quantization: kept weights need no second term."""
    return term_names(linear, 1 if linear in quantization.weights else quantization.terms)


def linear_names(tensors: Collection[str]) -> list[str]:
    """The linears among tensors of these names: no second terms, and no decoder, which has no weights of its own."""
    names = [name.removesuffix(".step") for name in tensors if name.endswith(".step")]
    return [name for name in names if f"{name}.bias" in tensors and not f".{name}".endswith(".decoder")]


def linear_sizes(config: EnsembleConfig) -> dict[str, tuple[int, int]]:
    """Input and output channels `(K, N)` of the linears of a layer, by name."""
    shape = config.encoder
    h, f, width = shape.hidden_size, shape.intermediate_size, shape.attention_size
    fused = config.quantization.fused_qkv
    qkv = {"qkv": (h, 3 * width)} if fused else dict.fromkeys(("query", "key", "value"), (h, width))
    return {**qkv, "attention_output": (width, h), "ffn_in": (h, 2 * f if shape.gated else f), "ffn_out": (f, h)}


def _linear_specs(linear: str, config: EnsembleConfig, k: int, n: int) -> Iterator[tuple[str, TensorSpec]]:
    members, kept = config.members, config.quantization.weights.get(linear)
    for prefix in linear_terms(linear, config.quantization):
        if config.quantization.ranges == "fixed":
            yield f"{prefix}.shift", TensorSpec("float", (members, k), "quantizers", uniform=True)
            yield f"{prefix}.step", TensorSpec("step", (members,), "quantizers")
        else:
            yield f"{prefix}.clip", TensorSpec("clip", (members, 2), "quantizers")
        if kept == "int8":
            yield f"{prefix}.weight", TensorSpec("int8", (members, n, k), "int8 weights")
        elif kept == "float16":
            yield f"{prefix}.weight", TensorSpec("float16", (members, n, k), "float16 weights")
        else:
            yield f"{prefix}.bits", TensorSpec("bits", (members, n, row_bytes(k)), "encoder bits", channels=k)
        if kept != "float16":
            yield f"{prefix}.scale", TensorSpec("scale", (members, n), "encoder scales", uniform=True)
    yield f"{linear}.bias", TensorSpec("float", (members, n), "biases")


def head_prefix(task: str) -> str:
    """What the names of a task's own tensors and outputs begin with; nothing for the main task, ""."""
    return f"heads.{task}." if task else ""


def _head_specs(prefix: str, config: EnsembleConfig) -> Iterator[tuple[str, TensorSpec]]:
    members, h, labels = config.members, config.encoder.hidden_size, len(config.labels)
    if config.task.pooled:
        yield from _linear_specs(f"{prefix}pooler", config, h, h)
        if config.encoder.pooler_norm:
            yield from _norm_specs(f"{prefix}pooler.norm", members, h)
    if config.task.fills:
        width, vocabulary = config.encoder.embedding_size, config.encoder.vocab_size
        yield from _linear_specs(f"{prefix}transform", config, h, width)
        yield from _norm_specs(f"{prefix}transform.norm", members, width)
        yield f"{prefix}decoder.shift", TensorSpec("float", (members, width), "quantizers", uniform=True)
        yield f"{prefix}decoder.step", TensorSpec("step", (members,), "quantizers")
        yield f"{prefix}decoder.bias", TensorSpec("float", (members, vocabulary), "biases")
    elif not config.task.embeds:
        yield f"{prefix}classifier.weight", TensorSpec("float", (members, labels, h), "classifier")
        yield f"{prefix}classifier.bias", TensorSpec("float", (members, labels), "classifier")


def _norm_specs(prefix: str, members: int, hidden: int) -> Iterator[tuple[str, TensorSpec]]:
    for name in ("weight", "bias"):
        yield f"{prefix}.{name}", TensorSpec("float", (members, hidden), "layer norms")


def _word_specs(config: EnsembleConfig) -> Iterator[tuple[str, TensorSpec]]:
    rows, width = (config.members, config.encoder.vocab_size), config.encoder.embedding_size
    name, kind, part = "embeddings.word", config.quantization.embeddings, "word embedding scales"
    if kind != "binary":
        spread: Literal["bytes", "nibbles"] = "nibbles" if kind == "int4" else "bytes"
        codes = (*rows, groups.row_bytes(width, kind))
        yield f"{name}.codes", TensorSpec(spread, codes, "word embedding codes", channels=width, shareable=True)
        scales = (*rows, groups.row_groups(width))
        yield f"{name}.scale", TensorSpec("scale", scales, part, shareable=True, half=True)
        return
    for prefix in term_names(name, config.quantization.terms):
        bits = (*rows, row_bytes(width))
        yield f"{prefix}.bits", TensorSpec("bits", bits, "word embedding bits", channels=width, shareable=True)
        yield f"{prefix}.scale", TensorSpec("scale", rows, part, shareable=True)


def _distance_bias_specs(config: EnsembleConfig) -> Iterator[tuple[str, TensorSpec]]:
    shape = config.encoder
    shared = len(shape.distance_biases) == 1
    for i, distance in enumerate(shape.distance_biases):
        if distance:
            spec = TensorSpec("float", (config.members, shape.heads, 2 * distance + 1), "position and type embeddings")
            yield "distance_bias" if shared else f"layers.{i}.attention.distance_bias", spec


def tensor_specs(config: EnsembleConfig) -> dict[str, TensorSpec]:
    """Every tensor that an ensemble of this configuration has, by name."""
    e, shape = config.members, config.encoder
    h, width = shape.hidden_size, shape.embedding_size

    def specs() -> Iterator[tuple[str, TensorSpec]]:
        yield from _word_specs(config)
        for name, rows in (
            ("position", 0 if shape.rotary_bases else shape.positions),
            ("token_type", shape.token_types),
        ):
            spec = TensorSpec("float", (e, rows, width), "position and type embeddings", shareable=True, half=True)
            if rows:
                yield f"embeddings.{name}", spec
        yield from _norm_specs("embeddings.norm", e, width)
        if shape.projected:
            yield from _linear_specs("embeddings.projection", config, width, h)
        yield from _distance_bias_specs(config)
        for i in range(shape.distinct_layers):
            for linear, (k, n) in linear_sizes(config).items():
                yield from _linear_specs(f"layers.{i}.{linear}", config, k, n)
            for use in ("query", "key", "value", "probability"):
                if config.quantization.ranges == "fixed":
                    yield f"layers.{i}.attention.{use}_step", TensorSpec("step", (e, shape.heads), "quantizers")
                else:
                    yield f"layers.{i}.attention.{use}_clip", TensorSpec("clip", (e, 2), "quantizers")
            yield from _norm_specs(f"layers.{i}.attention_norm", e, h)
            yield from _norm_specs(f"layers.{i}.ffn_norm", e, h)
        for name in config.task_names:
            yield from _head_specs(head_prefix(name), config.of(name))

    found = dict(specs())
    linears = linear_names(found)
    for name in config.quantization.weights:
        if name not in linears:
            raise FormatError(f"config.json: quantization.weights has {name!r}, expected names of {', '.join(linears)}")
    return found


def is_packed(directory: Path) -> bool:
    """Whether a directory says that it is a packed ensemble, be it valid or not."""
    try:
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and "member_weights" in config


@dataclass
class PackedEnsemble:
    """A trained binary ensemble as plain arrays and plain configuration.

    Attributes:
        config: Shape, code types, task, labels, and how members are combined.
        tensors: Arrays by the names of docs/format.md, members stacked on the leading axis.
        tokenizer: The text of `tokenizer.json`.
    """

    config: EnsembleConfig
    tensors: dict[str, NDArray[Any]]
    tokenizer: str

    def validate(self) -> None:
        """Checks every tensor against docs/format.md.

        Raises:
            FormatError: A tensor is missing, unknown, or has a wrong dtype, shape or value.
        """
        specs = tensor_specs(self.config)
        _check_names(self.tensors, specs)
        for name, array in self.tensors.items():
            _check_layout(name, array, specs[name])
            _check_values(name, array, specs[name])
        try:
            tokenizer = json.loads(self.tokenizer)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{TOKENIZER_FILE} is not JSON: {error}") from error
        if not isinstance(tokenizer, dict) or "model" not in tokenizer:
            raise FormatError(f"{TOKENIZER_FILE}: key 'model' is missing: expected a file saved by tokenizers")

    def size(self) -> dict[str, int]:
        """Bytes by part, everything included: the sum is what the three files take."""
        parts: dict[str, int] = {}
        for name, spec in tensor_specs(self.config).items():
            parts[spec.part] = parts.get(spec.part, 0) + spec.stored(self.tensors[name]).nbytes
        files = {name: len(content) for name, content in self._files().items()}
        parts["tokenizer"] = files[TOKENIZER_FILE]
        parts["configuration"] = files[CONFIG_FILE]
        parts["tensor names and shapes"] = sum(files.values()) - sum(parts.values())
        return parts

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the three files: into a temporary directory first, so that nothing is left half-written.

        Args:
            directory: Where to write; created, with its parents.
            overwrite: Replace a directory that exists.

        Raises:
            FormatError: The ensemble is not valid, the directory exists, or it cannot be written.
        """
        self.validate()
        target = Path(directory)
        if target.exists() and not overwrite:
            raise FormatError(f"{target} exists: choose another directory or pass --overwrite")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
                written, replaced = Path(scratch, "new"), Path(scratch, "old")
                written.mkdir()
                for name, content in self._files().items():
                    (written / name).write_bytes(content)
                if target.exists():
                    target.rename(replaced)
                written.rename(target)
        except OSError as error:
            raise FormatError(f"{target} cannot be written: {error.strerror}: choose another directory") from error

    def _files(self) -> dict[str, bytes]:
        from safetensors.numpy import save

        specs = tensor_specs(self.config)
        return {
            CONFIG_FILE: self.config.to_json().encode(),
            TENSOR_FILE: save({name: specs[name].stored(array) for name, array in self.tensors.items()}),
            TOKENIZER_FILE: self.tokenizer.encode(),
        }

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> PackedEnsemble:
        """Reads and validates a directory.

        Raises:
            FormatError: The directory does not follow docs/format.md.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        source = Path(directory)
        if not source.is_dir():
            raise FormatError(
                f"{source} is not a directory: expected a packed ensemble (see 'bebert-edge pack --help')"
            )
        for name in FILES:
            if not (source / name).is_file():
                raise FormatError(f"{source}: {name} is missing: expected {', '.join(FILES)}")
        config = EnsembleConfig.from_json(_read_text(source / CONFIG_FILE))
        try:
            tensors = load_file(source / TENSOR_FILE)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise FormatError(
                f"{source / TENSOR_FILE} cannot be read as safetensors ({error}): the file is damaged or truncated; "
                "copy it again, or run 'bebert-edge pack' again"
            ) from error
        specs = tensor_specs(config)
        _check_names(tensors, specs)
        for name, array in tensors.items():  # before anything is made as large as the configuration says
            _check_layout(name, array, specs[name], stored=True)
        tensors = {name: specs[name].restored(array) for name, array in tensors.items()}
        ensemble = cls(config, tensors, _read_text(source / TOKENIZER_FILE))
        ensemble.validate()
        return ensemble


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from error
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from error


def _check_names(tensors: Collection[str], specs: Mapping[str, TensorSpec]) -> None:
    for name, spec in specs.items():
        if name not in tensors:
            raise FormatError(f"{TENSOR_FILE}: tensor {name} is missing: expected shape {spec.shape}")
    for name in tensors:
        if name not in specs:
            raise FormatError(f"{TENSOR_FILE}: tensor {name} is unknown: docs/format.md lists the tensors")


def _check_layout(name: str, array: NDArray[Any], spec: TensorSpec, stored: bool = False) -> None:
    """Checks dtype and shape, of a tensor as it is `stored` or as it was restored."""
    if array.dtype not in spec.dtypes:
        dtypes = " or ".join(map(str, spec.dtypes))
        raise FormatError(f"{TENSOR_FILE}: tensor {name} has dtype {array.dtype}, expected {dtypes}")
    allowed = [spec.shape]
    if spec.shareable:
        allowed.append((1, *spec.shape[1:]))
    if spec.uniform and stored:
        allowed.append((*spec.shape[:-1], 1))
    if array.shape not in allowed:
        shapes = " or ".join(str(list(shape)) for shape in allowed)
        raise FormatError(f"{TENSOR_FILE}: tensor {name} has shape {list(array.shape)}, expected {shapes}")


def _check_values(name: str, array: NDArray[Any], spec: TensorSpec) -> None:
    if spec.kind == "bits":
        if not padding_is_zero(array, spec.channels):
            raise FormatError(
                f"{TENSOR_FILE}: tensor {name} has padding bits set after bit {spec.channels} of a row, expected zeros"
            )
        return
    if spec.kind in ("bytes", "nibbles"):
        if spec.kind == "nibbles" and spec.channels % 2 and (array[..., -1] > 15).any():
            raise FormatError(
                f"{TENSOR_FILE}: tensor {name} has a code after channel {spec.channels} of a row, expected a zero"
            )
        return
    expected, allowed_values = {
        "float": ("finite numbers", np.isfinite(array)),
        "scale": ("finite numbers >= 0", np.isfinite(array) & (array >= 0)),
        "step": ("finite numbers > 0", np.isfinite(array) & (array > 0)),
        "int8": ("integers", np.ones(array.shape, bool)),
        "float16": ("finite numbers", np.isfinite(array)),
        "clip": (
            "finite numbers, the first below the second",
            np.isfinite(array) & (array[..., :1] < array[..., -1:]),
        ),
    }[spec.kind]
    if not allowed_values.all():
        index = tuple(int(i) for i in np.argwhere(~allowed_values)[0])
        raise FormatError(f"{TENSOR_FILE}: tensor {name} is {array[index]} at {list(index)}, expected {expected}")
    if spec.kind == "float16":
        largest = float(np.abs(array).sum(-1, dtype=np.float64).max())
        if largest > FLOAT16_ROW_LIMIT:
            raise FormatError(
                f"{TENSOR_FILE}: the magnitudes of a row of {name} sum to {largest:g}, expected {FLOAT16_ROW_LIMIT:g} "
                "or less, with which sums are exact"
            )
