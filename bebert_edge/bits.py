# SPDX-License-Identifier: Apache-2.0
"""Bit-packed rows: least significant bit first, padded with zero bits to a multiple of 64 (docs/ops.md, "Codes")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def row_bytes(channels: int) -> int:
    """Bytes of a bit-packed row of `channels` bits: a multiple of 8."""
    return (channels + 63) // 64 * 8


def pack_bits(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Packs the last axis.

    Args:
        bits: `[..., channels]`; True is a set bit.

    Returns:
        uint8 `[..., row_bytes(channels)]`.
    """
    bits = np.asarray(bits, dtype=bool)
    packed = np.packbits(bits, axis=-1, bitorder="little")
    padding = row_bytes(bits.shape[-1]) - packed.shape[-1]
    return np.pad(packed, [(0, 0)] * (packed.ndim - 1) + [(0, padding)])


def unpack_bits(packed: NDArray[np.uint8], channels: int) -> NDArray[np.bool_]:
    """Unpacks the first `channels` bits of the last axis, the inverse of `pack_bits`."""
    return np.unpackbits(packed, axis=-1, count=channels, bitorder="little").astype(bool)


def padding_is_zero(packed: NDArray[np.uint8], channels: int) -> bool:
    """Whether every bit after the first `channels` of each row is zero."""
    if channels % 64 == 0:
        return True
    tail = np.unpackbits(packed[..., channels // 8 :], axis=-1, bitorder="little")
    return not tail[..., channels % 8 :].any()
