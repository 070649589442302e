# SPDX-License-Identifier: Apache-2.0
"""Labels of texts as they come, in three formats. Each writer prints to stdout and passes the answers on."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from rich.cells import cell_len, set_cell_size

from bebert_edge.runtime import EdgeModel, Prediction

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TEXT_WIDTH = 60
MIN_LABEL_WIDTH, MAX_LABEL_WIDTH = 6, 40
SCORE_HEADERS = {"single_label": "probability", "multi_label": "highest", "regression": "value"}

Answer = TypeVar("Answer", bound="DataclassInstance")
Writer = Callable[[EdgeModel, Iterable[Prediction]], Iterator[Prediction]]


def printable(text: str) -> str:
    """Replaces what would move the cursor of a terminal or colour it."""
    return "".join(character if character.isprintable() else " " for character in text)


def shorten(text: str, width: int) -> str:
    """Cuts or pads a text to exactly `width` columns of a terminal."""
    text = printable(text)
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def write_json(model: EdgeModel, answers: Iterable[Answer]) -> Iterator[Answer]:
    """A writer of answers of any kind, an object a line with all that they have."""
    for answer in answers:
        print(json.dumps(asdict(answer), ensure_ascii=False))
        yield answer


def _label_width(model: EdgeModel) -> int:
    widths = [cell_len(printable(label)) for label in model.labels]
    several = model.config.task.problem == "multi_label"
    width = sum(widths) + len("_0.99, ") * len(widths) if several else max(widths)
    return min(MAX_LABEL_WIDTH, max(MIN_LABEL_WIDTH, width))


def _label(model: EdgeModel, answer: Prediction) -> str:
    """The label; of a multi-label task every label with its probability, the most probable first."""
    if model.config.task.problem != "multi_label":
        return answer.label
    scores = sorted(zip(answer.scores, model.labels, strict=True), key=lambda pair: -pair[0])[: len(answer.labels)]
    return ", ".join(f"{label} {score:.2f}" for score, label in scores) or "(none)"


def _table(model: EdgeModel, answers: Iterable[Prediction]) -> Iterator[Prediction]:
    width, header = _label_width(model), SCORE_HEADERS[model.config.task.problem]
    print(f"{'text':{TEXT_WIDTH}}  {shorten('label', width)}  {header:>11}  members")
    for answer in answers:
        text = answer.text if answer.pair is None else f"{answer.text} | {answer.pair}"
        members = (
            " ".join(f"{scores[0]:.4f}" for scores in answer.member_scores)
            if answer.members_agree is None
            else f"{answer.members_agree}/{model.members}"
        )
        mark = "  truncated" if answer.truncated else ""
        label = shorten(_label(model, answer), width)
        print(f"{shorten(text, TEXT_WIDTH)}  {label}  {answer.score:11.4f}  {members:7}{mark}".rstrip())
        yield answer


def _json(model: EdgeModel, answers: Iterable[Prediction]) -> Iterator[Prediction]:
    for answer in answers:
        record = asdict(answer)
        record["scores"] = dict(zip(model.labels, answer.scores, strict=True))
        print(json.dumps(record, ensure_ascii=False))
        yield answer


def _csv(model: EdgeModel, answers: Iterable[Prediction]) -> Iterator[Prediction]:
    fixed = ("text", "pair", "label", "score", "members_agree", "tokens", "truncated")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*fixed, *(f"score_{label}" for label in model.labels)])
    for answer in answers:
        writer.writerow([*(getattr(answer, name) for name in fixed), *answer.scores])
        yield answer


WRITERS: dict[str, Writer] = {"table": _table, "json": _json, "csv": _csv}
