# SPDX-License-Identifier: Apache-2.0
"""Reads labelled text from .tsv, .csv and .jsonl files, gzipped or not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bebert_edge.config import PROBLEMS
from bebert_edge.errors import TrainingError
from bebert_edge.training.labels import find_problem, read_labels

TEXT_COLUMNS = ("text", "sentence")
"""Tried in this order where no text column is named and no pair of `PAIR_COLUMNS` is there."""

PAIR_COLUMNS = (
    ("text", "text_pair"),
    ("query", "document"),
    ("sentence1", "sentence2"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
)
"""Two texts: tried in this order where neither text column is named. But for the first two, they are GLUE's."""

_LONGEST_FIELD = 2**31 - 1  # characters: as many as fit a C long everywhere

LABEL_COLUMNS = ("label", "labels")
"""Tried in this order where no label column is named."""

SCORE_COLUMNS = (*LABEL_COLUMNS, "score")
"""The same where labels are scores."""


@dataclass(frozen=True)
class Examples:
    """Labelled texts.

    Attributes:
        texts: The texts.
        pairs: The second text of each example, or None.
        labels: One entry for each text, by `problem`: the class, an index into `label_names` (single_label); the
            indices of the classes that hold, ascending, maybe none (multi_label); the score, a float (regression).
        label_names: Names of the classes; a regression's one name.
        problem: `single_label`, `multi_label` or `regression`.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: list[Any]
    label_names: list[str]
    problem: str = "single_label"

    @property
    def task(self) -> str:
        """The kind of task that these are examples of."""
        return "text-classification"

    @property
    def text_pair(self) -> bool:
        """Whether an input is two texts."""
        return self.pairs is not None

    def __len__(self) -> int:
        return len(self.texts)

    def content(self) -> list[Any]:
        """All that a training depends on, as JSON values."""
        return [self.texts, self.pairs, self.labels, self.label_names, self.problem]

    def renamed(self, names: Sequence[str]) -> Examples:
        """The same examples with other names for the classes.

        Raises:
            TrainingError: There are not as many names as classes, or one occurs twice.
        """
        if len(set(names)) != len(names) or len(names) != len(self.label_names):
            raise TrainingError(
                f"label names are {', '.join(names)}, expected one each for the classes {', '.join(self.label_names)}"
            )
        return replace(self, label_names=list(names))

    def select(self, indices: Iterable[int]) -> Examples:
        """The examples of these indices, in their order."""
        chosen = list(indices)
        return replace(
            self,
            texts=[self.texts[i] for i in chosen],
            pairs=None if self.pairs is None else [self.pairs[i] for i in chosen],
            labels=[self.labels[i] for i in chosen],
        )

    def split(self, share: float, seed: int) -> tuple[Examples, Examples]:
        """Splits off held-out examples at random; both parts keep the order of the whole.

        Each class (of `single_label`; all examples otherwise) gives `share` of its examples, rounded, but at least one
        and never its last: a class of one example stays with the training examples.

        Args:
            share: Share to hold out, between 0 and 1.
            seed: The same seed splits the same examples alike.

        Returns:
            The examples to train on, and those held out.

        Raises:
            TrainingError: `share` is not between 0 and 1, or there are too few examples to hold one out.
        """
        groups = [label if self.problem == "single_label" else None for label in self.labels]
        held_out = hold_out(groups, share, seed)
        return self.select(i for i in range(len(self)) if i not in held_out), self.select(sorted(held_out))


def hold_out(groups: Sequence[object], share: float, seed: int) -> set[int]:
    """Examples to hold out: of every group a share, rounded, but at least one and never the last.

    Args:
        groups: The group of each example.
        share: Share to hold out, between 0 and 1.
        seed: The same seed holds out the same.

    Raises:
        TrainingError: `share` is not between 0 and 1, or no group has two examples.
    """
    if not 0 < share < 1:
        raise TrainingError(f"the share to hold out is {share}, expected a number between 0 and 1")
    members: dict[object, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    generator = random.Random(seed)
    held_out: set[int] = set()
    for key in sorted(members, key=repr):
        group = members[key]
        count = min(max(round(share * len(group)), 1), len(group) - 1)
        held_out.update(generator.sample(group, count))
    if not held_out:
        raise TrainingError(
            f"{len(groups)} examples are too few to hold some out, expected a class of two or more: "
            "give held-out examples in a file of their own"
        )
    return held_out


def kind_of(path: Path) -> str:
    """The ending of a file's name, without `.gz`."""
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def read_text(path: Path) -> str:
    """The text of a file, gzipped or not.

    Raises:
        TrainingError: It cannot be read, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TrainingError(
            f"{path}: line {line} is not UTF-8 (byte {error.object[error.start]:#04x}): convert the file to UTF-8"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TrainingError(f"{path} is not a whole gzip file ({error}): copy it again") from error
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}") from error


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The records of a file with their line numbers; values are text but in JSON."""
    kind = kind_of(path)
    if kind not in (".tsv", ".csv", ".jsonl"):
        raise TrainingError(f"{path}: unknown file type {kind!r}, expected .tsv, .csv or .jsonl, optionally with .gz")
    text = read_text(path)
    if kind == ".jsonl":
        return list(_json_rows(path, text))
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        return list(_table_rows(path, text, kind))
    finally:
        csv.field_size_limit(limit)  # it is the whole process's


def _table_rows(path: Path, text: str, kind: str) -> Iterator[tuple[int, dict[str, str]]]:
    # Tab-separated files of the field are unquoted: a lone quotation mark is part of the text.
    dialect: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == ".tsv" else {"delimiter": ","}
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, **dialect)
    try:
        columns = reader.fieldnames or ()
        if len(set(columns)) != len(columns):
            raise TrainingError(f"{path}: two columns have one name in {', '.join(columns)}: rename one")
        for row in reader:
            if None in row or None in row.values():
                found = sum(v is not None for v in row.values()) + len(row.get(None, [])) - (None in row)
                raise TrainingError(f"{path}: line {reader.line_num} has {found} columns, expected {len(columns)}")
            yield reader.line_num, row
    except csv.Error as error:
        raise TrainingError(f"{path}: line {reader.line_num} cannot be read: {error}") from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TrainingError(f"{path}: line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TrainingError(f"{path}: line {number} is a {type(row).__name__}, expected a JSON object")
        yield number, row


def _texts(path: Path, rows: list[tuple[int, dict[str, Any]]], column: str) -> list[str]:
    texts = []
    for line, row in rows:
        value = row[column]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = json.dumps(value)
        if not isinstance(value, str):
            raise TrainingError(f"{path}: line {line} has {json.dumps(value):.60} in column {column!r}, expected text")
        try:
            value.encode()
        except UnicodeEncodeError as error:  # JSON can escape a lone surrogate, which no tokenizer takes
            raise TrainingError(f"{path}: line {line}, column {column!r} has half a character: {error}") from error
        texts.append(value)
    return texts


def _text_columns(found: Iterable[str], text: str | None, pair: str | None) -> tuple[str, str | None]:
    """The columns of the texts, by name or by default."""
    columns = set(found) - {pair}
    if text is not None:
        return text, pair
    if pair is None:
        for first, second in PAIR_COLUMNS:
            if first in columns and second in columns:
                return first, second
    candidates = (*TEXT_COLUMNS, *(first for first, _ in PAIR_COLUMNS if pair is not None))
    return next((name for name in candidates if name in columns), TEXT_COLUMNS[0]), pair


def _some_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = _rows(path)
    if not rows:
        raise TrainingError(f"{path} has no examples: expected a header and one line an example, or JSON lines")
    return rows


def read_rows(path: str | Path) -> list[tuple[int, dict[str, Any]]]:
    """The records of a .tsv, .csv or .jsonl file, optionally gzipped, with their line numbers.

    Raises:
        TrainingError: The file cannot be read, or has no records.
    """
    return _some_rows(Path(path))


def _require_columns(path: Path, rows: list[tuple[int, dict[str, Any]]], columns: dict[str, str | None]) -> None:
    for number, row in rows:
        for option, column in columns.items():
            if column is not None and column not in row:
                raise TrainingError(
                    f"{path}: line {number} has no column {column!r}, only {', '.join(row)}: name one with {option}"
                )


def read_texts(
    path: str | Path, *, text_column: str | None = None, text_pair_column: str | None = None
) -> list[tuple[str, str | None]]:
    """Reads texts, or pairs of texts, without labels.

    Args:
        path: A file as for `read_examples`, or .txt: a text a line, empty lines left out.
        text_column: As for `read_examples`.
        text_pair_column: As for `read_examples`.

    Raises:
        TrainingError: The file cannot be read, has no texts, or lacks a column.
    """
    path = Path(path)
    if kind_of(path) == ".txt":
        lines = [line.strip() for line in read_text(path).splitlines()]
        if not any(lines):
            raise TrainingError(f"{path} has no texts: expected one a line")
        return [(line, None) for line in lines if line]
    rows = _some_rows(path)
    text_column, text_pair_column = _text_columns(rows[0][1], text_column, text_pair_column)
    _require_columns(path, rows, {"--text-column": text_column, "--text-pair-column": text_pair_column})
    texts = _texts(path, rows, text_column)
    pairs = [None] * len(texts) if text_pair_column is None else _texts(path, rows, text_pair_column)
    return list(zip(texts, pairs, strict=True))


def read_examples(
    path: str | Path,
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    classes: Sequence[str] | None = None,
    problem: str = "auto",
) -> Examples:
    """Reads labelled text.

    Args:
        path: A .tsv (unquoted), .csv or .jsonl file with named columns, optionally gzipped, in UTF-8.
        text_column: Column of the text; by default one of `PAIR_COLUMNS` or `TEXT_COLUMNS`.
        text_pair_column: Column of a second text; by default that of `PAIR_COLUMNS` where `text_column` is not named.
        label_column: Column of the label; by default one of `LABEL_COLUMNS`, or of `SCORE_COLUMNS` for `regression`.
        classes: The classes, in the order of the logits; by default those of the file. Others are an error.
        problem: `single_label`, `multi_label` (lists, or text joined by `|`), `regression`, or `auto`: `multi_label`
            where a label is a list; `regression` where no classes are given, every label is a number and one of them
            is no integer; otherwise `single_label`.

    Raises:
        TrainingError: The file cannot be read, has no examples, lacks a column, or has labels that do not fit.
    """
    path = Path(path)
    if problem not in (*PROBLEMS, "auto"):
        raise TrainingError(f"--problem is {problem!r}, expected one of auto, {', '.join(PROBLEMS)}")
    rows = _some_rows(path)
    text_column, text_pair_column = _text_columns(rows[0][1], text_column, text_pair_column)
    if label_column is None:
        known = SCORE_COLUMNS if problem == "regression" else LABEL_COLUMNS
        label_column = next((name for name in known if name in rows[0][1]), known[0])
    columns = {"--text-column": text_column, "--text-pair-column": text_pair_column, "--label-column": label_column}
    _require_columns(path, rows, columns)
    texts = _texts(path, rows, text_column)
    pairs = None if text_pair_column is None else _texts(path, rows, text_pair_column)
    labels = [(number, row[label_column]) for number, row in rows]
    labels = [(number, label.strip() if isinstance(label, str) else label) for number, label in labels]
    if problem == "auto":
        problem = find_problem(labels, classes)
    numbers, names = read_labels(path, labels, problem, classes)
    return Examples(texts, pairs, numbers, names, problem)
