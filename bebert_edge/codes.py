# SPDX-License-Identifier: Apache-2.0
"""Code types: what an activation is before it enters a matrix product (docs/ops.md, "Codes")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bebert_edge.bits import row_bytes
from bebert_edge.errors import FormatError


@dataclass(frozen=True)
class CodeType:
    """Integers `low .. high` (only the two ends, where one bit is stored) and how they are stored.

    Attributes:
        name: The name used in `config.json`.
        width: Bits stored per code: 1 (bit-packed rows) or 8 (one byte holding `value - low`).
        low: Smallest value.
        high: Largest value.
    """

    name: str
    width: int
    low: int
    high: int

    @property
    def triple(self) -> tuple[int, int, int]:
        """`(width, low, high)`: the value of the ops' code attributes."""
        return self.width, self.low, self.high

    @property
    def stride(self) -> int:
        """Distance of neighbouring values: `value = low + level * stride`."""
        return self.high - self.low if self.width == 1 else 1

    def stored_channels(self, channels: int) -> int:
        """Bytes of one stored row of `channels` codes."""
        return row_bytes(channels) if self.width == 1 else channels


CODE_TYPES: dict[str, CodeType] = {
    code.name: code
    for code in (
        CodeType("sign", 1, -1, 1),
        CodeType("bool", 1, 0, 1),
        CodeType("ternary", 8, -1, 1),
        CodeType("int2", 8, -2, 1),
        CodeType("int4", 8, -8, 7),
        CodeType("int8", 8, -128, 127),
        CodeType("uint2", 8, 0, 3),
        CodeType("uint4", 8, 0, 15),
        CodeType("uint8", 8, 0, 255),
    )
}

_BY_TRIPLE = {code.triple: code for code in CODE_TYPES.values()}


def code_type(name: str) -> CodeType:
    """Returns the code type called `name`.

    Raises:
        FormatError: No code type has this name.
    """
    if name not in CODE_TYPES:
        raise FormatError(f"code type {name!r} is unknown: expected one of {', '.join(CODE_TYPES)}")
    return CODE_TYPES[name]


def from_triple(triple: Sequence[int]) -> CodeType:
    """Returns the code type with these `(width, low, high)`.

    Raises:
        FormatError: No code type has them.
    """
    found = _BY_TRIPLE.get(tuple(triple))  # type: ignore[arg-type]
    if found is None:
        raise FormatError(f"code {list(triple)} is unknown: expected one of {[list(known) for known in _BY_TRIPLE]}")
    return found
