# SPDX-License-Identifier: Apache-2.0
"""The sections `task` and `heads` of `config.json`: what the answers mean."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from bebert_edge.config.sections import is_int, require, section_of, without_defaults

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
SPAN_LABELS = ("start", "end")
"""Labels of question answering: where the answer begins and where it ends."""


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
        require(self.type in TASK_TYPES, "task.type", self.type, f"one of {TASK_TYPES}")
        require(self.problem in self._problems(), "task.problem", self.problem, f"one of {self._problems()}")
        require(isinstance(self.text_pair, bool), "task.text_pair", self.text_pair, "true or false")
        poolings = POOLINGS[:1] if self.answers_tokens or self.fills else POOLINGS
        require(self.pooling in poolings, "task.pooling", self.pooling, f"one of {poolings}")
        pairs = {"question-answering": "true: a question and a text", "reranking": "true: a query and a document"}
        if self.type in pairs:
            require(self.text_pair, "task.text_pair", self.text_pair, pairs[self.type])
        if self.embeds or self.fills:
            require(not self.text_pair, "task.text_pair", self.text_pair, f"false for the type {self.type!r}")
        fits = is_int(self.mask_id, 0) if self.fills else self.mask_id is None
        require(fits, "task.mask_id", self.mask_id, "a token's number for the type 'fill-mask', and none for others")

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
        return without_defaults(asdict(self), "task")


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
        require(fits, "heads[].name", self.name, "letters, digits, _ and -")

    def to_dict(self) -> dict[str, Any]:
        """The section of `config.json`."""
        return without_defaults({**asdict(self), "task": self.task.to_dict()}, "heads[]")

    @classmethod
    def from_dict(cls, value: object, key: str) -> HeadConfig:
        """Parses the section called `key`."""
        section = section_of(cls, value, key)
        task = TaskConfig(**section_of(TaskConfig, section["task"], f"{key}.task"))
        require(isinstance(section["labels"], list), f"{key}.labels", section["labels"], "a list")
        return cls(**{**section, "task": task, "labels": tuple(section["labels"])})
