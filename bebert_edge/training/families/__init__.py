# SPDX-License-Identifier: Apache-2.0
"""Encoder families that can be trained, one file each (docs/models.md).

Most compute what BERT computes under other names. Their models become BERTs when they are loaded, so that binarizing,
distilling and packing know few encoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bebert_edge.errors import CheckpointError
from bebert_edge.training.families import albert, bert, distilbert, electra, ernie, modernbert, mpnet, roberta
from bebert_edge.training.families.family import Family

__all__ = ["FAMILIES", "MODEL_TYPES", "Family", "find"]

FAMILIES: tuple[Family, ...] = (
    bert.FAMILY,
    roberta.FAMILY,
    distilbert.FAMILY,
    electra.FAMILY,
    ernie.FAMILY,
    albert.FAMILY,
    modernbert.FAMILY,
    mpnet.FAMILY,
)
MODEL_TYPES: tuple[str, ...] = tuple(model_type for family in FAMILIES for model_type in family.model_types)


def find(config: Mapping[str, Any], source: object) -> Family:
    """The family of a model.

    Args:
        config: Its `config.json`.
        source: Where it is, for messages.

    Raises:
        CheckpointError: It is of no family, or a variant of one that computes something else.
    """
    kind = config.get("model_type")
    for family in FAMILIES:
        if kind in family.model_types:
            reason = _refusal(config) or family.refusal(config)
            if reason is not None:
                raise CheckpointError(
                    f"{source} is a model of type {kind!r} that cannot be trained here: {reason}; choose another "
                    "--backbone or --teacher (docs/models.md)"
                )
            return family
    raise CheckpointError(
        f"{source} is a model of type {kind!r}, expected one of the supported families: {', '.join(MODEL_TYPES)}; "
        "choose another --backbone or --teacher (docs/models.md says why others are missing)"
    )


def _refusal(config: Mapping[str, Any]) -> str | None:
    """Variants that transformers' configurations know for all of these families."""
    if config.get("is_decoder"):
        return "it is a decoder (is_decoder), whose tokens see only those before them"
    positions = config.get("position_embedding_type") or "absolute"
    if positions != "absolute":
        return f"its positions are {positions!r} (position_embedding_type), expected 'absolute'"
    return None
