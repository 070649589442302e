# SPDX-License-Identifier: Apache-2.0
"""From the labels of a file to those that training takes: classes, sets of classes, or scores."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from bebert_edge.errors import TrainingError

SEPARATOR = "|"
"""Between the classes of a multi-label example, where they are text and not a list."""

SCORE = "score"
"""Name of a regression's one output."""

Labels = list[tuple[int, Any]]
"""Labels as a file has them (str, or any JSON value), with their line numbers."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?\d{1,300}", re.ASCII)


def _number(label: Any) -> float | None:
    """The number that a label is (maybe NaN or infinite), or None."""
    if isinstance(label, str):
        return float(label) if _NUMBER.fullmatch(label.strip()) else None
    if not isinstance(label, (int, float)) or isinstance(label, bool):
        return None
    try:
        return float(label)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf


def find_problem(labels: Labels, classes: Sequence[str] | None) -> str:
    """What the labels are: `multi_label` where one is a list, `regression` where all are numbers and one is no integer.

    Labels are `single_label` otherwise, and where `classes` are given and no label is a list.
    """
    if any(isinstance(label, list) for _, label in labels):
        return "multi_label"
    if classes is None:
        numbers = [_number(label) for _, label in labels]
        if None not in numbers and not all(n is not None and n.is_integer() for n in numbers):
            return "regression"
    return "single_label"


def read_labels(
    path: object, labels: Labels, problem: str, classes: Sequence[str] | None
) -> tuple[list[Any], list[str]]:
    """Labels as numbers, and the names of the classes; see `bebert_edge.training.read_examples`.

    Args:
        path: The file, for errors.
        labels: Its labels.
        problem: One of `bebert_edge.config.PROBLEMS`.
        classes: The classes, in the order of the logits; by default those that occur.

    Raises:
        TrainingError: A label is missing, not of this problem or not among the classes, or there are too few classes.
    """
    if problem == "regression":
        if classes is not None and len(classes) != 1:
            raise TrainingError(f"{path}: {len(classes)} label names are given for a score, expected one")
        return [_score(path, number, label) for number, label in labels], list(classes or [SCORE])
    if problem == "multi_label":
        sets = [_class_set(path, number, label) for number, label in labels]
        names = _classes(path, (name for chosen in sets for name in chosen), classes, at_least=1)
        index = _Index(path, names)
        return [
            sorted(index(number, name) for name in chosen) for (number, _), chosen in zip(labels, sets, strict=True)
        ], names
    found = [_class(path, number, label) for number, label in labels]
    names = _classes(path, found, classes, at_least=2)
    index = _Index(path, names)
    return [index(number, name) for (number, _), name in zip(labels, found, strict=True)], names


def _score(path: object, line: int, label: Any) -> float:
    number = _number(label)
    if number is None or not math.isfinite(number):
        raise TrainingError(f"{path}: line {line} has label {label!r:.60}, expected a finite number as the score")
    return number


def _class(path: object, line: int, label: Any) -> str:
    if isinstance(label, list):
        raise TrainingError(
            f"{path}: line {line} has a list of labels, expected one class: pass --problem multi_label for lists"
        )
    if label is None or label == "" or isinstance(label, dict) or (isinstance(label, float) and math.isnan(label)):
        raise TrainingError(f"{path}: line {line} has label {label!r}, expected a class: remove the line or label it")
    return label if isinstance(label, str) else json.dumps(label)


def _class_set(path: object, line: int, label: Any) -> set[str]:
    if isinstance(label, str):
        return {name.strip() for name in label.split(SEPARATOR)} - {""}
    if not isinstance(label, list):
        raise TrainingError(
            f"{path}: line {line} has label {json.dumps(label)}, expected a list of classes (an empty one where none "
            "holds), as in every line of a multi-label file"
        )
    for name in label:
        if not isinstance(name, (str, int)) or isinstance(name, bool) or not str(name).strip():
            raise TrainingError(f"{path}: line {line} has {name!r} among its labels, expected names or integers")
    return {str(name).strip() for name in label}


def _classes(path: object, found: Iterable[str], classes: Sequence[str] | None, at_least: int) -> list[str]:
    """The classes given, or those found: in the order of their numbers where all are integers, else alphabetically."""
    if classes is not None:
        return list(classes)
    names = set(found)
    if len(names) < at_least:
        there_is = f"every label is {names.pop()!r}" if names else "no line has a label"
        raise TrainingError(f"{path}: {there_is}, expected {'two' if at_least > 1 else 'one'} or more classes")
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


class _Index:
    """Numbers of classes by their names."""

    def __init__(self, path: object, names: Sequence[str]) -> None:
        self.path = path
        self.numbers = {name: i for i, name in enumerate(names)}

    def __call__(self, line: int, name: str) -> int:
        if name not in self.numbers:
            raise TrainingError(
                f"{self.path}: line {line} has label {name!r}, expected one of {', '.join(self.numbers)}"
            )
        return self.numbers[name]
