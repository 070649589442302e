# SPDX-License-Identifier: Apache-2.0
"""Texts of any length as windows that overlap, each no longer than a model's longest input; every token has its place.

An answer for a token, or a span of tokens, is one for characters of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding

from bebert_edge.errors import ModelError
from bebert_edge.runtime.text import check_text, open_tokenizer

OVERLAP = 128
"""Tokens that a window shares with the one before it, but no more than half of it."""
LONGEST_QUESTION = 64
"""Tokens of the text in front of the windows that are read, but no more than half of what fits (BERT's own limit)."""

Span = tuple[int, int]
"""Characters of a text: the first, and the one after the last."""


@dataclass(frozen=True)
class Window:
    """As much of a text as a model reads at once.

    Attributes:
        ids: Token ids, special tokens included, at most `max_length`.
        type_ids: Token types.
        place: Where in `ids` the text's tokens begin.
        tokens: Which of the text's tokens are in the window: the first, and the one after the last.
        own: Which of them this window answers for: those that are nearer to its middle than to that of its neighbours.
    """

    ids: list[int]
    type_ids: list[int]
    place: int
    tokens: Span
    own: Span


@dataclass(frozen=True)
class WindowedText:
    """A text, or a text with a question in front.

    Attributes:
        text: The text that answers are about.
        question: What is asked, for tasks on pairs.
        spans: The characters of every token, without spaces around them; empty spans for tokens of spaces alone.
        words: To which word every token belongs, by the tokenizer's rules; None where it does not say.
        windows: The windows, in the order of the text; together they have all tokens.
        truncated: Whether the end of the question was not read.
    """

    text: str
    question: str | None
    spans: list[Span]
    words: list[int | None]
    windows: list[Window]
    truncated: bool


class WindowEncoder:
    """The tokenizer of one model, for tasks on tokens.

    Args:
        tokenizer_json: Text of `tokenizer.json`.
        max_length: Tokens of a window, special tokens included.
        text_pair: Whether each input is a question and a text.

    Raises:
        ModelError: The `tokenizers` library cannot read the tokenizer, or nothing of a text fits into a window.
    """

    def __init__(self, tokenizer_json: str, max_length: int, text_pair: bool) -> None:
        self._tokenizer = open_tokenizer(tokenizer_json)
        self._pair = text_pair
        self._room = max_length - self._tokenizer.num_special_tokens_to_add(text_pair)
        if self._room < 1 + text_pair:
            raise ModelError(f"max_length is {max_length}, expected room for a text between special tokens")

    def encode(self, items: Sequence[object], first: int = 0) -> list[WindowedText]:
        """Encodes inputs; an empty text becomes one window without tokens of its own.

        Args:
            items: Texts, or (question, text) tuples.
            first: Number of the first item, for messages.

        Raises:
            RuntimeInputError: An item is of the wrong type or cannot be encoded as UTF-8.
        """
        checked = [check_text(item, first + i, self._pair) for i, item in enumerate(items)]
        encodings = self._tokenizer.encode_batch([text if pair is None else (text, pair) for text, pair in checked])
        return [
            self._windows(text, None, encoding) if pair is None else self._windows(pair, text, encoding)
            for (text, pair), encoding in zip(checked, encodings, strict=True)
        ]

    def _windows(self, text: str, question: str | None, encoding: Encoding) -> WindowedText:
        # Each of these attributes makes a new list of all tokens whenever it is read.
        ids, type_ids, sequences = encoding.ids, encoding.type_ids, encoding.sequence_ids
        offsets, words = encoding.offsets, encoding.word_ids
        own = 1 if self._pair else 0
        inside = [i for i, sequence in enumerate(sequences) if sequence == own]
        count = len(inside)
        begin = inside[0] if inside else len(sequences) - 1  # before the last special token
        asked = [i for i, sequence in enumerate(sequences) if self._pair and sequence == 0]
        read = min(len(asked), LONGEST_QUESTION, self._room // 2)
        left_out = set(asked[read:])
        room = self._room - read
        head = [i for i in range(begin) if i not in left_out]
        tail = range(begin + count, len(sequences))
        starts = _starts(count, room)
        ends = [min(start + room, count) for start in starts]
        shared = [(start + end) // 2 for start, end in zip(starts[1:], ends[:-1], strict=True)]
        windows = []
        for start, end, low, high in zip(starts, ends, [0, *shared], [*shared, count], strict=True):
            places = [*head, *range(begin + start, begin + end), *tail]
            windows.append(
                Window(
                    ids=[ids[i] for i in places],
                    type_ids=[type_ids[i] for i in places],
                    place=len(head),
                    tokens=(start, end),
                    own=(low, high),
                )
            )
        return WindowedText(
            text=text,
            question=question,
            spans=[_trimmed(text, offsets[i]) for i in inside],
            words=[words[i] for i in inside],
            windows=windows,
            truncated=bool(left_out),
        )


def _starts(count: int, room: int) -> list[int]:
    step = room - min(OVERLAP, room // 2)
    return [0, *range(step, max(count - room, 0) + step, step)] if count > room else [0]


def _trimmed(text: str, span: Span) -> Span:
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
