# SPDX-License-Identifier: Apache-2.0
"""Quantizers of one input: equal ones give the same codes, so one stands for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar


class _Comparable(Protocol):
    def equals(self, other: Any) -> bool: ...


T = TypeVar("T", bound=_Comparable)


def distinct(quantizers: Iterable[T]) -> tuple[tuple[T, ...], list[int]]:
    """The quantizers that differ, and which of them stands for each one given."""
    found: list[T] = []
    places = []
    for quantizer in quantizers:
        place = next((i for i, other in enumerate(found) if quantizer.equals(other)), len(found))
        if place == len(found):
            found.append(quantizer)
        places.append(place)
    return tuple(found), places
