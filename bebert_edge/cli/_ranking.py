# SPDX-License-Identifier: Apache-2.0
"""Ranked documents, the best first. Each writer prints to stdout and passes the answers on."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator

from bebert_edge.cli._answers import SCORE_HEADERS, TEXT_WIDTH, shorten, write_json
from bebert_edge.runtime import EdgeModel, RankedDocument


def _table(model: EdgeModel, answers: Iterable[RankedDocument]) -> Iterator[RankedDocument]:
    regression = model.config.task.problem == "regression"
    header = SCORE_HEADERS["regression" if regression else "single_label"]
    print(f"{'rank':>4}  {'document':{TEXT_WIDTH}}  {header:>11}  members")
    for answer in answers:
        members = " ".join(f"{score:.4f}" for score in answer.member_scores)
        mark = "  truncated" if answer.truncated else ""
        print(f"{answer.rank:4}  {shorten(answer.document, TEXT_WIDTH)}  {answer.score:11.4f}  {members}{mark}")
        yield answer


def _csv(model: EdgeModel, answers: Iterable[RankedDocument]) -> Iterator[RankedDocument]:
    names = ("rank", "index", "query", "document", "score", "tokens", "truncated")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for answer in answers:
        writer.writerow([getattr(answer, name) for name in names])
        yield answer


WRITERS: dict[str, Callable[[EdgeModel, Iterable[RankedDocument]], Iterator[RankedDocument]]] = {
    "table": _table,
    "json": write_json,
    "csv": _csv,
}
