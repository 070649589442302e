# SPDX-License-Identifier: Apache-2.0
"""BiT (Liu et al. 2022, "BiT: Robustly Binarized Multi-distilled Transformer", arXiv 2205.13016) by its equations.

Files as github.com/facebookresearch/bit at 4f2feb1 writes them, with random weights, and the forward pass in float64.
A product of codes and signs is an exact sum of integers before any step or scale multiplies it, so that what should be
0 is 0: this is the exact reading of a checkpoint, which float sums of scaled products reach but for their noise.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LAYER_NORM_EPSILON = 1e-12
LEAST_STEP = float(torch.tensor(1e-5, dtype=torch.float32))
UNTRAINED_STEP = 1.0
"""A step of exactly 1 counts as never set: the first batch sets it."""

State = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """Shape and the part of `config.json` that decides what is computed; field names are those of the file."""

    vocab_size: int
    hidden_size: int = 32
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    intermediate_size: int = 48
    max_position_embeddings: int = 24
    type_vocab_size: int = 2
    num_labels: int = 2
    hidden_act: str = "relu"
    input_bits: int = 1
    weight_bits: int = 1
    weight_quant_method: str = "bwn"
    input_quant_method: str = "elastic"
    sym_quant_qkvo: bool = True
    sym_quant_ffn_attn: bool = False
    embed_layerwise: bool = False
    weight_layerwise: bool = True
    input_layerwise: bool = True
    not_quantize_attention: bool = False
    learnable_scaling: bool = True
    clip_init_val: float = 2.5
    model_type: str = "bert"

    def linears(self) -> dict[str, tuple[int, int]]:
        """Name of every quantized linear and its `(outputs, inputs)`."""
        h, f = self.hidden_size, self.intermediate_size
        shapes = {}
        for i in range(self.num_hidden_layers):
            layer = f"bert.encoder.layer.{i}"
            shapes |= {f"{layer}.attention.self.{use}": (h, h) for use in ("query", "key", "value")}
            shapes[f"{layer}.attention.output.dense"] = (h, h)
            shapes[f"{layer}.intermediate.dense"] = (f, h)
            shapes[f"{layer}.output.dense"] = (h, f)
        return shapes | {"bert.pooler.dense": (h, h)}

    def norms(self) -> list[str]:
        """Name of every LayerNorm."""
        layers = [f"bert.encoder.layer.{i}" for i in range(self.num_hidden_layers)]
        return ["bert.embeddings", *(f"{layer}.{part}" for layer in layers for part in ("attention.output", "output"))]


def random_state(settings: Settings, seed: int = 0) -> State:
    """A state dict under the published names, dead tensors included; every step is still `UNTRAINED_STEP`."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, mean: float = 0.0, std: float = 0.1) -> Tensor:
        return torch.randn(shape, generator=generator) * std + mean

    h = settings.hidden_size
    state = {
        "bert.embeddings.word_embeddings.weight": normal(settings.vocab_size, h, mean=0.02),
        "bert.embeddings.position_embeddings.weight": normal(settings.max_position_embeddings, h),
        "bert.embeddings.token_type_embeddings.weight": normal(settings.type_vocab_size, h),
        "classifier.weight": normal(settings.num_labels, h, std=0.5),
        "classifier.bias": normal(settings.num_labels),
    }
    for name in settings.norms():
        state[f"{name}.LayerNorm.weight"] = normal(h, mean=1.0)
        state[f"{name}.LayerNorm.bias"] = normal(h)
    for name, (outputs, inputs) in settings.linears().items():
        state[f"{name}.weight"] = normal(outputs, inputs, mean=0.01, std=1 / math.sqrt(inputs))
        state[f"{name}.bias"] = normal(outputs)
        state[f"{name}.move.bias"] = normal(inputs)
        state[f"{name}.input_clip_val"] = torch.tensor(UNTRAINED_STEP)
    for i in range(settings.num_hidden_layers):
        attention = f"bert.encoder.layer.{i}.attention.self"
        for use in ("query", "key", "value", "attn"):
            state[f"{attention}.clip_{use}"] = torch.tensor(UNTRAINED_STEP)
        for use in ("q", "k", "v"):
            state[f"{attention}.move_{use}.bias"] = normal(h)
    return state


def write(directory: Path, settings: Settings, state: State, vocabulary: list[str]) -> Path:
    """Writes `pytorch_model.bin` and `config.json`, and the `vocab.txt` that belongs beside them."""
    directory.mkdir(parents=True)
    torch.save(state, directory / "pytorch_model.bin")
    (directory / "config.json").write_text(json.dumps(asdict(settings), indent=2, sort_keys=True))
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return directory


@dataclass(frozen=True)
class Quantized:
    """`codes * step + offset`: integers, and what they stand for."""

    codes: Tensor
    step: Tensor
    offset: Tensor | float = 0.0


def binarize(weight: Tensor, per_row: bool) -> tuple[Tensor, Tensor]:
    """Signs around the mean of all weights, sign(0) = 0, and the mean magnitude of all weights or of each row."""
    scale = weight.abs().mean(-1) if per_row else weight.abs().mean().expand(len(weight))
    return (weight - weight.mean()).sign(), scale


class Bit:
    """A BertForSequenceClassification of BiT, in float64.

    Attributes:
        zeros: How many times the sign of an exact 0 was taken, by name of the step.
        nearest: Distance of `x / step` from the threshold it came nearest to, by name of the step; exact ties at which
            the description leaves no choice (sign(0) = 0, halves to even) do not count.
    """

    def __init__(self, settings: Settings, state: State, *, static_minimum: bool = False) -> None:
        """`static_minimum`: the least value that an unsigned input can take, instead of the least of the batch."""
        self.settings = settings
        self.raw = state
        self.state = {name: tensor.double() for name, tensor in state.items()}
        self.static_minimum = static_minimum
        self.zeros: Counter[str] = Counter()
        self.nearest: dict[str, float] = {}
        self._setting_steps = False

    def set_steps(self, **batch: Tensor) -> None:
        """Sets steps that are `UNTRAINED_STEP` by a first batch, in the state dict too."""
        self._setting_steps = True
        self(**batch)
        self._setting_steps = False

    def _step(self, name: str, x: Tensor, levels: int, factor: float) -> Tensor:
        if self._setting_steps and self.state[name] == UNTRAINED_STEP:
            self.raw[name] = (factor * x.abs().mean() / math.sqrt(levels)).float()
            self.state[name] = self.raw[name].double()
        return self.state[name].clamp(min=LEAST_STEP)

    def _note(self, name: str, distance: Tensor) -> None:
        distance = distance[distance > 0]
        if distance.numel():
            self.nearest[name] = min(float(distance.min()), self.nearest.get(name, math.inf))

    def signed(self, name: str, x: Tensor) -> Quantized:
        bits = self.settings.input_bits
        high = 1 if bits == 1 else 2 ** (bits - 1) - 1
        step = self._step(name, x, high, 2)
        if bits == 1:
            self.zeros[name] += int((x == 0).sum())
            self._note(name, x.abs())
            return Quantized(x.sign(), step)
        self._note(name, (x / step - (torch.floor(x / step) + 0.5)).abs())
        return Quantized((x / step).round().clamp(-high - 1, high), step)

    def unsigned(self, name: str, x: Tensor, least: float) -> Quantized:
        """`least`: the least value that `x` can take."""
        high = 2**self.settings.input_bits - 1
        step = self._step(name, x, high, 4)
        offset = 0.0 if high == 1 else (least if self.static_minimum else x.min())
        z = (x - offset) / step
        self._note(name, (z - (torch.floor(z) + 0.5)).abs())
        return Quantized(z.round().clamp(0, high), step, offset)

    def linear(self, name: str, x: Tensor, *, unsigned: bool = False, least: float = 0.0) -> Tensor:
        """`least`: the least value of the unsigned input before its shift."""
        shift, step = self.state[f"{name}.move.bias"], f"{name}.input_clip_val"
        quantized = (
            self.unsigned(step, x + shift, least + float(shift.min())) if unsigned else self.signed(step, x + shift)
        )
        signs, scale = binarize(self.state[f"{name}.weight"], not self.settings.weight_layerwise)
        product = quantized.codes @ signs.T * (quantized.step * scale) + quantized.offset * scale * signs.sum(-1)
        return product + self.state[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        normalized = centred / (centred.square().mean(-1, keepdim=True) + LAYER_NORM_EPSILON).sqrt()
        return self.state[f"{name}.LayerNorm.weight"] * normalized + self.state[f"{name}.LayerNorm.bias"]

    def attention(self, name: str, hidden: Tensor, mask: Tensor) -> Tensor:
        heads = self.settings.num_attention_heads
        batch, tokens, width = hidden.shape

        def quantized(use: str) -> Quantized:
            projected = self.linear(f"{name}.{use}", hidden).view(batch, tokens, heads, width // heads)
            return self.signed(f"{name}.clip_{use}", projected.transpose(1, 2))

        query, key, value = (quantized(use) for use in ("query", "key", "value"))
        dots = query.codes @ key.codes.transpose(2, 3)
        scores = dots * (query.step * key.step) / math.sqrt(width // heads) + mask
        p = self.unsigned(f"{name}.clip_attn", scores.softmax(-1), 0.0)
        context = p.codes @ value.codes * (p.step * value.step)
        context = context + p.offset * value.step * value.codes.sum(-2, keepdim=True)
        return context.transpose(1, 2).reshape(batch, tokens, width)

    def layer(self, name: str, hidden: Tensor, mask: Tensor) -> Tensor:
        context = self.attention(f"{name}.attention.self", hidden, mask)
        hidden = self.norm(f"{name}.attention.output", self.linear(f"{name}.attention.output.dense", context) + hidden)
        intermediate = self.linear(f"{name}.intermediate.dense", hidden)
        if self.settings.hidden_act == "relu":
            intermediate, least = intermediate.relu(), 0.0
        else:
            intermediate, least = torch.nn.functional.gelu(intermediate), LEAST_GELU
        output = self.linear(f"{name}.output.dense", intermediate, unsigned=True, least=least)
        return self.norm(f"{name}.output", output + hidden)

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Logits `[batch, labels]` of ids `[batch, tokens]`."""
        tables = "bert.embeddings"
        signs, scale = binarize(self.state[f"{tables}.word_embeddings.weight"], not self.settings.embed_layerwise)
        hidden = (signs * scale[:, None])[input_ids]
        hidden = hidden + self.state[f"{tables}.position_embeddings.weight"][: input_ids.shape[1]]
        hidden = hidden + self.state[f"{tables}.token_type_embeddings.weight"][token_type_ids]
        hidden = self.norm(tables, hidden)
        mask = (1 - attention_mask.double())[:, None, None] * -10000
        for i in range(self.settings.num_hidden_layers):
            hidden = self.layer(f"bert.encoder.layer.{i}", hidden, mask)
        pooled = self.linear("bert.pooler.dense", hidden[:, 0]).tanh()
        return pooled @ self.state["classifier.weight"].T + self.state["classifier.bias"]


def _least_gelu() -> float:
    """The minimum of `x * Phi(x)`, where `Phi(x) + x * phi(x) = 0`, by bisection."""
    low, high = -1.0, -0.5
    for _ in range(60):
        x = (low + high) / 2
        slope = 0.5 * math.erfc(-x / math.sqrt(2)) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        low, high = (x, high) if slope < 0 else (low, x)
    return x * 0.5 * math.erfc(-x / math.sqrt(2))


LEAST_GELU = _least_gelu()


def arguments(batch: dict[str, Any]) -> dict[str, Tensor]:
    """Arrays of a batch as the oracle takes them."""
    return {name: torch.as_tensor(array) for name, array in batch.items()}
