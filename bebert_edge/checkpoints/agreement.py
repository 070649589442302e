# SPDX-License-Identifier: Apache-2.0
"""Whether members belong to one ensemble. If not, the message names the first thing in which they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from bebert_edge.checkpoints.files import Floats
from bebert_edge.checkpoints.member import Member
from bebert_edge.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]

_AGREE = ("encoder", "quantization", "task", "labels", "max_length")
_EXPECTED = "expected members of one ensemble to agree; name members that do"


def shapes(state: Mapping[str, Floats]) -> Shapes:
    """The shape of each tensor."""
    return {name: tensor.shape for name, tensor in state.items()}


def check_states(first_path: Path, first: Shapes, path: Path, state: Shapes) -> None:
    """Checks that two files hold tensors of the same names and shapes.

    Raises:
        CheckpointError: They do not.
    """
    for name in sorted(first.keys() | state.keys()):
        if name not in first or name not in state:
            having, lacking = (first_path, path) if name in first else (path, first_path)
            raise CheckpointError(f"{having} has a tensor {name}, and {lacking} has none: {_EXPECTED}")
        if first[name] != state[name]:
            found = f"{list(state[name])} and {list(first[name])}"
            raise CheckpointError(f"{path} and {first_path} differ in the shape of {name} ({found}): {_EXPECTED}")


def check_members(first_path: Path, first: Member, path: Path, member: Member) -> None:
    """Checks that two members can be stacked.

    Raises:
        CheckpointError: They cannot.
    """
    for key in _AGREE:
        for name, expected, found in _differences(key, getattr(first, key), getattr(member, key)):
            raise CheckpointError(f"{path} and {first_path} differ in {name} ({found!r} and {expected!r}): {_EXPECTED}")
    if first.tokenizer != member.tokenizer:
        raise CheckpointError(f"{path} and {first_path} differ in tokenizer: {_EXPECTED}")


def _differences(name: str, first: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of each leaf of two configurations that differs."""
    if is_dataclass(first):
        for field in fields(first):
            yield from _differences(f"{name}.{field.name}", getattr(first, field.name), getattr(other, field.name))
    elif isinstance(first, tuple) and len(first) == len(other):
        for i, (one, two) in enumerate(zip(first, other, strict=True)):
            yield from _differences(f"{name}[{i}]", one, two)
    elif first != other:
        yield name, first, other
