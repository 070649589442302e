# SPDX-License-Identifier: Apache-2.0
"""One unit of the study: what it is trained on, and what it answers afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from collecting import score_of
from data import EMBEDDING_NOISE
from engine import (
    NOISE,
    Spec,
    answers,
    boosted,
    load_float,
    load_member,
    make_student,
    predict,
    save_member,
    train_member,
)
from plan import KIND_SEEDS, MODEL, TASKS, Unit
from torch import Tensor

from bebert_edge.evaluation.models import EmbeddingNoise
from bebert_edge.training.boosting import bootstrap

if TYPE_CHECKING:
    from study import Study

TEACHER_BATCH = 32
BOOSTED = ("boost", "labels")


def _teacher_spec(study: Study, unit: Unit) -> Spec:
    task, recipe, data = TASKS[unit.task], study.recipes[unit.task], study.data(unit.task)
    torch.manual_seed(unit.seed)
    model = load_float(study.backbone, data.label_names, task.problem, new_head=True)
    steps = max(1, round(recipe.teacher_epochs * len(data.teacher_train) / TEACHER_BATCH))
    return Spec(
        model, data.teacher_train, task.problem, None, None, steps, TEACHER_BATCH, recipe.teacher_rate, unit.seed
    )


def _member_spec(study: Study, unit: Unit) -> Spec:
    task, recipe, data = TASKS[unit.task], study.recipes[unit.task], study.data(unit.task)
    seed = 1000 * unit.seed + KIND_SEEDS[unit.kind] + unit.index
    teacher = load_float(study.path(unit.teacher()) / MODEL, data.label_names, task.problem).eval()
    previous, weights, train = unit.previous(), None, data.train
    if previous is not None:
        model = load_member(study.path(previous) / MODEL)
    else:
        model = make_student(teacher, unit.bits, initial=study.initial.get(unit.bits), seed=seed)
    if unit.kind in BOOSTED and previous is not None:
        weights = torch.from_numpy(study.outputs(previous)["next_weights"])
    if unit.kind == "bag":
        train = train.take(bootstrap(len(train), seed))
    taught_by = None if unit.kind == "labels" else teacher
    return Spec(model, train, task.problem, taught_by, weights, unit.steps(recipe), recipe.batch, recipe.rate, seed)


def _answers(study: Study, unit: Unit, directory: Path) -> dict[str, Any]:
    """Logits for held-out examples and for dev, clean and perturbed."""
    data, recipe = study.data(unit.task), study.recipes[unit.task]
    inputs = {name: data.inputs[name] for name in (data.inputs if unit.perturbed else ("held out", "clean"))}
    noise = {EMBEDDING_NOISE: EmbeddingNoise(NOISE, unit.index)}
    outputs = answers(directory, inputs, TASKS[unit.task].problem, recipe.max_length, noise)
    return {name: logits.astype(np.float16) for name, logits in outputs.items()}


def train_unit(study: Study, unit: Unit, directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains a unit and writes its model.

    Returns:
        What `result.json` says, and the arrays of `outputs.npz`.
    """
    task, recipe, data = TASKS[unit.task], study.recipes[unit.task], study.data(unit.task)
    spec = _teacher_spec(study, unit) if unit.kind == "teacher" else _member_spec(study, unit)
    cost = train_member(spec, study.device)
    if unit.kind == "teacher":
        spec.model.save_pretrained(directory)
        study.tokenizer.save_pretrained(directory)
    else:
        save_member(
            spec.model,
            study.tokenizer,
            directory,
            bits=unit.bits,
            labels=data.label_names,
            text_pair=data.text_pair,
            max_length=min(recipe.max_length, spec.model.config.max_position_embeddings),
            problem=task.problem,
        )
    outputs = _answers(study, unit, directory)
    result: dict[str, Any] = {
        "steps": spec.steps,
        "batch": spec.batch,
        "rate": spec.rate,
        "train_examples": len(spec.data),
        "seconds": round(cost.wall, 1),
        "cpu_seconds": round(cost.cpu, 1),
        "threads": torch.get_num_threads(),
    }
    if unit.kind in BOOSTED or (unit.kind, unit.index) == ("independent", 0):
        weights: Tensor = torch.ones(len(data.train)) if spec.weights is None else spec.weights
        logits = predict(spec.model, data.train, exact=False)
        weights, result["alpha"] = boosted(weights, logits, data.train, task.problem, len(data.label_names))
        outputs["next_weights"] = weights.numpy().astype(np.float32)
    if unit.kind == "teacher":
        outputs["labels"] = data.labels["clean"].numpy()
        outputs["held out labels"] = data.labels["held out"].numpy()
    result["score"] = score_of(outputs["clean"], data.labels["clean"].numpy(), unit.task)
    return result, outputs
