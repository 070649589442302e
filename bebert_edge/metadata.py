# SPDX-License-Identifier: Apache-2.0
"""What an exported model says about itself: the keys of its ONNX `metadata_props`, written and read here only.

Every value is text. Labels, task, member count and the like are also part of `CONFIG`; they have keys of their own so
that an app in another language reads them without knowing the configuration's schema.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from bebert_edge.config import EnsembleConfig
from bebert_edge.errors import FormatError, ModelError

FORMAT = "bebert_edge.format"
"""Version of this set of keys, `"1"`. A reader must refuse any other."""
TOKENIZER = "bebert_edge.tokenizer"
"""`tokenizer.json` of the `tokenizers` library: UTF-8, compressed with zlib, then base64."""
LABELS = "bebert_edge.labels"
"""JSON list of str, one per logit."""
TASK = "bebert_edge.task"
"""JSON object with `type`, `problem`, `text_pair`, and where it has them `pooling` and `mask_id`: docs/format.md."""
MAX_LENGTH = "bebert_edge.max_length"
"""Decimal integer: tokens of the longest input, special tokens included."""
MEMBERS = "bebert_edge.members"
"""Decimal integer."""
MEMBER_WEIGHTS = "bebert_edge.member_weights"
"""JSON list of float, sum 1."""
COMBINATION = "bebert_edge.combination"
"""What the weighted mean is taken of: `logits`, `probabilities`, `embeddings`, or `concatenation` (docs/format.md)."""
TEMPERATURE = "bebert_edge.temperature"
"""Decimal number > 0: `logits` is the combination of `member_logits`, divided by it."""
CONFIG = "bebert_edge.config"
"""The whole `config.json` of the packed ensemble (docs/format.md)."""
SIZE = "bebert_edge.size"
"""JSON object: bytes by part of the packed ensemble."""
QUANTIZATION = "bebert_edge.quantization"
"""One line for people: the code types that occur, most frequent first."""
VERSION = "bebert_edge.version"
"""Version of bebert-edge that wrote the file."""
OPS_VERSION = "bebert_edge.ops_version"
"""Version of the op domain `bebert` that the graph uses."""
MINIMUM_ONNXRUNTIME = "bebert_edge.minimum_onnxruntime"
"""Oldest onnxruntime release on which the file is known to run."""
LICENSE = "bebert_edge.license"
"""Licence of the weights; empty if the checkpoint did not say."""

DEFAULTS = {COMBINATION: "logits", TEMPERATURE: "1.0"}
"""Keys that are written only where they differ from this."""

FORMAT_VERSION = "1"
_REEXPORT = "Export the model again with: bebert-edge export DIR -o MODEL.onnx --overwrite"

T = TypeVar("T")


@dataclass(frozen=True)
class ModelMetadata:
    """The metadata of one exported model.

    Attributes:
        tokenizer: Text of `tokenizer.json`.
        labels: One name per logit.
        task: `type`, `problem`, `text_pair`, and where it has them `pooling` and `mask_id`.
        max_length: Tokens of the longest input, special tokens included.
        members: Members of the ensemble.
        member_weights: Weight of each member in the average; their sum is 1.
        config: The packed ensemble's whole configuration.
        size: Bytes by part.
        quantization: Summary of the code types, for people.
        version: Version of bebert-edge that wrote the file.
        ops_version: Version of the op domain.
        minimum_onnxruntime: Oldest onnxruntime release that runs the file.
        license: Licence of the weights, or "".
        combination: What is averaged: one of `bebert_edge.config.ALL_COMBINATIONS`.
        temperature: What the combined logits are divided by.
    """

    tokenizer: str
    labels: tuple[str, ...]
    task: Mapping[str, Any]
    max_length: int
    members: int
    member_weights: tuple[float, ...]
    config: EnsembleConfig
    size: Mapping[str, int]
    quantization: str
    version: str
    ops_version: str
    minimum_onnxruntime: str
    license: str
    combination: str
    temperature: float


def encode_tokenizer(text: str) -> str:
    """Returns the value of `TOKENIZER` for the text of a `tokenizer.json`."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def decode_tokenizer(value: str) -> str:
    """Returns the text of `tokenizer.json`.

    Raises:
        ValueError: The value is not base64 of zlib of UTF-8.
    """
    try:
        return zlib.decompress(base64.b64decode(value, validate=True)).decode()
    except (binascii.Error, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"not base64 of zlib of UTF-8: {error}") from error


def read_metadata(properties: Mapping[str, str]) -> ModelMetadata:
    """Parses the metadata of an exported model.

    Args:
        properties: `metadata_props` as a mapping, e.g. `session.get_modelmeta().custom_metadata_map`.

    Raises:
        ModelError: The model was not written by bebert-edge, by another version of the format, or a value is invalid.
    """
    if FORMAT not in properties:
        raise ModelError(f"the model has no metadata key {FORMAT!r}, so bebert-edge did not write it. {_REEXPORT}")
    if properties[FORMAT] != FORMAT_VERSION:
        raise ModelError(
            f"metadata key {FORMAT!r}: found {properties[FORMAT]!r}, expected {FORMAT_VERSION!r}. "
            f"Update bebert-edge, or: {_REEXPORT}"
        )
    metadata = ModelMetadata(
        tokenizer=_parse(properties, TOKENIZER, decode_tokenizer),
        labels=_parse(properties, LABELS, _strings),
        task=_parse(properties, TASK, _object),
        max_length=_parse(properties, MAX_LENGTH, _positive),
        members=_parse(properties, MEMBERS, _positive),
        member_weights=_parse(properties, MEMBER_WEIGHTS, _floats),
        config=_parse(properties, CONFIG, EnsembleConfig.from_json),
        size=_parse(properties, SIZE, _sizes),
        quantization=_parse(properties, QUANTIZATION, str),
        version=_parse(properties, VERSION, str),
        ops_version=_parse(properties, OPS_VERSION, str),
        minimum_onnxruntime=_parse(properties, MINIMUM_ONNXRUNTIME, str),
        license=_parse(properties, LICENSE, str),
        combination=_parse({**DEFAULTS, **properties}, COMBINATION, str),
        temperature=_parse({**DEFAULTS, **properties}, TEMPERATURE, float),
    )
    _expect_length(LABELS, len(metadata.labels), len(metadata.config.labels), "logits")
    _expect_length(MEMBER_WEIGHTS, len(metadata.member_weights), metadata.members, "members")
    for key, name in ((COMBINATION, "combination"), (TEMPERATURE, "temperature")):
        found, expected = getattr(metadata, name), getattr(metadata.config, name)
        if found != expected:
            raise ModelError(f"metadata key {key!r} is {found!r}, expected {expected!r} as in {CONFIG!r}. {_REEXPORT}")
    return metadata


def _parse(properties: Mapping[str, str], key: str, parse: Callable[[str], T]) -> T:
    if key not in properties:
        raise ModelError(f"the model lacks the metadata key {key!r}: another tool removed it. {_REEXPORT}")
    try:
        return parse(properties[key])
    except (ValueError, RecursionError, FormatError) as error:
        raise ModelError(f"metadata key {key!r} is invalid: {error}. {_REEXPORT}") from error


def _expect_length(key: str, found: int, expected: int, of: str) -> None:
    if found != expected:
        raise ModelError(
            f"metadata key {key!r} has {found} entries, expected one for each of {expected} {of}. {_REEXPORT}"
        )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(f"found {value}, expected a positive integer")
    return value


def _json_list(text: str, kinds: tuple[type, ...], name: str) -> list[Any]:
    value = json.loads(text)
    if not isinstance(value, list) or not all(type(item) in kinds for item in value):
        raise ValueError(f"found {text[:80]!r}, expected a JSON list of {name}")
    return value


def _strings(text: str) -> tuple[str, ...]:
    return tuple(_json_list(text, (str,), "strings"))


def _floats(text: str) -> tuple[float, ...]:
    return tuple(float(item) for item in _json_list(text, (int, float), "numbers"))


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"found {text[:80]!r}, expected a JSON object")
    return value


def _sizes(text: str) -> dict[str, int]:
    value = _object(text)
    if not all(type(item) is int and item >= 0 for item in value.values()):
        raise ValueError(f"found {text[:80]!r}, expected a JSON object of byte counts")
    return value
