# SPDX-License-Identifier: Apache-2.0
"""Rotary positions (Su et al., 2021): queries and keys are turned by angles that grow with their position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Rotary:
    """The rotations of a layer: cosine and sine of the angle of each position and pair of channels, `[P, D / 2]`."""

    base: float
    cos: Floats
    sin: Floats

    @classmethod
    def of(cls, base: float, positions: int, head_size: int) -> Rotary:
        """Those of a base: angles and their functions in float64, rounded once (docs/format.md, "Rotary positions")."""
        frequencies = float(base) ** (-np.arange(0, head_size, 2) / head_size)
        angles = np.arange(positions)[:, None] * frequencies
        return cls(float(base), np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))

    def rotate(self, x: Floats, positions: NDArray[np.int64]) -> Floats:
        """Turns `x [E, T, heads * D]`, whose tokens are at `positions [T]`: channel d with channel d + D / 2."""
        half = self.cos.shape[1]
        first, second = np.moveaxis(x.reshape(*x.shape[:2], -1, 2, half), -2, 0)
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).reshape(x.shape)
