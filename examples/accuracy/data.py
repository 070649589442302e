# SPDX-License-Identifier: Apache-2.0
"""The study's data sets as token ids: train, held-out and dev, and dev as noisy users would type it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plan import HELD_OUT_LIMIT, HELD_OUT_SHARE, PERTURBED, TASKS, Recipe, Task
from torch import Tensor

from bebert_edge.evaluation.perturbation import DROP_WORDS, TYPOS, Perturbation, perturb
from bebert_edge.training.data import EncodedExamples
from bebert_edge.training.files import Examples, read_examples, read_texts
from bebert_edge.training.tasks import TextClassification

EMBEDDING_NOISE = "embedding noise"
PERTURBATIONS = {"typos": Perturbation(TYPOS, 0.1), "dropped words": Perturbation(DROP_WORDS, 0.2)}


@dataclass(frozen=True)
class TaskData:
    """One task, tokenized.

    Attributes:
        label_names: Of its logits.
        text_pair: Whether an input is two texts.
        train: What members are trained on.
        teacher_train: What the teacher is trained on.
        inputs: What is answered: dev under the name `clean`, its first examples perturbed, and `held out`, what
            nothing is trained on but temperatures.
        labels: Labels of `clean` and `held out`, as `EncodedExamples` has them.
    """

    label_names: list[str]
    text_pair: bool
    train: EncodedExamples
    teacher_train: EncodedExamples
    inputs: dict[str, Examples]
    labels: dict[str, Tensor]


def _read(folder: Path, split: str, task: Task, classes: list[str] | None = None) -> Examples:
    path = folder / f"{split}.{task.file_type}.gz"
    return read_examples(path, problem=task.problem, classes=None if task.problem == "regression" else classes)


def _perturbed(examples: Examples, perturbation: Perturbation) -> Examples:
    pairs = examples.pairs and perturb(examples.pairs, perturbation, 0, second=True)
    return replace(examples, texts=perturb(examples.texts, perturbation, 0), pairs=pairs)


def _shuffled(n: int) -> list[int]:
    return np.random.default_rng(0).permutation(n).tolist()


def load(name: str, folder: Path, recipe: Recipe, tokenizer: Any) -> TaskData:
    """Reads and tokenizes a task. What is left out is left out at random, by a fixed seed."""
    task = TASKS[name]
    train = _read(folder / name, "train", task)
    dev = _read(folder / name, "dev", task, train.label_names)

    def encoded(examples: Examples) -> EncodedExamples:
        return TextClassification(examples.problem).encode(examples, tokenizer, recipe.max_length)

    dev = dev.select(_shuffled(len(dev))[: recipe.dev])
    few = dev.select(range(min(len(dev), PERTURBED)))
    train = train.select(_shuffled(len(train)))
    everything = encoded(train)
    held_out = min(round(len(train) * HELD_OUT_SHARE), HELD_OUT_LIMIT)
    rest = torch.arange(held_out, len(train))
    return TaskData(
        train.label_names,
        train.pairs is not None,
        train=everything.take(rest[: recipe.train]),
        teacher_train=everything.take(rest),
        inputs={
            "held out": train.select(range(held_out)),
            "clean": dev,
            **{name: _perturbed(few, perturbation) for name, perturbation in PERTURBATIONS.items()},
            EMBEDDING_NOISE: few,
        },
        labels={"held out": everything.labels[:held_out], "clean": encoded(dev).labels},
    )


def training_texts(folder: Path, each: int) -> list[tuple[str, str | None]]:
    """Texts of all training sets without their labels, at most `each` of a set."""
    texts: list[tuple[str, str | None]] = []
    for name, task in TASKS.items():
        found = read_texts(folder / name / f"train.{task.file_type}.gz")
        texts += [found[i] for i in _shuffled(len(found))[:each]]
    return texts
