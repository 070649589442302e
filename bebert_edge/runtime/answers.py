# SPDX-License-Identifier: Apache-2.0
"""Question answering: where the answer begins and ends to a span of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.config import EnsembleConfig
from bebert_edge.runtime.prediction import check_finite
from bebert_edge.runtime.windows import Window, WindowedText

Numbers = NDArray[np.floating[Any]]

LONGEST_ANSWER = 30
"""Tokens of the longest answer (as in BERT's own code for SQuAD)."""


@dataclass(frozen=True)
class AnswerSpan:
    """A span of a text.

    Attributes:
        start: Number of its first character; 0 where there is no answer.
        end: Number of the character after its last; 0 where there is no answer.
        score: Its probability.
    """

    start: int
    end: int
    score: float


@dataclass(frozen=True)
class QuestionPrediction:
    """The answer to one question.

    Attributes:
        question: The question.
        text: The text that the answer is taken from.
        answer: Characters `start` to `end` of the text; empty where the text more probably holds no answer.
        start: Number of the first character of the answer.
        end: Number of the character after its last.
        score: Probability that the answer begins and ends there; where there is none, `no_answer`.
        no_answer: Probability that there is none: of the first token as begin and end, the lowest of all windows.
        member_answers: What each member alone answers.
        members_agree: How many members alone answer with the same characters.
        tokens: Tokens of the text, special tokens not included.
        windows: How many overlapping windows it was read in.
        truncated: Whether the end of the question was not read. Windows read all of a text.
    """

    question: str
    text: str
    answer: str
    start: int
    end: int
    score: float
    no_answer: float
    member_answers: tuple[str, ...]
    members_agree: int
    tokens: int
    windows: int
    truncated: bool


def eligible(encoded: WindowedText, window: Window) -> NDArray[np.bool_]:
    """Where in a window an answer may begin or end `[S]`: at its text's tokens, and at the first, for no answer."""
    places = np.zeros(len(window.ids), bool)
    places[0] = True
    first, end = window.tokens
    for token in range(first, end):
        begin, stop = encoded.spans[token]
        places[window.place + token - first] = begin < stop
    return places


def best_span(encoded: WindowedText, logits: Sequence[Numbers]) -> tuple[AnswerSpan, float]:
    """The most probable span of no more than `LONGEST_ANSWER` tokens, and the probability that there is no answer.

    The probability of a span is that of its begin times that of its end, each a softmax over the eligible tokens of a
    window (docs/format.md, "Heads").

    Args:
        encoded: The text.
        logits: For each window, of begin and end at each of its tokens `[S, 2]`.
    """
    best, nothing = AnswerSpan(0, 0, 0.0), 1.0
    for window, found in zip(encoded.windows, logits, strict=True):
        masked = np.where(eligible(encoded, window)[:, None], found.astype(np.float64), -np.inf)
        exponentials = np.exp(masked - masked.max(0))
        begins, ends = (exponentials / exponentials.sum(0)).T
        nothing = min(nothing, float(begins[0] * ends[0]))
        first, end = window.tokens
        own = slice(window.place, window.place + end - first)
        products = np.triu(np.tril(np.outer(begins[own], ends[own]), LONGEST_ANSWER - 1))
        if products.size and products.max() > best.score:
            begin, stop = (first + int(i) for i in np.unravel_index(int(products.argmax()), products.shape))
            best = AnswerSpan(encoded.spans[begin][0], encoded.spans[stop][1], float(products.max()))
    return best, nothing


def find_answer(
    encoded: WindowedText, logits: Sequence[Numbers], member_logits: Sequence[Numbers], config: EnsembleConfig
) -> QuestionPrediction:
    """The answer to a question.

    Args:
        encoded: Question and text.
        logits: The ensemble's logits of each window `[S, 2]`.
        member_logits: Those of its members `[members, S, 2]`.
        config: Temperature.

    Raises:
        ModelError: A logit is not finite.
    """
    assert encoded.question is not None
    for window in logits:
        check_finite(window, f"logits for {encoded.question[:40]!r} are")
    best, nothing = best_span(encoded, logits)
    chosen = _chosen(best, nothing)
    members = [
        _chosen(*best_span(encoded, [window[i] / config.temperature for window in member_logits]))
        for i in range(config.members)
    ]
    return QuestionPrediction(
        question=encoded.question,
        text=encoded.text,
        answer=encoded.text[chosen.start : chosen.end],
        start=chosen.start,
        end=chosen.end,
        score=chosen.score,
        no_answer=nothing,
        member_answers=tuple(encoded.text[member.start : member.end] for member in members),
        members_agree=sum((member.start, member.end) == (chosen.start, chosen.end) for member in members),
        tokens=len(encoded.spans),
        windows=len(encoded.windows),
        truncated=encoded.truncated,
    )


def _chosen(best: AnswerSpan, nothing: float) -> AnswerSpan:
    return best if best.score >= nothing else AnswerSpan(0, 0, nothing)
