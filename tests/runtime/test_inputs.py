# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import json

import pytest

from bebert_edge.errors import RuntimeInputError
from bebert_edge.runtime.inputs import read_texts


def read(content: bytes, name: str, **options: object) -> list[object]:
    return list(read_texts(content.splitlines(keepends=True), name, **{"text_pair": False, **options}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"one\ntwo", "a.txt", ["one", "two"]),
        (b"one\r\n\r\n three \n", "stdin", ["one", "", " three "]),
        (b"\xef\xbb\xbfone\n", "a.txt", ["one"]),
        ("é\x85\u2028日\n".encode(), "a.txt", ["é\x85\u2028日"]),
        (b"id,text\n1,\"a, \"\"b\"\"\"\n2,c\n", "a.csv", ["a, \"b\"", "c"]),
        (b"sentence\tlabel\na \"quote\t1\n", "a.tsv", ["a \"quote"]),
        (b'{"text": "a\\nb"}\n\n{"text": ""}\n', "a.jsonl", ["a\nb", ""]),
    ],
)  # fmt: skip
def test_files_of_single_texts(content: bytes, name: str, expected: list[str]) -> None:
    assert read(content, name) == expected


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"a\tb\n", "a.txt"),
        (b"n,sentence1,sentence2\n0,a,b\n", "a.csv"),
        (b"pair\ttext\nb\ta\n", "a.tsv"),
        (b'{"premise": "a", "hypothesis": "b"}\n', "a.jsonl"),
    ],
)
def test_files_of_pairs(content: bytes, name: str) -> None:
    assert read(content, name, text_pair=True) == [("a", "b")]


def test_columns_are_chosen_by_name() -> None:
    content = b"text,review,title\nx,a,b\n"
    options = {"text_column": "review", "pair_column": "title", "text_pair": True}
    assert read(content, "a.csv", **options) == [("a", "b")]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.txt", "a.txt holds no text"),
        (b"text\n", "a.csv", "a.csv holds no text"),
        (b"good\nbad \xff\n", "a.txt", r"a.txt line 2 is not UTF-8: byte 0xff at byte 5 of the line.*iconv"),
        (b"text\n\xe9t\xe9\n", "a.csv", "a.csv line 2 is not UTF-8"),
        (b"\xff\xfea\x00", "a.txt", "line 1 is not UTF-8"),
        (b"review,label\na,b\n", "a.csv", "a.csv has the columns review, label, expected text or .*--text-column"),
        (b"text,label\na\n", "a.csv", "a.csv line 2 has 1 columns, expected 2"),
        (b"{\n", "a.jsonl", "a.jsonl line 1 is not JSON"),
        (b"[1]\n", "a.jsonl", "a.jsonl line 1 is a JSON list, expected an object"),
        (b'{"text": 1}\n', "a.jsonl", r"a.jsonl line 1 holds \[1\], expected texts"),
        (b'{"text": "a"}\n{"other": "b"}\n', "a.jsonl", "has the columns other"),
    ],
)
def test_unusable_files_are_refused_with_the_place(content: bytes, name: str, message: str) -> None:
    with pytest.raises(RuntimeInputError, match=message):
        read(content, name)


def test_pairs_need_two_columns() -> None:
    with pytest.raises(RuntimeInputError, match=r"a.txt line 2 has 1 columns, expected text, one tab, pair"):
        read(b"a\tb\nc\n", "a.txt", text_pair=True)


def test_a_field_may_be_longer_than_csv_allows_by_default() -> None:
    assert read(b"text\n" + b"a" * 200_000 + b"\n", "a.csv") == ["a" * 200_000]


def test_an_endless_file_is_read_one_line_at_a_time() -> None:
    lines = (json.dumps({"text": str(i)}).encode() for i in itertools.count())
    assert list(itertools.islice(read_texts(lines, "a.jsonl", text_pair=False), 2)) == ["0", "1"]
