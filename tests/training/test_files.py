# SPDX-License-Identifier: Apache-2.0
import collections
import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bebert_edge.errors import TrainingError
from bebert_edge.training import Examples, read_examples

ROOT = Path(__file__).parents[2]
DATASETS = Path(os.environ.get("BEBERT_EDGE_DATASETS", ROOT.parent / "shared" / "datasets"))

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


def write(path, *rows):
    """Writes rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_reading_needs_no_torch():
    code = (
        "import sys; from bebert_edge.training import glue, read_examples\n"
        "print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_names_that_need_torch_are_imported_on_use():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from bebert_edge.training import TrainingOptions, binarize, load_member, train

    assert [f.__name__ for f in (binarize, load_member, train, TrainingOptions)] == [
        "binarize",
        "load_member",
        "train",
        "TrainingOptions",
    ]
    with pytest.raises(ImportError, match="tarin"):
        from bebert_edge.training import tarin  # noqa: F401


@pytest.mark.parametrize(
    ("columns", "texts", "pairs"),
    [
        ({"text": "a", "sentence": "b"}, "a", None),
        ({"text": "a", "text_pair": "b"}, "a", "b"),
        ({"sentence2": "b", "sentence1": "a"}, "a", "b"),
        ({"question": "a", "sentence": "b"}, "a", "b"),
        ({"question1": "a", "question2": "b"}, "a", "b"),
        ({"premise": "a", "hypothesis": "b"}, "a", "b"),
    ],
)
def test_default_columns(tmp_path, columns, texts, pairs):
    path = write(tmp_path / "data.jsonl", columns | {"label": 0}, columns | {"label": 1})
    examples = read_examples(path)
    assert examples.texts == [texts] * 2
    assert examples.pairs == (None if pairs is None else [pairs] * 2)


def test_named_columns_come_before_the_defaults(tmp_path):
    path = write(
        tmp_path / "data.jsonl", *({"sentence1": "a", "sentence2": "b", "label": i, "c": 1 - i} for i in (0, 1))
    )
    assert read_examples(path, text_column="sentence2").pairs is None
    assert read_examples(path, text_pair_column="sentence2").texts == ["a", "a"]
    assert read_examples(path, label_column="c").labels == [1, 0]
    with pytest.raises(TrainingError, match=r"no column 'labels', only sentence1, .*, c: .*--label-column"):
        read_examples(path, label_column="labels")


def test_lists_are_several_labels(tmp_path):
    labels = [["joy", "anger"], [], ["joy", "joy"], ["fear"]]
    path = write(tmp_path / "data.jsonl", *({"text": "t", "labels": names} for names in labels))
    examples = read_examples(path)
    assert (examples.problem, examples.label_names) == ("multi_label", ["anger", "fear", "joy"])
    assert examples.labels == [[0, 2], [], [2], [1]]
    assert read_examples(path, classes=["joy", "fear", "anger"]).labels == [[0, 2], [], [0], [1]]
    with pytest.raises(TrainingError, match=r"line 4 has label 'fear', expected one of joy, anger"):
        read_examples(path, classes=["joy", "anger"])
    with pytest.raises(TrainingError, match=r"line 1 has a list of labels, .*--problem multi_label"):
        read_examples(path, problem="single_label")


def test_lists_of_integers_name_classes(tmp_path):
    path = write(tmp_path / "data.jsonl", {"text": "t", "label": [10, 2]}, {"text": "t", "label": [2]})
    examples = read_examples(path)
    assert (examples.labels, examples.label_names) == ([[0, 1], [0]], ["2", "10"])
    assert examples.renamed(["joy", "fear"]).problem == "multi_label"


def test_joined_labels_are_several_on_demand(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text("text\tlabel\na\tjoy|fear, great\nb\t\nc\t joy | joy\n")
    examples = read_examples(path, problem="multi_label")
    assert (examples.labels, examples.label_names) == ([[0, 1], [], [1]], ["fear, great", "joy"])
    with pytest.raises(TrainingError, match="line 3 has label ''"):
        read_examples(path)


@pytest.mark.parametrize("name", ["data.tsv", "data.csv", "data.jsonl"])
def test_numbers_are_scores(tmp_path, name):
    path = tmp_path / name
    numbers = [5.0, -1e-3, 2]
    if name == "data.jsonl":
        write(path, *({"text": "t", "label": number} for number in numbers))
    else:
        mark = "\t" if name == "data.tsv" else ","
        path.write_text(f"text{mark}label\n" + "".join(f"t{mark}{number}\n" for number in numbers))
    examples = read_examples(path)
    assert (examples.problem, examples.label_names, examples.labels) == ("regression", ["score"], numbers)
    assert all(isinstance(label, float) for label in examples.labels)
    assert read_examples(path, problem="single_label").problem == "single_label"
    assert read_examples(path, problem="regression", classes=["similarity"]).label_names == ["similarity"]
    with pytest.raises(TrainingError, match="2 label names are given for a score"):
        read_examples(path, problem="regression", classes=["a", "b"])


def test_integers_are_scores_on_demand(tmp_path):
    path = write(tmp_path / "data.jsonl", {"text": "t", "label": 3}, {"text": "t", "label": "1.0"})
    assert read_examples(path).problem == "single_label"
    assert read_examples(path, problem="regression").labels == [3.0, 1.0]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([True, False], ["false", "true"]),
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["01", "1", "1"], ["01", "1"]),
        (["1" + "0" * 30, "9"], ["9", "1" + "0" * 30]),
        (["1.0", "0.0"], ["0.0", "1.0"]),
        (["nan", "naan"], ["naan", "nan"]),
        (["1.5", "one"], ["1.5", "one"]),
        (["\u0661", "0"], ["0", "\u0661"]),
    ],
)
def test_names_of_classes(tmp_path, labels, names):
    examples = read_examples(write(tmp_path / "a.jsonl", *({"text": "t", "label": label} for label in labels)))
    assert (examples.problem, examples.label_names) == ("single_label", names)


@pytest.mark.parametrize(
    ("problem", "labels", "message"),
    [
        ("auto", [0.5, float("nan")], "line 2 has label nan, expected a finite number"),
        ("auto", ["1", "nan"], "line 2 has label 'nan', expected a finite number"),
        ("auto", [0.5, 10**400], "line 2 has label 1000.*, expected a finite number"),
        ("auto", ["0.5", "1e999"], "line 2 has label '1e999', expected a finite number"),
        ("regression", [0.5, True], "line 2 has label True, expected a finite number"),
        ("regression", [0.5, "high"], "line 2 has label 'high', expected a finite number"),
        ("regression", [0.5, None], "line 2 has label None"),
        ("regression", [0.5, [1]], r"line 2 has label \[1\]"),
        ("auto", ["a", None], "line 2 has label None, expected a class"),
        ("auto", ["a", " "], "line 2 has label '', expected a class"),
        ("auto", ["a", {"b": 1}], "line 2 has label {'b': 1}, expected a class"),
        ("single_label", ["a", float("nan")], "line 2 has label nan, expected a class"),
        ("auto", [["a"], 3], "line 2 has label 3, expected a list of classes"),
        ("auto", [["a"], None], "line 2 has label null, expected a list of classes"),
        ("auto", [["a"], [0.5]], "line 2 has 0.5 among its labels"),
        ("auto", [["a"], [True]], "line 2 has True among its labels"),
        ("auto", [["a"], [" "]], "line 2 has ' ' among its labels"),
        ("auto", [["a"], [["b"]]], r"line 2 has \['b'\] among its labels"),
        ("auto", [[], []], "no line has a label, expected one or more classes"),
        ("ranking", ["a", "b"], "--problem is 'ranking', expected one of auto, single_label, multi_label, regression"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path, problem, labels, message):
    path = write(tmp_path / "a.jsonl", *({"text": "t", "label": label} for label in labels))
    with pytest.raises(TrainingError, match=message):
        read_examples(path, problem=problem)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"text\ttext\tlabel\na\tb\t1\n", "two columns have one name in text, text, label"),
        ("a.tsv", TSV.encode("utf-16"), "line 1 is not UTF-8"),
        ("a.jsonl", b'{"text": "\\ud800", "label": 1}\n', "line 1, column 'text' has half a character"),
        ("a.jsonl", b'{"text": null, "label": 1}\n', "line 1 has null in column 'text', expected text"),
        ("a.jsonl", b'{"text": ["a"], "label": 1}\n', "line 1 has .* in column 'text', expected text"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"sentence": "a", "label": 1}\n', "line 2 has no column 'text'"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "line 1 is not JSON"),
    ],
)
def test_more_files_that_cannot_be_used(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        read_examples(path)


@pytest.mark.parametrize(("name", "separator"), [("a.tsv", "\t"), ("a.csv", ",")])
def test_texts_of_any_length_are_read(tmp_path, name, separator):
    limit = csv.field_size_limit()
    path = tmp_path / name
    path.write_text(f"text{separator}label\n{'x' * 200_000}{separator}1\nshort{separator}0\n")
    assert [len(text) for text in read_examples(path).texts] == [200_000, 5]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_line_ends_of_windows_and_separators_of_unicode(tmp_path, name):
    mark = "\t" if name == "a.tsv" else ","
    texts = ["one\u2028line\x85still\x0bone", "two\x1c"]
    rows = [f"text{mark}label", *(f"{text}{mark}{i}" for i, text in enumerate(texts)), "", ""]
    (tmp_path / name).write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    examples = read_examples(tmp_path / name)
    assert (examples.texts, examples.label_names) == (texts, ["0", "1"])


def test_json_lines_of_windows_and_separators_of_unicode(tmp_path):
    rows = [{"text": "one\u2028line\x85", "label": 0}, {"text": "two", "label": 1}, {"text": 2026, "label": 1}]
    content = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.jsonl").write_bytes(content.encode("utf-8-sig"))
    assert read_examples(tmp_path / "a.jsonl").texts == ["one\u2028line\x85", "two", "2026"]


characters = st.characters(codec="utf-8", exclude_characters="\0")
plain = st.characters(codec="utf-8", exclude_characters="\0\t\r\n")


@given(st.lists(st.text(plain), min_size=2))
def test_any_text_survives_a_tsv_file(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("tsv") / "a.tsv"
    lines = ["text\tlabel\n", *(f"{text}\t{i % 2}\n" for i, text in enumerate(texts))]
    path.write_bytes("".join(lines).encode())
    assert read_examples(path).texts == texts


@given(st.lists(st.text(characters), min_size=2))
def test_any_text_survives_csv_and_json_files(tmp_path_factory, texts):
    directory = tmp_path_factory.mktemp("files")
    with (directory / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, i % 2) for i, text in enumerate(texts))])
    write(directory / "a.jsonl", *({"text": text, "label": i % 2} for i, text in enumerate(texts)))
    for name in ("a.csv", "a.jsonl"):
        assert read_examples(directory / name).texts == texts


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32),
    st.sampled_from(["single_label", "multi_label", "regression"]),
)
def test_split_is_a_stratified_partition(classes, share, seed, problem):
    labels = {"single_label": classes, "multi_label": [[c] for c in classes], "regression": [c / 3 for c in classes]}
    texts = [f"text {i}" for i in range(len(classes))]
    pairs = [f"pair {i}" for i in range(len(classes))]
    examples = Examples(texts, pairs, labels[problem], list("abcde"), problem)
    groups = collections.Counter(classes) if problem == "single_label" else {None: len(classes)}
    if max(groups.values()) < 2:
        with pytest.raises(TrainingError, match="too few to hold some out"):
            examples.split(share, seed)
        return
    parts = examples.split(share, seed)
    assert parts == examples.split(share, seed)
    rows = [list(zip(part.texts, part.pairs, part.labels, strict=True)) for part in parts]
    everything = list(zip(texts, pairs, labels[problem], strict=True))
    assert sorted(rows[0] + rows[1]) == sorted(everything)
    for part in rows:
        assert part == [row for row in everything if row in part]
    held_out = collections.Counter(parts[1].labels) if problem == "single_label" else {None: len(parts[1])}
    for group, count in groups.items():
        assert held_out[group] == min(max(round(share * count), 1), count - 1)


def test_split_depends_on_the_seed():
    examples = Examples([str(i) for i in range(100)], None, [i % 2 for i in range(100)], ["a", "b"])
    assert examples.split(0.2, 0) != examples.split(0.2, 1)
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(TrainingError, match="expected a number between 0 and 1"):
            examples.split(share, 0)


COUNTS = {
    "sst2": {"train": 67349, "dev": 872},
    "cola": {"train": 8551, "dev": 1043},
    "mrpc": {"train": 3668, "dev": 408, "test": 1725},
    "rte": {"train": 2490, "dev": 277},
    "stsb": {"train": 5749, "dev": 1500, "test": 1379},
    "qnli": {"train": 2000, "dev": 5463},
    "clinc150": {"train": 15000, "dev": 3000, "test": 4500},
    "goemotions": {"train": 43410, "dev": 5426, "test": 5427},
}
PAIRS = ("mrpc", "rte", "stsb", "qnli")
BINARY = {"sst2": ["0", "1"], "cola": ["0", "1"], "mrpc": ["0", "1"], "rte": ["entailment", "not_entailment"]}


@pytest.mark.parametrize("name", COUNTS)
def test_published_data_sets(name):
    kind = "jsonl" if name == "goemotions" else "tsv"
    files = {split: DATASETS / name / f"{split}.{kind}.gz" for split in COUNTS[name]}
    for path in files.values():
        if not path.is_file():
            pytest.skip(f"{path} is missing: set BEBERT_EDGE_DATASETS to a folder with it")
    train = read_examples(files["train"])
    expected = {"stsb": "regression", "goemotions": "multi_label"}.get(name, "single_label")
    for split, path in files.items():
        part = read_examples(path, classes=train.label_names, problem=train.problem)
        assert (len(part), part.problem) == (COUNTS[name][split], expected)
        assert (part.pairs is not None) == (name in PAIRS)
    if name in BINARY:
        assert train.label_names == BINARY[name]
    assert len(train.label_names) == {"stsb": 1, "clinc150": 150, "goemotions": 28}.get(name, 2)
    if name == "sst2":
        assert collections.Counter(train.labels) == {0: 29780, 1: 37569}
    if name == "stsb":
        assert sum(train.labels) / len(train) == pytest.approx(2.701, abs=5e-4)
    if name == "goemotions":
        assert sum(map(len, train.labels)) / len(train) == pytest.approx(1.18, abs=5e-3)
