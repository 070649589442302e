# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from pathlib import Path

import pytest

from bebert_edge.errors import ModelError, RuntimeInputError
from bebert_edge.runtime.text import Text, TextEncoder
from support import VOCABULARY, tokenizer_json

MAX_LENGTH = 12
ODD_TEXTS = [
    "",
    " \t\n",
    "The movie is good.",
    "THE MOVIE",
    "café naïve résumé",
    "cafe\u0301",
    "İstanbul ß ﬁ",
    "[MASK] is [SEP] not [CLS] a [PAD] movie",
    "[mask]",
    "🎬 good 👍🏽",
    "日本語 movie 中文",
    "a\x00b\x07c\u200bd\ufffde",
    "a\u00a0b\u3000c",
    "it's not-good...very?!",
    "x" * 101,
    "goods badly moviesing",
    "good " * 40,
    "bad " * 50,
]


@pytest.mark.parametrize("text_pair", [False, True])
def test_tokens_are_those_of_transformers(text_pair: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    expected = transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=True)
    items: list[Text] = [(a, b) for a in ODD_TEXTS for b in ODD_TEXTS] if text_pair else list(ODD_TEXTS)
    for item, found in zip(items, TextEncoder(tokenizer_json(), MAX_LENGTH, text_pair).encode(items), strict=True):
        # As a batch of one: alone, transformers takes an empty pair for none.
        batch = [[item]] if isinstance(item, str) else [[part] for part in item]
        wanted = expected(*batch, truncation=True, max_length=MAX_LENGTH)
        assert (found.ids, found.type_ids) == (wanted["input_ids"][0], wanted["token_type_ids"][0]), item
        assert found.truncated == (len(expected(*batch)["input_ids"][0]) > MAX_LENGTH), item


def test_an_empty_text_is_its_special_tokens() -> None:
    (found,) = TextEncoder(tokenizer_json(), MAX_LENGTH, text_pair=False).encode([""])
    assert [VOCABULARY[i] for i in found.ids] == ["[CLS]", "[SEP]"]
    assert not found.truncated


def test_a_pair_of_ten_thousand_words_each_takes_no_time() -> None:
    encoder = TextEncoder(tokenizer_json(), MAX_LENGTH, text_pair=True)
    start = time.perf_counter()
    (found,) = encoder.encode([("good " * 10_000, "bad " * 10_000)])
    assert time.perf_counter() - start < 5  # the library alone takes about a minute
    assert len(found.ids) == MAX_LENGTH
    assert found.truncated


@pytest.mark.parametrize(
    ("item", "text_pair", "message"),
    [
        (5, False, "input 7 is a int, 5; expected a str"),
        (None, False, "input 7 is a NoneType"),
        (b"bytes", False, "input 7 is a bytes"),
        (("a", "b"), False, "input 7 is a tuple.*expected a str"),
        ("a", True, r"input 7 is a str, 'a'; expected a \(text, pair\) tuple"),
        (("a",), True, "input 7 is a tuple"),
        (("a", 1), True, "input 7 is a tuple"),
        ("a\ud800", False, "input 7 holds a lone surrogate at character 1"),
    ],
)
def test_other_inputs_are_refused(item: object, text_pair: bool, message: str) -> None:
    with pytest.raises(RuntimeInputError, match=message):
        TextEncoder(tokenizer_json(), MAX_LENGTH, text_pair).encode([item], first=7)  # type: ignore[list-item]


def test_an_unreadable_tokenizer_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="tokenizer cannot be read"):
        TextEncoder("{}", MAX_LENGTH, text_pair=False)


def test_a_length_without_room_for_special_tokens_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="max_length is 2, expected at least the 3 special tokens"):
        TextEncoder(tokenizer_json(), 2, text_pair=True)
