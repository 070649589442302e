# SPDX-License-Identifier: Apache-2.0
"""Reads sentences whose words have tags: JSON lines, and tables of CoNLL's kind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bebert_edge.errors import TrainingError
from bebert_edge.runtime.tags import OUTSIDE
from bebert_edge.training.files import hold_out, kind_of, read_rows, read_text

TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "tags", "labels", "pos_tags")
TABLES = (".tsv", ".conll", ".conll03", ".iob", ".iob2", ".bio", ".txt")
"""Endings of files with a word and its tag a line, an empty line after each sentence."""
NAMES_FILE = "dataset_info.json"
"""Where the library `datasets` keeps the names of numbered tags, beside the file."""

Sentence = tuple[list[str], list[Any]]


@dataclass(frozen=True)
class TokenExamples:
    """Sentences whose words have tags.

    Attributes:
        tokens: The words of each sentence.
        tags: The tag of each word, an index into `label_names`.
        label_names: Names of the tags.
    """

    tokens: list[list[str]]
    tags: list[list[int]]
    label_names: list[str]
    problem: str = "single_label"

    @property
    def task(self) -> str:
        """The kind of task that these are examples of."""
        return "token-classification"

    @property
    def text_pair(self) -> bool:
        """Whether an input is two texts."""
        return False

    def __len__(self) -> int:
        return len(self.tokens)

    def content(self) -> list[Any]:
        """All that a training depends on, as JSON values."""
        return [self.task, self.tokens, self.tags, self.label_names]

    def renamed(self, names: Sequence[str]) -> TokenExamples:
        """The same with other names for the tags.

        Raises:
            TrainingError: There are not as many names as tags, or one occurs twice.
        """
        if len(set(names)) != len(names) or len(names) != len(self.label_names):
            found = ", ".join(self.label_names)
            raise TrainingError(f"label names are {', '.join(names)}, expected one each for the tags {found}")
        return replace(self, label_names=list(names))

    def select(self, indices: Iterable[int]) -> TokenExamples:
        """The sentences of these indices, in their order."""
        chosen = list(indices)
        return replace(self, tokens=[self.tokens[i] for i in chosen], tags=[self.tags[i] for i in chosen])

    def split(self, share: float, seed: int) -> tuple[TokenExamples, TokenExamples]:
        """Splits off held-out sentences at random; see `Examples.split`."""
        held_out = hold_out([None] * len(self), share, seed)
        return self.select(i for i in range(len(self)) if i not in held_out), self.select(sorted(held_out))


def read_tokens(
    path: str | Path,
    *,
    token_column: str | None = None,
    tag_column: str | None = None,
    classes: Sequence[str] | None = None,
) -> TokenExamples:
    """Reads sentences whose words have tags.

    - `.jsonl`: one object a line, with a list of words and a list of as many tags, names or numbers. Numbers get the
      names of a `dataset_info.json` beside the file; without one they are names themselves.
    - `.tsv`, `.conll`, `.txt` and others (`TABLES`): a word, white space (a tab if there is one) and a tag a line,
      maybe with columns in between; an empty line after each sentence. Lines of `-DOCSTART-`, and of `#` without a tag,
      are left out.

    Either may be gzipped.

    Args:
        path: The file.
        token_column: Key of the words; by default one of `TOKEN_COLUMNS`.
        tag_column: Key of the tags; by default one of `TAG_COLUMNS`.
        classes: The tags, in the order of the logits; by default those of the file, and for each `B-x` also `I-x`.

    Raises:
        TrainingError: The file cannot be read, has no sentences, or a tag is missing or not among `classes`.
    """
    path = Path(path)
    if kind_of(path) in TABLES:
        numbered = list(_table(path))
    else:
        rows = read_rows(path)
        token_column = token_column or _first(path, rows[0][1], TOKEN_COLUMNS, "--text-column")
        tag_column = tag_column or _first(path, rows[0][1], TAG_COLUMNS, "--label-column")
        numbered = [(line, _sentence(path, line, row, token_column, tag_column)) for line, row in rows]
        numbered = _named(path, numbered, tag_column)
    numbered = [(line, sentence) for line, sentence in numbered if sentence[0]]
    if not numbered:
        raise TrainingError(f"{path} has no sentences: expected words with tags")
    names = list(classes) if classes is not None else _all({str(t) for _, (_, tags) in numbered for t in tags})
    index = {name: i for i, name in enumerate(names)}
    for line, (_, tags) in numbered:
        unknown = next((tag for tag in tags if str(tag) not in index), None)
        if unknown is not None:
            raise TrainingError(f"{path}: line {line} has the tag {unknown!r}, expected one of {', '.join(names)}")
    return TokenExamples(
        tokens=[tokens for _, (tokens, _) in numbered],
        tags=[[index[str(tag)] for tag in tags] for _, (_, tags) in numbered],
        label_names=names,
    )


def _first(path: Path, row: dict[str, Any], names: Sequence[str], option: str) -> str:
    for name in names:
        if name in row:
            return name
    raise TrainingError(
        f"{path} has the columns {', '.join(row)}, expected {' or '.join(names)}: name one with {option}"
    )


def _sentence(path: Path, line: int, row: dict[str, Any], token_column: str, tag_column: str) -> Sentence:
    for column, option in ((token_column, "--text-column"), (tag_column, "--label-column")):
        if column not in row:
            raise TrainingError(f"{path}: line {line} has no column {column!r}, only {', '.join(row)}: use {option}")
    tokens, tags = row[token_column], row[tag_column]
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise TrainingError(f"{path}: line {line} has {tokens!r:.60} in {token_column!r}, expected a list of words")
    fits = isinstance(tags, list) and all(isinstance(tag, (str, int)) and not isinstance(tag, bool) for tag in tags)
    if not fits or len(tags) != len(tokens):
        raise TrainingError(
            f"{path}: line {line} has {tags!r:.60} in {tag_column!r}, expected a list of {len(tokens)} tags, one a word"
        )
    return tokens, tags


def _table(path: Path) -> Iterator[tuple[int, Sentence]]:
    tokens: list[str] = []
    tags: list[Any] = []
    for number, line in enumerate([*read_text(path).split("\n"), ""], 1):
        fields = line.split("\t") if "\t" in line.strip() else line.split()
        if not line.strip() or fields[0] == "-DOCSTART-":
            if tokens:
                yield number, (tokens, tags)
            tokens, tags = [], []
        elif len(fields) > 1 and fields[0].strip() and not (line.startswith("# ") and "\t" not in line):
            tokens.append(fields[0].strip())
            tags.append(fields[-1].strip())
        elif not line.startswith("#"):
            raise TrainingError(f"{path}: line {number} is {line!r:.60}, expected a word, a tab and its tag")


def _named(path: Path, numbered: list[tuple[int, Sentence]], column: str) -> list[tuple[int, Sentence]]:
    """Names for tags that are numbers, if there are any beside the file."""
    if not all(isinstance(tag, int) for _, (_, tags) in numbered for tag in tags):
        return numbered
    names = _dataset_names(path.parent / NAMES_FILE, column)
    if names is None:
        return numbered
    for line, (_, tags) in numbered:
        unknown = next((tag for tag in tags if not 0 <= tag < len(names)), None)
        if unknown is not None:
            raise TrainingError(f"{path}: line {line} has the tag {unknown}, but {NAMES_FILE} names {len(names)}")
    return [(line, (tokens, [names[tag] for tag in tags])) for line, (tokens, tags) in numbered]


def _dataset_names(path: Path, column: str) -> list[str] | None:
    try:
        feature = json.loads(path.read_text(encoding="utf-8"))["features"][column]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
    names = inner.get("names") if isinstance(inner, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else None


def _all(found: set[str]) -> list[str]:
    """The tags found, and for each `B-x` also `I-x`, which a small file may lack; by number where all are."""
    if all(re.fullmatch(r"[0-9]{1,9}", name) for name in found):
        return [str(i) for i in range(max(map(int, found)) + 1)]
    found = found | {f"I-{name[2:]}" for name in found if name.startswith("B-")}
    return sorted(found, key=lambda name: (name != OUTSIDE, name))
