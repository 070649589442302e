# SPDX-License-Identifier: Apache-2.0
"""The family `bit`: BiT, with activations of 1, 2, 4 or 8 bits.

Source: Liu et al., "BiT: Robustly Binarized Multi-distilled Transformer", NeurIPS 2022, and
https://github.com/facebookresearch/bit (`transformer/modeling_bert_quant.py`, `transformer/utils_quant.py` at 4f2feb1).
docs/checkpoints.md says what it computes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.checkpoints.binarybert import LEAST_VALUES
from bebert_edge.checkpoints.member import Member
from bebert_edge.checkpoints.parts import Tensors, classifier, norm, tables
from bebert_edge.checkpoints.source import Floats, Reader, Source
from bebert_edge.checkpoints.zeros import Use, two_terms, unify, with_zeros
from bebert_edge.config import EncoderConfig, LayerQuantization, QuantizationConfig
from bebert_edge.errors import CheckpointError

__all__ = ["NAME", "detect", "read", "unify"]

NAME = "bit"

LEAST_STEP = np.float32(1e-5)
"""Steps are learned freely and used no smaller than this."""
UNSET_STEP = np.float32(1)
"""What BiT's code takes for a step that no batch has set yet."""
_MARK = "bert.encoder.layer.0.attention.self.query.move.bias"
"""The shift before a quantizer, which BiT alone has under this name."""

_ALLOWED: dict[str, tuple[object, ...]] = {
    "input_bits": (1, 2, 4, 8),
    "hidden_act": tuple(LEAST_VALUES),
    "weight_bits": (1,),
    "weight_quant_method": ("bwn",),
    "input_quant_method": ("elastic",),
    "input_layerwise": (True,),
    "sym_quant_qkvo": (True,),
    "sym_quant_ffn_attn": (False,),
    "not_quantize_attention": (False,),
}
"""Values for which this file computes what the checkpoint computes; the published scripts write no others but bits."""

_QKV = ("query", "key", "value")


def detect(config: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether a checkpoint with this `config.json` and these tensors is of this family."""
    return _MARK in names


def read(source: Source) -> Member:
    """Reads one member.

    Raises:
        CheckpointError: The checkpoint is damaged or incomplete, or its configuration asks for something else than
            binary weights and elastic quantization of 1, 2, 4 or 8 bits.
    """
    bits = _bits(source)
    read = Reader(source)
    read.ignore(r".*\.attention\.self\.move_[qkv]\.bias")  # the published forward pass drops what they make
    positions = source.integer("max_position_embeddings")
    logits = read.rows("classifier.weight")
    task, labels = source.task_and_labels(logits)
    shape = source.encoder(
        positions=source.length(positions),
        layer_norm_epsilon=1e-12,  # whatever layer_norm_eps says: the published code has the number
        activation=source.config["hidden_act"],
    )
    checkpoint = _Checkpoint(read, shape, bits, source.config)
    tensors = dict(checkpoint.tensors(positions, logits))
    read.finish()
    layer = LayerQuantization.for_bits(bits)
    quantization = QuantizationConfig((layer,) * shape.layers, pooler=layer.hidden, fused_qkv=False)
    notes = _notes(checkpoint.unset_steps, bits)
    member = Member(shape, quantization, task, labels, shape.positions, tensors, source.tokenizer, notes)
    return with_zeros(member, _uses_with_zeros(member) if bits == 1 else ())


def _bits(source: Source) -> int:
    """Bits of the activations, if the configuration is one that this file knows."""
    for key, values in _ALLOWED.items():
        found = source.config.get(key)
        if found not in values:
            raise CheckpointError(
                f"{source.config_path}: {key} is {found!r}, expected {' or '.join(map(repr, values))}: BiT checkpoints "
                "are read as the published scripts write them; see 'BiT' in docs/checkpoints.md"
            )
    return int(source.config["input_bits"])


def _notes(unset_steps: Sequence[str], bits: int) -> tuple[str, ...]:
    notes = []
    if bits > 1:
        notes.append(
            "BiT's own code takes the least input of each unsigned quantizer from the whole batch; packed, it is the "
            "least value that can occur: 0 for attention probabilities, and the activation's minimum plus the least "
            "shift for the second feed-forward product"
        )
    if unset_steps:
        notes.append(
            f"{len(unset_steps)} {'step is' if len(unset_steps) == 1 else 'steps are'} exactly 1, the first "
            f"{unset_steps[0]}: BiT's own code would set them by the first batch; packed, they are 1"
        )
    return tuple(notes)


class _Checkpoint:
    """Makes packed tensors of a state dict: for the moment, every weight in two terms and every code a sign."""

    def __init__(self, read: Reader, shape: EncoderConfig, bits: int, config: Mapping[str, Any]) -> None:
        self.read = read
        self.shape = shape
        self.bits = bits
        self.weight_per_row = not config.get("weight_layerwise", True)
        self.embedding_per_row = not config.get("embed_layerwise", False)
        self.unset_steps: list[str] = []

    def tensors(self, trained_positions: int, logits: int) -> Tensors:
        read, h = self.read, self.shape.hidden_size
        words = read("bert.embeddings.word_embeddings.weight", self.shape.vocab_size, h)
        yield from two_terms("embeddings.word", *_signs_and_scale(words, self.embedding_per_row))
        yield from tables(read, self.shape, trained_positions)
        for i in range(self.shape.layers):
            yield from self.layer(f"layers.{i}", f"bert.encoder.layer.{i}")
        yield from self.linear("pooler", "bert.pooler.dense", h, h)
        yield from classifier(read, logits, h)

    def layer(self, target: str, source: str) -> Tensors:
        h, f = self.shape.hidden_size, self.shape.intermediate_size
        attention = f"{source}.attention.self"
        for use in _QKV:
            yield from self.linear(f"{target}.{use}", f"{attention}.{use}", h, h)
        for use, name in zip((*_QKV, "probability"), (*_QKV, "attn"), strict=True):
            step = self.step(f"{attention}.clip_{name}")
            yield f"{target}.attention.{use}_step", np.full(self.shape.heads, step, np.float32)
        yield from self.linear(f"{target}.attention_output", f"{source}.attention.output.dense", h, h)
        yield from norm(self.read, f"{target}.attention_norm", f"{source}.attention.output.LayerNorm", h)
        yield from self.linear(f"{target}.ffn_in", f"{source}.intermediate.dense", h, f)
        least = LEAST_VALUES[self.shape.activation]
        yield from self.linear(f"{target}.ffn_out", f"{source}.output.dense", f, h, least if self.bits > 1 else None)
        yield from norm(self.read, f"{target}.ffn_norm", f"{source}.output.LayerNorm", h)

    def linear(self, target: str, source: str, k: int, n: int, least: float | None = None) -> Tensors:
        """One linear, `least` being the least value of its input if the quantizer counts from there.

        That is from the minimum `m` of input plus shift: `x` becomes `m + step * code(x - m)`. The shift then absorbs
        `-m`, and the bias what `m` adds to every product.
        """
        bias, shift = self.read(f"{source}.bias", n), self.read(f"{source}.move.bias", k)
        signs, scale = _signs_and_scale(self.read(f"{source}.weight", n, k), self.weight_per_row)
        if least is not None:
            minimum = least + float(shift.min())
            bias = (bias + minimum * scale * signs.sum(-1, dtype=np.int64)).astype(np.float32)
            shift = (shift - minimum).astype(np.float32)
        yield f"{target}.shift", shift
        yield f"{target}.step", self.step(f"{source}.input_clip_val")
        yield from two_terms(target, signs, scale)
        yield f"{target}.bias", bias

    def step(self, name: str) -> Floats:
        step = self.read.scalar(name)
        if step == UNSET_STEP:
            self.unset_steps.append(name)
        return np.asarray(max(step, LEAST_STEP))


def _signs_and_scale(latent: Floats, per_row: bool) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Signs of the weights less the mean of all, `[N, K]`, and the mean magnitude of all or of each row, `[N]`.

    Means are taken in float64: that of float32 is wrong in its last bits, by an amount that depends on the machine, and
    would make a weight among some millions 0 by accident.
    """
    mean = latent.mean(dtype=np.float64)
    signs = (latent > mean).view(np.int8) - (latent < mean).view(np.int8)
    scale = np.abs(latent).mean(-1 if per_row else None, dtype=np.float64)
    return signs, np.broadcast_to(scale, len(latent))


def _uses_with_zeros(member: Member) -> Iterator[Use]:
    """The signs that can be of an exact 0."""
    tensors, encoder = member.tensors, member.encoder

    def norm_meets_zero(norm: str, *linears: str) -> bool:
        # Elsewhere a 0 takes a coincidence of roundings. Here a channel at the mean, or a gain of 0, is enough.
        return any(bool((tensors[f"{norm}.bias"] + tensors[f"{linear}.shift"] == 0).any()) for linear in linears)

    def product_meets_zero(linear: str) -> bool:
        unit = np.float64(tensors[f"{linear}.step"]) * tensors[f"{linear}.scale"]
        return _meets_zero(unit, tensors[f"{linear}.bias"], encoder.hidden_size)

    def context_meets_zero(layer: str) -> bool:
        unit = np.prod([np.float64(tensors[f"{layer}.attention.{use}_step"][0]) for use in ("probability", "value")])
        shift = tensors[f"{layer}.attention_output.shift"]
        return _meets_zero(np.broadcast_to(unit, shift.shape), shift, member.max_length)

    for i in range(encoder.layers):
        layer, linears = f"layers.{i}", [f"layers.{i}.{use}" for use in _QKV]
        if norm_meets_zero(_norm_before(i), *linears):
            yield i, "hidden"
        if any(product_meets_zero(linear) for linear in linears):
            yield i, "attention"
        if context_meets_zero(layer):
            yield i, "context"
        if norm_meets_zero(f"{layer}.attention_norm", f"{layer}.ffn_in"):
            yield i, "ffn"
    if norm_meets_zero(_norm_before(encoder.layers), "pooler"):
        yield encoder.layers, "hidden"


def _norm_before(layer: int) -> str:
    return "embeddings.norm" if layer == 0 else f"layers.{layer - 1}.ffn_norm"


def _meets_zero(unit: NDArray[np.float64], offset: Floats, most: int) -> bool:
    """Whether `n * unit + offset` is exactly 0 in some channel, for some integer `n` from `-most` to `most`."""
    n = np.rint(np.divide(-offset, unit, out=np.zeros_like(unit), where=unit > 0))
    return bool(((np.abs(n) <= most) & (n * unit + offset == 0)).any())
