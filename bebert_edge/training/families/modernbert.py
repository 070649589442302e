# SPDX-License-Identifier: Apache-2.0
"""ModernBERT (Warner et al., 2024): LayerNorms before layers, rotary positions, gated feed-forward layers."""

from collections.abc import Mapping
from typing import Any

from bebert_edge.training.families.family import Family

_ACTIVATIONS = {"hidden_activation": ("gelu", "relu"), "classifier_activation": ("gelu", "relu", "tanh")}


def _refusal(config: Mapping[str, Any]) -> str | None:
    for key, known in _ACTIVATIONS.items():
        if config.get(key, "gelu") not in known:
            return f"its {key} is {config[key]!r}, expected one of {', '.join(known)}"
    scaled = [config.get("rope_scaling"), *(config.get("rope_parameters") or {}).values()]
    types = {rope.get("rope_type", rope.get("type", "default")) for rope in scaled if isinstance(rope, Mapping)}
    scalings = sorted(types - {"default"})
    if scalings:
        return f"its rotary positions are scaled ({', '.join(scalings)}), expected plain ones"
    return None


FAMILY = Family(("modernbert",), architecture="modernbert", refusal=_refusal)
