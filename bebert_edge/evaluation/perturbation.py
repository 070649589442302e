# SPDX-License-Identifier: Apache-2.0
"""Noise on the input: typing errors, dropped words, and noise on the output of the embeddings.

Text perturbations depend on the seed, the number of the text and nothing else. The same draws serve every strength: a
word that is hit at 5 % is hit in the same way at 10 %.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bebert_edge.errors import EvaluationError

TYPOS, DROP_WORDS, EMBEDDING_NOISE = "typos", "drop-words", "embedding-noise"

STRENGTHS = {TYPOS: (0.05, 0.1, 0.2), DROP_WORDS: (0.1, 0.2, 0.4), EMBEDDING_NOISE: (0.01, 0.1, 0.3)}
"""Strengths that a kind is tried at where none is named: rates per word, standard deviations."""

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbours() -> dict[str, str]:
    """Letters beside each letter on a QWERTY keyboard; rows are shifted by about half a key."""
    found = {}
    for y, row in enumerate(_ROWS):
        for x, letter in enumerate(row):
            near = [(x - 1, y), (x + 1, y), (x, y - 1), (x + 1, y - 1), (x - 1, y + 1), (x, y + 1)]
            found[letter] = "".join(_ROWS[b][a] for a, b in near if 0 <= b < len(_ROWS) and 0 <= a < len(_ROWS[b]))
    return found


NEIGHBOURS = _neighbours()
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Perturbation:
    """A kind of noise and its strength: a rate per word for text, a standard deviation for embeddings."""

    kind: str
    strength: float

    @property
    def on_text(self) -> bool:
        """Whether it changes the text."""
        return self.kind != EMBEDDING_NOISE


def parse(text: str) -> list[Perturbation]:
    """Reads a comma-separated list of kinds, each with a strength (`typos=0.1`) or tried at several.

    Raises:
        EvaluationError: An unknown kind, or a strength that is no rate or no standard deviation.
    """
    found = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        kind, equals, strength = (part.strip() for part in item.partition("="))
        kind = kind.replace("_", "-")
        if kind not in STRENGTHS:
            raise EvaluationError(f"--perturb has {item!r}, expected some of {', '.join(STRENGTHS)}, or e.g. typos=0.1")
        strengths = (_strength(kind, strength),) if equals else STRENGTHS[kind]
        found += [Perturbation(kind, s) for s in strengths]
    return list(dict.fromkeys(found))


def _strength(kind: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 < value < np.inf) or (kind != EMBEDDING_NOISE and value > 1):
        expected = "a standard deviation > 0" if kind == EMBEDDING_NOISE else "a rate per word above 0 and at most 1"
        raise EvaluationError(f"--perturb has {kind}={text}, expected {expected}")
    return value


def perturb(texts: Sequence[str], perturbation: Perturbation, seed: int, *, second: bool = False) -> list[str]:
    """Perturbs texts; `second` says that they are the second ones of pairs, which get draws of their own."""
    change = _CHANGES[perturbation.kind]
    return [
        change(text, perturbation.strength, np.random.default_rng([seed, i, second])) for i, text in enumerate(texts)
    ]


def _typos(text: str, rate: float, generator: np.random.Generator) -> str:
    """Makes one typing error in each word that has a letter, with probability `rate`."""
    parts = re.split(r"(\s+)", text)
    words = [i for i, part in enumerate(parts) if any(c.isalpha() for c in part)]
    hit, draws = generator.random(len(words)) < rate, generator.random((len(words), 4))
    for i in np.flatnonzero(hit):
        parts[words[i]] = _typo(parts[words[i]], *draws[i])
    return "".join(parts)


def _typo(word: str, which: float, place: float, neighbour: float, side: float) -> str:
    """One of the errors that change the word, chosen by numbers in [0, 1).

    A swap of two letters, a lost letter, a neighbouring key hit too, or instead.
    """
    letters = [i for i, c in enumerate(word) if c.isalpha()]
    swaps = [i for i in letters if i + 1 in letters and word[i] != word[i + 1]]
    changes: list[Callable[[], str]] = []

    def pick(items: Sequence[int]) -> int:
        return items[int(place * len(items))]

    def near(letter: str) -> str:
        keys = NEIGHBOURS.get(letter.lower(), "etaoin")  # not on this keyboard: a frequent letter
        key = keys[int(neighbour * len(keys))]
        return key.upper() if letter.isupper() else key

    def swap() -> str:
        i = pick(swaps)
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]

    def lose() -> str:
        i = pick(letters)
        return word[:i] + word[i + 1 :]

    def insert() -> str:
        i = pick(letters)
        at = i + (side < 0.5)
        return word[:at] + near(word[i]) + word[at:]

    def replace() -> str:
        i = pick(letters)
        return word[:i] + near(word[i]) + word[i + 1 :]

    changes = [*([swap] if swaps else []), *([lose] if len(letters) > 1 else []), insert, replace]
    return changes[int(which * len(changes))]()


def _drop_words(text: str, rate: float, generator: np.random.Generator) -> str:
    """Drops each word with probability `rate`, but never the last one that is left."""
    words = _WORD.findall(text)
    draws = generator.random(len(words))
    kept = [word for word, draw in zip(words, draws, strict=True) if draw >= rate]
    return " ".join(kept or words[int(draws.argmax()) :][:1] if words else [])


_CHANGES: dict[str, Callable[[str, float, np.random.Generator], str]] = {TYPOS: _typos, DROP_WORDS: _drop_words}
