# SPDX-License-Identifier: Apache-2.0
"""ALBERT (Lan et al., 2020): narrow embeddings, and layers that share their weights."""

from collections.abc import Mapping
from typing import Any

from bebert_edge.training.families.family import Family


def _refusal(config: Mapping[str, Any]) -> str | None:
    if config.get("inner_group_num", 1) != 1:
        return f"its groups have {config['inner_group_num']} layers (inner_group_num), expected 1"
    groups, layers = config.get("num_hidden_groups", 1), config.get("num_hidden_layers", 12)
    if layers % groups:
        return f"its {layers} layers are of {groups} groups (num_hidden_groups), expected a divisor"
    embedding, hidden = config.get("embedding_size", 128), config.get("hidden_size", 4096)
    if embedding == hidden:
        return f"its embeddings are projected from {embedding} channels to as many, expected another width"
    return None


FAMILY = Family(
    ("albert",),
    names=(
        (r"^albert\.encoder\.embedding_hidden_mapping_in\.", "bert.embeddings.projection."),
        (r"^albert\.encoder\.albert_layer_groups\.(\d+)\.albert_layers\.0\.", r"bert.encoder.layer.\1."),
        (r"^albert\.pooler\.", "bert.pooler.dense."),
        (r"^albert\.", "bert."),
        (r"\.attention\.(query|key|value)\.", r".attention.self.\1."),
        (r"\.attention\.(dense|LayerNorm)\.", r".attention.output.\1."),
        (r"\.ffn\.", ".intermediate.dense."),
        (r"\.ffn_output\.", ".output.dense."),
        (r"\.full_layer_layer_norm\.", ".output.LayerNorm."),
    ),
    settings={"classifier_dropout": "classifier_dropout_prob"},
    refusal=_refusal,
)
