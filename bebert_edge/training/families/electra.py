# SPDX-License-Identifier: Apache-2.0
"""ELECTRA's discriminator (Clark et al., 2020), where its embeddings are as wide as its layers (base and large)."""

from collections.abc import Mapping
from typing import Any

from bebert_edge.training.families.family import Family


def _refusal(config: Mapping[str, Any]) -> str | None:
    embedding, hidden = config.get("embedding_size", 128), config.get("hidden_size", 256)
    if embedding == hidden:
        return None
    return f"its embeddings are {embedding} wide and projected to layers of {hidden}, expected the same width"


FAMILY = Family(
    ("electra",),
    names=(
        (r"^electra\.", "bert."),
        (r"^classifier\.dense\.", "bert.pooler.dense."),
        (r"^classifier\.out_proj\.", "classifier."),
    ),
    pooler_activation="gelu",
    refusal=_refusal,
)
