# SPDX-License-Identifier: Apache-2.0
"""The family `bibert`: BiBERT (weights, embeddings and activations of 1 bit), and BEBERT's members on it.

Source: Qin et al., "BiBERT: Accurate Fully Binarized BERT", ICLR 2022, and https://github.com/htqin/BiBERT
(`transformer/modeling_quant.py`, `transformer/utils_quant.py` at ef0a985). docs/checkpoints.md says what it computes.

Every input of a product is `sign(x)`, and `sign(0)` is 0; likewise a weight at its row's mean is 0 (`zeros`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bebert_edge.checkpoints.member import Member
from bebert_edge.checkpoints.parts import Tensors, classifier, norm, tables
from bebert_edge.checkpoints.source import Floats, Reader, Source
from bebert_edge.checkpoints.zeros import Use, two_terms, unify, with_zeros
from bebert_edge.config import EncoderConfig, LayerQuantization, QuantizationConfig
from bebert_edge.errors import CheckpointError

__all__ = ["NAME", "detect", "read", "unify"]

NAME = "bibert"

_FIRST = "bert.encoder.layer.0.attention"
_MARKS = (f"{_FIRST}.self.query.scale", f"{_FIRST}.output.gate")
"""Parameters that BiBERT alone has. They do nothing."""

_DEAD = (
    r".*\.(weight|act)_clip_val",
    r".*\.clip_(query|key|value|attn)",
    r".*\.(query|key|value|dense)\.scale",
    r".*\.output\.gate",
)
"""Names of parameters and buffers that no forward pass reads."""

_QKV = ("query", "key", "value")


def detect(config: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether a checkpoint with this `config.json` and these tensors is of this family."""
    return all(mark in names for mark in _MARKS)


def read(source: Source) -> Member:
    """Reads one member.

    Raises:
        CheckpointError: The checkpoint is damaged, incomplete, or not of 1 bit everywhere.
    """
    for key in ("weight_bits", "input_bits"):
        if source.config.get(key, 1) != 1:
            raise CheckpointError(
                f"{source.config_path}: {key} is {source.config[key]!r}, expected 1: "
                "BiBERT's code is read at 1-1-1 only; train the model with --weight_bits 1 --input_bits 1"
            )
    reader = Reader(source)
    reader.ignore(*_DEAD)
    positions = source.integer("max_position_embeddings")
    rows = reader.rows("classifier.weight")
    task, labels = source.task_and_labels(rows)
    shape = source.encoder(
        positions=source.length(positions),
        token_types=source.integer("type_vocab_size", 2),
        layer_norm_epsilon=source.number("layer_norm_eps", 1e-12),
        activation="gelu",  # whatever hidden_act says: the published code calls gelu by name
    )
    tensors = dict(_tensors(reader, shape, positions, rows))
    reader.finish()
    codes = LayerQuantization(
        hidden="sign",
        attention="sign",
        probability="bool",
        context="sign",
        ffn="sign",
        intermediate="sign",
        scores="boolean",
    )
    quantization = QuantizationConfig((codes,) * shape.layers, pooler="sign")
    member = Member(shape, quantization, task, labels, shape.positions, tensors, source.tokenizer)
    return with_zeros(member, list(_uses_with_zeros(member)))


def _tensors(read: Reader, shape: EncoderConfig, trained_positions: int, labels: int) -> Tensors:
    """Everything as `sign` codes and in two terms."""
    h, f = shape.hidden_size, shape.intermediate_size
    yield from _binary("embeddings.word", read("bert.embeddings.word_embeddings.weight", shape.vocab_size, h))
    yield from tables(read, shape, trained_positions)
    for i in range(shape.layers):
        target, source = f"layers.{i}", f"bert.encoder.layer.{i}"
        yield from _linear(read, f"{target}.qkv", [f"{source}.attention.self.{use}" for use in _QKV], h, h)
        for use in (*_QKV, "probability"):
            yield f"{target}.attention.{use}_step", np.ones(shape.heads, np.float32)
        yield from _linear(read, f"{target}.attention_output", [f"{source}.attention.output.dense"], h, h)
        yield from norm(read, f"{target}.attention_norm", f"{source}.attention.output.LayerNorm", h)
        yield from _linear(read, f"{target}.ffn_in", [f"{source}.intermediate.dense"], h, f)
        yield from _linear(read, f"{target}.ffn_out", [f"{source}.output.dense"], f, h)
        yield from norm(read, f"{target}.ffn_norm", f"{source}.output.LayerNorm", h)
    yield from _linear(read, "pooler", ["bert.pooler.dense"], h, h)
    yield from classifier(read, labels, h)


def _linear(read: Reader, target: str, sources: Sequence[str], k: int, n: int) -> Tensors:
    """One linear, of the rows of all `sources`."""
    yield f"{target}.shift", np.zeros(k, np.float32)
    yield f"{target}.step", np.ones((), np.float32)
    yield from _binary(target, np.concatenate([read(f"{source}.weight", n, k) for source in sources]))
    yield f"{target}.bias", np.concatenate([read(f"{source}.bias", n) for source in sources])


def _binary(target: str, latent: Floats) -> Tensors:
    """Signs of the rows less their means; the scale is that of the rows as they are.

    Means are taken in float64: a float32 one is wrong in its last bits, by an amount that depends on the machine, and
    would make one weight among 10^9 a 0 by accident.
    """
    mean = latent.mean(-1, keepdims=True, dtype=np.float64)
    signs = (latent > mean).astype(np.int8) - (latent < mean).astype(np.int8)
    yield from two_terms(target, signs, np.abs(latent).mean(-1, dtype=np.float64).astype(np.float32))


def _uses_with_zeros(member: Member) -> Iterator[Use]:
    """The codes that can be of a 0."""
    tensors, layers = member.tensors, member.encoder.layers

    def norm_has_zeros(name: str) -> bool:
        # With a bias, 0 takes a coincidence of roundings. Without, a channel at the mean is enough.
        return bool((tensors[f"{name}.bias"] == 0).any())

    for i in range(layers + 1):
        hidden = norm_has_zeros("embeddings.norm" if i == 0 else f"layers.{i - 1}.ffn_norm")
        if hidden:
            yield i, "hidden"
        if i == layers:
            break
        if _product_has_zeros(member, f"layers.{i}.qkv", zero_codes=hidden):
            yield i, "attention"
        yield i, "context"  # a sum of signs, or of none
        if norm_has_zeros(f"layers.{i}.attention_norm"):
            yield i, "ffn"
        yield i, "intermediate"  # gelu is 0 from about -5.55 down


def _product_has_zeros(member: Member, linear: str, zero_codes: bool) -> bool:
    """Whether a sum, times its scale, plus its bias can be 0. Sums of `K` signs are even, or odd, as `K` is."""
    tensors = member.tensors
    k = tensors[f"{linear}.shift"].shape[-1]
    zero_weights = not np.array_equal(tensors[f"{linear}.bits"], tensors[f"{linear}.second.bits"])
    sums = np.arange(-k, k + 1, 1 if zero_codes or zero_weights else 2, dtype=np.float32)
    scale, bias = (tensors[f"{linear}.{part}"][:, None] for part in ("scale", "bias"))
    return bool((sums * scale + bias == 0).any())
