# SPDX-License-Identifier: Apache-2.0
"""The section `encoder` of `config.json`: the shape and the structure of the encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bebert_edge.config.sections import is_finite, is_int, require, without_defaults

ACTIVATIONS = ("relu", "gelu")
POOLER_ACTIVATIONS = ("tanh", "relu", "gelu")
NORMS = ("post", "pre")
MAXIMUM_REPEATS = 1000
"""Layers that may share weights: a small file describes no graph without end."""

MAXIMUM_ROTARY_POSITIONS = 2**16
"""Rotations are computed, not read: a small file asks for no table without end."""


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the encoder that every member has.

    `head_size` 0 stands for `hidden_size / heads`, and becomes that number. `embedding_size` is the width
    of the embedding tables: 0 stands for `hidden_size` and becomes that; any other needs a projection.
    `distinct_layers` is how many sets of weights the layers have, each used by as many in a row; 0 stands for `layers`.

    `norm` is where the LayerNorms of a layer are: `post`, after each residual sum, which goes on normalized, or `pre`,
    before each product, and the sum goes on as it is. With `gated` the first feed-forward product has twice
    `intermediate_size` channels: the activation of the first half, times the second half. `rotary_bases`, one for each
    layer, are those of its rotary positions; then there is no position table. `token_types` may be 0. With
    `pooler_norm` a LayerNorm follows the pooler's activation.

    `distance_biases` are, for each layer, the distance from which on the addend of an attention score no longer
    changes, 0 where a layer has no addends. A single one is that of a table that all layers share.
    """

    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    positions: int
    token_types: int
    layer_norm_epsilon: float
    activation: str
    head_size: int = 0
    pooler_activation: str = "tanh"
    embedding_size: int = 0
    distinct_layers: int = 0
    norm: str = "post"
    gated: bool = False
    rotary_bases: tuple[float, ...] = ()
    pooler_norm: bool = False
    distance_biases: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "layers", "heads", "intermediate_size", "positions"):
            require(is_int(getattr(self, name), 1), f"encoder.{name}", getattr(self, name), "an integer >= 1")
        for name in ("head_size", "embedding_size", "distinct_layers", "token_types"):
            require(is_int(getattr(self, name), 0), f"encoder.{name}", getattr(self, name), "an integer >= 0")
        if self.embedding_size == 0:
            object.__setattr__(self, "embedding_size", self.hidden_size)
        if self.distinct_layers == 0:
            object.__setattr__(self, "distinct_layers", self.layers)
        require(
            self.layers % self.distinct_layers == 0 and self.layers <= MAXIMUM_REPEATS * self.distinct_layers,
            "encoder.distinct_layers",
            self.distinct_layers,
            f"a divisor of layers {self.layers}, and no less than a {MAXIMUM_REPEATS}th",
        )
        if self.head_size == 0:
            require(
                self.hidden_size % self.heads == 0,
                "encoder.heads",
                self.heads,
                f"a divisor of hidden_size {self.hidden_size}, or a head_size",
            )
            object.__setattr__(self, "head_size", self.hidden_size // self.heads)
        require(
            is_finite(self.layer_norm_epsilon) and self.layer_norm_epsilon > 0,
            "encoder.layer_norm_epsilon",
            self.layer_norm_epsilon,
            "a number > 0",
        )
        require(self.activation in ACTIVATIONS, "encoder.activation", self.activation, f"one of {ACTIVATIONS}")
        pooler = self.pooler_activation
        require(pooler in POOLER_ACTIVATIONS, "encoder.pooler_activation", pooler, f"one of {POOLER_ACTIVATIONS}")
        self._check_structure()

    def _check_structure(self) -> None:
        require(self.norm in NORMS, "encoder.norm", self.norm, f"one of {NORMS}")
        for name in ("gated", "pooler_norm"):
            require(isinstance(getattr(self, name), bool), f"encoder.{name}", getattr(self, name), "true or false")
        bases = self.rotary_bases
        require(
            isinstance(bases, (list, tuple))
            and len(bases) in (0, self.layers)
            and all(is_finite(base) and base >= 1 for base in bases),
            "encoder.rotary_bases",
            bases,
            f"{self.layers} numbers >= 1, one for each layer, or none",
        )
        object.__setattr__(self, "rotary_bases", tuple(bases))
        require(
            not bases or self.positions <= MAXIMUM_ROTARY_POSITIONS,
            "encoder.positions",
            self.positions,
            f"at most {MAXIMUM_ROTARY_POSITIONS}, for rotary positions",
        )
        require(
            not bases or self.head_size % 2 == 0,
            "encoder.head_size",
            self.head_size,
            "an even number, for rotary positions",
        )
        distances = self.distance_biases
        require(
            isinstance(distances, (list, tuple))
            and len(distances) in (0, 1, self.distinct_layers)
            and all(is_int(distance, 0) for distance in distances),
            "encoder.distance_biases",
            distances,
            f"{self.distinct_layers} integers >= 0, one for each layer, or one for all, or none",
        )
        object.__setattr__(self, "distance_biases", tuple(distances))

    def distance_bias(self, layer: int) -> int:
        """The U of the table that the scores of a layer, one with weights of its own, get an addend from; 0: none."""
        shared = len(self.distance_biases) == 1
        return self.distance_biases[0 if shared else layer] if self.distance_biases else 0

    @property
    def attention_size(self) -> int:
        """Channels of query, key and value: those of all heads."""
        return self.heads * self.head_size

    @property
    def projected(self) -> bool:
        """Whether embeddings have another width than the layers, with a linear between."""
        return self.embedding_size != self.hidden_size

    @property
    def weights_of_layers(self) -> tuple[int, ...]:
        """Which of the distinct layers each layer is, e.g. (0, 0, 1, 1)."""
        return tuple(i // (self.layers // self.distinct_layers) for i in range(self.layers))

    def to_dict(self) -> dict[str, Any]:
        """The section of `config.json`."""
        section = asdict(self)
        if self.attention_size == self.hidden_size:
            section["head_size"] = 0
        if not self.projected:
            section["embedding_size"] = 0
        if self.distinct_layers == self.layers:
            section["distinct_layers"] = 0
        return without_defaults(section, "encoder")
