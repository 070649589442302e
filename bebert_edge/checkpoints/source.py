# SPDX-License-Identifier: Apache-2.0
"""What a family reads: the content of one member's files, and what the user said about it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bebert_edge.checkpoints.files import Floats
from bebert_edge.config import EncoderConfig, TaskConfig
from bebert_edge.errors import CheckpointError

__all__ = ["Floats", "Reader", "Source"]

LONGEST = 512
"""Tokens of the longest input where nobody said otherwise."""

_MULTI_LABEL = "multi_label_classification"

_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "token_types": "type_vocab_size",
}
"""Keys of a BERT's configuration by the names of docs/format.md."""


@dataclass(frozen=True)
class Source:
    """One member of an ensemble, read but not understood yet.

    Attributes:
        path: The file of the tensors.
        config_path: The file of the configuration.
        config: Its content.
        state: The tensors by name: `LayerNorm.weight` and `.bias` (also where the file has `gamma` and `beta`), without
            the prefix `module.` of `DataParallel`, without `position_ids`.
        tokenizer: The text of `tokenizer.json`.
        labels: Names of the labels, if the user gave some.
        text_pair: Whether an input is two texts.
        max_length: Tokens of the longest input, if the user said.
        embeddings: How to store word embeddings that were trained in full precision, if the user said.
    """

    path: Path
    config_path: Path
    config: dict[str, Any]
    state: dict[str, Floats]
    tokenizer: str
    labels: tuple[str, ...] | None = None
    text_pair: bool = False
    max_length: int | None = None
    embeddings: str | None = None

    def integer(self, key: str, default: int | None = None) -> int:
        """A size of the configuration: an integer >= 1.

        Raises:
            CheckpointError: It is something else, or missing and without a default.
        """
        value = self.config.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"{self.config_path}: {key} is {value!r}, expected an integer >= 1")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number of the configuration: finite and > 0.

        Raises:
            CheckpointError: It is something else, or missing and without a default.
        """
        value = self.config.get(key, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
            raise CheckpointError(f"{self.config_path}: {key} is {value!r}, expected a number > 0")
        return float(value)

    def encoder(self, **known: Any) -> EncoderConfig:
        """The shape that the configuration gives.

        Args:
            known: Fields of the shape that the family takes from elsewhere; sizes are not looked up then.

        Raises:
            CheckpointError: A size is missing or no integer >= 1.
            FormatError: There is no encoder of this shape.
        """
        sizes: dict[str, Any] = {field: self.integer(key) for field, key in _SIZES.items() if field not in known}
        return EncoderConfig(**sizes, **known)

    def task_and_labels(self, rows: int) -> tuple[TaskConfig, tuple[str, ...]]:
        """What the logits mean, and one label for each.

        One logit is a regression; several are of a single label, unless `problem_type` of the configuration says
        `multi_label_classification`. Labels are what the user said, or `id2label` of the configuration where that has
        one for each row, or `LABEL_0`, `LABEL_1`, ...

        Args:
            rows: Of `classifier.weight`.

        Raises:
            CheckpointError: The user named another number of labels.
        """
        labels = self.chosen_labels(rows) or self._configured_labels(rows) or tuple(f"LABEL_{i}" for i in range(rows))
        several = "multi_label" if self.config.get("problem_type") == _MULTI_LABEL else "single_label"
        return TaskConfig(problem="regression" if rows == 1 else several, text_pair=self.text_pair), labels

    def chosen_labels(self, rows: int) -> tuple[str, ...] | None:
        """The labels that the user named, if any.

        Raises:
            CheckpointError: They are not as many as the rows of the classifier.
        """
        if self.labels is not None and len(self.labels) != rows:
            raise CheckpointError(
                f"{self.path}: classifier.weight has {rows} rows, but {len(self.labels)} labels were given "
                f"({', '.join(self.labels)}): pass {rows} with --labels"
            )
        return self.labels

    def _configured_labels(self, rows: int) -> tuple[str, ...] | None:
        names = self.config.get("id2label")
        if not isinstance(names, dict) or len(names) != rows:
            return None
        labels = [names.get(str(i)) for i in range(rows)]
        return tuple(str(label) for label in labels) if all(isinstance(label, str) for label in labels) else None

    def length(self, positions: int) -> int:
        """Tokens of the longest input.

        What the user said, or all positions but no more than 512.

        Args:
            positions: Rows of the position embeddings.

        Raises:
            CheckpointError: The user said more than there are.
        """
        if self.max_length is not None and not 2 <= self.max_length <= positions:
            raise CheckpointError(
                f"{self.path}: max_length is {self.max_length}, but there are {positions} positions: "
                f"pass 2 .. {positions} with --max-length"
            )
        return min(positions, LONGEST) if self.max_length is None else self.max_length


class Reader:
    """Hands out the tensors of one member, each checked for shape and finite values, and knows which nobody asked for.

    Args:
        source: The member.
    """

    def __init__(self, source: Source) -> None:
        self.path = source.path
        self.state = source.state
        self._unread = set(source.state)

    def __call__(self, name: str, *shape: int) -> Floats:
        """One tensor.

        Raises:
            CheckpointError: It is missing, of another shape, or not finite.
        """
        if name not in self.state:
            raise CheckpointError(
                f"{self.path}: tensor {name} is missing, expected shape {list(shape)}: the checkpoint is incomplete or "
                "its configuration is another model's; copy both again"
            )
        self._unread.discard(name)
        tensor = self.state[name]
        if tensor.shape != shape:
            raise CheckpointError(
                f"{self.path}: tensor {name} has shape {list(tensor.shape)}, expected {list(shape)} by config.json"
            )
        finite = np.isfinite(tensor)
        if not finite.all():
            index = [int(i) for i in np.argwhere(~finite)[0]]
            raise CheckpointError(
                f"{self.path}: tensor {name} is {tensor[tuple(index)]} at {index}, expected finite numbers: "
                "training diverged; train again with a lower learning rate"
            )
        return tensor

    def scalar(self, name: str) -> np.float32:
        """One number, of shape `[]` or `[1]`.

        Raises:
            CheckpointError: As for a tensor.
        """
        one = self.has(name) and self.shape(name) == (1,)
        return np.float32(self(name, *((1,) if one else ())).item())

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self.state

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, before it is read.

        Raises:
            CheckpointError: It is missing.
        """
        if name not in self.state:
            raise CheckpointError(f"{self.path}: tensor {name} is missing: the checkpoint is incomplete; copy it again")
        return self.state[name].shape

    def rows(self, name: str) -> int:
        """Rows of a matrix, before it is read; that it is one is checked then.

        Raises:
            CheckpointError: It is missing.
        """
        return next(iter(self.shape(name)), 0)

    def ignore(self, *patterns: str) -> None:
        """Declares tensors dead: those whose whole name matches one of these regular expressions."""
        dead = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
        self._unread = {name for name in self._unread if not dead.fullmatch(name)}

    def finish(self) -> None:
        """Checks that every tensor was read or is dead.

        Raises:
            CheckpointError: One is left over: it would have done something.
        """
        if self._unread:
            raise CheckpointError(
                f"{self.path}: tensor {min(self._unread)} is unknown: "
                "docs/checkpoints.md says which tensors each family has; is this another --family?"
            )
