# SPDX-License-Identifier: Apache-2.0
"""What a BinaryBERT checkpoint computes, in float64, and random checkpoints with the published names: the oracle.

Written from what the public code does (huawei-noah/Pretrained-Language-Model at 0598f02d7f, BinaryBERT/transformer/;
BEBERT's copy in TTTTTTris/BEBERT at 7595cb3e7a). It imports nothing of the package.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

State = dict[str, Tensor]
LAYER_NORM_EPSILON = 1e-12
SYMMETRIC = ("query", "key", "value")


def published_config(
    *,
    split: bool = True,
    vocab_size: int = 103,
    hidden_size: int = 32,
    layers: int = 2,
    heads: int = 4,
    attention_size: int = 32,
    intermediate_size: int = 48,
    positions: int = 32,
    labels: int = 2,
    **changed: object,
) -> dict[str, object]:
    """The `config.json` of a trained model: binary in two halves (1-1-4), or ternary; `changed` fields are replaced."""
    return {
        "attention_probs_dropout_prob": 0.1,
        "clip_init_val": 2.5,
        "dyna_hidden_size": attention_size,
        "embed_layerwise": False,
        "finetuning_task": "sst-2",
        "hidden_act": "relu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": hidden_size,
        "initializer_range": 0.02,
        "input_bits": 4,
        "input_layerwise": True,
        "input_quant_method": "lsq",
        "intermediate_size": intermediate_size,
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "learnable_scaling": True,
        "max_position_embeddings": positions,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_labels": labels,
        "sym_quant_ffn_attn": False,
        "sym_quant_qkvo": True,
        "type_vocab_size": 2,
        "vocab_size": vocab_size,
        "weight_bits": 1 if split else 2,
        "weight_layerwise": True,
        "weight_quant_method": "bwn" if split else "twn",
    } | changed


def random_state(config: dict[str, object], *, split: bool = True, equal_steps: bool = False, seed: int = 0) -> State:
    """A state dict with the published names, shapes and dtypes, whose codes take many different values.

    Args:
        split: Every quantized module exists twice, as `_1` and `_2`.
        equal_steps: Both halves of a module quantize their input with one step.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden, attention, f = config["hidden_size"], config["dyna_hidden_size"], config["intermediate_size"]
    uniform = config["input_quant_method"] == "uniform"
    state: State = {}

    def normal(*shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return mean + std * torch.randn(shape, generator=generator)

    def clip(center: float) -> Tensor:  # a step, or the two ends of the range
        step = center * (0.8 + 0.4 * torch.rand((2,) if uniform else (), generator=generator))
        return step * torch.tensor([-7, 7]) if uniform else step

    def halves(name: str) -> list[str]:
        return [f"{name}_1", f"{name}_2"] if split else [name]

    def linear(name: str, k: int, n: int, step: float) -> None:
        first = clip(step)
        for i, half in enumerate(halves(name)):
            state[f"{half}.weight"] = normal(n, k, std=1.5 / math.sqrt(k * len(halves(name))))
            state[f"{half}.bias"] = normal(n, std=0.2)
            state[f"{half}.input_clip_val"] = first.clone() if i == 0 or equal_steps else clip(step)

    def norm(name: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = normal(hidden, std=0.1, mean=1.0), normal(hidden, std=0.1)

    for half in halves("bert.embeddings.word_embeddings"):
        state[f"{half}.weight"] = normal(config["vocab_size"], hidden, std=0.5)
    state["bert.embeddings.position_embeddings.weight"] = normal(config["max_position_embeddings"], hidden, std=0.3)
    state["bert.embeddings.token_type_embeddings.weight"] = normal(config["type_vocab_size"], hidden, std=0.3)
    norm("bert.embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        for use in SYMMETRIC:
            linear(f"{layer}.attention.self.{use}", hidden, attention, 0.35)
        for use in SYMMETRIC:
            state[f"{layer}.attention.self.clip_{use}"] = clip(0.35)
        state[f"{layer}.attention.self.clip_attn"] = clip(0.03)
        linear(f"{layer}.attention.output.dense", attention, hidden, 0.2)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", hidden, f, 0.35)
        linear(f"{layer}.output.dense", f, hidden, 0.15)
        norm(f"{layer}.output.LayerNorm")
    linear("bert.pooler.dense", hidden, hidden, 0.35)
    state["classifier.weight"], state["classifier.bias"] = (
        normal(config["num_labels"], hidden),
        normal(2)[:1].repeat(config["num_labels"]),
    )
    return state


def binary(weight: Tensor, layerwise: bool) -> Tensor:
    """`bwn`: the signs, times the mean magnitude of the matrix or of each row. The sign of 0 is 0."""
    magnitude = weight.abs().mean() if layerwise else weight.abs().mean(1, keepdim=True)
    return magnitude * weight.sign()


def ternary(weight: Tensor, layerwise: bool) -> Tensor:
    """`twn`: what is within 0.7 of the mean magnitude becomes 0, the rest its sign times its own mean magnitude."""
    rows = weight.reshape(1, -1) if layerwise else weight
    kept = rows.abs() > 0.7 * rows.abs().mean(1, keepdim=True)
    magnitude = (rows.abs() * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
    return (magnitude * rows.sign() * kept).reshape(weight.shape)


def split_ternary(state: State) -> State:
    """Ternary weight splitting: two halves whose binary weights sum to the ternary ones.

    Biases are halved and clip values copied; all of them come out as float64, and weights as float32.
    """
    result: State = {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        kept = "LayerNorm" in name or "position_embeddings" in name or "token_type" in name or "classifier" in name
        if kept:
            result[name] = value
        elif leaf.startswith("clip_"):
            result[name] = value.double()
        elif leaf == "weight":
            for i, half in enumerate(_split_weight(value.double(), "embeddings" not in name), start=1):
                result[f"{module}_{i}.weight"] = half.float()
        else:
            for i in (1, 2):
                result[f"{module}_{i}.{leaf}"] = value.double() / (2 if leaf == "bias" else 1)
    return result


def _split_weight(weight: Tensor, layerwise: bool) -> tuple[Tensor, Tensor]:
    """A share `a` and the rest of a weight that stays; `b` more or less of one that becomes 0 (Bai et al., 2021)."""
    rows = weight.reshape(1, -1) if layerwise else weight
    codes = ternary(rows, False)
    alpha, kept, positive = codes.abs().amax(1, keepdim=True), codes != 0, rows > 0
    sums = [(rows.abs() * part).sum(1, keepdim=True) for part in (kept, ~kept & positive, ~kept & ~positive)]
    a = (sums[0] - sums[1] + sums[2]) / (2 * sums[0])
    b = (alpha * rows.shape[1] - sum(sums)) / (2 * (~kept).sum(1, keepdim=True))
    # Of the weights that become 0, the positive ones lie in the first half and the others in the second.
    first = torch.where(kept, a * rows, torch.where(positive, rows + b, b))
    second = torch.where(kept, (1 - a) * rows, torch.where(rows < 0, rows - b, -b))
    return first.reshape(weight.shape), second.reshape(weight.shape)


class BinaryBert:
    """The model of one checkpoint. `deployed` chooses the minimum of asymmetric LSQ quantizers: that of the batch,
    as published, or else the least value that the activation before can have. Uniform ones take range and minimum of
    the whole batch.
    """

    def __init__(self, config: dict[str, object], state: State, *, deployed: bool = False) -> None:
        self.config, self.deployed = config, deployed
        self.state = {name: tensor.double() for name, tensor in state.items()}
        self.uniform = config["input_quant_method"] == "uniform"
        self.split = any(name.endswith("_1.weight") for name in state)
        # The split start keeps the configuration of the ternary model; the model that it starts is binary.
        self.weights = binary if self.split or config["weight_quant_method"] == "bwn" else ternary

    def halves(self, name: str) -> list[str]:
        return [f"{name}_1", f"{name}_2"] if self.split else [name]

    def symmetric(self, x: Tensor, step: Tensor) -> Tensor:
        if self.uniform:  # `step` holds the two ends of the range
            x = x.clamp(step[0], step[1])
            scale = (2 ** (self.config["input_bits"] - 1) - 1) / x.abs().max()
            return (x * scale).round() / scale
        levels = 2 ** (self.config["input_bits"] - 1)
        return (x / step).round().clamp(-levels, levels - 1) * step

    def asymmetric(self, x: Tensor, step: Tensor, least: float) -> Tensor:
        if self.uniform:
            x, levels = x.clamp(step[0], step[1]), 2 ** self.config["input_bits"] - 1
            span, minimum = x.max() - x.min() + 1e-8, x.min()
            return ((x - minimum) / span * levels).round() / levels * span + minimum
        minimum = least if self.deployed else x.min()
        return ((x - minimum) / step).round().clamp(0, 2 ** self.config["input_bits"] - 1) * step + minimum

    def linear(self, name: str, x: Tensor, least: float | None = None) -> Tensor:
        """The sum of the halves. Its input is quantized symmetrically, or asymmetrically if it has a least value."""
        total = torch.zeros((), dtype=torch.float64)
        for half in self.halves(name):
            weight = self.weights(self.state[f"{half}.weight"], bool(self.config["weight_layerwise"]))
            step = self.state[f"{half}.input_clip_val"]
            codes = self.symmetric(x, step) if least is None else self.asymmetric(x, step, least)
            total = total + codes @ weight.T + self.state[f"{half}.bias"]
        return total

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + LAYER_NORM_EPSILON)
        return self.state[f"{name}.weight"] * scaled + self.state[f"{name}.bias"]

    def attention(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        heads, leasts = self.config["num_attention_heads"], None if self.config["sym_quant_ffn_attn"] else 0.0

        def split_heads(use: str) -> Tensor:  # [batch, heads, sequence, head size]
            y = self.symmetric(self.linear(f"{name}.{use}", x), self.state[f"{name}.clip_{use}"])
            return y.unflatten(-1, (heads, -1)).transpose(1, 2)

        query, key, value = (split_heads(use) for use in SYMMETRIC)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        probabilities = torch.softmax(scores + (1 - mask[:, None, None]) * -10000, -1)
        step = self.state[f"{name}.clip_attn"]
        if leasts is None:
            probabilities = self.symmetric(probabilities, step)
        else:
            probabilities = self.asymmetric(probabilities, step, leasts)
        return (probabilities @ value).transpose(1, 2).flatten(2)

    def activate(self, x: Tensor) -> tuple[Tensor, float]:
        """The activation and its least value; that of GELU lies at x = -0.7518."""
        if self.config["hidden_act"] == "relu":
            return torch.relu(x), 0.0
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), -0.16997120747990369

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Logits [batch, labels], float64, of int64 [batch, sequence]."""
        state, embeddings = self.state, "bert.embeddings"
        table = torch.zeros((), dtype=torch.float64)
        for half in self.halves(f"{embeddings}.word_embeddings"):
            table = table + self.weights(state[f"{half}.weight"], bool(self.config["embed_layerwise"]))
        x = table[input_ids] + state[f"{embeddings}.token_type_embeddings.weight"][token_type_ids]
        x = x + state[f"{embeddings}.position_embeddings.weight"][: input_ids.shape[1]]
        x = self.norm(f"{embeddings}.LayerNorm", x)
        for i in range(self.config["num_hidden_layers"]):
            layer = f"bert.encoder.layer.{i}"
            context = self.attention(f"{layer}.attention.self", x, attention_mask.double())
            projected = self.linear(f"{layer}.attention.output.dense", context)
            x = self.norm(f"{layer}.attention.output.LayerNorm", projected + x)
            inner, least = self.activate(self.linear(f"{layer}.intermediate.dense", x))
            symmetric = bool(self.config["sym_quant_ffn_attn"])
            projected = self.linear(f"{layer}.output.dense", inner, None if symmetric else least)
            x = self.norm(f"{layer}.output.LayerNorm", projected + x)
        pooled = torch.tanh(self.linear("bert.pooler.dense", x[:, 0]))
        return pooled @ state["classifier.weight"].T + state["classifier.bias"]
