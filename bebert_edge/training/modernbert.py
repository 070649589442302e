# SPDX-License-Identifier: Apache-2.0
"""Binary twins of ModernBERT's modules (Warner et al., 2024), as `modules` has those of BERT's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ModernBertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.modernbert.modeling_modernbert import (
    ModernBertAttention,
    ModernBertRotaryEmbedding,
    apply_rotary_pos_emb,
)

from bebert_edge.lowering.rotary import Rotary
from bebert_edge.reference import GELU_CUTOFF, GELU_P, GELU_Q
from bebert_edge.training.modules import BinaryEmbedding, binarize_linear, binary_attention
from bebert_edge.training.quantization import Quantizer


class ExactGELU(nn.Module):
    """GELU that evaluates as docs/ops.md says."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return F.gelu(x)
        cutoff = float(GELU_CUTOFF)
        clipped = x.clamp(-cutoff, cutoff)
        square = clipped * clipped
        phi = 0.5 + clipped * _horner(GELU_P.tolist(), square) / _horner(GELU_Q.tolist(), square)
        return torch.where(x <= -cutoff, 0.0, x * phi.clamp(2.0**-26, 1.0))


def _horner(coefficients: list[float], x: Tensor) -> Tensor:
    y = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        y = y * x + coefficient
    return y


class ExactRotaryEmbedding(ModernBertRotaryEmbedding):
    """Cosines and sines of docs/format.md: angles in float64, where transformers has them in float32."""

    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str) -> tuple[Tensor, Tensor]:
        config, positions = self.config, int(position_ids.max()) + 1
        base = config.rope_parameters[layer_type]["rope_theta"]
        rotary = Rotary.of(base, positions, config.hidden_size // config.num_attention_heads)
        tables = (torch.from_numpy(table).to(x.device).repeat(1, 2)[position_ids] for table in (rotary.cos, rotary.sin))
        return next(tables), next(tables)


class BinaryModernBertAttention(ModernBertAttention):
    """ModernBERT's attention on codes: queries and keys are rotated as floats, then quantized."""

    query_quantizer: Quantizer
    key_quantizer: Quantizer
    value_quantizer: Quantizer
    probability_quantizer: Quantizer

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        assert position_embeddings is not None
        heads = (*hidden_states.shape[:-1], 3, -1, self.head_dim)
        query, key, value = (x.transpose(1, 2) for x in self.Wqkv(hidden_states).view(heads).unbind(-3))
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        codes = self.query_quantizer(query), self.key_quantizer(key), self.value_quantizer(value)
        bias = None if self.sliding_window is None else 0.0  # windows are packed as a bias by distance
        context = binary_attention(self, *codes, attention_mask, self.head_dim**-0.5, bias)[0]
        projected: Tensor = self.Wo(context.flatten(-2))
        return projected, None


class BinaryModernBert(ModernBertForSequenceClassification):
    """The whole model: where its head reads the mean of all tokens, that is exact in evaluation."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        output = self.model(input_ids, attention_mask, output_hidden_states=output_hidden_states, **kwargs)
        x: Tensor = output.last_hidden_state
        if self.config.classifier_pooling == "mean":
            mask = torch.ones(x.shape[:2], device=x.device) if attention_mask is None else attention_mask
            wide = x if self.training else x.double()
            pooled = ((wide * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).float()
        else:
            pooled = x[:, 0]
        return SequenceClassifierOutput(logits=self.classifier(self.head(pooled)), hidden_states=output.hidden_states)


def binarize_modernbert(model: ModernBertForSequenceClassification, quantizer: Callable[..., Quantizer]) -> None:
    """Replaces the linears, the word embeddings and what must be exact by their twins.

    The activation of the gated feed-forward layers stays what it is, so what it gives has both signs.
    """
    config = model.config
    model.__class__ = BinaryModernBert
    hidden, intermediate = config.hidden_size, config.intermediate_size
    config.attention_dropout = config.embedding_dropout = config.mlp_dropout = config.classifier_dropout = 0.0
    model.model.embeddings.tok_embeddings.__class__ = BinaryEmbedding
    model.model.rotary_emb.__class__ = ExactRotaryEmbedding
    for layer in model.model.layers:
        attention = layer.attn
        attention.__class__ = BinaryModernBertAttention
        attention.attention_dropout = 0.0
        attention.out_drop = nn.Identity()
        binarize_linear(attention.Wqkv, quantizer(channels=hidden))
        attention.query_quantizer = quantizer()
        attention.key_quantizer = quantizer()
        attention.value_quantizer = quantizer()
        attention.probability_quantizer = quantizer(signed=False)
        binarize_linear(attention.Wo, quantizer(channels=hidden))
        binarize_linear(layer.mlp.Wi, quantizer(channels=hidden))
        layer.mlp.act = nn.ReLU() if config.hidden_activation == "relu" else ExactGELU()
        binarize_linear(layer.mlp.Wo, quantizer(channels=intermediate))
    binarize_linear(model.head.dense, quantizer(channels=hidden))
