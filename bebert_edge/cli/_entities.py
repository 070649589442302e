# SPDX-License-Identifier: Apache-2.0
"""Entities of texts as they come, in three formats. Each writer prints to stdout and passes the answers on."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator

from rich.cells import cell_len

from bebert_edge.cli._answers import MAX_LABEL_WIDTH, MIN_LABEL_WIDTH, TEXT_WIDTH, printable, shorten, write_json
from bebert_edge.runtime import EdgeModel, TokenPrediction
from bebert_edge.runtime.entities import entity_labels

Writer = Callable[[EdgeModel, Iterable[TokenPrediction]], Iterator[TokenPrediction]]


def _table(model: EdgeModel, answers: Iterable[TokenPrediction]) -> Iterator[TokenPrediction]:
    widths = [cell_len(printable(label)) for label in entity_labels(model.labels)]
    width = min(MAX_LABEL_WIDTH, max([MIN_LABEL_WIDTH, *widths]))
    print(f"{'text':>6}  {'characters':>15}  {shorten('label', width)}  {'probability':>11}  {'members':7}  entity")
    for number, answer in enumerate(answers):
        for entity in answer.entities:
            members = f"{entity.members_agree}/{model.members}"
            print(
                f"{number:6}  {f'{entity.start}-{entity.end}':>15}  {shorten(entity.label, width)}  "
                f"{entity.score:11.4f}  {members:7}  {shorten(entity.text, TEXT_WIDTH).rstrip()}"
            )
        if not answer.entities:
            print(f"{number:6}  {'':15}  {shorten('(none)', width)}".rstrip())
        yield answer


def _csv(model: EdgeModel, answers: Iterable[TokenPrediction]) -> Iterator[TokenPrediction]:
    """A line for each entity; `text` is the number of its text, from 0."""
    fields = ("start", "end", "label", "score", "members_agree")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["text", *fields, "entity", *(f"member_{i}" for i in range(model.members))])
    for number, answer in enumerate(answers):
        for entity in answer.entities:
            row = [getattr(entity, name) for name in fields]
            writer.writerow([number, *row, entity.text, *entity.member_labels])
        yield answer


WRITERS: dict[str, Writer] = {"table": _table, "json": write_json, "csv": _csv}
