# SPDX-License-Identifier: Apache-2.0
"""Token classification: labels of tokens to entities of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bebert_edge.config import EnsembleConfig
from bebert_edge.runtime.prediction import check_finite, scores_of
from bebert_edge.runtime.tags import OUTSIDE, chunks, split_tag
from bebert_edge.runtime.windows import Span, WindowedText

Numbers = NDArray[np.float32]
T = TypeVar("T", bound=np.floating[Any])


@dataclass(frozen=True)
class Entity:
    """A span of a text that has a label.

    Attributes:
        label: Its label, without the `B-` or `I-` of the tags.
        text: Its characters.
        start: Number of its first character in the text.
        end: Number of the character after its last.
        score: Probability of its words' tags, mean over the words.
        member_labels: The label that each member alone gives exactly these characters; `O` where it finds no such span.
        members_agree: How many members alone find it, with this label.
    """

    label: str
    text: str
    start: int
    end: int
    score: float
    member_labels: tuple[str, ...]
    members_agree: int


@dataclass(frozen=True)
class TokenPrediction:
    """The entities of one text.

    Attributes:
        text: The text.
        entities: Its entities, in their order.
        tokens: Tokens of the text that the model read, special tokens not included.
        windows: How many overlapping windows it was read in: more than one for texts beyond the longest input.
        truncated: False: windows read all of a text.
    """

    text: str
    entities: tuple[Entity, ...]
    tokens: int
    windows: int
    truncated: bool = False


def joined(encoded: WindowedText, answers: Sequence[NDArray[T]]) -> NDArray[T]:
    """The windows' answers `[..., S, C]` as one `[..., tokens of the text, C]`: every token's by its own window."""
    parts = []
    for window, answer in zip(encoded.windows, answers, strict=True):
        begin = window.place - window.tokens[0]
        parts.append(answer[..., begin + window.own[0] : begin + window.own[1], :])
    return np.concatenate(parts, axis=-2)


def words_of(encoded: WindowedText) -> list[tuple[int, Span]]:
    """The words of a text by the tokenizer's rules: the first token of each, and its characters."""
    words: list[tuple[int, Span]] = []
    last: int | None = None
    for token, (word, (start, end)) in enumerate(zip(encoded.words, encoded.spans, strict=True)):
        if start == end:
            continue
        if words and word is not None and word == last:
            words[-1] = words[-1][0], (words[-1][1][0], end)
        else:
            words.append((token, (start, end)))
        last = word
    return words


def first_tokens(spans: Sequence[Span], words: Sequence[str]) -> dict[int, int]:
    """The first token of each word of a text that is `" ".join(words)`; a word may have none.

    Args:
        spans: The characters of the text's tokens.
        words: The words.
    """
    found: dict[int, int] = {}
    word, end = 0, len(words[0]) if words else 0
    for token, (start, stop) in enumerate(spans):
        if start == stop:
            continue
        while word < len(words) and start >= end:
            word += 1
            end += 1 + len(words[word]) if word < len(words) else 0
        if word < len(words):
            found.setdefault(word, token)
    return found


def find_entities(
    encoded: WindowedText, logits: Numbers, member_logits: Numbers, config: EnsembleConfig
) -> TokenPrediction:
    """Entities of a text, by the label of each word's first token, which is what training teaches.

    This is transformers' `aggregation_strategy="first"` for tokenizers that mark the pieces of a word.

    Args:
        encoded: The text.
        logits: The ensemble's logits of its tokens `[tokens, labels]`.
        member_logits: Those of its members `[members, tokens, labels]`.
        config: Labels and temperature.

    Raises:
        ModelError: A logit is not finite.
    """
    check_finite(logits, f"logits for {encoded.text[:40]!r} are")
    words = words_of(encoded)
    firsts = [token for token, _ in words]
    scores = scores_of(logits[firsts], config.task.problem)
    tags = _tags(scores, config)
    members = [
        {(start, end): label for start, end, label in chunks(_tags(member[firsts], config))} for member in member_logits
    ]
    best = scores.max(-1, initial=0)
    entities = []
    for first, end, label in chunks(tags):
        votes = tuple(member.get((first, end), OUTSIDE) for member in members)
        begin, stop = words[first][1][0], words[end - 1][1][1]
        entities.append(
            Entity(
                label=label,
                text=encoded.text[begin:stop],
                start=begin,
                end=stop,
                score=float(best[first:end].mean()),
                member_labels=votes,
                members_agree=votes.count(label),
            )
        )
    return TokenPrediction(encoded.text, tuple(entities), len(encoded.spans), len(encoded.windows))


def _tags(scores: NDArray[np.floating], config: EnsembleConfig) -> list[str]:
    return [config.labels[i] for i in scores.argmax(-1).tolist()] if len(scores) else []


def entity_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that entities can have, by the tags of a model."""
    return tuple(dict.fromkeys(split_tag(tag)[1] for tag in labels if tag != OUTSIDE))
