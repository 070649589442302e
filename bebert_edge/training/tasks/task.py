# SPDX-License-Identifier: Apache-2.0
"""What a kind of task says about itself: its batches, its losses, its metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor

from bebert_edge.training.data import Batch, EncodedExamples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LabelledExamples(Protocol):
    """The examples of a task, as they are read from a file."""

    @property
    def task(self) -> str:
        """The task's `Task.name`."""

    @property
    def problem(self) -> str:
        """One of `bebert_edge.config.PROBLEMS`."""

    @property
    def label_names(self) -> list[str]:
        """Names of the labels, in the order of the logits."""

    @property
    def text_pair(self) -> bool:
        """Whether an input is two texts."""

    def __len__(self) -> int: ...

    def renamed(self, names: Sequence[str]) -> LabelledExamples:
        """The same with other names for the labels."""

    def split(self, share: float, seed: int) -> tuple[LabelledExamples, LabelledExamples]:
        """What to train on, and a share of the examples that is held out."""

    def content(self) -> list[Any]:
        """All that a training depends on, as JSON values."""


class Task(ABC):
    """A kind of task.

    Attributes:
        name: One of `bebert_edge.config.TASK_TYPES`.
        model: transformers' BERT for it. Its encoder is called `bert`.
        auto: transformers' `AutoModelFor...` of all families for it.
        last: Name of the model's layer behind encoder and pooler, whose rows are the labels; "" for none.
        combinations: What the answer may be the mean of; the first where nothing else is said.
        boosts: Whether an example can be right or wrong, so that boosting has something to weigh.
        calibrates: Whether a temperature is fitted to examples held out.
        settings: What a model's configuration says beside BERT's own settings, and a latent checkpoint in its section.
        max_length: Tokens of the longest input, where nothing else is said.
    """

    name: ClassVar[str]
    model: ClassVar[type[Any]]
    auto: ClassVar[type[Any]]
    last: ClassVar[str] = "classifier"
    boosts: ClassVar[bool] = True
    calibrates: ClassVar[bool] = True
    settings: ClassVar[tuple[str, ...]] = ()
    combinations: ClassVar[tuple[str, ...]] = ("logits", "probabilities")
    max_length: ClassVar[int] = 128

    mask_id: int | None = None
    """The token that stands for those to be guessed, for tasks that have one."""

    def __init__(self, problem: str = "single_label") -> None:
        self.problem = problem

    @property
    @abstractmethod
    def metric(self) -> str:
        """Name of the one number that training reports; `bebert-edge evaluate` has all others."""

    @classmethod
    @abstractmethod
    def read(cls, path: str | Path, *, split: str, classes: Sequence[str] | None, **columns: Any) -> LabelledExamples:
        """Reads the examples of a file.

        Args:
            path: The file.
            split: `train` or `dev`, where `path` names data that have both.
            classes: Names of the labels in the order of the logits; None for those of the file.
            columns: `text_column`, `text_pair_column`, `label_column` and `problem` of the command line.

        Raises:
            TrainingError: The file cannot be read, or is not of this task.
        """

    @abstractmethod
    def encode(self, examples: Any, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedExamples:
        """Tokenizes examples of this task, to at most `max_length` tokens."""

    @staticmethod
    def describe(model: Any, directory: Path) -> None:
        """Writes beside a float model, in its directory, what its tensors and `config.json` do not say."""
        return

    @staticmethod
    def settle(model: Any, directory: Path) -> None:
        """Sets those of the `settings` of a float model that its `config.json` does not have."""
        return

    def logits(self, output: Any) -> Tensor:
        """What a model answers: [B, labels], or [B, S, labels] for tasks on tokens."""
        logits: Tensor = output.logits
        return logits

    @abstractmethod
    def label_losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of each example [B] by its labels."""

    @abstractmethod
    def teacher_losses(self, logits: Tensor, expected: Tensor, batch: Batch) -> Tensor:
        """Loss of each example [B] by the teacher's logits, of the same shape."""

    def rows(self, logits: Tensor, batch: Batch) -> list[Tensor]:
        """Each example's part of the logits of a batch: [labels], or [its tokens, labels] for tasks on tokens."""
        if logits.dim() == 2:
            return list(logits)
        lengths = batch["attention_mask"].sum(1).tolist()
        return [row[:length].clone() for row, length in zip(logits, lengths, strict=True)]

    def answers(self, rows: list[Tensor], data: EncodedExamples) -> Tensor:
        """The choices that a model makes in answering.

        Args:
            rows: Logits of every example: [labels], or [its tokens, labels] for tasks on tokens.
            data: The examples.

        Returns:
            Logits [choices, options]. Members' are averaged, and the temperature is fitted to them. By default there
            is one choice for each example, among the labels.
        """
        return torch.stack(rows)

    def truth(self, data: EncodedExamples) -> Tensor:
        """What is right, for each of `answers`."""
        return data.labels

    @abstractmethod
    def score(self, answers: Tensor, data: EncodedExamples) -> float:
        """The metric, a fraction; more is better."""

    def mistakes(self, answers: Tensor, data: EncodedExamples) -> Tensor:
        """By which share each example is answered wrongly [N], for boosting; bool where it is right or wrong."""
        raise NotImplementedError(f"{self.name} cannot be boosted")
