# SPDX-License-Identifier: Apache-2.0
"""The study's only door to `bebert_edge.training`: trains one full-precision model or one member."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bebert_edge.checkpoints import load
from bebert_edge.checkpoints.bert import detect
from bebert_edge.checkpoints.files import read_json
from bebert_edge.evaluation.models import EmbeddingNoise, open_model
from bebert_edge.training.augmentation import nearest_tokens
from bebert_edge.training.boosting import adaboost_r2, samme
from bebert_edge.training.data import EncodedExamples
from bebert_edge.training.distillation import Objective
from bebert_edge.training.files import Examples
from bebert_edge.training.latent import load_float, load_member, load_tokenizer, save_member
from bebert_edge.training.splitting import split
from bebert_edge.training.students import make_student
from bebert_edge.training.tasks import TextClassification
from bebert_edge.training.trainer import Schedule, fit, predict

__all__ = [
    "load_float",
    "load_member",
    "load_tokenizer",
    "make_student",
    "nearest_tokens",
    "predict",
    "save_member",
    "split",
]

BOOST_RATE = 0.5
REPLACED = 0.2
NOISE = 0.1
"""Standard deviation of what is added to the output of the embeddings."""


@dataclass(frozen=True)
class Spec:
    """One training.

    Attributes:
        model: What is trained, in place: a float model, or a binarized one.
        data: What it is trained on.
        problem: Of the task.
        distill: What it learns from the teacher: `none`, `logits` or `layers`.
        teacher: That model; None to learn from the labels.
        weights: Loss weight of each example; None for equal weights.
        steps: Optimizer steps.
        batch: Examples of a step.
        rate: Peak learning rate.
        seed: Seed.
        neighbours: Tokens that a token may be replaced by [V, count].
    """

    model: Any
    data: EncodedExamples
    problem: str
    distill: str
    teacher: Any
    weights: Tensor | None
    steps: int
    batch: int
    rate: float
    seed: int
    neighbours: Tensor | None = None


@dataclass(frozen=True)
class Cost:
    """What a training took: seconds on the clock, and of the processor."""

    wall: float
    cpu: float


def train_member(spec: Spec, device: str = "cpu") -> Cost:
    """Trains a model and leaves it in evaluation mode."""
    objective = Objective(
        TextClassification(spec.problem), spec.distill, spec.teacher, replaced=REPLACED, neighbours=spec.neighbours
    )
    schedule = Schedule(spec.steps, spec.batch, spec.rate, spec.seed)
    torch.manual_seed(spec.seed)
    wall, cpu = time.perf_counter(), time.process_time()
    fit(spec.model, spec.data, schedule, objective, weights=spec.weights, device=device)
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def boosted(weights: Tensor, logits: Tensor, data: EncodedExamples, problem: str, classes: int) -> tuple[Tensor, float]:
    """The example weights after a member that answered `logits`, and its alpha."""
    if problem == "regression":
        return adaboost_r2(weights, (logits[:, 0] - data.labels).abs(), rate=BOOST_RATE)
    if problem == "multi_label":
        return samme(weights, ((logits > 0) != (data.labels > 0)).float().mean(-1), 2, BOOST_RATE)
    return samme(weights, logits.argmax(-1) != data.labels, classes, BOOST_RATE)


def answers(
    directories: list[Path],
    inputs: dict[str, Examples],
    problem: str,
    max_length: int,
    noise: dict[str, EmbeddingNoise],
) -> dict[str, NDArray[np.float64]]:
    """The logits [N, C] of a stored model, or the mean of members', for each input; those of `noise` with noise.

    Members are packed, exported and run natively, as they will be: many times as fast as in torch, with equal answers.
    """
    with tempfile.TemporaryDirectory(prefix="bebert-edge-") as scratch:
        directory = directories[0]
        if detect(read_json(directory / "config.json")):
            load(directories).save(scratch, overwrite=True)
            directory = Path(scratch)
        model = open_model(directory, threads=torch.get_num_threads(), max_length=max_length, problem=problem)
        return {
            name: model.predict(examples.texts, examples.pairs, noise=noise.get(name)).answer
            for name, examples in inputs.items()
        }
