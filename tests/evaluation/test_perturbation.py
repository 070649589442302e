# SPDX-License-Identifier: Apache-2.0
"""Typing errors and dropped words: deterministic, at the stated rate, and nothing else."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation import Perturbation, perturb
from bebert_edge.evaluation.perturbation import NEIGHBOURS, STRENGTHS, parse

TEXTS = [f"This is sentence {i} of a review , and it's rather good -- isn't it ?" for i in range(400)]
LETTER_WORDS = sum(any(c.isalpha() for c in word) for text in TEXTS for word in text.split())


def changed_words(texts, others):
    return sum(a != b for x, y in zip(texts, others, strict=True) for a, b in zip(x.split(), y.split(), strict=True))


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_typing_errors_come_at_their_rate(rate):
    found = perturb(TEXTS, Perturbation("typos", rate), seed=0)
    assert changed_words(TEXTS, found) / LETTER_WORDS == pytest.approx(rate, rel=0.1)


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_words_are_dropped_at_their_rate(rate):
    found = perturb(TEXTS, Perturbation("drop-words", rate), seed=0)
    kept = sum(len(text.split()) for text in found) / sum(len(text.split()) for text in TEXTS)
    assert 1 - kept == pytest.approx(rate, rel=0.1)
    for text, left in zip(TEXTS, found, strict=True):
        words = iter(text.split())
        assert all(word in words for word in left.split())  # a subsequence


@pytest.mark.parametrize("kind", ["typos", "drop-words"])
def test_the_same_seed_gives_the_same_texts(kind):
    first, again, other = (perturb(TEXTS, Perturbation(kind, 0.3), seed) for seed in (4, 4, 5))
    assert first == again
    assert first != other
    assert perturb(TEXTS, Perturbation(kind, 0.3), 4, second=True) != first
    assert perturb(TEXTS[:3], Perturbation(kind, 0.3), 4) == first[:3]


def test_a_word_hit_at_one_rate_is_hit_in_the_same_way_at_a_higher_one():
    low, high = (perturb(TEXTS, Perturbation("typos", rate), 0) for rate in (0.1, 0.3))
    for text, a, b in zip(TEXTS, low, high, strict=True):
        for word, x, y in zip(text.split(), a.split(), b.split(), strict=True):
            assert x in (word, y)


def test_the_four_errors_occur_and_nothing_else():
    words = ["keyboard", "Perturb", "noise", "a", "ll", "it's", "42nd", "日本語"] * 100
    found = perturb(words, Perturbation("typos", 1.0), 0)
    kinds = set()
    for word, typo in zip(words, found, strict=True):
        assert typo != word
        change = len(typo) - len(word)
        assert change in (-1, 0, 1)
        if change == 0 and sorted(typo) == sorted(word):
            (i, j) = [i for i in range(len(word)) if word[i] != typo[i]]
            assert (j, word[i], word[j]) == (i + 1, typo[j], typo[i])
            kinds.add("swap")
        elif change == 0:
            (i,) = [i for i in range(len(word)) if word[i] != typo[i]]
            assert typo[i].lower() in NEIGHBOURS.get(word[i].lower(), "etaoin")
            assert typo[i].isupper() == word[i].isupper()
            kinds.add("replace")
        else:
            blocks = difflib.SequenceMatcher(None, word, typo, autojunk=False).get_matching_blocks()
            assert sum(block.size for block in blocks) == min(len(word), len(typo))
            kinds.add("insert" if change > 0 else "lose")
    assert kinds == {"swap", "replace", "insert", "lose"}


def test_neighbours_of_keys():
    assert set(NEIGHBOURS["g"]) == set("fhtyvb")
    assert set(NEIGHBOURS["q"]) == set("wa")
    assert set(NEIGHBOURS["m"]) == set("njk")
    assert all(a in NEIGHBOURS[b] for a in NEIGHBOURS for b in NEIGHBOURS[a])


@given(st.lists(st.text(max_size=30), max_size=4), st.sampled_from(["typos", "drop-words"]), st.floats(0.01, 1))
def test_any_text_can_be_perturbed(texts, kind, rate):
    found = perturb(texts, Perturbation(kind, rate), 0)
    assert len(found) == len(texts)
    for text, perturbed in zip(texts, found, strict=True):
        assert bool(text.split()) == bool(perturbed.split())
        if kind == "typos":
            assert len(perturbed.split()) == len(text.split())


def test_spaces_and_signs_are_kept():
    text = "  one,\ttwo  -- 3 !\n"
    found = perturb([text], Perturbation("typos", 1.0), 1)[0]
    assert [c for c in found if c.isspace()] == [c for c in text if c.isspace()]
    assert found.split()[2:] == ["--", "3", "!"]


def test_the_option():
    assert parse("") == []
    assert parse("typos, drop-words=0.3") == [
        *(Perturbation("typos", rate) for rate in STRENGTHS["typos"]),
        Perturbation("drop-words", 0.3),
    ]
    assert parse("embedding_noise=2,embedding-noise=2") == [Perturbation("embedding-noise", 2.0)]
    for text in ("noise", "typos=", "typos=0", "typos=1.5", "drop-words=x", "embedding-noise=inf", "typos=nan"):
        with pytest.raises(EvaluationError, match="--perturb has"):
            parse(text)
