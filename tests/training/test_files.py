# SPDX-License-Identifier: Apache-2.0
import gzip
import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from bebert_edge.errors import TrainingError
from bebert_edge.training import read_examples

TSV = 'sentence\tlabel\na "quoted film\t1\nbad\t0\n'


def test_tsv_is_unquoted(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text(TSV)
    examples = read_examples(path)
    assert examples.texts == ['a "quoted film', "bad"]
    assert (examples.labels, examples.label_names, examples.pairs) == ([1, 0], ["0", "1"], None)


def test_gzip_and_byte_order_mark(tmp_path):
    path = tmp_path / "data.tsv.gz"
    path.write_bytes(gzip.compress(TSV.encode("utf-8-sig")))
    assert len(read_examples(path)) == 2


def test_csv_is_quoted(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('text,other,label\n"one, two","three\nfour",yes\nfive,six,no\n')
    examples = read_examples(path, text_pair_column="other")
    assert examples.texts == ["one, two", "five"]
    assert examples.pairs == ["three\nfour", "six"]
    assert (examples.labels, examples.label_names) == ([1, 0], ["no", "yes"])


def test_jsonl(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{i}", "label": i}) + "\n\n" for i in (10, 2, 2)))
    examples = read_examples(path)
    assert (examples.labels, examples.label_names) == ([1, 0, 0], ["2", "10"])


def test_classes_of_the_training_set_number_those_of_another(tmp_path):
    path = tmp_path / "dev.tsv"
    path.write_text("text\tlabel\nx\tb\n")
    assert read_examples(path, classes=["c", "b", "a"]).labels == [1]
    with pytest.raises(TrainingError, match=r"line 2 has label 'b', expected one of c, a"):
        read_examples(path, classes=["c", "a"])


def test_names_for_classes(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text(TSV)
    assert read_examples(path).renamed(["negative", "positive"]).label_names == ["negative", "positive"]
    for names in (["one"], ["same", "same"]):
        with pytest.raises(TrainingError, match="expected one each for the classes 0, 1"):
            read_examples(path).renamed(names)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"", "no examples"),
        ("a.tsv", b"sentence\tlabel\n", "no examples"),
        ("a.tsv", b"phrase\tlabel\nx\t1\n", r"no column 'text', only phrase, label: name one with --text-column"),
        ("a.tsv", b"text\tclass\nx\t1\n", "--label-column"),
        ("a.tsv", b"text\tlabel\nx\t1\ny\n", "line 3 has 1 columns, expected 2"),
        ("a.tsv", b"text\tlabel\nx\t1\ty\n", "line 2 has 3 columns, expected 2"),
        ("a.tsv", b"text\tlabel\nx\t1\ncaf\xe9\t0\n", "line 3 is not UTF-8"),
        ("a.tsv", b"text\tlabel\nx\t1\ny\t1\n", "every label is '1'"),
        ("a.csv", b'text,label\n"x,1\n', "cannot be read: unexpected end"),
        ("a.jsonl", b'{"text": "x", "label": 1}\n{"text"\n', "line 2 is not JSON"),
        ("a.jsonl", b"[1]\n", "line 1 is a list"),
        ("a.tsv.gz", gzip.compress(TSV.encode())[:-9], "not a whole gzip file"),
        ("a.tsv.gz", b"plain", "not a whole gzip file"),
        ("a.parquet", b"PAR1", "unknown file type '.parquet'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=message) as caught:
        read_examples(path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(TrainingError, match="cannot be read"):
        read_examples(tmp_path / "absent.tsv")
