# SPDX-License-Identifier: Apache-2.0
"""Turns a transformers BERT into its binary twin, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask

from bebert_edge.errors import TrainingError
from bebert_edge.training.modules import (
    ATTENTION,
    BinaryEmbedding,
    BinaryEmbeddings,
    BinaryLinear,
    BinarySelfAttention,
    ExactLayerNorm,
    binary_attention,
)
from bebert_edge.training.quantization import BITS, Quantizer

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification

AttentionInterface.register(ATTENTION, binary_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, eager_mask)


def _binary_linear(linear: nn.Linear, quantizer: Quantizer, shared: bool = False) -> None:
    linear.__class__ = BinaryLinear
    assert isinstance(linear, BinaryLinear)
    linear.setup(quantizer, shared)


def binarize(model: BertForSequenceClassification, bits: int) -> BertForSequenceClassification:
    """Replaces every encoder linear, the pooler and the word embeddings by their binary twins.

    The float weights stay where they are, now as latent weights. The activation becomes ReLU and dropout is turned off:
    binary weights regularise enough. Steps of the quantizers are set by the first batch in training mode.

    Args:
        model: A BERT with a classification head, as transformers loads it; it is changed.
        bits: Bits of every activation that enters a matrix product: 1, 2, 4 or 8.

    Returns:
        The same model.

    Raises:
        TrainingError: For another architecture or number of bits.
    """
    config = model.config
    if config.model_type != "bert":
        raise TrainingError(
            f"cannot binarize a {config.model_type!r} model, expected 'bert': pass a BERT as --backbone"
        )
    if bits not in BITS:
        raise TrainingError(f"bits is {bits}, expected one of {', '.join(map(str, BITS))}")
    hidden, intermediate = config.hidden_size, config.intermediate_size
    config.hidden_act = "relu"
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    config._attn_implementation = ATTENTION
    model.bert.embeddings.__class__ = BinaryEmbeddings
    model.bert.embeddings.word_embeddings.__class__ = BinaryEmbedding
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self
        attention.__class__ = BinarySelfAttention
        attention.input_quantizer = Quantizer(bits, channels=hidden)
        for linear in (attention.query, attention.key, attention.value):
            _binary_linear(linear, attention.input_quantizer, shared=True)
        attention.query_quantizer = Quantizer(bits)
        attention.key_quantizer = Quantizer(bits)
        attention.value_quantizer = Quantizer(bits)
        attention.probability_quantizer = Quantizer(bits, signed=False)
        _binary_linear(layer.attention.output.dense, Quantizer(bits, channels=hidden))
        _binary_linear(layer.intermediate.dense, Quantizer(bits, channels=hidden))
        layer.intermediate.intermediate_act_fn = nn.ReLU(inplace=True)
        _binary_linear(layer.output.dense, Quantizer(bits, signed=False, channels=intermediate))
    _binary_linear(model.bert.pooler.dense, Quantizer(bits, channels=hidden))
    for module in model.modules():
        if type(module) is nn.LayerNorm:
            module.__class__ = ExactLayerNorm
        elif isinstance(module, nn.Dropout):
            module.p = 0.0
    return model
