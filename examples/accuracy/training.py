# SPDX-License-Identifier: Apache-2.0
"""One unit of the study: what it is trained on, and what it answers afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from collecting import score_of
from data import EMBEDDING_NOISE
from engine import (
    NOISE,
    Cost,
    Spec,
    answers,
    boosted,
    load_float,
    load_member,
    make_student,
    predict,
    save_member,
    split,
    train_member,
)
from plan import KIND_SEEDS, MODEL, TASKS, Unit
from torch import Tensor

from bebert_edge.evaluation.models import EmbeddingNoise
from bebert_edge.training.boosting import bootstrap

if TYPE_CHECKING:
    from study import Study

TEACHER_BATCH = 32
MORE_BITS = {1: 2, 4: 8}
"""Bits of the first half of a staged training."""
BOOSTED = ("boost", "labels", "logits")
DISTILL = {"labels": "none", "logits": "logits"}
"""What a kind of member learns from its teacher; the others learn its layers."""


def _teacher_spec(study: Study, unit: Unit) -> Spec:
    task, recipe, data = TASKS[unit.task], study.recipes[unit.task], study.data(unit.task)
    torch.manual_seed(unit.seed)
    model = load_float(study.backbone, data.label_names, task.problem, new_head=True)
    steps = max(1, round(recipe.teacher_epochs * len(data.teacher_train) / TEACHER_BATCH))
    return Spec(
        model,
        data.teacher_train,
        task.problem,
        "none",
        None,
        None,
        steps,
        TEACHER_BATCH,
        recipe.teacher_rate,
        unit.seed,
    )


def _seed(unit: Unit) -> int:
    return 1000 * unit.seed + KIND_SEEDS[unit.kind] + unit.index


def _student(study: Study, unit: Unit, bits: int, **settings: Any) -> Any:
    """A binary model that starts from the base of as many bits as the unit has."""
    teacher = study.teacher(unit.task)
    return make_student(teacher, bits, initial=study.initial.get(unit.bits), seed=_seed(unit), **settings)


def _member_spec(study: Study, unit: Unit) -> Spec:
    task, recipe, data = TASKS[unit.task], study.recipes[unit.task], study.data(unit.task)
    previous, weights, train = unit.previous(), None, data.train
    model = load_member(study.path(previous) / MODEL) if previous else _student(study, unit, unit.bits)
    if unit.kind in BOOSTED and previous is not None:
        weights = torch.from_numpy(study.outputs(previous)["next_weights"])
    if unit.kind == "bag":
        train = train.take(bootstrap(len(train), _seed(unit)))
    distill, steps = DISTILL.get(unit.kind, "layers"), unit.steps(recipe)
    teacher = study.teacher(unit.task)
    return Spec(
        model,
        train,
        task.problem,
        distill,
        teacher,
        weights,
        steps,
        recipe.batch,
        recipe.rate,
        _seed(unit),
        study.neighbours,
    )


def _save(study: Study, unit: Unit, model: Any, directory: Path) -> None:
    if unit.kind == "teacher":
        model.save_pretrained(directory)
        study.tokenizer.save_pretrained(directory)
        return
    data, recipe = study.data(unit.task), study.recipes[unit.task]
    save_member(
        model,
        study.tokenizer,
        directory,
        bits=unit.bits,
        labels=data.label_names,
        text_pair=data.text_pair,
        max_length=min(recipe.max_length, model.config.max_position_embeddings),
        problem=TASKS[unit.task].problem,
    )


def _train(study: Study, unit: Unit, spec: Spec, directory: Path) -> tuple[list[Cost], list[Path]]:
    """Trains and writes the models of a unit: one, but for the two halves of a ternary one."""
    half = spec.steps // 2
    costs = []
    if unit.kind == "staged":
        first = replace(spec, model=_student(study, unit, MORE_BITS[unit.bits]), steps=half)
        costs.append(train_member(first, study.device))
        student = make_student(study.teacher(unit.task), unit.bits, initial=first.model, seed=spec.seed)
        spec = replace(spec, model=student, steps=spec.steps - half)
    if unit.kind != "ternary":
        costs.append(train_member(spec, study.device))
        _save(study, unit, spec.model, directory)
        return costs, [directory]
    whole = replace(spec, model=_student(study, unit, unit.bits, ternary=True))
    costs.append(train_member(whole, study.device))
    directories = []
    for i, state in enumerate(split(whole.model)):
        part = replace(spec, model=_student(study, unit, unit.bits), steps=half, seed=spec.seed + 1 + i)
        part.model.load_state_dict(state)
        costs.append(train_member(part, study.device))
        directories.append(directory / f"half-{i}")
        _save(study, unit, part.model, directories[-1])
    return costs, directories


def _answers(study: Study, unit: Unit, directories: list[Path]) -> dict[str, Any]:
    """Logits for held-out examples and for dev, clean and perturbed."""
    data, recipe = study.data(unit.task), study.recipes[unit.task]
    inputs = {name: data.inputs[name] for name in (data.inputs if unit.perturbed else ("held out", "clean"))}
    noise = {EMBEDDING_NOISE: EmbeddingNoise(NOISE, unit.index)}
    outputs = answers(directories, inputs, TASKS[unit.task].problem, recipe.max_length, noise)
    return {name: logits.astype(np.float16) for name, logits in outputs.items()}


def train_unit(study: Study, unit: Unit, directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains a unit and writes its model.

    Returns:
        What `result.json` says, and the arrays of `outputs.npz`.
    """
    task, data = TASKS[unit.task], study.data(unit.task)
    spec = _teacher_spec(study, unit) if unit.kind == "teacher" else _member_spec(study, unit)
    costs, directories = _train(study, unit, spec, directory)
    outputs = _answers(study, unit, directories)
    result: dict[str, Any] = {
        "steps": spec.steps,
        "batch": spec.batch,
        "rate": spec.rate,
        "train_examples": len(spec.data),
        "seconds": round(sum(cost.wall for cost in costs), 1),
        "cpu_seconds": round(sum(cost.cpu for cost in costs), 1),
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
