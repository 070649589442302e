# SPDX-License-Identifier: Apache-2.0
"""Answers to questions as they come, in three formats. Each writer prints to stdout and passes the answers on."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator

from bebert_edge.cli._answers import TEXT_WIDTH, shorten, write_json
from bebert_edge.runtime import EdgeModel, QuestionPrediction

Writer = Callable[[EdgeModel, Iterable[QuestionPrediction]], Iterator[QuestionPrediction]]
_QUESTION_WIDTH = 40


def _table(model: EdgeModel, answers: Iterable[QuestionPrediction]) -> Iterator[QuestionPrediction]:
    print(f"{'question':{_QUESTION_WIDTH}}  {'characters':>15}  {'probability':>11}  {'members':7}  answer")
    for answer in answers:
        mark = "  truncated" if answer.truncated else ""
        members = f"{answer.members_agree}/{model.members}"
        text = shorten(answer.answer or "(none)", TEXT_WIDTH).rstrip()
        where = f"{answer.start}-{answer.end}" if answer.answer else ""
        print(
            f"{shorten(answer.question, _QUESTION_WIDTH)}  {where:>15}  {answer.score:11.4f}  {members:7}  {text}{mark}"
        )
        yield answer


def _csv(model: EdgeModel, answers: Iterable[QuestionPrediction]) -> Iterator[QuestionPrediction]:
    fields = ("question", "answer", "start", "end", "score", "no_answer", "members_agree", "windows", "truncated")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*fields, *(f"member_{i}" for i in range(model.members))])
    for answer in answers:
        writer.writerow([*(getattr(answer, name) for name in fields), *answer.member_answers])
        yield answer


WRITERS: dict[str, Writer] = {"table": _table, "json": write_json, "csv": _csv}
