# SPDX-License-Identifier: Apache-2.0
"""PackedEnsemble -> one torch model per member, with latent weights that binarize to its bits and scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.bits import unpack_bits
from bebert_edge.ensemble import PackedEnsemble

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification


def latent_rows(bits: NDArray[np.uint8], scale: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Rows with mean 0, the given signs, and the scale as mean magnitude; rows must hold both signs."""
    positive = unpack_bits(bits, channels)
    share = positive.mean(-1, keepdims=True)
    assert ((share > 0) & (share < 1)).all()
    return np.where(positive, 0.5 / share, -0.5 / (1 - share)).astype(np.float32) * scale[..., None]


def torch_twins(ensemble: PackedEnsemble) -> list[BertForSequenceClassification]:
    """Every member as transformers and `bebert_edge.training` compute it, in evaluation mode."""
    from transformers import BertConfig, BertForSequenceClassification

    from bebert_edge.training import binarize

    shape = ensemble.config.encoder
    bits = {"sign": 1, "int2": 2, "int4": 4, "int8": 8}[ensemble.config.quantization.pooler]
    config = BertConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.positions,
        type_vocab_size=shape.token_types,
        layer_norm_eps=shape.layer_norm_epsilon,
        num_labels=len(ensemble.config.labels),
    )
    twins = []
    for member in range(ensemble.config.members):
        twin = binarize(BertForSequenceClassification(config), bits)
        twin.load_state_dict(_state(ensemble, member, twin.state_dict()))
        twins.append(twin.eval())
    return twins


def _state(ensemble: PackedEnsemble, member: int, expected: dict[str, Any]) -> dict[str, Any]:
    import torch

    hidden = ensemble.config.encoder.hidden_size

    def get(name: str) -> NDArray[Any]:
        stacked = ensemble.tensors[name]
        return stacked[member if len(stacked) > 1 else 0]

    state: dict[str, NDArray[Any]] = {}

    def linear(source: str, target: str) -> None:
        shift = get(f"{source}.shift")
        state[f"{target}.weight"] = latent_rows(get(f"{source}.bits"), get(f"{source}.scale"), len(shift))
        state[f"{target}.bias"] = get(f"{source}.bias")
        state[f"{target}.quantizer.shift"], state[f"{target}.quantizer.step"] = shift, get(f"{source}.step")

    def norm(source: str, target: str) -> None:
        for name in ("weight", "bias"):
            state[f"{target}.{name}"] = get(f"{source}.{name}")

    embeddings = "bert.embeddings"
    word = latent_rows(get("embeddings.word.bits"), get("embeddings.word.scale"), hidden)
    state[f"{embeddings}.word_embeddings.weight"] = word
    for table in ("position", "token_type"):
        state[f"{embeddings}.{table}_embeddings.weight"] = get(f"embeddings.{table}")
    norm("embeddings.norm", f"{embeddings}.LayerNorm")
    for i in range(ensemble.config.encoder.layers):
        source, target = f"layers.{i}", f"bert.encoder.layer.{i}"
        attention = f"{target}.attention.self"
        qkv = latent_rows(get(f"{source}.qkv.bits"), get(f"{source}.qkv.scale"), hidden)
        for n, use in enumerate(("query", "key", "value")):
            rows = slice(n * hidden, (n + 1) * hidden)
            state[f"{attention}.{use}.weight"] = qkv[rows]
            state[f"{attention}.{use}.bias"] = get(f"{source}.qkv.bias")[rows]
        state[f"{attention}.input_quantizer.shift"] = get(f"{source}.qkv.shift")
        state[f"{attention}.input_quantizer.step"] = get(f"{source}.qkv.step")
        for use in ("query", "key", "value", "probability"):
            state[f"{attention}.{use}_quantizer.step"] = get(f"{source}.attention.{use}_step")[0]
        linear(f"{source}.attention_output", f"{target}.attention.output.dense")
        norm(f"{source}.attention_norm", f"{target}.attention.output.LayerNorm")
        linear(f"{source}.ffn_in", f"{target}.intermediate.dense")
        linear(f"{source}.ffn_out", f"{target}.output.dense")
        norm(f"{source}.ffn_norm", f"{target}.output.LayerNorm")
    linear("pooler", "bert.pooler.dense")
    for name in ("weight", "bias"):
        state[f"classifier.{name}"] = get(f"classifier.{name}")

    tensors = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
    # What is no parameter (position ids) is as it was made.
    return {**{name: value for name, value in expected.items() if name not in tensors}, **tensors}
