# SPDX-License-Identifier: Apache-2.0
"""Word embeddings of 8 or 4 bits, with a scale for each group of channels (docs/format.md, "Word embeddings").

Groups with ranges of their own are Q-BERT's idea (Shen et al., 2020, arXiv:1909.05840), there of the rows of a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = {"int8": 8, "int4": 4}
"""Bits of a code, by the value of `quantization.embeddings`."""
GROUP = 64
"""Channels that share a scale; the last group may have fewer."""

Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def row_groups(channels: int) -> int:
    """Groups of a row."""
    return -(-channels // GROUP)


def row_bytes(channels: int, kind: str) -> int:
    """Bytes of the codes of a row."""
    return -(-channels * BITS[kind] // 8)


def quantize(table: Floats, kind: str) -> tuple[Codes, Floats]:
    """Codes `[..., row_bytes]` and scales `[..., row_groups]` of rows `[..., channels]`.

    The scale is the largest magnitude of a group by 127 or 7; values are rounded to the nearest, ties to even, in
    float32.
    """
    channels, high = table.shape[-1], 2 ** (BITS[kind] - 1) - 1
    largest = np.maximum.reduceat(np.abs(table), np.arange(0, channels, GROUP), axis=-1)
    scale = (largest / np.float32(high)).astype(np.float32)
    widened = np.repeat(scale, GROUP, axis=-1)[..., :channels]
    values = np.clip(np.rint(table / np.where(widened > 0, widened, np.float32(1))), -high, high)
    levels = (values + (high + 1)).astype(np.uint8)
    return (_pack_nibbles(levels) if kind == "int4" else levels), scale


def _pack_nibbles(levels: Codes) -> Codes:
    """The first half of the channels in low nibbles, the second in high ones; zero where there is none."""
    half = -(-levels.shape[-1] // 2)
    packed = levels[..., :half].copy()
    packed[..., : levels.shape[-1] - half] |= levels[..., half:] << 4
    return packed


@dataclass(frozen=True)
class GroupedTable:
    """A table of word embeddings: `codes [M, V, row_bytes]`, `scale [M, V, row_groups]`, float32 or float16."""

    kind: str
    channels: int
    codes: Codes
    scale: NDArray[Any]

    @property
    def zero(self) -> int:
        """The level that stands for 0."""
        return int(2 ** (BITS[self.kind] - 1))

    @property
    def group_of_channels(self) -> NDArray[np.int64]:
        """The group of each channel."""
        return np.arange(self.channels, dtype=np.int64) // GROUP

    def rows(self, ids: NDArray[np.int64]) -> Floats:
        """`ids [T]` -> rows `[M, T, channels]`."""
        levels = self.codes[:, ids]
        if self.kind == "int4":
            levels = np.concatenate([levels & 15, levels >> 4], axis=-1)[..., : self.channels]
        scale = self.scale[:, ids].astype(np.float32)[..., self.group_of_channels]
        return (levels.astype(np.float32) - np.float32(self.zero)) * scale
