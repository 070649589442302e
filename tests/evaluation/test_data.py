# SPDX-License-Identifier: Apache-2.0
"""Files with the labels of a model, by name or by number."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from bebert_edge.errors import EvaluationError, TrainingError
from bebert_edge.evaluation import read_data


def model(*labels, problem="single_label"):
    return SimpleNamespace(labels=labels, problem=problem, path="m.onnx")


def write(path, *labels, column="label"):
    path.write_text(f"sentence\t{column}\n" + "".join(f"text {i}\t{label}\n" for i, label in enumerate(labels)))
    return path


def test_labels_by_name_have_the_order_of_the_model(tmp_path):
    data = read_data(write(tmp_path / "a.tsv", "neg", "pos", "pos"), model("pos", "neg"))
    assert data.labels.tolist() == [1, 0, 0]
    assert (data.label_names, data.texts[1], data.pairs, len(data)) == (("pos", "neg"), "text 1", None, 3)


def test_labels_by_number_are_logits(tmp_path):
    assert read_data(write(tmp_path / "a.tsv", 1, 0, 1), model("neg", "pos")).labels.tolist() == [1, 0, 1]
    # A model whose labels are called by numbers is asked by name.
    assert read_data(write(tmp_path / "a.tsv", 1, 0, 1), model("1", "0")).labels.tolist() == [0, 1, 0]


def test_one_class_is_enough_to_evaluate(tmp_path):
    assert read_data(write(tmp_path / "a.tsv", 1, 1), model("neg", "pos")).labels.tolist() == [1, 1]


def test_names_for_the_classes_of_the_file(tmp_path):
    path = write(tmp_path / "a.tsv", "1", "5", "1")
    data = read_data(path, model("pos", "neg"), label_names=["neg", "pos"])
    assert data.labels.tolist() == [1, 0, 1]
    with pytest.raises(EvaluationError, match=r"--label-names are good, bad, expected the labels of m\.onnx: pos, neg"):
        read_data(path, model("pos", "neg"), label_names=["good", "bad"])
    write(path, "1", "5", "3")
    with pytest.raises(EvaluationError, match="2 names, the file the classes 1, 3, 5"):
        read_data(path, model("pos", "neg"), label_names=["neg", "pos"])


def test_unknown_labels_name_the_line_and_what_the_model_knows(tmp_path):
    with pytest.raises(TrainingError, match="line 3 has label 'mixed', expected one of neg, pos"):
        read_data(write(tmp_path / "a.tsv", "pos", "mixed"), model("neg", "pos"))
    with pytest.raises(
        TrainingError,
        match=r"line 2 has label '1', expected one of neg, pos.*line 3 has label '2', expected one of 0, 1",
    ):
        read_data(write(tmp_path / "a.tsv", 1, 2), model("neg", "pos"))


def test_the_first_examples(tmp_path):
    path = write(tmp_path / "a.tsv", 1, 0, 1)
    assert len(read_data(path, model("neg", "pos"), limit=2)) == 2
    assert len(read_data(path, model("neg", "pos"), limit=9)) == 3
    with pytest.raises(EvaluationError, match="--limit is 0"):
        read_data(path, model("neg", "pos"), limit=0)


def test_scores(tmp_path):
    data = read_data(write(tmp_path / "a.tsv", 1.5, 3, 4), model("score", problem="regression"))
    assert data.labels.tolist() == [1.5, 3.0, 4.0]
    with pytest.raises(TrainingError, match="expected a finite number"):
        read_data(write(tmp_path / "a.tsv", "pos", "neg"), model("score", problem="regression"))
    with pytest.raises(TrainingError, match=r"label '1\.5', expected one of neg, pos"):
        read_data(write(tmp_path / "a.tsv", 1.5, 3), model("neg", "pos"))
    with pytest.raises(EvaluationError, match="gives 2 values, expected one"):
        read_data(tmp_path / "a.tsv", model("x", "y", problem="regression"))


def test_several_labels(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [["z", "x"], [], ["y"]]
    path.write_text("".join(json.dumps({"text": "t", "labels": labels}) + "\n" for labels in rows))
    data = read_data(path, model("x", "y", "z", problem="multi_label"))
    np.testing.assert_array_equal(data.labels, [[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    with pytest.raises(TrainingError, match="list of labels"):
        read_data(path, model("x", "y", "z"))


def test_files_that_cannot_be_used(tmp_path):
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(TrainingError, match="no examples"):
        read_data(tmp_path / "empty.tsv", model("neg", "pos"))
    with pytest.raises(TrainingError, match=r"no column 'label'.*--label-column"):
        read_data(write(tmp_path / "a.tsv", 1, column="other"), model("neg", "pos"))


def test_a_task_by_name_must_be_the_models():
    with pytest.raises(EvaluationError, match="cola is a single_label task with the labels unacceptable, acceptable"):
        read_data("cola", model("neg", "pos"))
    with pytest.raises(EvaluationError, match="stsb is a regression task"):
        read_data("stsb", model("neg", "pos"))


def test_a_task_by_name_brings_its_metric(monkeypatch):
    from bebert_edge.training import Examples, glue

    examples = Examples(["good", "goods"], None, [1, 0], ["unacceptable", "acceptable"])
    monkeypatch.setattr(glue, "load_task", lambda name, split: examples)
    data = read_data("cola", model("acceptable", "unacceptable"))
    assert (data.metric, data.labels.tolist()) == ("matthews", [0, 1])
    assert read_data("cola", model("LABEL_0", "LABEL_1")).labels.tolist() == [1, 0]
