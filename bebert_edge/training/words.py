# SPDX-License-Identifier: Apache-2.0
"""Word embeddings that are not binary: trained in full precision, and rounded by groups (`groups`) when packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from bebert_edge.errors import TrainingError
from bebert_edge.groups import BITS, GROUP

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from bebert_edge.training.modules import BinaryEmbedding

EMBEDDINGS = ("binary", *BITS)
"""How word embeddings may be stored."""


def rounded_rows(rows: Tensor, kind: str) -> Tensor:
    """The rows [..., channels] that `groups.quantize` stores for float32 rows, operation by operation."""
    channels, high = rows.shape[-1], float(2 ** (BITS[kind] - 1) - 1)
    parts = F.pad(rows, (0, -channels % GROUP)).unflatten(-1, (-1, GROUP))
    scale = parts.abs().amax(-1, keepdim=True) / high
    values = (parts / torch.where(scale > 0, scale, torch.ones_like(scale))).round().clamp(-high, high)
    rounded: Tensor = (values * scale).flatten(-2)[..., :channels]
    return rounded


def store_words(model: PreTrainedModel, kind: str) -> None:
    """Sets how the word embeddings of a binarized model are stored: `binary`, `int8` or `int4`.

    Raises:
        TrainingError: For another kind.
    """
    if kind not in EMBEDDINGS:
        raise TrainingError(f"embeddings is {kind!r}, expected one of {', '.join(EMBEDDINGS)}")
    _words(model).kept = None if kind == "binary" else kind


def stored_words(model: PreTrainedModel) -> str:
    """How the word embeddings of a binarized model are stored."""
    return _words(model).kept or "binary"


def start_words(model: PreTrainedModel, source: PreTrainedModel) -> None:
    """Starts word embeddings of full precision from the values, not the latent weights, of a binary table."""
    from bebert_edge.training.modules import BinaryEmbedding

    words, table = _words(model), source.get_input_embeddings()
    if words.kept and isinstance(table, BinaryEmbedding) and not table.kept:
        with torch.no_grad():
            words.weight.copy_(table.values(table.weight))


def _words(model: PreTrainedModel) -> BinaryEmbedding:
    words: BinaryEmbedding = model.get_input_embeddings()
    return words
