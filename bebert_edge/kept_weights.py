# SPDX-License-Identifier: Apache-2.0
"""Linears that keep more than one bit a weight: int8 or float16 (docs/format.md, "Kept weights").

Which linears to keep is Q-BERT's question (Shen et al., 2020, arXiv 1909.05840); what their inputs are does not change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from bebert_edge.errors import TrainingError

BINARY = "binary"
WEIGHT_TYPES = ("int8", "float16")
"""What weights can be kept as."""

INT8_MAXIMUM = 127
FLOAT16_ROW_LIMIT = 2.0**21
"""Highest sum of the magnitudes of a row of float16 weights: a float16 is a multiple of 2^-24 and a code's magnitude at
most 255, so sums of products are multiples of 2^-24 below 2^29, which binary64 holds exactly in any order."""

Floats = NDArray[np.float32]


def int8_rows(latent: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Weights and scale of each row `[..., N, K]`: the largest magnitude of a row becomes 127, a row of zeros stays so.

    In float32, one rounding an operation: `scale = max / 127`, `weight = rne(latent / scale)`.
    """
    scale = np.abs(latent).max(-1) / np.float32(INT8_MAXIMUM)
    safe = np.where(scale > 0, scale, np.float32(1))
    # A scale that is subnormal is not accurate, so the quotient can exceed 127.
    return np.clip(np.rint(latent / safe[..., None]), -INT8_MAXIMUM, INT8_MAXIMUM).astype(np.int8), scale


def kept_matmul(values: NDArray[np.int64], weight: NDArray[np.generic], scale: Floats, bias: Floats) -> Floats:
    """A linear of kept weights; sums are exact, whatever the order.

    Args:
        values: The integers that codes stand for, `[M, T, K]`; M is 1 or E.
        weight: int8 or float16 `[E, N, K]`.
        scale: `[E, N]`.
        bias: `[E, N]`.

    Returns:
        float32 `[E, T, N]`.
    """
    accumulated = values.astype(np.float64) @ weight.astype(np.float64).swapaxes(1, 2)
    return accumulated.astype(np.float32) * scale[:, None] + bias[:, None]


def parse_keep(keep: str) -> tuple[str, str]:
    """Splits `PATTERN=TYPE`.

    Raises:
        TrainingError: It is no such text.
    """
    pattern, equals, kind = keep.rpartition("=")
    if not equals or not pattern or kind not in (*WEIGHT_TYPES, BINARY):
        raise TrainingError(
            f"--keep is {keep!r}, expected PATTERN=TYPE of {', '.join((*WEIGHT_TYPES, BINARY))}, "
            "for example --keep 'layers.0.*=int8'"
        )
    return pattern, kind


def choose(keep: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """The weight types of the linears that patterns name; of two patterns for one linear, the later counts.

    Args:
        keep: Texts `PATTERN=TYPE`, patterns as those of `fnmatch`; the type `binary` takes linears out again.
        names: Names of the linears that there are.

    Raises:
        TrainingError: A text is not of this form, or no linear has such a name.
    """
    chosen: dict[str, str] = {}
    for pattern, kind in map(parse_keep, keep):
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise TrainingError(f"--keep {pattern!r} matches no linear, expected some of {', '.join(names)}")
        chosen |= dict.fromkeys(found, kind)
    return {name: chosen[name] for name in names if chosen.get(name, BINARY) != BINARY}


def describe(weights: Mapping[str, str]) -> dict[str, list[str]]:
    """Names of kept linears by the type of their weights."""
    return {kind: [name for name, other in weights.items() if other == kind] for kind in WEIGHT_TYPES}
