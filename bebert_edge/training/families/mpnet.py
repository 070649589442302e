# SPDX-License-Identifier: Apache-2.0
"""MPNet (Song et al., 2020): a BERT without token types whose attention scores have an addend by distance."""

from collections.abc import Mapping
from typing import Any

from bebert_edge.training.families.family import Family

_BUCKETS, _FURTHEST = 32, 128
"""Rows of the table of addends, and the distance from which on there is one on each side (as in T5)."""
_PADDING = 1
"""Positions are counted after this id, whatever `pad_token_id` says."""


def _distance_rows() -> list[int]:
    import torch
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distances = torch.arange(-_FURTHEST, _FURTHEST + 1)
    rows: list[int] = MPNetEncoder.relative_position_bucket(distances, _BUCKETS, _FURTHEST).tolist()
    return rows


def _refusal(config: Mapping[str, Any]) -> str | None:
    for key, known in (("relative_attention_num_buckets", _BUCKETS), ("pad_token_id", _PADDING)):
        if config.get(key, known) != known:
            return f"its {key} is {config[key]!r}, expected {known}"
    return None


FAMILY = Family(
    ("mpnet",),
    names=(
        (r"^mpnet\.", "bert."),
        (r"\.attention\.attn\.q\.", ".attention.self.query."),
        (r"\.attention\.attn\.k\.", ".attention.self.key."),
        (r"\.attention\.attn\.v\.", ".attention.self.value."),
        (r"\.attention\.attn\.o\.", ".attention.output.dense."),
        (r"\.attention\.LayerNorm\.", ".attention.output.LayerNorm."),
        (r"^classifier\.dense\.", "bert.pooler.dense."),
        (r"^classifier\.out_proj\.", "classifier."),
    ),
    positions_after_padding=True,
    distance_rows=_distance_rows,
    refusal=_refusal,
)
