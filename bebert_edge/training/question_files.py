# SPDX-License-Identifier: Apache-2.0
"""Reads questions, texts and answers: JSON lines, and SQuAD's own files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bebert_edge.config import SPAN_LABELS
from bebert_edge.errors import TrainingError
from bebert_edge.training.files import hold_out, kind_of, read_rows, read_text

QUESTION_COLUMNS = ("question", "query")
TEXT_COLUMNS = ("context", "text", "passage")
ANSWER_COLUMNS = ("answers", "answer")

Answer = tuple[str, int]
"""Its characters, and where in the text they begin."""


@dataclass(frozen=True)
class QuestionExamples:
    """Questions on texts.

    Attributes:
        questions: The questions.
        contexts: The text of each.
        answers: What people answered to each; empty where the text holds no answer.
        label_names: Those of the two logits.
    """

    questions: list[str]
    contexts: list[str]
    answers: list[list[Answer]]
    label_names: list[str]
    problem: str = "single_label"

    @property
    def task(self) -> str:
        """The kind of task that these are examples of."""
        return "question-answering"

    @property
    def text_pair(self) -> bool:
        """Whether an input is two texts."""
        return True

    @property
    def answerable(self) -> bool:
        """Whether every question has an answer, as in the first version of SQuAD."""
        return all(self.answers)

    def __len__(self) -> int:
        return len(self.questions)

    def content(self) -> list[Any]:
        """All that a training depends on, as JSON values."""
        return [self.task, self.questions, self.contexts, self.answers]

    def renamed(self, names: Sequence[str]) -> QuestionExamples:
        """Refuses: the labels of answer spans have no other names.

        Raises:
            TrainingError: Always.
        """
        raise TrainingError(f"label names are {', '.join(names)}, but answers have none: leave out --label-names")

    def select(self, indices: Iterable[int]) -> QuestionExamples:
        """The questions of these indices, in their order."""
        chosen = list(indices)
        return replace(
            self,
            questions=[self.questions[i] for i in chosen],
            contexts=[self.contexts[i] for i in chosen],
            answers=[self.answers[i] for i in chosen],
        )

    def split(self, share: float, seed: int) -> tuple[QuestionExamples, QuestionExamples]:
        """Splits off held-out texts at random, with all their questions; see `Examples.split`."""
        contexts = list(dict.fromkeys(self.contexts))
        chosen = {contexts[i] for i in hold_out([None] * len(contexts), share, seed)}
        held_out = [context in chosen for context in self.contexts]
        return (
            self.select(i for i, held in enumerate(held_out) if not held),
            self.select(i for i, held in enumerate(held_out) if held),
        )


def read_questions(
    path: str | Path,
    *,
    question_column: str | None = None,
    context_column: str | None = None,
    answer_column: str | None = None,
) -> QuestionExamples:
    """Reads questions, texts and answers.

    - `.jsonl`: one object a line. Answers are a list of objects with `text` and `answer_start` (the number of a
      character), or an object with a list of each, as the library `datasets` has them; an empty list, or
      `is_impossible`, where the text holds no answer. Without `answer_start` the first place of the text counts.
    - `.json`: a file of SQuAD (1.1 or 2.0), nested as published.

    Either may be gzipped.

    Args:
        path: The file.
        question_column: Key of the question; by default one of `QUESTION_COLUMNS`.
        context_column: Key of the text; by default one of `TEXT_COLUMNS`.
        answer_column: Key of the answers; by default one of `ANSWER_COLUMNS`.

    Raises:
        TrainingError: The file cannot be read, has no questions, or an answer is not in its text.
    """
    path = Path(path)
    rows = list(_squad_rows(path)) if kind_of(path) == ".json" else read_rows(path)
    if not rows:
        raise TrainingError(f"{path} has no questions: expected a question, a text and answers")
    keys = [
        (question_column, QUESTION_COLUMNS, "--text-column"),
        (context_column, TEXT_COLUMNS, "--text-pair-column"),
        (answer_column, ANSWER_COLUMNS, "--label-column"),
    ]
    question, context, answer = (_key(path, rows[0][1], *key) for key in keys)
    examples = QuestionExamples([], [], [], list(SPAN_LABELS))
    for line, row in rows:
        for key in (question, context):
            if not isinstance(row.get(key), str):
                raise TrainingError(f"{path}: line {line} has {row.get(key)!r:.60} in {key!r}, expected text")
        examples.questions.append(row[question].strip())
        examples.contexts.append(row[context])
        given = [] if row.get("is_impossible") is True else _answers(path, line, row.get(answer))
        examples.answers.append([_placed(path, line, row[context], text, start) for text, start in given])
    return examples


def _key(path: Path, row: dict[str, Any], asked: str | None, known: Sequence[str], option: str) -> str:
    for name in known if asked is None else (asked,):
        if name in row:
            return name
    expected = " or ".join(known) if asked is None else asked
    raise TrainingError(f"{path} has the columns {', '.join(row)}, expected {expected}: name one with {option}")


def _squad_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The questions of SQuAD's own files, with their numbers."""
    try:
        articles = json.loads(read_text(path))["data"]
        questions = [
            {"context": paragraph["context"], "answers": [], **asked}
            for article in articles
            for paragraph in article["paragraphs"]
            for asked in paragraph["qas"]
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(
            f"{path} is no file of SQuAD ({type(error).__name__}: {error}): expected data, paragraphs, qas; "
            "other questions go into a .jsonl file"
        ) from error
    yield from enumerate(questions, 1)


def _answers(path: Path, line: int, given: Any) -> list[tuple[Any, Any]]:
    """Texts and places of answers, as they are written."""
    if isinstance(given, str):
        return [(given, None)] if given else []
    if isinstance(given, dict) and isinstance(given.get("text"), list):
        starts = given.get("answer_start") or [None] * len(given["text"])
        if isinstance(starts, list) and len(starts) == len(given["text"]):
            return list(zip(given["text"], starts, strict=True))
    elif isinstance(given, list) and all(isinstance(one, (dict, str)) for one in given):
        return [(one, None) if isinstance(one, str) else (one.get("text"), one.get("answer_start")) for one in given]
    elif given is None:
        return []
    raise TrainingError(
        f"{path}: line {line} has the answers {given!r:.60}, expected a list of objects with text and answer_start"
    )


def _placed(path: Path, line: int, context: str, text: Any, start: Any) -> Answer:
    if not isinstance(text, str) or not text.strip():
        raise TrainingError(f"{path}: line {line} has the answer {text!r:.60}, expected characters of the text")
    if not isinstance(start, int) or isinstance(start, bool):
        start = context.find(text)
    if start < 0 or context[start : start + len(text)] != text:
        found = context[max(start, 0) : max(start, 0) + len(text)] if start >= 0 else "nothing"
        raise TrainingError(
            f"{path}: line {line} has the answer {text!r:.60} at character {start}, where the text has {found!r:.60}: "
            "correct answer_start, the number of the answer's first character"
        )
    return text, start
