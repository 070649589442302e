# SPDX-License-Identifier: Apache-2.0
"""The family `binarybert`: binary or ternary weights (Bai et al., 2021), and BEBERT's members on it.

Reads what the code of huawei-noah/Pretrained-Language-Model (0598f02d7f, BinaryBERT/) and TTTTTTris/BEBERT (7595cb3e7a,
binarybert/) writes: after ternary weight splitting, where every quantized module exists twice (`_1`, `_2`) and the
outputs are added, and before it, where weights are ternary; activations have learned steps (LSQ), or the range of the
batch (uniform). docs/checkpoints.md says what import does to each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.bits import pack_bits
from bebert_edge.checkpoints.member import Member
from bebert_edge.checkpoints.parts import Tensors, classifier, norm, tables
from bebert_edge.checkpoints.source import Floats, Reader, Source
from bebert_edge.config import EncoderConfig, LayerQuantization, QuantizationConfig
from bebert_edge.ensemble import term_names
from bebert_edge.errors import CheckpointError, FormatError

NAME = "binarybert"

LAYER_NORM_EPSILON = 1e-12
"""Of every LayerNorm: the code does not read the field of the configuration."""
TERNARY_THRESHOLD = 0.7
"""Weights of no more than this share of the mean magnitude become 0 (Li and Liu, 2016)."""
LEAST_VALUES = {"relu": 0.0, "gelu": -0.16997120747990369}
"""The least value that an activation can have; that of GELU is at -0.7518."""
MOST_ZEROS = 1e-4
"""Share of a binary matrix that may be exactly 0 by accident: of 10^8 random numbers in float32 a few are."""

_MINIMUM_RULE = (
    "attention probabilities are quantized from 0 up, and what follows the activation from its least value: the "
    "original takes the minimum of the whole batch, which is the same wherever a batch has padding"
)
_RANGE_RULE = (
    "activations are quantized in the range that they have in each text by itself, without padding: the original takes "
    "the range of the whole batch, so that its answers depend on the company of a text; for a text alone they are these"
)

Term = tuple[NDArray[np.bool_], Floats]
"""Bits `[N, K]` and row scales `[N]` of one binary matrix."""


def detect(config: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether a checkpoint is of this family: its linears have clip values, and no learned shifts as BiT's have."""
    endings = {name.rpartition(".")[2] for name in names}
    shifted = any(name.endswith(".move.bias") for name in names)
    return "bebert_edge" not in config and "input_clip_val" in endings and not shifted


def binary_rows(weight: Floats, layerwise: bool) -> Term:
    """The signs of a matrix, and the mean magnitude of all of it (`layerwise`) or of each row, taken in float64."""
    magnitude = np.abs(weight).mean(-1, dtype=np.float64)
    return weight > 0, _row_scales(magnitude.mean(keepdims=True) if layerwise else magnitude, len(weight))


def ternary_rows(weight: Floats, layerwise: bool) -> tuple[Term, Term]:
    """Two binary matrices whose sum is the ternary one.

    Weights beyond 0.7 of the mean magnitude, of the matrix (`layerwise`) or of their row, keep their sign, and their
    own mean magnitude is the scale; the others become 0.
    """
    magnitude = np.abs(weight.reshape(1, -1) if layerwise else weight)
    kept = magnitude > TERNARY_THRESHOLD * magnitude.mean(-1, keepdims=True, dtype=np.float64)
    total = (magnitude * kept).sum(-1, dtype=np.float64)
    scale = _row_scales(total / np.maximum(kept.sum(-1), 1), len(weight)) / np.float32(2)
    kept = kept.reshape(weight.shape)
    positive = weight > 0
    return (positive | ~kept, scale), (positive & kept, scale)


def _row_scales(scale: NDArray[np.float64], rows: int) -> Floats:
    return np.broadcast_to(scale.astype(np.float32), (rows,)).copy()


def _one_of(source: Source, key: str, *allowed: object, advice: str) -> Any:
    value = source.config.get(key)
    if value not in allowed:
        expected = " or ".join(repr(one) for one in allowed)
        raise CheckpointError(f"{source.config_path}: {key} is {value!r}, expected {expected}: {advice}")
    return value


@dataclass
class _Weights:
    """Reads one checkpoint's modules; `notes` grows with what it finds."""

    source: Source
    read: Reader
    split: bool
    weight_layerwise: bool
    embed_layerwise: bool
    ternary: bool
    ranges: bool
    notes: list[str] = field(default_factory=list)

    def halves(self, name: str) -> list[str]:
        return [f"{name}_1", f"{name}_2"] if self.split else [name]

    def terms(self, name: str, n: int, k: int, layerwise: bool) -> tuple[Term, ...]:
        """The binary matrices whose sum is the weight of one module."""
        weights = {half: self.read(f"{half}.weight", n, k) for half in self.halves(name)}
        if self.ternary:
            return ternary_rows(weights[name], layerwise)
        terms = {half: binary_rows(weight, layerwise) for half, weight in weights.items()}
        for half, (_, scale) in terms.items():
            self.note_zeros(f"{half}.weight", (weights[half] == 0) & (scale[:, None] > 0))
        return tuple(terms.values())

    def note_zeros(self, name: str, zeros: NDArray[np.bool_]) -> None:
        count = int(zeros.sum())
        if count == 0:
            return
        index = [int(i) for i in np.argwhere(zeros)[0]]
        found = f"tensor {name} is exactly 0 at {index}"
        if count > MOST_ZEROS * zeros.size:
            raise CheckpointError(
                f"{self.source.path}: {found} and {count - 1} other places, expected no zeros, for the sign of 0 is no "
                "bit: the checkpoint was pruned or never trained; name another"
            )
        self.notes.append(
            f"{found} and {count - 1} other places: the original multiplies by 0 there, and here it is -1"
        )

    def step(self, name: str) -> np.float32:
        step = self.read.scalar(name)
        if not step > 0:
            raise CheckpointError(
                f"{self.source.path}: tensor {name} is {step}, expected a step > 0: training diverged; "
                "train again with a lower --clip_lr"
            )
        if step == 1:
            self.notes.append(
                f"{name} is exactly 1, which is used as it is; the original code takes such a step for one that was "
                "never set, and sets it from the first batch it sees"
            )
        return step

    def clip(self, name: str) -> Floats:
        """The two ends that activations are clipped to."""
        low, high = clip = self.read(name, 2)
        if not low < high:
            raise CheckpointError(
                f"{self.source.path}: tensor {name} is [{low}, {high}], expected the first below the second: training "
                "diverged; train again with a lower --clip_lr"
            )
        return clip

    def linear(self, target: str, name: str, k: int, n: int, least: float = 0.0) -> Tensors:
        """A linear whose input is quantized from the `least` value up; 0 also where codes are signed."""
        terms = self.terms(name, n, k, self.weight_layerwise)
        halves = self.halves(name)
        bias = np.zeros(n)
        for half in halves:
            bias += self.read(f"{half}.bias", n)
        for i, (prefix, (bits, scale)) in enumerate(zip(term_names(target, len(terms)), terms, strict=True)):
            quantizer = f"{halves[i if self.split else 0]}.input_clip_val"
            yield f"{prefix}.bits", pack_bits(bits)
            yield f"{prefix}.scale", scale
            if self.ranges:
                yield f"{prefix}.clip", self.clip(quantizer)
                continue
            yield f"{prefix}.shift", np.full(k, 0 - least, np.float32)
            yield f"{prefix}.step", np.asarray(self.step(quantizer))
            # A code stands for `least + step * code`; what the constant adds to the sum belongs to the bias.
            bias += least * scale * (2.0 * bits.sum(1) - k)
        yield f"{target}.bias", bias.astype(np.float32)

    def attention(self, target: str, name: str, heads: int) -> Tensors:
        """What quantizes query, key, value and probabilities."""
        for use, clip in {"query": "query", "key": "key", "value": "value", "probability": "attn"}.items():
            if self.ranges:
                yield f"{target}.{use}_clip", self.clip(f"{name}.clip_{clip}")
            else:
                yield f"{target}.{use}_step", np.full(heads, self.step(f"{name}.clip_{clip}"), np.float32)

    def embedding(self, target: str, name: str, vocab_size: int, hidden: int) -> Tensors:
        terms = self.terms(name, vocab_size, hidden, self.embed_layerwise)
        for prefix, (bits, scale) in zip(term_names(target, len(terms)), terms, strict=True):
            yield f"{prefix}.bits", pack_bits(bits)
            yield f"{prefix}.scale", scale


def _layer(weights: _Weights, i: int, shape: EncoderConfig) -> Tensors:
    h, f, width = shape.hidden_size, shape.intermediate_size, shape.attention_size
    target, name = f"layers.{i}", f"bert.encoder.layer.{i}"
    for use in ("query", "key", "value"):
        yield from weights.linear(f"{target}.{use}", f"{name}.attention.self.{use}", h, width)
    yield from weights.attention(f"{target}.attention", f"{name}.attention.self", shape.heads)
    yield from weights.linear(f"{target}.attention_output", f"{name}.attention.output.dense", width, h)
    yield from norm(weights.read, f"{target}.attention_norm", f"{name}.attention.output.LayerNorm", h)
    yield from weights.linear(f"{target}.ffn_in", f"{name}.intermediate.dense", h, f)
    least = LEAST_VALUES[shape.activation]
    yield from weights.linear(f"{target}.ffn_out", f"{name}.output.dense", f, h, least)
    yield from norm(weights.read, f"{target}.ffn_norm", f"{name}.output.LayerNorm", h)


def _tensors(weights: _Weights, shape: EncoderConfig, trained_positions: int, labels: int) -> Tensors:
    h = shape.hidden_size
    yield from weights.embedding("embeddings.word", "bert.embeddings.word_embeddings", shape.vocab_size, h)
    yield from tables(weights.read, shape, trained_positions)
    for i in range(shape.layers):
        yield from _layer(weights, i, shape)
    yield from weights.linear("pooler", "bert.pooler.dense", h, h)
    yield from classifier(weights.read, labels, h)


def _settings(source: Source, split: bool) -> tuple[bool, list[str]]:
    """Checks the fields that choose the arithmetic.

    Returns:
        Whether weights are ternary, and notes.
    """
    supported = "see docs/checkpoints.md, BinaryBERT"
    method = _one_of(source, "weight_quant_method", "bwn", "twn", advice=supported)
    _one_of(source, "weight_bits", 1 if method == "bwn" else 2, advice=f"the bits of {method!r}")
    quantizers = _one_of(source, "input_quant_method", "lsq", "uniform", advice=supported)
    _one_of(source, "input_bits", 2, 4, 8, advice="the bits of codes that packed models can have")
    _one_of(source, "hidden_act", *LEAST_VALUES, advice=supported)
    _one_of(source, "input_layerwise", True, advice="without it every token has a range of its own")
    _one_of(source, "sym_quant_qkvo", True, advice="codes of hidden states are signed here")
    _one_of(source, "sym_quant_ffn_attn", False, advice="codes of attention probabilities are unsigned here")
    for key in ("weight_layerwise", "embed_layerwise"):
        _one_of(source, key, True, False, advice="train it again with 0 or 1 for it")
    notes = [_RANGE_RULE if quantizers == "uniform" else _MINIMUM_RULE]
    if split and method == "twn":
        notes.append("config.json is of the ternary model, but the modules have been split: their halves are binary")
    return method == "twn" and not split, notes


def _encoder(source: Source, read: Reader, query: str, intermediate: str, positions: int) -> EncoderConfig:
    """The shape: attention and feed-forward as wide as the tensors are, for DynaBERT prunes both."""
    heads = source.integer("num_attention_heads")
    width, f = (read.rows(f"{name}.weight") for name in (query, intermediate))
    if width % heads:
        raise CheckpointError(
            f"{source.config_path}: num_attention_heads is {heads}, expected a divisor of the {width} rows of "
            f"{query}.weight: the configuration is another model's; copy the one beside the tensors"
        )
    try:
        return source.encoder(
            heads=heads,
            head_size=width // heads,
            intermediate_size=f,
            positions=positions,
            layer_norm_epsilon=LAYER_NORM_EPSILON,
            activation=source.config["hidden_act"],
        )
    except FormatError as error:
        raise CheckpointError(f"{source.config_path} cannot be packed: {error}") from error


def read(source: Source) -> Member:
    """Reads one member.

    Raises:
        CheckpointError: Its tensors or fields are not those of the family, or it quantizes in a way that a packed
            ensemble cannot express; the message says which.
    """
    split = any(name.endswith("_1.input_clip_val") for name in source.state)
    ternary, notes = _settings(source, split)
    reader = Reader(source)
    weights = _Weights(
        source,
        reader,
        split,
        weight_layerwise=bool(source.config["weight_layerwise"]),
        embed_layerwise=bool(source.config["embed_layerwise"]),
        ternary=ternary,
        ranges=source.config["input_quant_method"] == "uniform",
        notes=notes,
    )
    layer = "bert.encoder.layer.0"
    names = [weights.halves(f"{layer}.{name}")[0] for name in ("attention.self.query", "intermediate.dense")]
    trained_positions = source.integer("max_position_embeddings")
    length = source.length(trained_positions)
    shape = _encoder(source, reader, names[0], names[1], length)
    task, labels = source.task_and_labels(reader.rows("classifier.weight"))
    tensors = dict(_tensors(weights, shape, trained_positions, len(labels)))
    reader.finish()
    codes = LayerQuantization.for_bits(source.config["input_bits"])
    quantization = QuantizationConfig(
        layers=(codes,) * shape.layers,
        pooler=codes.hidden,
        terms=2 if split or ternary else 1,
        fused_qkv=False,
        ranges="sequence" if weights.ranges else "fixed",
    )
    return Member(shape, quantization, task, labels, length, tensors, source.tokenizer, tuple(notes))
