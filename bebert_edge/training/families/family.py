# SPDX-License-Identifier: Apache-2.0
"""What a family of encoders says about itself: how it is a BERT under other names, or that it is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


def _nothing(config: Mapping[str, Any]) -> None:
    return None


@dataclass(frozen=True)
class Family:
    """An encoder that computes what `BertForSequenceClassification` computes, with other names and settings.

    Or one of another `architecture`, which keeps its names.

    Attributes:
        model_types: Values of `model_type` in `config.json`.
        names: (regular expression, replacement) pairs, applied in turn to the names of the tensors of transformers'
            models, which make them BERT's. The head for sequence classification, a linear layer, an activation and
            another linear layer, becomes `bert.pooler.dense` and `classifier`; those for tokens and for answer spans
            are called `classifier` and `qa_outputs` already.
        settings: Names of the settings that `config.json` calls otherwise than BERT's, by BERT's name.
        constants: Settings of BERT that this family does not have, with what they are in it.
        pooler_activation: The activation of the head: "tanh", "relu" or "gelu".
        positions_after_padding: Whether positions are counted from `pad_token_id + 1`. The rows before are dropped, and
            the longest input is as much shorter.
        added_to_token_types: BERT's name for a table whose first row is added to every token, or None.
        distance_rows: Rows of `bert.encoder.relative_attention_bias.weight` that are added to attention scores, for the
            distances -U .. U of a key from its query, beyond which they stay the same; or None.
        refusal: Why a model with this `config.json` cannot be trained, or None.
        architecture: What its models are when they are loaded (`architectures`).
    """

    model_types: tuple[str, ...]
    names: tuple[tuple[str, str], ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    pooler_activation: str = "tanh"
    positions_after_padding: bool = False
    added_to_token_types: str | None = None
    distance_rows: Callable[[], list[int]] | None = None
    refusal: Callable[[Mapping[str, Any]], str | None] = _nothing
    architecture: str = "bert"

    def rename(self, name: str) -> str:
        """BERT's name for a tensor."""
        for pattern, replacement in self.names:
            name = re.sub(pattern, replacement, name)
        return name
