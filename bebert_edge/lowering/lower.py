# SPDX-License-Identifier: Apache-2.0
"""PackedEnsemble -> the arguments of every op: the one place where steps become inverse steps and product scales.

The reference and the exporter both read this, so they cannot differ in a rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.codes import CODE_TYPES, CodeType
from bebert_edge.ensemble import PackedEnsemble, head_prefix, linear_terms, term_names
from bebert_edge.groups import GroupedTable
from bebert_edge.lowering.distinct import distinct
from bebert_edge.lowering.parts import (
    ACTIVATION_NUMBERS,
    Floats,
    LoweredAttention,
    LoweredClassifier,
    LoweredEmbedding,
    LoweredEnsemble,
    LoweredHead,
    LoweredLayer,
    LoweredLinear,
    LoweredMaskHead,
    LoweredNorm,
    LoweredPooler,
    LoweredProduct,
    LoweredQuantizedLinear,
    LoweredWords,
    Quantizer,
)
from bebert_edge.lowering.ranges import RangeLayer, RangeLinear, range_layer, range_linear
from bebert_edge.lowering.rotary import Rotary


def _inverse(step: NDArray[Any]) -> Floats:
    return (np.float32(1) / step.astype(np.float32)).astype(np.float32)


class _Lowering:
    def __init__(self, ensemble: PackedEnsemble) -> None:
        self.config = ensemble.config
        self.tensors = ensemble.tensors
        self.ranges = self.config.quantization.ranges == "sequence"

    def layer_code(self, i: int, use: str) -> CodeType:
        return self.config.quantization.layers[i].code(use)

    def terms(self, name: str) -> list[str]:
        return linear_terms(name, self.config.quantization)

    def input_quantizer(self, term: str, code: CodeType) -> Quantizer:
        """The quantizer in front of one term of a linear: one step for all channels of a member."""
        shift: Floats = self.tensors[f"{term}.shift"]
        step = np.broadcast_to(self.tensors[f"{term}.step"][:, None], shift.shape)
        return Quantizer(shift, _inverse(step), code)

    def inputs(self, linears: Sequence[str], code: CodeType) -> tuple[tuple[Quantizer, ...], list[int]]:
        """The distinct quantizers of what linears take in, and the place of each linear's terms among them."""
        return distinct([self.input_quantizer(term, code) for name in linears for term in self.terms(name)])

    def sources(self, linears: Sequence[str], code: CodeType) -> dict[str, list[int]]:
        """The places of each linear's terms among the distinct quantizers of what the linears take in."""
        places = iter(self.inputs(linears, code)[1])
        return {name: [next(places) for _ in self.terms(name)] for name in linears}

    def products(self, name: str, code: CodeType, sources: Sequence[int]) -> tuple[LoweredProduct, ...]:
        """The terms of a linear, whose inputs are the quantizers at `sources`."""
        bias: Floats = self.tensors[f"{name}.bias"]
        products = []
        kept = self.config.quantization.weights.get(name)
        for i, (term, source) in enumerate(zip(self.terms(name), sources, strict=True)):
            scale = np.broadcast_to(self.tensors[f"{term}.step"][:, None], bias.shape)
            if kept != "float16":
                scale = scale * self.tensors[f"{term}.scale"]
            k = self.tensors[f"{term}.shift"].shape[-1]
            own = bias if i == 0 else np.zeros_like(bias)
            weight = self.tensors[f"{term}.weight" if kept else f"{term}.bits"]
            products.append(LoweredProduct(k, source, code, weight, scale, own))
        return tuple(products)

    def linear(self, name: str, code: CodeType) -> tuple[LoweredLinear, tuple[Quantizer, ...]]:
        """A linear that alone takes in what it takes in, and the quantizers of that."""
        quantizers, sources = self.inputs([name], code)
        return LoweredLinear(self.products(name, code, sources)), quantizers

    def norm(self, name: str, outputs: tuple[Quantizer, ...], keeps_sum: bool = False) -> LoweredNorm:
        return LoweredNorm(self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], outputs, keeps_sum)

    def qkv_names(self, i: int) -> list[str]:
        uses = ("qkv",) if self.config.quantization.fused_qkv else ("query", "key", "value")
        return [f"layers.{i}.{use}" for use in uses]

    def hidden_quantizers(self, i: int) -> tuple[Quantizer, ...]:
        """The quantizers of distinct layer `i`'s input; after all, those of the heads' linears."""
        if self.ranges:
            return self.unused_quantizers()
        if i == self.config.encoder.distinct_layers:
            linears, code = self.head_linears(), CODE_TYPES[self.config.quantization.pooler]
            return self.inputs(linears, code)[0] if linears else self.unused_quantizers()
        return self.inputs(self.qkv_names(i), self.layer_code(i, "hidden"))[0]

    def unused_quantizers(self) -> tuple[Quantizer, ...]:
        """What a norm quantizes by where nothing reads the codes."""
        ones = np.ones((self.config.members, self.config.encoder.hidden_size), np.float32)
        return (Quantizer(np.zeros_like(ones), ones, CODE_TYPES["sign"]),)

    def qkv_quantizers(self, i: int) -> list[Quantizer]:
        """Steps of query, key and value, each head's repeated over its channels; the bias is the shift."""
        head_size = self.config.encoder.head_size
        steps = [self.tensors[f"layers.{i}.attention.{use}_step"] for use in ("query", "key", "value")]
        steps = [np.repeat(step, head_size, axis=1) for step in steps]
        if self.config.quantization.fused_qkv:
            steps = [np.concatenate(steps, axis=1)]
        code = self.layer_code(i, "attention")
        return [Quantizer(np.zeros_like(step), _inverse(step), code) for step in steps]

    def qkv(self, i: int) -> tuple[LoweredQuantizedLinear, ...]:
        names, code = self.qkv_names(i), self.layer_code(i, "hidden")
        sources = self.sources(names, code)
        return tuple(
            LoweredQuantizedLinear(self.products(name, code, sources[name]), 0, (output,))
            for name, output in zip(names, self.qkv_quantizers(i), strict=True)
        )

    def attention(self, i: int, outputs: tuple[Quantizer, ...]) -> LoweredAttention:
        encoder = self.config.encoder
        query, key, value, probability = (
            self.tensors[f"layers.{i}.attention.{use}_step"].astype(np.float64)
            for use in ("query", "key", "value", "probability")
        )
        return LoweredAttention(
            heads=encoder.heads,
            head_size=encoder.head_size,
            softmax=int(self.config.quantization.layers[i].scores == "softmax"),
            input_code=self.layer_code(i, "attention"),
            probability_code=self.layer_code(i, "probability"),
            score_scale=(query * key / np.sqrt(encoder.head_size)).astype(np.float32),
            probability_inverse_step=_inverse(probability),
            context_scale=(probability * value).astype(np.float32),
            outputs=outputs,
            distance_bias=self.tensors.get(f"layers.{i}.attention.distance_bias", self.tensors.get("distance_bias")),
        )

    def rotary(self, i: int) -> Rotary | None:
        encoder = self.config.encoder
        bases = encoder.rotary_bases
        return Rotary.of(bases[i], self.config.max_length, encoder.head_size) if bases else None

    def layer(self, place: int) -> LoweredLayer:
        """The layer in one place of the encoder, with the weights of the distinct layer `i`."""
        encoder = self.config.encoder
        i, following = (*encoder.weights_of_layers, encoder.distinct_layers)[place : place + 2]
        name = f"layers.{i}"
        pre_norm, last = encoder.norm == "pre", place == encoder.layers - 1
        attention_output, context = self.linear(f"{name}.attention_output", self.layer_code(i, "context"))
        ffn_code = self.layer_code(i, "ffn")
        ffn_inputs, sources = self.inputs([f"{name}.ffn_in"], ffn_code)
        ffn_out, intermediate = self.linear(f"{name}.ffn_out", self.layer_code(i, "intermediate"))
        return LoweredLayer(
            qkv=self.qkv(i),
            attention=self.attention(i, context),
            attention_output=attention_output,
            attention_norm=self.norm(f"{name}.attention_norm", ffn_inputs, pre_norm),
            ffn_in=LoweredQuantizedLinear(
                self.products(f"{name}.ffn_in", ffn_code, sources),
                ACTIVATION_NUMBERS[encoder.activation],
                intermediate,
                encoder.gated,
            ),
            ffn_out=ffn_out,
            ffn_norm=self.norm(f"{name}.ffn_norm", self.hidden_quantizers(following), pre_norm and not last),
            rotary=self.rotary(place),
        )

    def range_layer(self, i: int) -> RangeLayer:
        norms = [self.norm(f"layers.{i}.{name}", self.unused_quantizers()) for name in ("attention_norm", "ffn_norm")]
        activation = ACTIVATION_NUMBERS[self.config.encoder.activation]
        return range_layer(self.config, self.tensors, i, (norms[0], norms[1]), activation)

    def words(self) -> tuple[LoweredWords | GroupedTable, ...]:
        name, kind = "embeddings.word", self.config.quantization.embeddings
        if kind != "binary":
            codes, scale = self.shared_alike(f"{name}.codes", f"{name}.scale")
            return (GroupedTable(kind, self.config.encoder.embedding_size, codes, scale),)
        terms = term_names(name, self.config.quantization.terms)
        return tuple(LoweredWords(*self.shared_alike(f"{term}.bits", f"{term}.scale")) for term in terms)

    def shared_alike(self, *names: str) -> list[NDArray[Any]]:
        """Tensors that each may be one for all members; for an op all are, or none."""
        arrays = [self.tensors[name] for name in names]
        members = max(map(len, arrays))
        return [np.broadcast_to(array, (members, *array.shape[1:])) for array in arrays]

    def embedding(self) -> LoweredEmbedding:
        outputs, projection = self.hidden_quantizers(0), None
        if self.config.quantization.projection is not None:
            name = "embeddings.projection"
            linear, inputs = self.linear(name, CODE_TYPES[self.config.quantization.projection])
            outputs, projection = inputs, LoweredQuantizedLinear(linear.products, 0, outputs)
        return LoweredEmbedding(
            k=self.config.encoder.embedding_size,
            words=self.words(),
            position=self.tensors.get("embeddings.position"),
            token_type=self.tensors.get("embeddings.token_type"),
            norm=self.norm("embeddings.norm", outputs),
            projection=projection,
        )

    def head_linears(self) -> list[str]:
        """The linears of all tasks, which share what quantizes their inputs where it is equal."""
        tasks = {head_prefix(name): self.config.of(name).task for name in self.config.task_names}
        names = {prefix: "pooler" if task.pooled else "transform" for prefix, task in tasks.items()}
        return [f"{prefix}{names[prefix]}" for prefix, task in tasks.items() if task.pooled or task.fills]

    def pooler(self, name: str) -> LoweredPooler:
        norm, activation = None, self.config.encoder.pooler_activation
        if self.config.encoder.pooler_norm:
            norm = self.tensors[f"{name}.norm.weight"], self.tensors[f"{name}.norm.bias"]
        last = self.config.encoder.distinct_layers
        return LoweredPooler(
            self.pooler_linear(name), activation, norm, () if self.ranges else self.hidden_quantizers(last)
        )

    def pooler_linear(self, name: str) -> LoweredLinear | RangeLinear:
        code = CODE_TYPES[self.config.quantization.pooler]
        if self.ranges:
            return range_linear(self.tensors, self.terms(name), code, self.config.encoder.hidden_size)
        return LoweredLinear(self.products(name, code, self.sources(self.head_linears(), code)[name]))

    def mask_head(self, prefix: str) -> LoweredMaskHead:
        code, name = CODE_TYPES[self.config.quantization.pooler], f"{prefix}transform"
        transform = LoweredQuantizedLinear(
            self.products(name, code, self.sources(self.head_linears(), code)[name]),
            ACTIVATION_NUMBERS[self.config.encoder.activation],
            (),
        )
        return LoweredMaskHead(
            transform=transform,
            norm=self.norm(f"{name}.norm", (self.input_quantizer(f"{prefix}decoder", code),)),
            words=tuple(words for words in self.words() if isinstance(words, LoweredWords)),
            step=self.tensors[f"{prefix}decoder.step"],
            bias=self.tensors[f"{prefix}decoder.bias"],
        )

    def head(self, name: str) -> LoweredHead:
        config, prefix, classifier = self.config.of(name), head_prefix(name), None
        if config.task.fills:
            return LoweredHead(config, None, None, self.mask_head(prefix))
        if not config.task.embeds:
            weight, bias = (self.tensors[f"{prefix}classifier.{tensor}"] for tensor in ("weight", "bias"))
            classifier = LoweredClassifier(weight, bias)
        return LoweredHead(config, self.pooler(f"{prefix}pooler") if config.task.pooled else None, classifier)


def lower(ensemble: PackedEnsemble) -> LoweredEnsemble:
    """Folds the tensors of a valid ensemble into the arguments of the ops of docs/ops.md."""
    lowering, config = _Lowering(ensemble), ensemble.config
    return LoweredEnsemble(
        epsilon=config.encoder.layer_norm_epsilon,
        embedding=lowering.embedding(),
        layers=tuple(
            lowering.range_layer(place) if lowering.ranges else lowering.layer(place)
            for place in range(config.encoder.layers)
        ),
        heads={name: lowering.head(name) for name in config.task_names},
    )
