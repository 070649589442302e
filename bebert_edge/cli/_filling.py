# SPDX-License-Identifier: Apache-2.0
"""Texts with their masks filled. Each writer prints to stdout and passes the answers on."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator

from bebert_edge.cli._answers import printable, write_json
from bebert_edge.runtime import EdgeModel, FilledText

TOKEN_WIDTH = 20


def _table(model: EdgeModel, answers: Iterable[FilledText]) -> Iterator[FilledText]:
    for answer in answers:
        print(printable(answer.filled) + ("  truncated" if answer.truncated else ""))
        for number, guesses in enumerate(answer.masks, 1):
            for guess in guesses:
                agree = f"{guess.members_agree}/{model.members}"
                print(f"  mask {number}  {printable(guess.token):{TOKEN_WIDTH}}  {guess.probability:.4f}  {agree}")
        yield answer


def _csv(model: EdgeModel, answers: Iterable[FilledText]) -> Iterator[FilledText]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["text", "filled", "mask", "rank", "token", "probability", "members_agree"])
    for answer in answers:
        for number, guesses in enumerate(answer.masks, 1):
            for rank, guess in enumerate(guesses, 1):
                own = [guess.token, guess.probability, guess.members_agree]
                writer.writerow([answer.text, answer.filled, number, rank, *own])
        yield answer


WRITERS: dict[str, Callable[[EdgeModel, Iterable[FilledText]], Iterator[FilledText]]] = {
    "table": _table,
    "json": write_json,
    "csv": _csv,
}
