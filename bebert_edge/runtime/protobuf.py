# SPDX-License-Identifier: Apache-2.0
"""The protobuf wire format, as much of it as ONNX files use: so that a device without `onnx` can read and write them.

https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MASK64 = (1 << 64) - 1


def varint(value: int) -> bytes:
    """Encodes an integer; a negative one as its 64-bit two's complement."""
    value &= _MASK64
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """Encodes one field: int as varint, float as binary32, text and messages as counted bytes."""
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | FIXED32) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | BYTES) + varint(len(data)) + data


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for count in range(10):
        if position + count >= len(data):
            raise ValueError("the data ends inside a number")
        byte = data[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & _MASK64, position + count + 1
    raise ValueError("a number is longer than 10 bytes")


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields number and value of each field of a message; everything but a varint as a slice of `data`.

    Raises:
        ValueError: The bytes are not a whole protobuf message.
    """
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if kind == BYTES:
            length, position = _read_varint(data, position)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} does not exist")
        if number == 0:
            raise ValueError("field number 0 does not exist")
        if length > len(data) - position:
            raise ValueError(f"the data ends {length - (len(data) - position)} bytes too early")
        yield number, data[position : position + length]
        position += length
