# SPDX-License-Identifier: Apache-2.0
"""BiBERT as its paper and its code define it, in torch and exact arithmetic, and checkpoints of random weights.

Sources: Qin et al., "BiBERT: Accurate Fully Binarized BERT", ICLR 2022; names, shapes and files as
https://github.com/htqin/BiBERT (`transformer/modeling_quant.py`, `utils_quant.py` at ef0a985) writes them. Members of
BEBERT on BiBERT have the same. Nothing here comes from the package that is tested.

A product is taken as `scale * (an exact integer)`, in float64: the published float32 products of `scale * sign` leave
rounding noise where the integer is 0, and the sign of that noise is nobody's intention.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
Config = dict[str, Any]


def config(**changes: Any) -> Config:
    """The `config.json` of a tiny model: 2 layers, hidden 32, 4 heads, intermediate 48."""
    return {
        "attention_probs_dropout_prob": 0.1,
        "clip_val": 2.5,
        "embedding_bits": 1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 32,
        "initializer_range": 0.02,
        "input_bits": 1,
        "intermediate_size": 48,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 24,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "quantize_act": True,
        "type_vocab_size": 2,
        "vocab_size": 100,
        "weight_bits": 1,
    } | changes


def random_state(shape: Config, labels: int = 2, seed: int = 0) -> State:
    """A state dict of random weights under the published names, those that no forward pass reads included."""
    generator = torch.Generator().manual_seed(seed)
    hidden, intermediate = shape["hidden_size"], shape["intermediate_size"]

    def normal(*size: int, mean: float = 0, deviation: float) -> Tensor:
        return mean + deviation * torch.randn(*size, generator=generator)

    def clip() -> Tensor:
        return torch.tensor([-shape["clip_val"], shape["clip_val"]])

    state: State = {}

    def linear(name: str, n: int, k: int) -> None:
        state[f"{name}.weight"] = normal(n, k, mean=0.02, deviation=0.3)
        state[f"{name}.bias"] = normal(n, deviation=0.5)
        state[f"{name}.scale"] = torch.tensor(0.0)
        state[f"{name}.weight_clip_val"] = clip()
        state[f"{name}.act_clip_val"] = clip()

    def norm(name: str) -> None:
        state[f"{name}.weight"] = normal(hidden, mean=1, deviation=0.1)
        state[f"{name}.bias"] = normal(hidden, deviation=0.1)

    embeddings = "bert.embeddings"
    state[f"{embeddings}.word_embeddings.weight"] = normal(shape["vocab_size"], hidden, mean=0.1, deviation=0.5)
    state[f"{embeddings}.word_embeddings.weight_clip_val"] = clip()
    for name, rows in (("position", shape["max_position_embeddings"]), ("token_type", shape["type_vocab_size"])):
        state[f"{embeddings}.{name}_embeddings.weight"] = normal(rows, hidden, deviation=0.3)
    norm(f"{embeddings}.LayerNorm")
    for i in range(shape["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        for use in ("query", "key", "value", "attn"):
            state[f"{layer}.attention.self.clip_{use}"] = clip()
        for use in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{use}", hidden, hidden)
        linear(f"{layer}.attention.output.dense", hidden, hidden)
        linear(f"{layer}.intermediate.dense", intermediate, hidden)
        linear(f"{layer}.output.dense", hidden, intermediate)
        for output in (f"{layer}.attention.output", f"{layer}.output"):
            state[f"{output}.gate"] = torch.tensor(1.0)
            norm(f"{output}.LayerNorm")
    linear("bert.pooler.dense", hidden, hidden)
    state["classifier.weight"] = normal(labels, hidden, deviation=0.3)
    state["classifier.bias"] = normal(labels, deviation=0.1)
    return state


def save_bibert(directory: Path, shape: Config, state: State, vocabulary: Sequence[str]) -> Path:
    """The output directory of BiBERT's training with `--save_fp_model`."""
    return _save(directory, shape, {"pytorch_model.bin": state}, vocabulary)


def save_bebert(directory: Path, shape: Config, states: Sequence[State], vocabulary: Sequence[str]) -> Path:
    """The output directory of BEBERT's: one file for each member."""
    return _save(directory, shape, {f"{i}.bin": state for i, state in enumerate(states)}, vocabulary)


def _save(directory: Path, shape: Config, files: dict[str, State], vocabulary: Sequence[str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, state in files.items():
        torch.save(state, directory / name)
    (directory / "config.json").write_text(json.dumps(shape, indent=2, sort_keys=True))
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return directory


def _scale_and_sign(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Scale `[N]`, from the row as it is, and signs `[N, K]`, from the row less its mean."""
    latent = weight.double()
    return latent.abs().mean(-1), torch.sign(latent - latent.mean(-1, keepdim=True))


def gelu(x: Tensor) -> Tensor:
    """The erf form, and 0 where its float32 error function is -1, so that the sign is 0 there.

    With torch's vectorised error function that is from -5.554655 down (rounded exactly it would be from -5.5426 down);
    from -5.5547 down every one is -1.
    """
    return torch.where(x <= -5.5547, 0, x * 0.5 * (1 + torch.erf(x / math.sqrt(2))))


class _Forward:
    def __init__(self, state: State, shape: Config) -> None:
        self.state = state
        self.shape = shape

    def linear(self, name: str, x: Tensor) -> Tensor:
        scale, sign = _scale_and_sign(self.state[f"{name}.weight"])
        return scale * (torch.sign(x) @ sign.T) + self.state[f"{name}.bias"].double()

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = (self.state[f"{name}.{part}"].double() for part in ("weight", "bias"))
        return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, self.shape["layer_norm_eps"])

    def embed(self, ids: Tensor, types: Tensor) -> Tensor:
        name = "bert.embeddings"
        scale, sign = _scale_and_sign(self.state[f"{name}.word_embeddings.weight"])
        position = self.state[f"{name}.position_embeddings.weight"].double()[: ids.shape[1]]
        token_type = self.state[f"{name}.token_type_embeddings.weight"].double()[types]
        return self.norm(f"{name}.LayerNorm", scale[ids, None] * sign[ids] + position + token_type)

    def attend(self, name: str, x: Tensor, additive_mask: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        heads = self.shape["num_attention_heads"]

        def signs(use: str) -> Tensor:  # [B, A, S, D]
            y = torch.sign(self.linear(f"{name}.self.{use}", x))
            return y.view(batch, length, heads, hidden // heads).transpose(1, 2)

        query, key, value = signs("query"), signs("key"), signs("value")
        scores = query @ key.transpose(2, 3) / math.sqrt(hidden // heads) + additive_mask
        context = (scores > 0).double() @ value
        return context.transpose(1, 2).reshape(batch, length, hidden)

    def layer(self, i: int, x: Tensor, additive_mask: Tensor) -> Tensor:
        name = f"bert.encoder.layer.{i}"
        context = self.attend(f"{name}.attention", x, additive_mask)
        attention = self.linear(f"{name}.attention.output.dense", context)
        x = self.norm(f"{name}.attention.output.LayerNorm", attention + x)
        intermediate = gelu(self.linear(f"{name}.intermediate.dense", x))
        return self.norm(f"{name}.output.LayerNorm", self.linear(f"{name}.output.dense", intermediate) + x)


def forward(state: State, shape: Config, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
    """Logits `[B, labels]`, float64, of `ids`, `mask` and `types`, int64 `[B, S]`."""
    model = _Forward(state, shape)
    x = model.embed(ids, types)
    additive_mask = (1 - mask.double())[:, None, None] * -10000
    for i in range(shape["num_hidden_layers"]):
        x = model.layer(i, x, additive_mask)
    pooled = torch.tanh(model.linear("bert.pooler.dense", x[:, 0]))
    return pooled @ state["classifier.weight"].double().T + state["classifier.bias"].double()
