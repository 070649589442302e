# SPDX-License-Identifier: Apache-2.0
"""The configuration of a packed ensemble: `config.json` of docs/format.md as dataclasses that validate themselves."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from bebert_edge import groups
from bebert_edge.codes import CODE_TYPES, CodeType, code_type
from bebert_edge.errors import FormatError
from bebert_edge.kept_weights import WEIGHT_TYPES

FORMAT_VERSION = 1
FAMILIES = ("bert",)
ACTIVATIONS = ("relu", "gelu")
POOLER_ACTIVATIONS = ("tanh", "relu", "gelu")
NORMS = ("post", "pre")
SCORES = ("softmax", "boolean")
RANGES = ("fixed", "sequence")
RANGE_CODES = {"signed": ("int2", "int4", "int8"), "unsigned": ("uint2", "uint4", "uint8")}
"""Code types that can have the range of their sequence."""
TASK_TYPES = (
    "text-classification",
    "reranking",
    "token-classification",
    "question-answering",
    "sentence-embedding",
    "fill-mask",
)
PROBLEMS = ("single_label", "multi_label", "regression", "embedding")
POOLINGS = ("first", "mean")
COMBINATIONS = ("logits", "probabilities")
EMBEDDING_COMBINATIONS = ("embeddings", "concatenation")
ALL_COMBINATIONS = (*COMBINATIONS, *EMBEDDING_COMBINATIONS)
MAXIMUM_REPEATS = 1000
"""Layers that may share weights: a small file describes no graph without end."""
EMBEDDINGS = ("binary", *groups.BITS)
SPAN_LABELS = ("start", "end")
"""Labels of question answering: where the answer begins and where it ends."""
TEMPERATURES = (1e-6, 1e6)
"""Lowest and highest temperature: dividing by it makes no logit of a real model infinite."""

_OPTIONAL: dict[str, dict[str, Any]] = {
    "the file": {"combination": "logits", "temperature": 1.0, "heads": []},
    "encoder": {
        "head_size": 0,
        "pooler_activation": "tanh",
        "embedding_size": 0,
        "distinct_layers": 0,
        "norm": "post",
        "gated": False,
        "rotary_bases": (),
        "pooler_norm": False,
        "distance_biases": (),
    },
    "quantization": {
        "terms": 1,
        "fused_qkv": True,
        "projection": None,
        "weights": {},
        "ranges": "fixed",
        "embeddings": "binary",
    },
    "quantization.layers[]": {"scores": "softmax"},
    "task": {"pooling": "first", "mask_id": None},
    "heads[].task": {"pooling": "first", "mask_id": None},
    "heads[]": {"combination": "logits", "temperature": 1.0},
}
"""Keys of the file that may be missing, by section, and what they are then; written only where they differ."""


def _require(condition: bool, key: str, found: object, expected: str) -> None:
    if not condition:
        raise FormatError(f"config.json: {key} is {found!r}, expected {expected}")


def _is_int(value: object, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond binary64
        return False


def is_temperature(value: object) -> bool:
    """Whether `value` is a number within `TEMPERATURES`."""
    return _is_finite(value) and TEMPERATURES[0] <= value <= TEMPERATURES[1]  # type: ignore[operator]


def _section(cls: type[Any], value: object, key: str) -> dict[str, Any]:
    """Returns the members of one JSON object, which must have exactly the fields of `cls`; some may be missing."""
    _require(isinstance(value, Mapping), key, value, "an object")
    optional = _OPTIONAL.get(re.sub(r"\[\d+\]", "[]", key), {})
    section: dict[str, Any] = {**optional, **value}  # type: ignore[dict-item]
    expected = [f.name for f in fields(cls)]
    missing = [name for name in expected if name not in section]
    unknown = [name for name in section if name not in expected]
    if missing or unknown:
        raise FormatError(
            f"config.json: {key} misses {missing or 'nothing'} and has unknown {unknown or 'nothing'}: "
            f"expected the keys {', '.join(expected)}"
        )
    return section


def _without_defaults(section: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A section as it is written."""
    optional = _OPTIONAL[key]
    return {name: value for name, value in section.items() if name not in optional or value != optional[name]}


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
            _require(_is_int(getattr(self, name), 1), f"encoder.{name}", getattr(self, name), "an integer >= 1")
        for name in ("head_size", "embedding_size", "distinct_layers", "token_types"):
            _require(_is_int(getattr(self, name), 0), f"encoder.{name}", getattr(self, name), "an integer >= 0")
        if self.embedding_size == 0:
            object.__setattr__(self, "embedding_size", self.hidden_size)
        if self.distinct_layers == 0:
            object.__setattr__(self, "distinct_layers", self.layers)
        _require(
            self.layers % self.distinct_layers == 0 and self.layers <= MAXIMUM_REPEATS * self.distinct_layers,
            "encoder.distinct_layers",
            self.distinct_layers,
            f"a divisor of layers {self.layers}, and no less than a {MAXIMUM_REPEATS}th",
        )
        if self.head_size == 0:
            _require(
                self.hidden_size % self.heads == 0,
                "encoder.heads",
                self.heads,
                f"a divisor of hidden_size {self.hidden_size}, or a head_size",
            )
            object.__setattr__(self, "head_size", self.hidden_size // self.heads)
        _require(
            _is_finite(self.layer_norm_epsilon) and self.layer_norm_epsilon > 0,
            "encoder.layer_norm_epsilon",
            self.layer_norm_epsilon,
            "a number > 0",
        )
        _require(self.activation in ACTIVATIONS, "encoder.activation", self.activation, f"one of {ACTIVATIONS}")
        pooler = self.pooler_activation
        _require(pooler in POOLER_ACTIVATIONS, "encoder.pooler_activation", pooler, f"one of {POOLER_ACTIVATIONS}")
        self._check_structure()

    def _check_structure(self) -> None:
        _require(self.norm in NORMS, "encoder.norm", self.norm, f"one of {NORMS}")
        for name in ("gated", "pooler_norm"):
            _require(isinstance(getattr(self, name), bool), f"encoder.{name}", getattr(self, name), "true or false")
        bases = self.rotary_bases
        _require(
            isinstance(bases, (list, tuple))
            and len(bases) in (0, self.layers)
            and all(_is_finite(base) and base >= 1 for base in bases),
            "encoder.rotary_bases",
            bases,
            f"{self.layers} numbers >= 1, one for each layer, or none",
        )
        object.__setattr__(self, "rotary_bases", tuple(bases))
        _require(
            not bases or self.head_size % 2 == 0,
            "encoder.head_size",
            self.head_size,
            "an even number, for rotary positions",
        )
        distances = self.distance_biases
        _require(
            isinstance(distances, (list, tuple))
            and len(distances) in (0, 1, self.distinct_layers)
            and all(_is_int(distance, 0) for distance in distances),
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
        return _without_defaults(section, "encoder")


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
            _require(name in CODE_TYPES, f"quantization.layers[].{use}", name, f"one of {', '.join(CODE_TYPES)}")
        _require(self.scores in SCORES, "quantization.layers[].scores", self.scores, f"one of {SCORES}")
        boolean = self.scores == "boolean"
        _require(
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
        _require(self.pooler in CODE_TYPES, "quantization.pooler", self.pooler, f"one of {', '.join(CODE_TYPES)}")
        _require(_is_int(self.terms, 1) and self.terms <= 2, "quantization.terms", self.terms, "1 or 2")
        _require(isinstance(self.fused_qkv, bool), "quantization.fused_qkv", self.fused_qkv, "true or false")
        _require(self.embeddings in EMBEDDINGS, "quantization.embeddings", self.embeddings, f"one of {EMBEDDINGS}")
        codes = (None, *CODE_TYPES)
        _require(
            self.projection in codes, "quantization.projection", self.projection, f"one of {', '.join(CODE_TYPES)}"
        )
        _require(isinstance(self.weights, dict), "quantization.weights", self.weights, "an object")
        for name, kind in self.weights.items():
            _require(kind in WEIGHT_TYPES, f"quantization.weights[{name!r}]", kind, f"one of {WEIGHT_TYPES}")
        _require(self.ranges in RANGES, "quantization.ranges", self.ranges, f"one of {RANGES}")
        if self.ranges == "sequence":
            self._check_range_codes()

    def _check_range_codes(self) -> None:
        codes = {"quantization.pooler": self.pooler}
        for i, layer in enumerate(self.layers):
            codes |= {f"quantization.layers[{i}].{use}": name for use, name in layer.codes().items()}
        for key, name in codes.items():
            unsigned = key.endswith((".probability", ".intermediate"))
            allowed = RANGE_CODES["unsigned" if unsigned else "signed"]
            _require(name in allowed, key, name, f"one of {allowed}, for ranges of the sequence")
        _require(not self.fused_qkv, "quantization.fused_qkv", self.fused_qkv, "false, for ranges of the sequence")

    def to_dict(self) -> dict[str, Any]:
        """The section of `config.json`."""
        layers = [_without_defaults(asdict(layer), "quantization.layers[]") for layer in self.layers]
        return _without_defaults({**asdict(self), "layers": layers}, "quantization")

    @classmethod
    def for_bits(cls, bits: int, encoder: EncoderConfig, embeddings: str = "binary") -> QuantizationConfig:
        """The same number of bits everywhere in an encoder."""
        layer = LayerQuantization.for_bits(bits, encoder.gated)
        projection = layer.hidden if encoder.projected else None
        return cls((layer,) * encoder.distinct_layers, layer.hidden, projection=projection, embeddings=embeddings)


@dataclass(frozen=True)
class TaskConfig:
    """What a model answers with: the head behind the encoder, and what its numbers mean (docs/format.md, "Heads").

    `pooling` is what a sentence embedding or a pooler is made of: the hidden state of the `first` token, or the `mean`
    of all.
    `mask_id` is the token that stands for those to be guessed; None for all tasks but `fill-mask`.
    """

    type: str = "text-classification"
    problem: str = "single_label"
    text_pair: bool = False
    pooling: str = "first"
    mask_id: int | None = None

    def __post_init__(self) -> None:
        _require(self.type in TASK_TYPES, "task.type", self.type, f"one of {TASK_TYPES}")
        _require(self.problem in self._problems(), "task.problem", self.problem, f"one of {self._problems()}")
        _require(isinstance(self.text_pair, bool), "task.text_pair", self.text_pair, "true or false")
        poolings = POOLINGS[:1] if self.answers_tokens or self.fills else POOLINGS
        _require(self.pooling in poolings, "task.pooling", self.pooling, f"one of {poolings}")
        pairs = {"question-answering": "true: a question and a text", "reranking": "true: a query and a document"}
        if self.type in pairs:
            _require(self.text_pair, "task.text_pair", self.text_pair, pairs[self.type])
        if self.embeds or self.fills:
            _require(not self.text_pair, "task.text_pair", self.text_pair, f"false for the type {self.type!r}")
        fits = _is_int(self.mask_id, 0) if self.fills else self.mask_id is None
        _require(fits, "task.mask_id", self.mask_id, "a token's number for the type 'fill-mask', and none for others")

    def _problems(self) -> tuple[str, ...]:
        if self.embeds:
            return ("embedding",)
        if self.type == "reranking":
            return ("multi_label", "regression")
        return PROBLEMS[:1] if self.answers_tokens or self.fills else PROBLEMS[:3]

    @property
    def pooled(self) -> bool:
        """Whether a pooler and a classifier answer for the sequence."""
        return not self.answers_tokens and not self.embeds and not self.fills

    @property
    def answers_tokens(self) -> bool:
        """Whether there is an answer for every token."""
        return self.type in ("token-classification", "question-answering")

    @property
    def embeds(self) -> bool:
        """Whether the answer is a vector."""
        return self.type == "sentence-embedding"

    @property
    def fills(self) -> bool:
        """Whether the answer is a token of the vocabulary for every masked one."""
        return self.type == "fill-mask"

    @property
    def outputs(self) -> tuple[str, str]:
        """Names of the graph's outputs: the ensemble's answer, and those of its members."""
        return ("embeddings", "member_embeddings") if self.embeds else ("logits", "member_logits")

    @property
    def combinations(self) -> tuple[str, ...]:
        """What `EnsembleConfig.combination` may be."""
        if self.embeds:
            return EMBEDDING_COMBINATIONS
        return COMBINATIONS[:1] if self.type == "question-answering" else COMBINATIONS

    def to_dict(self) -> dict[str, Any]:
        """The section of `config.json`."""
        return _without_defaults(asdict(self), "task")


@dataclass(frozen=True)
class HeadConfig:
    """One more task of an ensemble, by its name: a head of its own behind the same encoder."""

    name: str
    task: TaskConfig
    labels: tuple[str, ...]
    combination: str = "logits"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        fits = isinstance(self.name, str) and re.fullmatch(r"[A-Za-z0-9_-]+", self.name) is not None
        _require(fits, "heads[].name", self.name, "letters, digits, _ and -")

    def to_dict(self) -> dict[str, Any]:
        """The section of `config.json`."""
        return _without_defaults({**asdict(self), "task": self.task.to_dict()}, "heads[]")

    @classmethod
    def from_dict(cls, value: object, key: str) -> HeadConfig:
        """Parses the section called `key`."""
        section = _section(cls, value, key)
        task = TaskConfig(**_section(TaskConfig, section["task"], f"{key}.task"))
        _require(isinstance(section["labels"], list), f"{key}.labels", section["labels"], "a list")
        return cls(**{**section, "task": task, "labels": tuple(section["labels"])})


@dataclass(frozen=True)
class EnsembleConfig:
    """Everything about a packed ensemble except tensors and tokenizer (docs/format.md, "config.json" and "The answer").

    `combination` is what is averaged over the members: `logits` or `probabilities`. The combined logits are divided by
    `temperature`. `heads` are tasks beside the main one, which `task`, `labels`, `combination` and `temperature` are
    about.
    """

    members: int
    member_weights: tuple[float, ...]
    encoder: EncoderConfig
    quantization: QuantizationConfig
    task: TaskConfig
    labels: tuple[str, ...]
    max_length: int
    family: str = "bert"
    format_version: int = FORMAT_VERSION
    combination: str = "logits"
    temperature: float = 1.0
    metadata: dict[str, str] = field(default_factory=dict)
    heads: tuple[HeadConfig, ...] = ()

    def __post_init__(self) -> None:
        _require(self.format_version == FORMAT_VERSION, "format_version", self.format_version, str(FORMAT_VERSION))
        _require(self.family in FAMILIES, "family", self.family, f"one of {FAMILIES}")
        _require(_is_int(self.members, 1), "members", self.members, "an integer >= 1")
        weights = self.member_weights
        _require(
            len(weights) == self.members and all(_is_finite(w) for w in weights) and abs(sum(weights) - 1) < 1e-5,
            "member_weights",
            list(weights),
            f"{self.members} finite numbers with sum 1",
        )
        _require(
            len(self.quantization.layers) == self.encoder.distinct_layers,
            "quantization.layers",
            f"a list of {len(self.quantization.layers)}",
            f"a list of {self.encoder.distinct_layers}, one for each layer with weights of its own",
        )
        _require(
            (self.quantization.projection is not None) == self.encoder.projected,
            "quantization.projection",
            self.quantization.projection,
            "a code type where encoder.embedding_size is not encoder.hidden_size, and none elsewhere",
        )
        for i, layer in enumerate(self.quantization.layers):
            _require(
                layer.scores == "softmax" or not self.encoder.distance_bias(i),
                "encoder.distance_biases",
                self.encoder.distance_biases,
                f"none for layer {i}, which has boolean scores",
            )
        self._check_labels()
        _require(
            _is_int(self.max_length, 2) and self.max_length <= self.encoder.positions,
            "max_length",
            self.max_length,
            f"an integer 2 .. {self.encoder.positions} (encoder.positions)",
        )
        self._check_answer()
        self._check_ranges()
        _require(
            isinstance(self.metadata, dict)
            and all(isinstance(k, str) and isinstance(v, str) for k, v in self.metadata.items()),
            "metadata",
            self.metadata,
            "an object of strings",
        )
        names = [head.name for head in self.heads]
        _require(len(set(names)) == len(names), "heads", names, "a name of its own for each")
        for name in names:
            try:
                self.of(name)
            except FormatError as error:
                raise FormatError(f"{error} (heads, {name!r})") from error

    @property
    def task_names(self) -> tuple[str, ...]:
        """The main task, "", and the names of the others."""
        return ("", *(head.name for head in self.heads))

    def of(self, name: str) -> EnsembleConfig:
        """The configuration of the same ensemble with one of its tasks as the only one.

        Raises:
            FormatError: There is no task of this name.
        """
        if name == "":
            return replace(self, heads=())
        for head in self.heads:
            if head.name == name:
                own = {key: getattr(head, key) for key in ("task", "labels", "combination", "temperature")}
                return replace(self, heads=(), **own)
        raise FormatError(f"there is no task {name!r}, expected one of {', '.join(map(repr, self.task_names))}")

    @property
    def embedding_size(self) -> int:
        """Numbers of the embedding of a text; 0 where the answer is none."""
        concatenated = self.combination == "concatenation"
        return self.task.embeds * self.encoder.hidden_size * (self.members if concatenated else 1)

    def _check_labels(self) -> None:
        labels, task = list(self.labels), self.task
        _require(all(isinstance(label, str) for label in labels), "labels", labels, "a list of strings")
        if task.embeds or task.fills:
            _require(not labels, "labels", labels, f"an empty list for the type {task.type!r}")
            if task.fills:
                self._check_mask()
            return
        _require(len(labels) >= 1, "labels", labels, "a list of one or more strings")
        if task.type == "question-answering":
            expected = list(SPAN_LABELS)
            _require(labels == expected, "labels", labels, f"{expected} for the type 'question-answering'")
        if task.type == "reranking":
            _require(len(labels) == 1, "labels", labels, "one name, for the type 'reranking'")

    def _check_mask(self) -> None:
        mask_id, tokens = self.task.mask_id, self.encoder.vocab_size
        fits = mask_id is not None and mask_id < tokens
        _require(fits, "task.mask_id", mask_id, f"less than {tokens}, encoder.vocab_size")
        for key, only in (("ranges", "fixed"), ("embeddings", "binary")):
            found = getattr(self.quantization, key)
            _require(found == only, f"quantization.{key}", found, f"{only!r} for the type 'fill-mask'")

    @property
    def logits_size(self) -> int:
        """Numbers of an answer of a member: logits, or those of its embedding."""
        if self.task.embeds:
            return self.encoder.hidden_size
        return self.encoder.vocab_size if self.task.fills else len(self.labels)

    def _check_ranges(self) -> None:
        """Ranges of the sequence go with the layers of BERT only: what else they may have wants steps."""
        if self.quantization.ranges == "fixed":
            return
        plain = {
            "encoder": ("head_size", "pooler_activation"),
            "quantization": ("terms", "fused_qkv", "ranges", "embeddings"),
        }
        for section, allowed in plain.items():
            written = getattr(self, section).to_dict()
            for key in _OPTIONAL[section]:
                missing = key in allowed or key not in written
                _require(missing, f"{section}.{key}", written.get(key), "nothing, for ranges of the sequence")

    def _check_answer(self) -> None:
        low, high = TEMPERATURES
        combinations = self.task.combinations
        _require(self.combination in combinations, "combination", self.combination, f"one of {combinations}")
        _require(is_temperature(self.temperature), "temperature", self.temperature, f"a number {low:g} .. {high:g}")
        if self.combination in ("probabilities", "concatenation"):
            weights, expected = list(self.member_weights), f"numbers >= 0, for the combination {self.combination!r}"
            _require(min(weights) >= 0, "member_weights", weights, expected)
        if self.task.embeds:
            _require(self.temperature == 1, "temperature", self.temperature, "1 for the type 'sentence-embedding'")
        if self.task.problem == "regression":
            _require(len(self.labels) == 1, "labels", list(self.labels), "one name, for the problem 'regression'")
            for key, only in _OPTIONAL["heads[]"].items():
                _require(getattr(self, key) == only, key, getattr(self, key), f"{only!r} for the problem 'regression'")

    def to_json(self) -> str:
        """The text of `config.json`."""
        content = _without_defaults({**asdict(self), "heads": list(self.heads)}, "the file")
        content |= {name: getattr(self, name).to_dict() for name in ("encoder", "quantization", "task")}
        content |= {"heads": [head.to_dict() for head in self.heads]} if self.heads else {}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EnsembleConfig:
        """Parses the text of `config.json`.

        Raises:
            FormatError: The text is not JSON, or a key is missing, unknown or has a value that is not allowed.
        """
        try:
            parsed = json.loads(text)
        except ValueError as error:
            raise FormatError(f"config.json is not JSON: {error}") from error
        top = _section(cls, parsed, "the file")
        for key in ("member_weights", "labels", "heads"):
            _require(isinstance(top[key], list), key, top[key], "a list")
        quantization = _section(QuantizationConfig, top["quantization"], "quantization")
        _require(isinstance(quantization["layers"], list), "quantization.layers", quantization["layers"], "a list")
        layers = [
            LayerQuantization(**_section(LayerQuantization, layer, f"quantization.layers[{i}]"))
            for i, layer in enumerate(quantization["layers"])
        ]
        return cls(
            **{
                **top,
                "member_weights": tuple(top["member_weights"]),
                "labels": tuple(top["labels"]),
                "encoder": EncoderConfig(**_section(EncoderConfig, top["encoder"], "encoder")),
                "quantization": QuantizationConfig(**{**quantization, "layers": tuple(layers)}),
                "task": TaskConfig(**_section(TaskConfig, top["task"], "task")),
                "heads": tuple(HeadConfig.from_dict(head, f"heads[{i}]") for i, head in enumerate(top["heads"])),
            }
        )
