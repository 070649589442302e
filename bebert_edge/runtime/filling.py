# SPDX-License-Identifier: Apache-2.0
"""Guesses of masked tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bebert_edge.config import EnsembleConfig
from bebert_edge.errors import RuntimeInputError
from bebert_edge.runtime.prediction import check_finite, scores_of
from bebert_edge.runtime.text import EncodedText


@dataclass(frozen=True)
class Guess:
    """A token for a mask.

    Attributes:
        token: The token, as the vocabulary has it.
        id: Its number.
        probability: How probable it is.
        members_agree: How many members alone find it the most probable.
    """

    token: str
    id: int
    probability: float
    members_agree: int


@dataclass(frozen=True)
class FilledText:
    """The guesses for one text.

    Attributes:
        text: The text, with its masks.
        filled: The same with the first guess for each mask that was read.
        masks: Guesses for each mask, the most probable first.
        tokens: Tokens that the model read, special tokens included.
        truncated: Whether the text was longer than the model's longest input, and its end was not read.
    """

    text: str
    filled: str
    masks: tuple[tuple[Guess, ...], ...]
    tokens: int
    truncated: bool


def fill(
    encoded: EncodedText,
    logits: NDArray[np.float32],
    members: NDArray[np.float32],
    config: EnsembleConfig,
    tokenizer: Tokenizer,
    top: int,
) -> FilledText:
    """The guesses for one text, from the ensemble's logits `[masks, V]` and its members' `[members, masks, V]`.

    Raises:
        RuntimeInputError: The text has no mask, so that there is nothing to guess.
        ModelError: A logit is not finite.
    """
    assert config.task.mask_id is not None
    mask = tokenizer.id_to_token(config.task.mask_id) or ""
    if not len(logits):
        raise RuntimeInputError(f"{encoded.text[:40]!r} has no mask to fill: write {mask} where a word is missing")
    check_finite(logits, f"logits for {encoded.text[:40]!r} are")
    probabilities, firsts = scores_of(logits, "single_label"), members.argmax(-1)
    guesses = []
    for place, row in enumerate(logits):
        best = np.argsort(-row, kind="stable")[:top].tolist()
        agree = [int((firsts[:, place] == i).sum()) for i in best]
        tokens = [tokenizer.id_to_token(i) or "" for i in best]
        guesses.append(tuple(map(Guess, tokens, best, probabilities[place, best].tolist(), agree)))
    return FilledText(
        text=encoded.text,
        filled=_filled(encoded.text, mask, [tokenizer.decode([found[0].id]).strip() for found in guesses]),
        masks=tuple(guesses),
        tokens=len(encoded.ids),
        truncated=encoded.truncated,
    )


def _filled(text: str, mask: str, words: list[str]) -> str:
    for word in words:
        before, _, after = text.partition(mask)
        piece = word.removeprefix("##")
        text = (before.rstrip() if piece != word else before) + piece + after
    return text
