# SPDX-License-Identifier: Apache-2.0
"""The tasks of GLUE (Wang et al. 2019, arXiv:1804.07461) by name, through the library `datasets`.

Columns, classes and splits are those of https://huggingface.co/datasets/nyu-mll/glue; AX, which has no
training set, is left out. Test sets have no labels there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bebert_edge.errors import TrainingError
from bebert_edge.training.files import Examples, read_examples

SOURCE = "nyu-mll/glue"
"""Name of the data set on the Hugging Face hub."""


@dataclass(frozen=True)
class Task:
    """One row of GLUE.

    Attributes:
        columns: One text column, or two.
        labels: Names of the classes in the order of their numbers; of the score for a regression.
        metric: What GLUE reports: accuracy, f1 (of class 1, beside accuracy), matthews or pearson (with Spearman).
        problem: As in `Examples`.
        dev: Names of the splits to evaluate on; the first is what the split `dev` means.
    """

    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metric: str = "accuracy"
    problem: str = "single_label"
    dev: tuple[str, ...] = ("validation",)


_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")

TASKS: Mapping[str, Task] = {
    "cola": Task(("sentence",), ("unacceptable", "acceptable"), "matthews"),
    "mnli": Task(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        dev=("validation_matched", "validation_mismatched"),
    ),
    "mrpc": Task(_PAIR, ("not_equivalent", "equivalent"), "f1"),
    "qnli": Task(("question", "sentence"), _ENTAILMENT),
    "qqp": Task(("question1", "question2"), ("not_duplicate", "duplicate"), "f1"),
    "rte": Task(_PAIR, _ENTAILMENT),
    "sst2": Task(("sentence",), ("negative", "positive")),
    "stsb": Task(_PAIR, ("score",), "pearson", "regression"),
    "wnli": Task(_PAIR, ("not_entailment", "entailment")),
}


def load_task(name: str, split: str = "train") -> Examples:
    """Loads a split of a GLUE task from the hub, or from the cache of `datasets`.

    Args:
        name: One of `TASKS`.
        split: `train`, `dev` (the task's first split to evaluate on), or a name of the data set's own, for instance
            `validation_mismatched` or `train[:1000]`.

    Raises:
        TrainingError: There is no such task, `datasets` is not installed or cannot get the split, or it has no labels.
    """
    task = _task(name)
    data = _load(name, task.dev[0] if split == "dev" else split)
    missing = {*task.columns, "label"} - set(data.column_names)
    if missing:
        raise TrainingError(f"GLUE's {name} has no column {min(missing)}, only {', '.join(data.column_names)}")
    names = getattr(data.features["label"], "names", None)
    if names is not None and tuple(names) != task.labels:
        raise TrainingError(
            f"GLUE's {name} has the classes {', '.join(names)}, expected {', '.join(task.labels)}: pass a file instead"
        )
    texts, *pairs = ([str(text) for text in data[column]] for column in task.columns)
    labels = _labels(name, split, task, data["label"])
    return Examples(texts, pairs[0] if pairs else None, labels, list(task.labels), task.problem)


def resolve(
    text: str | Path,
    split: str = "train",
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    classes: Sequence[str] | None = None,
    problem: str = "auto",
) -> Examples:
    """Reads a file, or else loads the task of this name.

    Args:
        text: A path, or one of `TASKS`. A file that exists comes before a task.
        split: Split of a task; a file is one split.
        text_column: As for `read_examples`, and so are all that follow; for a file only.
        text_pair_column: Column of a second text.
        label_column: Column of the label.
        classes: The classes in the order of the logits. A task's must be these, in any order.
        problem: What the labels are.

    Raises:
        TrainingError: There is neither such a file nor such a task, or it cannot be read.
    """
    path = Path(text)
    if path.is_file() or path.name != str(text) or path.suffix:
        return read_examples(
            path,
            text_column=text_column,
            text_pair_column=text_pair_column,
            label_column=label_column,
            classes=classes,
            problem=problem,
        )
    task = _task(str(text))
    if classes is None or tuple(classes) == task.labels:
        return load_task(str(text), split)
    if sorted(classes) != sorted(task.labels):
        raise TrainingError(
            f"GLUE's {text} has the labels {', '.join(task.labels)}, expected {', '.join(classes)}: pass a file of them"
        )
    examples = load_task(str(text), split)
    labels = [classes.index(task.labels[label]) for label in examples.labels]
    return replace(examples, labels=labels, label_names=list(classes))


def _task(name: str) -> Task:
    if name not in TASKS:
        raise TrainingError(
            f"{name} is neither a file nor a task: expected a .tsv, .csv or .jsonl file, or one of GLUE's tasks "
            f"{', '.join(TASKS)}"
        )
    return TASKS[name]


def _load(name: str, split: str) -> Any:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise TrainingError(
            f"GLUE's {name} needs the library datasets: run 'pip install datasets', or pass a file"
        ) from error
    try:
        return load_dataset(SOURCE, name, split=split)
    except Exception as error:  # of the hub, its connections, the cache, pyarrow: they have no common base
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainingError(
            f"GLUE's {name} cannot be loaded: load_dataset({SOURCE!r}, {name!r}, split={split!r}) says: {reason}; "
            "check the network and the split, or pass a .tsv, .csv or .jsonl file of the examples"
        ) from error


def _labels(name: str, split: str, task: Task, found: Sequence[Any]) -> list[Any]:
    """The labels as numbers; a test set has -1 throughout, which is no class."""
    labels: list[Any] = []
    for i, label in enumerate(found):
        if task.problem == "regression":
            valid = isinstance(label, (int, float)) and math.isfinite(label) and label >= 0
        else:
            valid = isinstance(label, int) and 0 <= label < len(task.labels)
        if not valid:
            raise TrainingError(
                f"GLUE's {name}: example {i} of {split} has label {label!r}, expected "
                + ("a score" if task.problem == "regression" else f"0 to {len(task.labels) - 1}")
                + f": its splits with labels are train, {', '.join(task.dev)}"
            )
        labels.append(float(label) if task.problem == "regression" else label)
    if not labels:
        raise TrainingError(f"GLUE's {name} has no examples in {split}: expected one or more")
    return labels
