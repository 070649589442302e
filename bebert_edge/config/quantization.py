# SPDX-License-Identifier: Apache-2.0
"""The section `quantization` of `config.json`: code types, and what products and tables are made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from bebert_edge import groups
from bebert_edge.codes import CODE_TYPES, CodeType, code_type
from bebert_edge.config.encoder import EncoderConfig
from bebert_edge.config.sections import is_int, require, without_defaults
from bebert_edge.kept_weights import WEIGHT_TYPES

SCORES = ("softmax", "boolean")
RANGES = ("fixed", "sequence")
RANGE_CODES = {"signed": ("int2", "int4", "int8"), "unsigned": ("uint2", "uint4", "uint8")}
"""Code types that can have the range of their sequence."""
EMBEDDINGS = ("binary", *groups.BITS)


@dataclass(frozen=True)
class LayerQuantization:
    """Names of the code types of one layer's activations, and how attention scores become probabilities.

    `scores` is `softmax`, or `boolean`: a query attends, fully, to the keys of positive score (BiBERT).
    """

    hidden: str
    attention: str
    probability: str
    context: str
    ffn: str
    intermediate: str
    scores: str = "softmax"

    def __post_init__(self) -> None:
        for use, name in self.codes().items():
            require(name in tuple(CODE_TYPES), f"quantization.layers[].{use}", name, f"one of {', '.join(CODE_TYPES)}")
        require(self.scores in SCORES, "quantization.layers[].scores", self.scores, f"one of {SCORES}")
        boolean = self.scores == "boolean"
        require(
            self.probability == "bool" if boolean else CODE_TYPES[self.probability].low == 0,
            "quantization.layers[].probability",
            self.probability,
            "'bool' for boolean scores" if boolean else "an unsigned code type",
        )

    def codes(self) -> dict[str, str]:
        """Name of the code type of every use."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "scores"}

    def code(self, use: str) -> CodeType:
        """The code type of one use: `hidden`, `attention`, ..."""
        return CODE_TYPES[getattr(self, use)]

    @classmethod
    def for_bits(cls, bits: int, gated: bool = False) -> LayerQuantization:
        """The code types of this project's own training at 1, 2, 4 or 8 bits.

        Args:
            bits: Of every activation that enters a matrix product.
            gated: Whether feed-forward layers are: then what lies between their products has both signs.

        Raises:
            FormatError: Any other number of bits.
        """
        signed, unsigned = ("sign", "bool") if bits == 1 else (f"int{bits}", f"uint{bits}")
        return cls(
            hidden=code_type(signed).name,
            attention=signed,
            probability=unsigned,
            context=signed,
            ffn=signed,
            intermediate=signed if gated else unsigned,
        )


@dataclass(frozen=True)
class QuantizationConfig:
    """Code types of every layer and of the pooler's input, and how products are made up.

    `terms` is how many binary linears each linear is the sum of. `fused_qkv` is whether query, key and value are one
    linear with one quantizer of its input, or three. `projection` is the code type of the input of the embeddings'
    projection; None where there is none. `weights` are the types of the weights, of linears that keep more than one bit
    a weight. `ranges` are `fixed` by steps, or those that activations have in their `sequence`. `embeddings` is
    how word embeddings are stored: `binary`, `int8` or `int4`.
    """

    layers: tuple[LayerQuantization, ...]
    pooler: str
    terms: int = 1
    fused_qkv: bool = True
    projection: str | None = None
    weights: dict[str, str] = field(default_factory=dict)
    ranges: str = "fixed"
    embeddings: str = "binary"

    def __post_init__(self) -> None:
        require(self.pooler in tuple(CODE_TYPES), "quantization.pooler", self.pooler, f"one of {', '.join(CODE_TYPES)}")
        require(is_int(self.terms, 1) and self.terms <= 2, "quantization.terms", self.terms, "1 or 2")
        require(isinstance(self.fused_qkv, bool), "quantization.fused_qkv", self.fused_qkv, "true or false")
        require(self.embeddings in EMBEDDINGS, "quantization.embeddings", self.embeddings, f"one of {EMBEDDINGS}")
        codes = (None, *CODE_TYPES)
        require(self.projection in codes, "quantization.projection", self.projection, f"one of {', '.join(CODE_TYPES)}")
        require(isinstance(self.weights, dict), "quantization.weights", self.weights, "an object")
        for name, kind in self.weights.items():
            require(kind in WEIGHT_TYPES, f"quantization.weights[{name!r}]", kind, f"one of {WEIGHT_TYPES}")
        require(self.ranges in RANGES, "quantization.ranges", self.ranges, f"one of {RANGES}")
        if self.ranges == "sequence":
            self._check_range_codes()

    def _check_range_codes(self) -> None:
        codes = {"quantization.pooler": self.pooler}
        for i, layer in enumerate(self.layers):
            codes |= {f"quantization.layers[{i}].{use}": name for use, name in layer.codes().items()}
        for key, name in codes.items():
            unsigned = key.endswith((".probability", ".intermediate"))
            allowed = RANGE_CODES["unsigned" if unsigned else "signed"]
            require(name in allowed, key, name, f"one of {allowed}, for ranges of the sequence")
        require(not self.fused_qkv, "quantization.fused_qkv", self.fused_qkv, "false, for ranges of the sequence")

    def to_dict(self) -> dict[str, Any]:
        """The section of `config.json`."""
        layers = [without_defaults(asdict(layer), "quantization.layers[]") for layer in self.layers]
        return without_defaults({**asdict(self), "layers": layers}, "quantization")

    @classmethod
    def for_bits(cls, bits: int, encoder: EncoderConfig, embeddings: str = "binary") -> QuantizationConfig:
        """The same number of bits everywhere in an encoder."""
        layer = LayerQuantization.for_bits(bits, encoder.gated)
        projection = layer.hidden if encoder.projected else None
        return cls((layer,) * encoder.distinct_layers, layer.hidden, projection=projection, embeddings=embeddings)
