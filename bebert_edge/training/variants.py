# SPDX-License-Identifier: Apache-2.0
"""BERTs with parts that transformers' BERT does not have, as settings of its configuration.

`config.json` of a float model has a setting beside BERT's own, that of a latent checkpoint in its section
(docs/latent.md); either only where it is not the default.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.models.bert.modeling_bert import BertEmbeddings, BertEncoder

_DEFAULTS: Mapping[str, str | None] = {
    "embedding_size": "hidden_size",
    "distinct_layers": "num_hidden_layers",
    "distance_bias": None,
}
"""The settings, and whose value each has in a BERT, if it has one."""


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


class SharedLayers(BertEncoder):
    """An encoder whose `layer` holds each layer once, used as often in a row as makes `num_hidden_layers` (ALBERT)."""

    def forward(self, hidden_states: Tensor, *args: Any, use_cache: bool | None = None, **kwargs: Any) -> Any:
        """As `BertEncoder.forward`, without a cache."""
        repeated = self.config.num_hidden_layers // len(self.layer)
        for layer in self.layer:
            for _ in range(repeated):
                hidden_states = layer(hidden_states, *args, **kwargs)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden_states)


class BiasedLayers(SharedLayers):
    """An encoder whose attention scores have an addend for each head and distance of two tokens (MPNet).

    `distance_bias` [heads, 2 U + 1] is that of keys U tokens before the query or more, U - 1 tokens before it, ...
    """

    distance_bias: nn.Parameter

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `BertEncoder.forward`; layers get a mask that holds the addends, and the lowest float where it masks."""
        addends = self.addends(hidden_states)
        if attention_mask is not None:
            attended = attention_mask if attention_mask.dtype == torch.bool else attention_mask >= 0
            addends = addends.where(attended, torch.finfo(addends.dtype).min)
        return super().forward(hidden_states, addends, *args, **kwargs)

    def addends(self, hidden_states: Tensor) -> Tensor:
        """Those of the scores of as many tokens as there are hidden states [B, S, H]: [1, heads, S, S]."""
        most = self.distance_bias.shape[1] // 2
        place = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        return self.distance_bias[:, (place - place[:, None]).clamp(-most, most) + most][None]


class _Variant:
    """Gives a BERT, the next of its base classes, the parts that its configuration names."""

    def __init__(self, config: BertConfig) -> None:
        found, layers = settings(config), config.num_hidden_layers
        config.num_hidden_layers = found.get("distinct_layers", layers)
        super().__init__(config)  # type: ignore[call-arg]
        config.num_hidden_layers = layers
        model: Any = self
        if "distinct_layers" in found:
            model.bert.encoder.__class__ = SharedLayers
        if "distance_bias" in found:
            model.bert.encoder.__class__ = BiasedLayers
            table = torch.zeros(config.num_attention_heads, 2 * found["distance_bias"] + 1)
            model.bert.encoder.distance_bias = nn.Parameter(table)
        if "embedding_size" in found:
            model.bert.embeddings = ProjectedEmbeddings(config)
        model.post_init()


def settings(config: Any) -> dict[str, Any]:
    """The settings of a configuration, or of the `config.json` of a model, by which it is no plain BERT."""
    content = config if isinstance(config, Mapping) else vars(config)
    return {
        name: content[name]
        for name, same in _DEFAULTS.items()
        if content.get(name) not in (None, same and content.get(same))
    }


_CLASSES: dict[type[Any], type[Any]] = {}


def variant_of(model: type[Any]) -> type[Any]:
    """The class of a BERT for some task, but with the parts that its configuration names."""
    if model not in _CLASSES:
        _CLASSES[model] = type(f"{model.__name__}Variant", (_Variant, model), {})
    return _CLASSES[model]


def model_class(config: Any, model: type[Any] = BertForSequenceClassification) -> type[Any]:
    """The class of models with this configuration: transformers' own, `model`, for a plain BERT."""
    return variant_of(model) if settings(config) else model


def new_model(config: BertConfig, model: type[Any] = BertForSequenceClassification) -> Any:
    """A BERT of this class of transformers' with new weights."""
    return model_class(config, model)(config)
