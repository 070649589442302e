# SPDX-License-Identifier: Apache-2.0
"""BERTs with parts that transformers' BERT does not have, as settings of its configuration.

`config.json` of a float model has a setting beside BERT's own, that of a latent checkpoint in its section
(docs/latent.md); either only where it is not the default.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification
from transformers.models.bert.modeling_bert import BertEmbeddings

_DEFAULTS: Mapping[str, Any] = {"embedding_size": None}
"""What each setting is in a BERT."""


class ProjectedEmbeddings(BertEmbeddings):
    """Embeddings of a width of their own (`embedding_size`), projected to the layers' (Lan et al., 2020; ELECTRA)."""

    def __init__(self, config: BertConfig) -> None:
        narrow = copy.copy(config)
        narrow.hidden_size = config.embedding_size
        super().__init__(narrow)
        self.projection = nn.Linear(config.embedding_size, config.hidden_size)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """As `BertEmbeddings.forward`: [B, S, hidden_size]."""
        projected: Tensor = self.projection(super().forward(*args, **kwargs))
        return projected


class BertVariant(BertForSequenceClassification):
    """A BERT for sequence classification with the parts that its configuration names."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        if "embedding_size" in settings(config):
            self.bert.embeddings = ProjectedEmbeddings(config)
        self.post_init()


def settings(config: Any) -> dict[str, Any]:
    """The settings of a configuration, or of the `config.json` of a model, by which it is no plain BERT."""
    content = config if isinstance(config, Mapping) else vars(config)
    found = {name: content.get(name, default) for name, default in _DEFAULTS.items()}
    if found["embedding_size"] == content.get("hidden_size"):
        del found["embedding_size"]
    return {name: value for name, value in found.items() if value != _DEFAULTS[name]}


def model_class(config: Any) -> type[BertForSequenceClassification]:
    """The class of models with this configuration: transformers' own for a plain BERT."""
    return BertVariant if settings(config) else BertForSequenceClassification


def new_model(config: BertConfig) -> BertForSequenceClassification:
    """A BERT with new weights."""
    return model_class(config)(config)
