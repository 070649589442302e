# SPDX-License-Identifier: Apache-2.0
"""Embeddings as they come. Each writer prints to stdout and passes the answers on."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from bebert_edge.cli._answers import TEXT_WIDTH, shorten
from bebert_edge.runtime import EdgeModel, Embedding

SHOWN = 4
"""Numbers of a vector that the table has."""


def _table(model: EdgeModel, answers: Iterable[Embedding]) -> Iterator[Embedding]:
    numbers = f"{model.embedding_size} numbers"
    print(f"{'text':{TEXT_WIDTH}}  {numbers:{9 * SHOWN + 1}}  members, by cosine with their mean")
    for answer in answers:
        shown = " ".join(f"{x:8.4f}" for x in answer.vector[:SHOWN])
        members = " ".join(f"{cosine:.4f}" for cosine in answer.member_cosines)
        mark = "  truncated" if answer.truncated else ""
        print(f"{shorten(answer.text, TEXT_WIDTH)}  {shown} …  {members}{mark}")
        yield answer


def _json(model: EdgeModel, answers: Iterable[Embedding]) -> Iterator[Embedding]:
    for answer in answers:
        record = {
            "text": answer.text,
            "embedding": answer.vector,
            "member_cosines": answer.member_cosines,
            "tokens": answer.tokens,
            "truncated": answer.truncated,
        }
        print(json.dumps(record, ensure_ascii=False))
        yield answer


def _csv(model: EdgeModel, answers: Iterable[Embedding]) -> Iterator[Embedding]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["text", "tokens", "truncated", *(f"embedding_{i}" for i in range(model.embedding_size))])
    for answer in answers:
        writer.writerow([answer.text, answer.tokens, answer.truncated, *answer.vector])
        yield answer


def _npy(model: EdgeModel, answers: Iterable[Embedding]) -> Iterator[Embedding]:
    """One float32 array `[texts, size]` in numpy's format, whose first bytes say how many there are: all at the end."""
    rows = []
    for answer in answers:
        rows.append(np.asarray(answer.vector, np.float32))
        yield answer
    np.save(sys.stdout.buffer, np.stack(rows) if rows else np.zeros((0, model.embedding_size), np.float32))


WRITERS: dict[str, Callable[[EdgeModel, Iterable[Embedding]], Iterator[Embedding]]] = {
    "table": _table,
    "json": _json,
    "csv": _csv,
    "npy": _npy,
}
