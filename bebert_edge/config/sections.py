# SPDX-License-Identifier: Apache-2.0
"""The sections of `config.json`: which keys they may leave out, and checks with messages that name the key."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from bebert_edge.errors import FormatError

OPTIONAL: dict[str, dict[str, Any]] = {
    "the file": {"combination": "logits", "temperature": 1.0, "heads": []},
    "encoder": {
        "head_size": 0,
        "pooler_activation": "tanh",
        "embedding_size": 0,
        "distinct_layers": 0,
        "norm": "post",
        "gated": False,
        "rotary_bases": (),
        "pooler_norm": False,
        "distance_biases": (),
    },
    "quantization": {
        "terms": 1,
        "fused_qkv": True,
        "projection": None,
        "weights": {},
        "ranges": "fixed",
        "embeddings": "binary",
    },
    "quantization.layers[]": {"scores": "softmax"},
    "task": {"pooling": "first", "mask_id": None},
    "heads[].task": {"pooling": "first", "mask_id": None},
    "heads[]": {"combination": "logits", "temperature": 1.0},
}
"""Keys of the file that may be missing, by section, and what they are then; written only where they differ."""


def require(condition: bool, key: str, found: object, expected: str) -> None:
    """Refuses the value of a key.

    Raises:
        FormatError: The condition does not hold.
    """
    if not condition:
        raise FormatError(f"config.json: {key} is {found!r}, expected {expected}")


def is_int(value: object, low: int) -> bool:
    """Whether a JSON value is an integer, at least `low`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def is_finite(value: object) -> bool:
    """Whether a JSON value is a number, and finite in binary64."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond binary64
        return False


def section_of(cls: type[Any], value: object, key: str) -> dict[str, Any]:
    """Returns the members of one JSON object, which must have exactly the fields of `cls`; some may be missing."""
    require(isinstance(value, Mapping), key, value, "an object")
    optional = OPTIONAL.get(re.sub(r"\[\d+\]", "[]", key), {})
    section: dict[str, Any] = {**optional, **value}  # type: ignore[dict-item]
    expected = [f.name for f in fields(cls)]
    missing = [name for name in expected if name not in section]
    unknown = [name for name in section if name not in expected]
    if missing or unknown:
        raise FormatError(
            f"config.json: {key} misses {missing or 'nothing'} and has unknown {unknown or 'nothing'}: "
            f"expected the keys {', '.join(expected)}"
        )
    return section


def without_defaults(section: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A section as it is written."""
    optional = OPTIONAL[key]
    return {name: value for name, value in section.items() if name not in optional or value != optional[name]}
