# SPDX-License-Identifier: Apache-2.0
"""What every family of BERTs stores in full precision, under one name and in one way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from bebert_edge.checkpoints.source import Reader
from bebert_edge.config import EncoderConfig

Tensors = Iterator[tuple[str, NDArray[Any]]]
"""Packed tensors by the names of docs/format.md, without the leading axis."""


def norm(read: Reader, target: str, source: str, hidden: int) -> Tensors:
    """A LayerNorm."""
    for name in ("weight", "bias"):
        yield f"{target}.{name}", read(f"{source}.{name}", hidden)


def tables(read: Reader, shape: EncoderConfig, trained_positions: int) -> Tensors:
    """Position and token type embeddings, and the LayerNorm after them; rows beyond the longest input are dropped."""
    source, width = "bert.embeddings", shape.embedding_size
    positions = read(f"{source}.position_embeddings.weight", trained_positions, width)
    yield "embeddings.position", positions[: shape.positions]
    yield "embeddings.token_type", read(f"{source}.token_type_embeddings.weight", shape.token_types, width)
    yield from norm(read, "embeddings.norm", f"{source}.LayerNorm", width)


def classifier(read: Reader, labels: int, hidden: int, source: str = "classifier") -> Tensors:
    """The last linear layer."""
    yield "classifier.weight", read(f"{source}.weight", labels, hidden)
    yield "classifier.bias", read(f"{source}.bias", labels)
