# SPDX-License-Identifier: Apache-2.0
"""The configuration of a packed ensemble: `config.json` of docs/format.md as a dataclass that validates itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

from bebert_edge.config.encoder import EncoderConfig
from bebert_edge.config.quantization import LayerQuantization, QuantizationConfig
from bebert_edge.config.sections import OPTIONAL, is_finite, is_int, require, section_of, without_defaults
from bebert_edge.config.task import SPAN_LABELS, HeadConfig, TaskConfig
from bebert_edge.errors import FormatError

FORMAT_VERSION = 1
FAMILIES = ("bert",)
TEMPERATURES = (1e-6, 1e6)
"""Lowest and highest temperature: dividing by it makes no logit of a real model infinite."""


def is_temperature(value: object) -> bool:
    """Whether `value` is a number within `TEMPERATURES`."""
    return is_finite(value) and TEMPERATURES[0] <= value <= TEMPERATURES[1]  # type: ignore[operator]


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
        require(self.format_version == FORMAT_VERSION, "format_version", self.format_version, str(FORMAT_VERSION))
        require(self.family in FAMILIES, "family", self.family, f"one of {FAMILIES}")
        require(is_int(self.members, 1), "members", self.members, "an integer >= 1")
        weights = self.member_weights
        require(
            len(weights) == self.members and all(is_finite(w) for w in weights) and abs(sum(weights) - 1) < 1e-5,
            "member_weights",
            list(weights),
            f"{self.members} finite numbers with sum 1",
        )
        require(
            len(self.quantization.layers) == self.encoder.distinct_layers,
            "quantization.layers",
            f"a list of {len(self.quantization.layers)}",
            f"a list of {self.encoder.distinct_layers}, one for each layer with weights of its own",
        )
        require(
            (self.quantization.projection is not None) == self.encoder.projected,
            "quantization.projection",
            self.quantization.projection,
            "a code type where encoder.embedding_size is not encoder.hidden_size, and none elsewhere",
        )
        for i, layer in enumerate(self.quantization.layers):
            require(
                layer.scores == "softmax" or not self.encoder.distance_bias(i),
                "encoder.distance_biases",
                self.encoder.distance_biases,
                f"none for layer {i}, which has boolean scores",
            )
        self._check_labels()
        require(
            is_int(self.max_length, 2) and self.max_length <= self.encoder.positions,
            "max_length",
            self.max_length,
            f"an integer 2 .. {self.encoder.positions} (encoder.positions)",
        )
        self._check_answer()
        self._check_ranges()
        require(
            isinstance(self.metadata, dict)
            and all(isinstance(k, str) and isinstance(v, str) for k, v in self.metadata.items()),
            "metadata",
            self.metadata,
            "an object of strings",
        )
        names = [head.name for head in self.heads]
        require(len(set(names)) == len(names), "heads", names, "a name of its own for each")
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
        require(all(isinstance(label, str) for label in labels), "labels", labels, "a list of strings")
        if task.embeds or task.fills:
            require(not labels, "labels", labels, f"an empty list for the type {task.type!r}")
            if task.fills:
                self._check_mask()
            return
        require(len(labels) >= 1, "labels", labels, "a list of one or more strings")
        if task.type == "question-answering":
            expected = list(SPAN_LABELS)
            require(labels == expected, "labels", labels, f"{expected} for the type 'question-answering'")
        if task.type == "reranking":
            require(len(labels) == 1, "labels", labels, "one name, for the type 'reranking'")

    def _check_mask(self) -> None:
        mask_id, tokens = self.task.mask_id, self.encoder.vocab_size
        fits = mask_id is not None and mask_id < tokens
        require(fits, "task.mask_id", mask_id, f"less than {tokens}, encoder.vocab_size")
        for key, only in (("ranges", "fixed"), ("embeddings", "binary")):
            found = getattr(self.quantization, key)
            require(found == only, f"quantization.{key}", found, f"{only!r} for the type 'fill-mask'")

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
            for key in OPTIONAL[section]:
                missing = key in allowed or key not in written
                require(missing, f"{section}.{key}", written.get(key), "nothing, for ranges of the sequence")

    def _check_answer(self) -> None:
        low, high = TEMPERATURES
        combinations = self.task.combinations
        require(self.combination in combinations, "combination", self.combination, f"one of {combinations}")
        require(is_temperature(self.temperature), "temperature", self.temperature, f"a number {low:g} .. {high:g}")
        if self.combination in ("probabilities", "concatenation"):
            weights, expected = list(self.member_weights), f"numbers >= 0, for the combination {self.combination!r}"
            require(min(weights) >= 0, "member_weights", weights, expected)
        if self.task.embeds:
            require(self.temperature == 1, "temperature", self.temperature, "1 for the type 'sentence-embedding'")
        if self.task.problem == "regression":
            require(len(self.labels) == 1, "labels", list(self.labels), "one name, for the problem 'regression'")
            for key, only in OPTIONAL["heads[]"].items():
                require(getattr(self, key) == only, key, getattr(self, key), f"{only!r} for the problem 'regression'")

    def to_json(self) -> str:
        """The text of `config.json`."""
        content = without_defaults({**asdict(self), "heads": list(self.heads)}, "the file")
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
        except (ValueError, RecursionError) as error:
            raise FormatError(f"config.json is not JSON: {error}") from error
        top = section_of(cls, parsed, "the file")
        for key in ("member_weights", "labels", "heads"):
            require(isinstance(top[key], list), key, top[key], "a list")
        quantization = section_of(QuantizationConfig, top["quantization"], "quantization")
        require(isinstance(quantization["layers"], list), "quantization.layers", quantization["layers"], "a list")
        layers = [
            LayerQuantization(**section_of(LayerQuantization, layer, f"quantization.layers[{i}]"))
            for i, layer in enumerate(quantization["layers"])
        ]
        return cls(
            **{
                **top,
                "member_weights": tuple(top["member_weights"]),
                "labels": tuple(top["labels"]),
                "encoder": EncoderConfig(**section_of(EncoderConfig, top["encoder"], "encoder")),
                "quantization": QuantizationConfig(**{**quantization, "layers": tuple(layers)}),
                "task": TaskConfig(**section_of(TaskConfig, top["task"], "task")),
                "heads": tuple(HeadConfig.from_dict(head, f"heads[{i}]") for i, head in enumerate(top["heads"])),
            }
        )
