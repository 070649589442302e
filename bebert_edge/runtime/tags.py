# SPDX-License-Identifier: Apache-2.0
"""From tags of words to spans of words: BIO, IOB2, IOBES and BILOU, with whatever a model makes of them."""

from __future__ import annotations

from collections.abc import Sequence

OUTSIDE = "O"
"""The tag of words that are part of nothing."""
_BEGINS, _ENDS = "BSU", "ESL"
_PREFIXES = ("B-", "I-", "E-", "S-", "L-", "U-")

Chunk = tuple[int, int, str]
"""A span of words: the first, the one after the last, and its type."""


def split_tag(tag: str) -> tuple[str, str]:
    """Prefix and type of a tag; what has no prefix is inside (`I`) something of its own name."""
    return (tag[0], tag[2:]) if tag.startswith(_PREFIXES) else ("I", tag)


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """The spans of a sequence of tags.

    A span begins with B, S or U; with any other prefix after a word outside, of another type, or that ended a span
    (E, S, L). So no tag is lost, as in seqeval's default mode (github.com/chakki-works/seqeval), CoNLL-2003's
    `conlleval`, and transformers' `TokenClassificationPipeline`.
    """
    found: list[Chunk] = []
    start, kind, ended = 0, OUTSIDE, False
    for place, (prefix, name) in enumerate([*map(split_tag, tags), ("I", OUTSIDE)]):
        if name == kind and prefix not in _BEGINS and not ended:
            ended = prefix in _ENDS
            continue
        if kind != OUTSIDE:
            found.append((start, place, kind))
        start, kind, ended = place, name, prefix in _ENDS
    return found


def chunk_counts(truth: Sequence[str], found: Sequence[str]) -> tuple[int, int, int]:
    """Of one sentence: spans that are right (place and type), that were found, and that there are."""
    expected, answered = set(chunks(truth)), set(chunks(found))
    return len(expected & answered), len(answered), len(expected)


def chunk_f1(truth: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> float:
    """F1 of the spans of all sentences together; 0 where there are none at all."""
    counts = [chunk_counts(a, b) for a, b in zip(truth, found, strict=True)]
    right, answered, expected = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    return 2 * right / (answered + expected) if answered + expected else 0.0
