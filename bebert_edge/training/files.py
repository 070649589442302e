# SPDX-License-Identifier: Apache-2.0
"""Reads labelled text from .tsv, .csv and .jsonl files, gzipped or not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bebert_edge.errors import TrainingError

TEXT_COLUMNS = ("text", "sentence")
"""Tried in this order where no text column is named."""


@dataclass(frozen=True)
class Examples:
    """Texts with class labels.

    Attributes:
        texts: The texts.
        pairs: The second text of each example, or None.
        labels: Class of each example: an index into `label_names`.
        label_names: Names of the classes.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: list[int]
    label_names: list[str]

    def __len__(self) -> int:
        return len(self.texts)

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


def _read_text(path: Path) -> str:
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


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The records of a file with their line numbers."""
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind not in (".tsv", ".csv", ".jsonl"):
        raise TrainingError(f"{path}: unknown file type {kind!r}, expected .tsv, .csv or .jsonl, optionally with .gz")
    text = _read_text(path)
    if kind == ".jsonl":
        return list(_json_rows(path, text))
    # Tab-separated files of the field are unquoted: a lone quotation mark is part of the text.
    dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == ".tsv" else {"delimiter": ","}
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, **dialect)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                found = sum(v is not None for v in row.values()) + len(row.get(None, [])) - (None in row)
                expected = len(reader.fieldnames or ())
                raise TrainingError(f"{path}: line {reader.line_num} has {found} columns, expected {expected}")
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise TrainingError(f"{path}: line {reader.line_num} cannot be read: {error}") from error
    return rows


def _json_rows(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TrainingError(f"{path}: line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TrainingError(f"{path}: line {number} is a {type(row).__name__}, expected a JSON object")
        rows.append((number, {key: v if isinstance(v, str) else json.dumps(v) for key, v in row.items()}))
    return rows


def _class_names(labels: set[str]) -> list[str]:
    """Classes in the order of their numbers where all are numbers, alphabetically otherwise."""
    return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)


def read_examples(
    path: str | Path,
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str = "label",
    classes: Sequence[str] | None = None,
) -> Examples:
    """Reads labelled text.

    Args:
        path: A .tsv (unquoted), .csv or .jsonl file with named columns, optionally gzipped, in UTF-8.
        text_column: Column of the text; by default `text` or `sentence`.
        text_pair_column: Column of a second text.
        label_column: Column of the class.
        classes: The classes, in the order of the logits; by default those of the file. Others are an error.

    Raises:
        TrainingError: The file cannot be read, has no examples, lacks a column, or has other or too few classes.
    """
    path = Path(path)
    rows = _rows(path)
    if not rows:
        raise TrainingError(f"{path} has no examples: expected a header and one line an example, or JSON lines")
    if text_column is None:
        text_column = next((name for name in TEXT_COLUMNS if name in rows[0][1]), TEXT_COLUMNS[0])
    columns = {"--text-column": text_column, "--text-pair-column": text_pair_column, "--label-column": label_column}
    for number, row in rows:
        for option, column in columns.items():
            if column is not None and column not in row:
                raise TrainingError(
                    f"{path}: line {number} has no column {column!r}, only {', '.join(row)}: name one with {option}"
                )
    found = [row[label_column].strip() for _, row in rows]
    if classes is None:
        classes = _class_names(set(found))
        if len(classes) < 2:
            raise TrainingError(f"{path}: every label is {classes[0]!r}, expected two or more classes")
    numbers = {name: i for i, name in enumerate(classes)}
    for (number, _), label in zip(rows, found, strict=True):
        if label not in numbers:
            raise TrainingError(f"{path}: line {number} has label {label!r}, expected one of {', '.join(classes)}")
    pairs = None if text_pair_column is None else [row[text_pair_column] for _, row in rows]
    return Examples([row[text_column] for _, row in rows], pairs, [numbers[label] for label in found], list(classes))
