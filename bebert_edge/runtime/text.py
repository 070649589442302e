# SPDX-License-Identifier: Apache-2.0
"""Texts to token ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Tokenizer

from bebert_edge.errors import ModelError, RuntimeInputError

Text = str | tuple[str, str]
"""One input: a text, or a text and its pair."""


MANY = 8
"""Pairs of which neither text has more than `MANY * max_length` characters go to the tokenizer as they are."""

SPARE = 32
"""Tokens of a long text that are kept beyond the longest input.

Where a text is cut it may have some tokens more or fewer than those of the whole that were to be kept: a character of
several tokens is kept whole, and spaces at the end are not part of every token that stands for them.
"""


@dataclass(frozen=True)
class EncodedText:
    """One input as the model reads it.

    Attributes:
        text: The text.
        pair: The second text, for tasks on pairs.
        ids: Token ids, special tokens included, at most `max_length`.
        type_ids: 0 for tokens of the text; for those of its pair 1, or 0 where the tokenizer does not tell them apart.
        truncated: Whether tokens were cut off.
    """

    text: str
    pair: str | None
    ids: list[int]
    type_ids: list[int]
    truncated: bool


def open_tokenizer(tokenizer_json: str) -> Tokenizer:
    """A tokenizer that neither cuts nor pads, from the text of `tokenizer.json`.

    Raises:
        ModelError: The `tokenizers` library cannot read it.
    """
    try:
        tokenizer = Tokenizer.from_str(tokenizer_json)
        tokenizer.no_truncation()
        tokenizer.no_padding()
    except Exception as error:  # the library raises bare Exception
        raise ModelError(
            f"the model's tokenizer cannot be read ({error}). Update the library: pip install -U tokenizers"
        ) from error
    return tokenizer


class TextEncoder:
    """The tokenizer of one model.

    Args:
        tokenizer_json: Text of `tokenizer.json`.
        max_length: Longest result in tokens; longer inputs lose their end, of a pair the longer text first.
        text_pair: Whether each input is a text and its pair.

    Raises:
        ModelError: The `tokenizers` library cannot read the tokenizer.
    """

    def __init__(self, tokenizer_json: str, max_length: int, text_pair: bool) -> None:
        self._tokenizer, self._untruncated = (open_tokenizer(tokenizer_json) for _ in range(2))
        self._tokenizer.enable_truncation(max_length, strategy="longest_first")
        special = self._tokenizer.num_special_tokens_to_add(text_pair)
        if max_length < special:
            raise ModelError(
                f"max_length is {max_length}, expected at least the {special} special tokens. Export again"
            )
        self._max_length = max_length
        self._text_pair = text_pair

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer itself."""
        return self._tokenizer

    def encode(self, items: Iterable[Text], first: int = 0) -> list[EncodedText]:
        """Encodes inputs; an empty text becomes just the special tokens.

        Args:
            items: Texts, or (text, pair) tuples.
            first: Number of the first item, for messages.

        Raises:
            RuntimeInputError: An item is of the wrong type or cannot be encoded as UTF-8.
        """
        checked = [check_text(item, first + i, self._text_pair) for i, item in enumerate(items)]
        inputs = [text if pair is None else self._heads(text, pair) for text, pair in checked]
        encodings = self._tokenizer.encode_batch(inputs)
        return [
            EncodedText(text, pair, encoding.ids, encoding.type_ids, truncated=bool(encoding.overflowing))
            for (text, pair), encoding in zip(checked, encodings, strict=True)
        ]

    def _heads(self, text: str, pair: str) -> tuple[str, str]:
        """Returns as much of two texts as the tokenizer needs to see.

        It keeps every combination of the cut-off parts of both: two texts of 10,000 words would take it a minute.
        """
        if max(len(text), len(pair)) <= MANY * self._max_length:
            return text, pair
        ends, pair_ends = (
            [end for _, end in self._untruncated.encode(part, add_special_tokens=False).offsets]
            for part in (text, pair)
        )
        # Which of two long texts keeps one token more depends on whether the first is the longer one: it must stay so.
        keep, longer = self._max_length + SPARE, self._max_length + 2 * SPARE
        if len(ends) > len(pair_ends):
            return _cut(text, ends, longer), _cut(pair, pair_ends, keep)
        return _cut(text, ends, keep), _cut(pair, pair_ends, longer)


def check_text(item: object, number: int, text_pair: bool) -> tuple[str, str | None]:
    """One input, a text or a (text, pair) tuple, as text and pair.

    Args:
        item: What the user gave.
        number: Its number, for messages.
        text_pair: What is expected.

    Raises:
        RuntimeInputError: It is something else, or cannot be encoded as UTF-8.
    """
    expected = "a (text, pair) tuple of two str" if text_pair else "a str"
    parts = item if isinstance(item, (tuple, list)) else (item,)
    if not all(isinstance(part, str) for part in parts) or len(parts) != 1 + text_pair:
        raise RuntimeInputError(
            f"input {number} is a {type(item).__name__}, {item!r:.60}; expected {expected}: this model reads those"
        )
    for part in parts:
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise RuntimeInputError(
                f"input {number} holds a lone surrogate at character {error.start}, expected text that UTF-8 can "
                "hold: read it with the encoding that it was written in"
            ) from error
    return parts[0], parts[1] if text_pair else None


def _cut(text: str, ends: list[int], keep: int) -> str:
    """Returns the part of a text that its first `keep` tokens cover, given where each token ends."""
    return text[: ends[keep - 1]] if len(ends) > keep else text
