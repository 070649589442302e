# SPDX-License-Identifier: Apache-2.0
"""Labelled examples in the order of a model's logits, and models with their labels in one order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.errors import EvaluationError, TrainingError
from bebert_edge.evaluation.models import EvaluatedModel

if TYPE_CHECKING:
    from bebert_edge.training import Examples

_NUMBERED = re.compile(r"(LABEL_)?(\d+)")


@dataclass(frozen=True)
class EvaluationData:
    """N labelled texts.

    Attributes:
        texts: The texts.
        pairs: The second text of each, or None.
        labels: int64 `[N]` classes; for multi-label tasks int64 `[N, C]`, 1 where a class holds; for regression
            float64 `[N]`.
        label_names: Names of the classes, in the order of the logits.
        problem: `single_label`, `multi_label` or `regression`.
        metric: Name of the metric that the data are known by, if they are.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: NDArray[Any]
    label_names: tuple[str, ...]
    problem: str
    metric: str | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def classes(self) -> int:
        """Logits of a text."""
        return len(self.label_names)


def read_data(
    path: str | Path,
    model: EvaluatedModel,
    *,
    split: str = "dev",
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    label_names: Sequence[str] | None = None,
    limit: int | None = None,
) -> EvaluationData:
    """Reads labelled text for a model.

    Labels are the model's own names, or the numbers of its logits.

    Args:
        path: A file that `bebert_edge.training.read_examples` reads, or the name of a GLUE task.
        model: Whose labels the file has.
        split: Split of a GLUE task; a file is one split.
        text_column: Column of the text, if its name is none of the usual ones.
        text_pair_column: Column of a second text.
        label_column: Column of the label, if it is neither `label` nor `labels`.
        label_names: The model's labels in the order of the classes of the file, where the file has other names.
        limit: Only the first so many examples.

    Raises:
        TrainingError: The file cannot be read, or has a label that the model does not know.
        EvaluationError: The task has other labels than the model, `label_names` are not the model's, or `limit` is less
            than 1.
    """
    from bebert_edge.training.files import read_examples
    from bebert_edge.training.glue import TASKS

    if limit is not None and limit < 1:
        raise EvaluationError(f"--limit is {limit}, expected 1 or more")
    if model.problem == "regression" and len(model.labels) != 1:
        raise EvaluationError(f"{model.path} gives {len(model.labels)} values, expected one: a score for each text")
    read = partial(
        read_examples,
        path,
        text_column=text_column,
        text_pair_column=text_pair_column,
        label_column=label_column,
        problem=model.problem,
    )
    metric = None
    if str(path) in TASKS and not Path(path).exists():
        examples, metric = _read_task(str(path), split, model), TASKS[str(path)].metric
    else:
        examples = read() if model.problem == "regression" else _read_classes(read, model, label_names)
    if model.problem == "regression":
        labels: NDArray[Any] = np.array(examples.labels, np.float64)
    else:
        labels = np.array(examples.labels) if model.problem == "single_label" else _multi_hot(examples.labels, model)
    pairs = None if examples.pairs is None else examples.pairs[:limit]
    return EvaluationData(examples.texts[:limit], pairs, labels[:limit], model.labels, model.problem, metric)


def _read_task(name: str, split: str, model: EvaluatedModel) -> Examples:
    from bebert_edge.training.glue import TASKS, load_task

    task = TASKS[name]
    unnamed = len(model.labels) == len(task.labels) and _unnamed(model.labels)
    if task.problem != model.problem or not (
        unnamed or model.problem == "regression" or sorted(task.labels) == sorted(model.labels)
    ):
        raise EvaluationError(
            f"GLUE's {name} is a {task.problem} task with the labels {', '.join(task.labels)}, {model.path} a "
            f"{model.problem} model with {_some(model.labels)}: expected the same. Choose another --data"
        )
    examples = load_task(name, split)
    if unnamed or model.problem == "regression":
        return examples
    return _renumbered(examples, [model.labels.index(label) for label in examples.label_names])


def _read_classes(read: Callable[..., Examples], model: EvaluatedModel, label_names: Sequence[str] | None) -> Examples:
    """Examples whose labels are numbers of the model's logits."""
    if label_names is not None:
        if sorted(label_names) != sorted(model.labels):
            raise EvaluationError(
                f"--label-names are {', '.join(label_names)}, expected the labels of {model.path}: "
                f"{', '.join(model.labels)}"
            )
        examples = read()
        if len(examples.label_names) != len(label_names):
            raise EvaluationError(
                f"--label-names has {len(label_names)} names, the file the classes {', '.join(examples.label_names)}"
            )
        order = [model.labels.index(name) for name in label_names]
        return _renumbered(examples, order)
    try:
        return read(classes=model.labels)
    except TrainingError as by_name:
        try:
            return read(classes=[str(i) for i in range(len(model.labels))])
        except TrainingError as by_number:
            if str(by_name) == str(by_number):  # nothing to do with the labels
                raise
            raise TrainingError(
                f"{by_name}. Read as numbers of the model's labels: {by_number}. Name the classes of the file in their "
                "order with --label-names"
            ) from None


def _renumbered(examples: Examples, order: Sequence[int]) -> Examples:
    def new(label: Any) -> Any:
        return [order[i] for i in label] if isinstance(label, list) else order[label]

    return replace(examples, labels=[new(label) for label in examples.labels])


def _multi_hot(labels: Sequence[Sequence[int]], model: EvaluatedModel) -> NDArray[np.int64]:
    hot = np.zeros((len(labels), len(model.labels)), np.int64)
    for row, classes in enumerate(labels):
        hot[row, list(classes)] = 1
    return hot


def best_named(models: Sequence[EvaluatedModel]) -> EvaluatedModel:
    """The first model whose labels have names, by which to read data for all; the first one where none has."""
    return next((model for model in models if not _unnamed(model.labels)), models[0])


def column_orders(models: Sequence[EvaluatedModel], data: EvaluationData) -> list[list[int]]:
    """For each model, which of its logits stand where the data have their labels, matched by name.

    Labels that are numbers, or `LABEL_` and a number, name nothing: they stand in the order of the others.

    Raises:
        EvaluationError: A model and the data, or two models, differ in their problem or their labels.
    """
    named = best_named(models)
    names, of = (named.labels, named.path) if _unnamed(data.label_names) else (data.label_names, "the data")
    return [_column_order(model, data.problem, names, of) for model in models]


def _column_order(model: EvaluatedModel, problem: str, names: Sequence[str], of: str) -> list[int]:
    if model.problem != problem:
        raise EvaluationError(
            f"{model.path} is a {model.problem} model, the data are {problem}: expected models of one task. "
            "Evaluate them one at a time"
        )
    same_number = len(model.labels) == len(names)
    if same_number and (problem == "regression" or _unnamed(model.labels) or _unnamed(names)):
        return list(range(len(names)))
    if sorted(model.labels) != sorted(names):
        raise EvaluationError(
            f"{model.path} has the labels {_some(model.labels)}, {of} {_some(names)}: expected the same names, in any "
            "order. Evaluate the models one at a time"
        )
    return [model.labels.index(name) for name in names]


def _unnamed(labels: Sequence[str]) -> bool:
    matches = [_NUMBERED.fullmatch(label) for label in labels]
    return all(match is not None and int(match[2]) == i for i, match in enumerate(matches))


def _some(labels: Sequence[str], count: int = 8) -> str:
    rest = len(labels) - count
    return ", ".join(labels[:count]) + (f" and {rest} more" if rest > 0 else "")
