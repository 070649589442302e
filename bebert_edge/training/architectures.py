# SPDX-License-Identifier: Apache-2.0
"""The architectures of transformers that are trained as they are: what training must know of each beside its twins.

Other families become BERTs when they are loaded (`families`). To add an architecture: name it here, give it binary
twins (`binarize`), and a reader of its latent checkpoints (`bebert_edge.checkpoints`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import BertConfig, ModernBertConfig, ModernBertForSequenceClassification

from bebert_edge.training import variants


@dataclass(frozen=True)
class Architecture:
    """A kind of encoder, with what is around it.

    Attributes:
        config_class: transformers' class of its configuration.
        head: Name of the module between the encoder and the last layer of a model.
        linears: Gives the modules of each linear of docs/format.md, with its name.
        model: transformers' class for text classification, if that is all that it can be trained for; None for BERT, of
            which there is one for every task (`tasks`).
    """

    config_class: Any
    head: str
    linears: Callable[[Any], Iterator[tuple[str, tuple[nn.Linear, ...]]]]
    model: type[Any] | None = None

    def class_of(self, task_model: type[Any]) -> type[Any]:
        """Transformers' class of a model, as its `config.json` names it, given BERT's for its task."""
        return self.model or task_model

    def new_model(self, config: Any, task_model: type[Any]) -> Any:
        """A model with new weights of a configuration, given BERT's class for its task."""
        return self.model(config) if self.model else variants.new_model(config, task_model)


def _bert_linears(model: Any) -> Iterator[tuple[str, tuple[nn.Linear, ...]]]:
    projection = getattr(model.bert.embeddings, "projection", None)
    if projection is not None:
        yield "embeddings.projection", (projection,)
    for i, layer in enumerate(model.bert.encoder.layer):
        attention = layer.attention.self
        yield f"layers.{i}.qkv", (attention.query, attention.key, attention.value)
        yield f"layers.{i}.attention_output", (layer.attention.output.dense,)
        yield f"layers.{i}.ffn_in", (layer.intermediate.dense,)
        yield f"layers.{i}.ffn_out", (layer.output.dense,)
    if model.bert.pooler is not None:
        yield "pooler", (model.bert.pooler.dense,)


def _modernbert_linears(model: Any) -> Iterator[tuple[str, tuple[nn.Linear, ...]]]:
    for i, layer in enumerate(model.model.layers):
        yield f"layers.{i}.qkv", (layer.attn.Wqkv,)
        yield f"layers.{i}.attention_output", (layer.attn.Wo,)
        yield f"layers.{i}.ffn_in", (layer.mlp.Wi,)
        yield f"layers.{i}.ffn_out", (layer.mlp.Wo,)
    yield "pooler", (model.head.dense,)


ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": Architecture(BertConfig, "bert.pooler", _bert_linears),
    "modernbert": Architecture(ModernBertConfig, "head", _modernbert_linears, ModernBertForSequenceClassification),
}
"""By `model_type`."""


def architecture(config: Any) -> Architecture:
    """The architecture of a model, by its configuration or the content of its `config.json`.

    Raises:
        ValueError: There is none.
    """
    kind = config["model_type"] if isinstance(config, Mapping) else config.model_type
    if kind not in ARCHITECTURES:
        raise ValueError(f"model_type is {kind!r}, expected one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[kind]
