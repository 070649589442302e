# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise

import pytest

from bebert_edge.errors import ModelError, RuntimeInputError
from bebert_edge.runtime.text import TextEncoder
from bebert_edge.runtime.windows import WindowEncoder
from support import tokenizer_json

LONG = " ".join(f"movie {i} is good ," for i in range(30))


@pytest.mark.parametrize("item", ["", "a good movie", ("is it good", "the movie is good"), ("", ""), ("a b c", "")])
def test_a_text_that_fits_is_one_window_as_any_other_task_reads_it(item: str | tuple[str, str]) -> None:
    pair = isinstance(item, tuple)
    (found,) = WindowEncoder(tokenizer_json(), 32, pair).encode([item])
    (expected,) = TextEncoder(tokenizer_json(), 32, pair).encode([item])
    (window,) = found.windows
    assert (window.ids, window.type_ids, found.truncated) == (expected.ids, expected.type_ids, False)
    text = item[1] if pair else item
    assert [text[a:b] for a, b in found.spans] == text.split()
    assert window.tokens == window.own == (0, len(found.spans))


@pytest.mark.parametrize("question", [None, "is it good ?", "very " * 50])
@pytest.mark.parametrize("max_length", [8, 17, 32])
def test_windows_cover_a_long_text(question: str | None, max_length: int) -> None:
    item = LONG if question is None else (question, LONG)
    (found,) = WindowEncoder(tokenizer_json(), max_length, question is not None).encode([item])
    whole = WindowEncoder(tokenizer_json(), 10**6, False).encode([LONG])[0].windows[0]
    tokens = whole.ids[1:-1]
    assert len(found.windows) > 1
    assert found.truncated == (question is not None and len(question) > 20) or max_length == 8
    owned = []
    for window in found.windows:
        first, end = window.tokens
        assert len(window.ids) <= max_length
        assert window.ids[window.place : window.place + end - first] == tokens[first:end]
        assert first <= window.own[0] <= window.own[1] <= end
        owned += range(*window.own)
    assert owned == list(range(len(tokens)))
    assert len(found.windows[0].ids) == max_length
    for before, after in pairwise(found.windows):
        assert before.tokens[0] < after.tokens[0] < before.tokens[1] < after.tokens[1]


def test_what_cannot_be_read_is_refused() -> None:
    encoder = WindowEncoder(tokenizer_json(), 8, True)
    with pytest.raises(RuntimeInputError, match="input 3 is a str"):
        encoder.encode(["alone"], first=3)
    with pytest.raises(ModelError, match="max_length is 2"):
        WindowEncoder(tokenizer_json(), 2, False)
