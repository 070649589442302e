# SPDX-License-Identifier: Apache-2.0
"""How answers are compared in SQuAD (Rajpurkar et al., 2016, 2018): after normalisation, exactly or word by word."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Lower case, without ASCII punctuation and the articles, words one space apart."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(answer: str, truth: str) -> float:
    """1 where both are equal once normalised, else 0."""
    return float(normalized(answer) == normalized(truth))


def word_f1(answer: str, truth: str) -> float:
    """F1 of the words that both have, counted as often as they occur; of no answer, whether both are."""
    found, expected = normalized(answer).split(), normalized(truth).split()
    if not found or not expected:
        return float(found == expected)
    common = sum((Counter(found) & Counter(expected)).values())
    return 2 * common / (len(found) + len(expected))


def best_scores(answer: str, truths: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 with the answer, among those that people gave, that fits best; none means no answer."""
    truths = [truth for truth in truths if normalized(truth)] or [""]
    return max(exact_match(answer, truth) for truth in truths), max(word_f1(answer, truth) for truth in truths)
