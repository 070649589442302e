# SPDX-License-Identifier: Apache-2.0
"""Texts from files of any size, one line at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePath

from bebert_edge.errors import RuntimeInputError
from bebert_edge.runtime.text import Text

TEXT_COLUMNS = ("text", "sentence", "sentence1", "premise", "question", "query", "document")
"""Names tried for the text's column when none is given."""
PAIR_COLUMNS = ("pair", "sentence2", "hypothesis", "question2", "document", "context")
"""Names tried for the pair's column when none is given."""
DOCUMENT_COLUMNS = tuple(dict.fromkeys(("document", *TEXT_COLUMNS)))
"""Names tried for the text's column when the texts are documents of one query."""

_FIELD_LIMIT = 2**31 - 1  # csv refuses fields above 128 KiB by default; a C long is 32 bits on Windows


def read_texts(
    lines: Iterable[bytes],
    name: str,
    *,
    text_pair: bool,
    text_column: str | None = None,
    pair_column: str | None = None,
    known: tuple[str, ...] = TEXT_COLUMNS,
) -> Iterator[Text]:
    """Reads the texts of an opened file; the ending of its name says how.

    - `.csv`: comma-separated, with quotes and a header line.
    - `.tsv`: tab-separated, without quotes, with a header line.
    - `.jsonl`: one JSON object a line; blank lines are skipped.
    - anything else: one text a line, an empty line being an empty text; for tasks on pairs text, tab, pair.

    Args:
        lines: The lines of the file, undecoded.
        name: The file's name, for its ending and for messages.
        text_pair: Whether each input is a text and its pair.
        text_column: Column or key of the text; by default the first of `known` that there is.
        pair_column: Column or key of the pair; by default the first of `PAIR_COLUMNS` that there is.
        known: Names that the text's column may have.

    Raises:
        RuntimeInputError: A line is not UTF-8 or lacks a column, or the file holds no text.
    """
    decoded = _decode(lines, name)
    wanted: list[tuple[str | None, tuple[str, ...], str]] = [(text_column, known, "--text-column")]
    if text_pair:
        wanted.append((pair_column, PAIR_COLUMNS, "--pair-column"))

    def choose(columns: Sequence[str]) -> list[str]:
        return [_choose(columns, asked, known, option, name) for asked, known, option in wanted]

    ending = PurePath(name).suffix.lower()
    if ending in (".csv", ".tsv"):
        rows = _table(decoded, name, choose, tabs=ending == ".tsv")
    elif ending in (".jsonl", ".ndjson"):
        rows = _json_lines(decoded, name, choose)
    else:
        rows = _plain(decoded, name, text_pair)
    empty = True
    for row in rows:
        empty = False
        yield (row[0], row[1]) if text_pair else row[0]
    if empty:
        raise RuntimeInputError(f"{name} holds no text, expected one text a line")


def _decode(lines: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise RuntimeInputError(
                f"{name} line {number} is not UTF-8: byte {line[error.start]:#04x} at byte {error.start + 1} of the "
                f"line. Convert the file first, e.g.: iconv -f latin1 -t utf-8 {name} > utf8{PurePath(name).suffix}"
            ) from error


def _choose(columns: Sequence[str], asked: str | None, known: Sequence[str], option: str, name: str) -> str:
    for candidate in known if asked is None else (asked,):
        if candidate in columns:
            return candidate
    found = ", ".join(columns)
    looked_for = " or ".join(known) if asked is None else asked
    raise RuntimeInputError(
        f"{name} has the columns {found:.200}, expected {looked_for}. Name the column: {option} COLUMN"
    )


def _plain(lines: Iterable[str], name: str, text_pair: bool) -> Iterator[list[str]]:
    for number, line in enumerate(lines, 1):
        row = line.removesuffix("\n").removesuffix("\r").split("\t") if text_pair else [line.rstrip("\r\n")]
        if text_pair and len(row) != 2:
            raise RuntimeInputError(
                f"{name} line {number} has {len(row)} columns, expected text, one tab, pair: this model's task is on "
                "pairs. For a table with a header use a .tsv, .csv or .jsonl file"
            )
        yield row


def _table(
    lines: Iterable[str], name: str, choose: Callable[[Sequence[str]], list[str]], *, tabs: bool
) -> Iterator[list[str]]:
    csv.field_size_limit(_FIELD_LIMIT)
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
    try:
        header = next(reader, None)
        if header is None:
            return
        indices = [header.index(column) for column in choose(header)]
        for row in reader:
            if len(row) != len(header):
                raise RuntimeInputError(
                    f"{name} line {reader.line_num} has {len(row)} columns, expected {len(header)} as in the header"
                )
            yield [row[index] for index in indices]
    except csv.Error as error:
        raise RuntimeInputError(f"{name} line {reader.line_num} is not valid CSV: {error}") from error


def _json_lines(lines: Iterable[str], name: str, choose: Callable[[Sequence[str]], list[str]]) -> Iterator[list[str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RuntimeInputError(f"{name} line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise RuntimeInputError(f"{name} line {number} is a JSON {type(record).__name__}, expected an object")
        row = [record[column] for column in choose(list(record))]
        if not all(isinstance(value, str) for value in row):
            raise RuntimeInputError(f"{name} line {number} holds {row!r:.80}, expected texts")
        yield row
