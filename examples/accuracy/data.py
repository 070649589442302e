# SPDX-License-Identifier: Apache-2.0
"""The study's data sets as token ids: train, held-out and dev, and dev as noisy users would type it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plan import HELD_OUT_LIMIT, HELD_OUT_SHARE, PERTURBED, TASKS, Recipe, Task

from bebert_edge.evaluation.perturbation import DROP_WORDS, TYPOS, Perturbation, perturb
from bebert_edge.training.data import EncodedExamples, encode
from bebert_edge.training.files import Examples, read_examples

PERTURBATIONS = {"typos": Perturbation(TYPOS, 0.1), "dropped words": Perturbation(DROP_WORDS, 0.2)}


@dataclass(frozen=True)
class TaskData:
    """One task, tokenized.

    Attributes:
        label_names: Of its logits.
        text_pair: Whether an input is two texts.
        train: What members are trained on.
        teacher_train: What the teacher is trained on.
        held_out: What nothing is trained on but temperatures.
        inputs: Dev under the name `clean`, and its first examples perturbed.
    """

    label_names: list[str]
    text_pair: bool
    train: EncodedExamples
    teacher_train: EncodedExamples
    held_out: EncodedExamples
    inputs: dict[str, EncodedExamples]


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
        return encode(examples, tokenizer, recipe.max_length)

    dev = dev.select(_shuffled(len(dev))[: recipe.dev])
    few = dev.select(range(min(len(dev), PERTURBED)))
    everything = encoded(train.select(_shuffled(len(train))))
    held_out = min(round(len(everything) * HELD_OUT_SHARE), HELD_OUT_LIMIT)
    rest = torch.arange(held_out, len(everything))
    return TaskData(
        train.label_names,
        train.pairs is not None,
        train=everything.take(rest[: recipe.train]),
        teacher_train=everything.take(rest),
        held_out=everything.take(torch.arange(held_out)),
        inputs={
            "clean": encoded(dev),
            **{name: encoded(_perturbed(few, perturbation)) for name, perturbation in PERTURBATIONS.items()},
            "embedding noise": encoded(few),
        },
    )


def training_texts(folder: Path, tokenizer: Any, each: int, max_length: int) -> EncodedExamples:
    """Texts of all training sets without their labels, at most `each` of a set."""
    parts = []
    for name, task in TASKS.items():
        examples = _read(folder / name, "train", task)
        parts.append(encode(examples.select(_shuffled(len(examples))[:each]), tokenizer, max_length))
    ids = [ids for part in parts for ids in part.ids]
    token_types = [types for part in parts for types in part.token_types]
    return EncodedExamples(ids, token_types, torch.zeros(len(ids), dtype=torch.int64), parts[0].pad_id)
