# SPDX-License-Identifier: Apache-2.0
"""Turns a transformers model into its binary twin, in place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask

from bebert_edge.errors import TrainingError
from bebert_edge.training.architectures import ARCHITECTURES
from bebert_edge.training.modernbert import binarize_modernbert
from bebert_edge.training.modules import (
    ATTENTION,
    BinaryBiasedLayers,
    BinaryEmbedding,
    BinaryEmbeddings,
    BinaryLinear,
    BinaryProjectedEmbeddings,
    BinarySelfAttention,
    BinaryTiedDecoder,
    ExactLayerNorm,
    TiedDecoder,
    binarize_linear,
    binary_attention,
    use_pooler_activation,
)
from bebert_edge.training.quantization import BITS, PRECISIONS, Quantizer
from bebert_edge.training.variants import BiasedLayers, ProjectedEmbeddings

if TYPE_CHECKING:
    from transformers import BertPreTrainedModel, PreTrainedModel

    Model = TypeVar("Model", bound=PreTrainedModel)

AttentionInterface.register(ATTENTION, binary_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, eager_mask)


def binarize(model: Model, bits: int, precision: str = "auto", *, ternary: bool = False) -> Model:
    """Replaces every encoder linear, the pooler if there is one, and the word embeddings by their binary twins.

    The float weights stay where they are, now as latent weights. The activation becomes ReLU, but in gated layers, and
    dropout is turned off: binary weights regularise enough. Steps of the quantizers are set by the first batch in
    training mode.

    Args:
        model: A BERT for some task or a ModernBERT with a classification head, as transformers loads it; it is
            changed. The activation of a BERT's pooler is `config.pooler_activation`, or tanh.
        bits: Bits of every activation that enters a matrix product: 1, 2, 4 or 8.
        precision: Of products in training: "bf16", "fp32", or "auto" for bfloat16 where the device the model is on has
            instructions for it, which CPUs without AVX-512 BF16, AMX or Arm BF16 have not.
        ternary: Whether weights are -1, 0 or 1 in place of -1 or 1: to start members from (`splitting`), not to export.

    Returns:
        The same model.

    Raises:
        TrainingError: For another architecture, number of bits or precision.
    """
    config = model.config
    if config.model_type not in ARCHITECTURES:
        expected = " or ".join(map(repr, ARCHITECTURES))
        raise TrainingError(
            f"cannot binarize a {config.model_type!r} model, expected {expected}: pass another --backbone"
        )
    if bits not in BITS:
        raise TrainingError(f"bits is {bits}, expected one of {', '.join(map(str, BITS))}")
    if precision not in PRECISIONS:
        raise TrainingError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    config._attn_implementation = ATTENTION
    twins: Callable[..., None] = binarize_modernbert if config.model_type == "modernbert" else _binarize_bert
    twins(model, functools.partial(Quantizer, bits, precision=precision))
    for module in model.modules():
        if type(module) is nn.LayerNorm:
            module.__class__ = ExactLayerNorm
        elif isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, BinaryLinear | BinaryEmbedding):
            module.ternary = ternary
    model.to(model.get_input_embeddings().weight.device)  # where a quantizer is new, to the others
    return model


def _binarize_bert(model: BertPreTrainedModel, quantizer: Callable[..., Quantizer]) -> None:
    config: Any = model.config
    hidden, intermediate = config.hidden_size, config.intermediate_size
    config.hidden_act = "relu"
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    embeddings = model.bert.embeddings
    if isinstance(embeddings, ProjectedEmbeddings):
        embeddings.__class__ = BinaryProjectedEmbeddings
        binarize_linear(embeddings.projection, quantizer(channels=embeddings.projection.in_features))
    else:
        embeddings.__class__ = BinaryEmbeddings
    embeddings.word_embeddings.__class__ = BinaryEmbedding
    if isinstance(model.bert.encoder, BiasedLayers):
        model.bert.encoder.__class__ = BinaryBiasedLayers
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self
        attention.__class__ = BinarySelfAttention
        attention.input_quantizer = quantizer(channels=hidden)
        for linear in (attention.query, attention.key, attention.value):
            binarize_linear(linear, attention.input_quantizer, shared=True)
        attention.query_quantizer = quantizer()
        attention.key_quantizer = quantizer()
        attention.value_quantizer = quantizer()
        attention.probability_quantizer = quantizer(signed=False)
        binarize_linear(layer.attention.output.dense, quantizer(channels=hidden))
        binarize_linear(layer.intermediate.dense, quantizer(channels=hidden))
        layer.intermediate.intermediate_act_fn = nn.ReLU(inplace=True)
        binarize_linear(layer.output.dense, quantizer(signed=False, channels=intermediate))
    if model.bert.pooler is not None:
        binarize_linear(model.bert.pooler.dense, quantizer(channels=hidden))
    if isinstance(getattr(model, "decoder", None), TiedDecoder):
        binarize_linear(model.transform.dense, quantizer(channels=hidden))
        model.transform.transform_act_fn = nn.ReLU()
        model.decoder.__class__ = BinaryTiedDecoder
        model.decoder.quantizer = quantizer(channels=hidden)
    use_pooler_activation(model)
