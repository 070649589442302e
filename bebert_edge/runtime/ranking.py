# SPDX-License-Identifier: Apache-2.0
"""Documents in the order in which they answer a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bebert_edge.runtime.prediction import Prediction


@dataclass(frozen=True)
class RankedDocument:
    """One document and its score.

    Attributes:
        rank: 1 for the best.
        index: Its place, from 0, among the documents given.
        query: The query.
        document: The document.
        score: A probability, or the value of a regression; higher is better.
        member_scores: What each member alone would say.
        tokens: Tokens of both texts that the model read, special tokens included.
        truncated: Whether query and document were longer than the model's longest input.
    """

    rank: int
    index: int
    query: str
    document: str
    score: float
    member_scores: tuple[float, ...]
    tokens: int
    truncated: bool


def rank(answers: Sequence[Prediction]) -> list[RankedDocument]:
    """Sorts a model's answers to one query, each with a document as its pair, by their logits."""
    # Not by scores: sigmoids of different large logits are equal.
    order = sorted(range(len(answers)), key=lambda i: -answers[i].logits[0])
    return [
        RankedDocument(
            rank=place,
            index=i,
            query=answers[i].text,
            document=answers[i].pair or "",
            score=answers[i].score,
            member_scores=tuple(scores[0] for scores in answers[i].member_scores),
            tokens=answers[i].tokens,
            truncated=answers[i].truncated,
        )
        for place, i in enumerate(order, 1)
    ]
