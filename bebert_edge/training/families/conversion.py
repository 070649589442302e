# SPDX-License-Identifier: Apache-2.0
"""Models of other families as BERTs, so that all that follows knows one encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from bebert_edge.training.families.family import Family
from bebert_edge.training.modules import use_pooler_activation
from bebert_edge.training.variants import new_model

_POSITIONS = "bert.embeddings.position_embeddings.weight"
_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.")
_DISTANCE_BIAS = "bert.encoder.distance_bias"
_DISTANCE_ROWS = "bert.encoder.relative_attention_bias.weight"
_PROJECTION = "bert.embeddings.projection.weight"
_TOKEN_TYPES = "bert.embeddings.token_type_embeddings.weight"
_SETTINGS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "id2label",
    "label2id",
    "problem_type",
)


def to_bert(
    model: PreTrainedModel,
    family: Family,
    bert: type[Any] = BertForSequenceClassification,
    *,
    new_pooler: bool = False,
) -> Any:
    """The BERT that computes what a model of another family computes.

    Logits are equal up to the order of three float32 additions in the embeddings. Dropout in training is BERT's: heads
    that have it in two places have it in the last.

    Args:
        model: transformers' model for some task; its tensors are moved, not copied.
        family: Its family.
        bert: transformers' BERT for the same task.
        new_pooler: Whether the first layer of its head is new: then it is BERT's, with a tanh.

    Returns:
        A BERT is returned as it is.
    """
    if not isinstance(model, bert):
        tensors = {family.rename(name): tensor for name, tensor in model.state_dict().items()}
        if family.positions_after_padding:
            tensors[_POSITIONS] = tensors[_POSITIONS][model.config.pad_token_id + 1 :].clone()
        if family.distance_rows is not None:
            tensors[_DISTANCE_BIAS] = tensors.pop(_DISTANCE_ROWS)[family.distance_rows()].T.clone()
        tensors[_TOKEN_TYPES] = _token_types(tensors, family)
        config = _config(model.config, family, tensors)
        if not new_pooler and "bert.pooler.dense.weight" in tensors and family.pooler_activation != "tanh":
            config.pooler_activation = family.pooler_activation
        model = new_model(config, bert)
        model.load_state_dict(tensors, assign=True)
    use_pooler_activation(model)
    return model


def _token_types(tensors: dict[str, Tensor], family: Family) -> Tensor:
    """The table of token types.

    It has two rows at least, equal ones where the family has none: tokenizers may call the tokens of a second text 1
    where the model takes no notice.
    """
    words = tensors["bert.embeddings.word_embeddings.weight"]
    table = tensors.get(_TOKEN_TYPES, torch.zeros_like(words[:1]))
    if family.added_to_token_types is not None and family.added_to_token_types in tensors:
        table = table + tensors.pop(family.added_to_token_types)[:1]
    return table.repeat(2, 1) if len(table) == 1 else table


def _config(config: Any, family: Family, tensors: Mapping[str, Tensor]) -> BertConfig:
    settings = {name: getattr(config, family.settings.get(name, name), None) for name in _SETTINGS}
    settings["distinct_layers"] = 1 + max(int(found[1]) for found in map(_LAYER.match, tensors) if found)
    if _PROJECTION in tensors:
        settings["embedding_size"] = tensors[_PROJECTION].shape[1]
    if _DISTANCE_BIAS in tensors:
        settings["distance_bias"] = tensors[_DISTANCE_BIAS].shape[1] // 2
    return BertConfig(
        **{
            **settings,
            **family.constants,
            "max_position_embeddings": len(tensors[_POSITIONS]),
            "type_vocab_size": len(tensors[_TOKEN_TYPES]),
        }
    )
