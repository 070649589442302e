# SPDX-License-Identifier: Apache-2.0
"""Binary twins of BERT's modules: latent float weights inside, one bit a weight in every product.

In training their products are bfloat16 or float32 (`quantization.code_dtype`), with straight-through gradients. In
evaluation they do what `docs/ops.md` says, one float32 rounding at a time, so that a trained model and its export give
the same codes. Weights can be ternary too: an easier start for binary ones (`splitting`), which is never exported. And
a linear may keep int8 or float16 weights (`kept`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertEmbeddings, BertSelfAttention

from bebert_edge.training.kept import kept_rows
from bebert_edge.training.quantization import Quantizer
from bebert_edge.training.variants import BiasedLayers, SharedLayers
from bebert_edge.training.words import rounded_rows

ATTENTION = "bebert_binary"

_POOLER_ACTIVATIONS: Mapping[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}
"""What can follow the linear layer of the pooler, by `config.pooler_activation`."""


def pooler_activation(config: Any) -> str:
    """The pooler's activation by a BERT's configuration: where that says nothing it is BERT's own, tanh."""
    name: str = getattr(config, "pooler_activation", "tanh")
    if name not in _POOLER_ACTIVATIONS:
        raise ValueError(f"pooler_activation is {name!r}, expected one of {', '.join(_POOLER_ACTIVATIONS)}")
    return name


def use_pooler_activation(model: Any) -> None:
    """Gives the pooler of a BERT, if its task has one, the activation of its configuration."""
    if model.bert.pooler is not None:
        model.bert.pooler.activation = _POOLER_ACTIVATIONS[pooler_activation(model.config)]()


def binarize_rows(latent: Tensor) -> tuple[Tensor, Tensor]:
    """Signs (float32, -1 or +1) and row scales of latent weights; float64 sums, so that order does not matter."""
    centred = latent - latent.double().mean(-1, keepdim=True).float()
    return torch.where(centred >= 0, 1.0, -1.0), centred.double().abs().mean(-1).float()


def ternarize_rows(latent: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (float32: -1, 0 or 1) and row scales of latent weights less their row mean.

    As ternary weight networks do (Li et al., 2016): 0 where the magnitude is at most 0.7
    times the row's mean magnitude; the scale is the mean magnitude of the others.
    """
    centred = (latent.double() - latent.double().mean(-1, keepdim=True)).float()
    return _ternary_codes(centred)


def _ternary_codes(centred: Tensor) -> tuple[Tensor, Tensor]:
    threshold = 0.7 * centred.abs().mean(-1, keepdim=True)
    codes = (centred / (2 * threshold).clamp(min=1e-30)).clamp_(-1, 1).round_()  # 0.5 rounds to 0
    scale = (codes * centred).sum(-1) / codes.abs().sum(-1).clamp(min=1)
    return codes, scale


def _training_rows(latent: Tensor, kind: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows of a `BinaryLinear.kind` in few float32 passes: codes of this dtype, and row scales."""
    if kind not in _CENTRED:
        codes, scale = kept_rows(latent, kind)
        return codes.to(dtype), scale
    centred = latent - latent.mean(-1, keepdim=True)
    if kind == "ternary":
        codes, scale = _ternary_codes(centred)
        return codes.to(dtype), scale
    signs = torch.copysign(torch.ones((), dtype=dtype, device=latent.device), centred.to(dtype))
    return signs, centred.abs_().mean(-1)


_CENTRED = ("binary", "ternary")
"""Kinds of weights whose rows enter less their mean."""


class _BinaryMatMul(torch.autograd.Function):
    """`codes @ signs.T * (step * row scale) + bias` with straight-through gradients to the latent weights."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor, step: Tensor, latent: Tensor, bias: Tensor, kind: str) -> Tensor:
        signs, scale = _training_rows(latent, kind, codes.dtype)
        ctx.centred = kind in _CENTRED
        ctx.save_for_backward(codes, step, signs, scale)
        return torch.addcmul(bias, F.linear(codes, signs).float(), scale * step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        codes, step, signs, scale = ctx.saved_tensors
        g = gradients[0].reshape(-1, signs.shape[0])
        x = codes.reshape(-1, signs.shape[1])
        narrow = g.to(codes.dtype)
        g_value = ((narrow * scale.to(codes.dtype)) @ signs).view_as(codes)
        # Where latent rows enter less their mean, so does their gradient, which is cheaper to take from the input.
        x = (x - x.mean(1, keepdim=True) if ctx.centred else x.clone()).mul_(step.to(codes.dtype))
        return g_value, None, (narrow.t() @ x).float(), g.sum(0), None


def binary_linear(codes: Tensor, step: Tensor, linears: Sequence[BinaryLinear]) -> tuple[Tensor, ...]:
    """The outputs of binary linear layers with the same input, as one product; for training.

    Args:
        codes: Codes [..., in].
        step: What a code is worth, a float32 scalar.
        linears: Layers with latent weights [out, in] of one kind.

    Returns:
        A float32 tensor [..., out] for each layer.
    """
    kind = linears[0].kind
    if len(linears) == 1:
        (linear,) = linears
        own = linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
        return (_BinaryMatMul.apply(codes, step, linear.weight, own, kind),)
    latent, bias = torch.cat([linear.weight for linear in linears]), torch.cat([linear.bias for linear in linears])
    y: Tensor = _BinaryMatMul.apply(codes, step, latent, bias, kind)
    return torch.split(y, [linear.out_features for linear in linears], dim=-1)


class BinaryLinear(nn.Linear):
    """A linear layer on codes, with weights `sign(latent - row mean) * mean |latent - row mean|`.

    Where it owns no quantizer (query, key and value), its input is codes already and `source` made them. `kept` is the
    type of weights that it has in place of binary ones.
    """

    quantizer: Quantizer | None
    source: tuple[Quantizer]
    ternary: bool = False
    kept: str | None = None
    _packed: tuple[tuple[int, torch.device, str], Tensor, Tensor] | None

    def setup(self, quantizer: Quantizer, shared: bool = False) -> None:
        self.quantizer = None if shared else quantizer
        self.source = (quantizer,)  # in a tuple: not a submodule
        self._packed = None

    @property
    def kind(self) -> str:
        """Of its weights: `binary`, `ternary`, or what it keeps."""
        return self.kept or ("ternary" if self.ternary else "binary")

    def train(self, mode: bool = True) -> BinaryLinear:
        """Switches mode, and forgets the bits: fused optimizers change weights without changing their version."""
        self._packed = None
        return super().train(mode)

    def _signs_and_scale(self) -> tuple[Tensor, Tensor]:
        key = (self.weight._version, self.weight.device, self.kind)
        if self._packed is None or self._packed[0] != key:
            latent = self.weight.detach()
            if self.kept:
                signs, scale = kept_rows(latent, self.kept)
                signs = signs.double()  # in which sums of kept weights are exact
            else:
                signs, scale = (ternarize_rows if self.ternary else binarize_rows)(latent)
            self._packed = (key, signs, scale)
        return self._packed[1], self._packed[2]

    def forward(self, x: Tensor) -> Tensor:
        codes = x if self.quantizer is None else self.quantizer(x)
        step = self.source[0].positive_step
        if self.training:
            return binary_linear(codes, step, [self])[0]
        signs, scale = self._signs_and_scale()
        y = F.linear(codes.to(signs.dtype), signs).float() * (step * scale)
        return y if self.bias is None else y + self.bias


def binarize_linear(linear: nn.Linear, quantizer: Quantizer, shared: bool = False) -> None:
    """Makes a linear layer its binary twin, in place; `shared` if others have the same quantizer of their input."""
    linear.__class__ = BinaryLinear
    assert isinstance(linear, BinaryLinear)
    linear.setup(quantizer, shared)


class TiedDecoder(nn.Module):
    """Logits of all words [..., V] by their own embeddings: `x @ words.weight.T + bias`."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        self.words = (words,)  # in a tuple: not a submodule
        self.bias = nn.Parameter(torch.zeros(words.num_embeddings))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.words[0].weight, self.bias)


class BinaryTiedDecoder(TiedDecoder):
    """Its twin: the input is quantized, and the words are as binary as `BinaryEmbedding` has them."""

    quantizer: Quantizer

    def forward(self, x: Tensor) -> Tensor:
        codes, step, weight = self.quantizer(x), self.quantizer.positive_step, self.words[0].weight
        if self.training:
            y: Tensor = _BinaryMatMul.apply(codes, step, weight, self.bias, "binary")
            return y
        signs, scale = binarize_rows(weight.detach())
        return (F.linear(codes, signs).float() * scale) * step + self.bias


class BinaryEmbedding(nn.Embedding):
    """An embedding table with one bit a weight and one scale a row; its gradient is sparse.

    If it is `kept`, it is of full precision in training, and what `rounded_rows` makes of that in evaluation.
    """

    ternary: bool = False
    kept: str | None = None

    def values(self, latent: Tensor) -> Tensor:
        """What rows of latent weights are in evaluation."""
        if self.kept:
            return rounded_rows(latent, self.kept)
        signs, scale = (ternarize_rows if self.ternary else binarize_rows)(latent)
        return signs * scale[..., None]

    def forward(self, ids: Tensor) -> Tensor:
        if not self.training:
            return self.values(F.embedding(ids, self.weight))
        unique, inverse = ids.unique(return_inverse=True)
        # Several processes can only reduce dense gradients; the optimizer makes them sparse again.
        rows = F.embedding(unique, self.weight, sparse=not (dist.is_available() and dist.is_initialized()))
        if self.kept:
            return F.embedding(inverse, rows)
        rows = rows - rows.mean(1, keepdim=True)
        signs, scale = _training_rows(rows.detach(), "ternary" if self.ternary else "binary", rows.dtype)
        binary = rows + (signs * scale[:, None] - rows).detach()
        return F.embedding(inverse, binary)


class BinaryEmbeddings(BertEmbeddings):
    """BERT's embeddings, added in the order of the exported graph: words + (positions + token types)."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values_length: int = 0,
    ) -> Tensor:
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        length = words.shape[1]
        if position_ids is None:
            position_ids = self.position_ids[:, past_key_values_length : past_key_values_length + length]
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        table = self.position_embeddings(position_ids) + self.token_type_embeddings(token_type_ids)
        y: Tensor = self.LayerNorm(words + table)
        return y


class BinaryProjectedEmbeddings(BinaryEmbeddings):
    """The twin of `ProjectedEmbeddings`."""

    projection: BinaryLinear

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        y: Tensor = self.projection(super().forward(*args, **kwargs))
        return y


class BinaryBiasedLayers(BiasedLayers):
    """The twin of `BiasedLayers`, whose attention has addends and masks apart."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return SharedLayers.forward(self, hidden_states, *args, bias=self.addends(hidden_states), **kwargs)


class ExactLayerNorm(nn.LayerNorm):
    """LayerNorm that evaluates as `AddLayerNormQuantize` does: moments in float64, the rest in float32."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        wide = x.double()
        mean = wide.mean(-1, keepdim=True)
        variance = (wide.square().mean(-1, keepdim=True) - mean.square()).clamp(min=0)
        epsilon = float(torch.tensor(self.eps, dtype=torch.float32))
        y = (x - mean.float()) * (1 / (variance + epsilon).sqrt()).float() * self.weight
        return y if self.bias is None else y + self.bias


class BinarySelfAttention(BertSelfAttention):
    """BERT's self-attention on codes: one quantizer for the input of query, key and value, one for each of them."""

    input_quantizer: Quantizer
    query_quantizer: Quantizer
    key_quantizer: Quantizer
    value_quantizer: Quantizer
    probability_quantizer: Quantizer

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        *args: Any,
        bias: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        codes = self.input_quantizer(hidden_states)
        linears = (self.query, self.key, self.value)
        if self.training:
            projected = binary_linear(codes, self.input_quantizer.positive_step, linears)
        else:
            projected = tuple(linear(codes) for linear in linears)
        quantizers = (self.query_quantizer, self.key_quantizer, self.value_quantizer)
        heads = (*hidden_states.shape[:-1], self.num_attention_heads, self.attention_head_size)
        query, key, value = (q(y).view(heads).transpose(1, 2) for q, y in zip(quantizers, projected, strict=True))
        context = binary_attention(self, query, key, value, attention_mask, self.scaling, bias)[0]
        return context.flatten(-2), None


def fixed_exp(t: Tensor) -> Tensor:
    """`rne(32768 * exp(t))` for `t <= 0`, by the float32 sequence of `docs/ops.md`."""
    u = (t * 1.4426950408889634).clamp(min=-18)
    n = u.round()
    f = u - n
    m = torch.full_like(f, 0.001326472731307149)
    for c in (0.009671512991189957, 0.05550733581185341, 0.24022242426872253, 0.6931470036506653, 1.0):
        m = m * f + c
    power = ((n.int() + (127 + 15)) << 23).view(torch.float32)
    return (m * power).round()


def binary_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    bias: float | Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention on codes, as transformers' `AttentionInterface`; query, key and value are codes [B, A, S, D].

    `module` has their quantizers, and one of probabilities. A `bias`, added to the scores, makes it the op
    BiasedBinaryAttention, whose roundings are others even if it is 0: masks stand for what hides keys.
    """
    q, k, v, p = module.query_quantizer, module.key_quantizer, module.value_quantizer, module.probability_quantizer
    if module.training:
        scores = (q.value(query) @ k.value(key).transpose(-1, -2)) * scaling
        for addend in (bias, attention_mask):
            scores = scores if addend is None else scores + addend
        context = p.value(p(scores.softmax(-1))) @ v.value(value)
        return context.transpose(1, 2), None
    dot = query @ key.transpose(-1, -2)
    attended = torch.ones_like(dot, dtype=torch.bool)
    if attention_mask is not None:
        attended &= attention_mask >= 0
    score_scale = (q.positive_step.double() * k.positive_step.double() * scaling).float()
    scores, scale = (dot, score_scale) if bias is None else (dot * score_scale + bias, 1.0)
    largest = scores.masked_fill(~attended, -math.inf).amax(-1, keepdim=True)
    weights = fixed_exp(((scores - largest) * scale).clamp(max=0)) * attended
    # Padding far from all tokens attends to nothing; the sum of others is at least 32768.
    ratio = p.inverse_step / weights.sum(-1, keepdim=True).clamp(min=1)
    codes = (weights * ratio).clamp(p.low, p.high).round()
    context = (codes @ value) * (p.positive_step.double() * v.positive_step.double()).float()
    return context.transpose(1, 2).contiguous(), None
