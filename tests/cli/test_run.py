# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bebert_edge.exporters import build_model
from bebert_edge.runtime import EdgeModel
from model_files import write_model
from support import answering

Command = Any


def test_the_table(command: Command, model_path: Path) -> None:
    done = command("run", model_path, "a good movie", "good " * 50, "tab\t\x1b[31mred 日本")
    header, *rows = done.out.splitlines()
    assert header.split() == ["text", "label", "probability", "members"]
    answers = EdgeModel(model_path).predict(["a good movie", "good " * 50, "tab\t\x1b[31mred 日本"])
    for row, answer in zip(rows, answers, strict=True):
        assert answer.label in row
        assert f"{answer.score:.4f}" in row
        assert f"{answer.members_agree}/2" in row
        assert row.endswith("truncated") == answer.truncated
        assert "\x1b" not in row
    assert "…" in rows[1]
    assert "1 truncated: longer than 32 tokens" in done.err
    assert done.code == 0


def test_the_line_on_stderr_names_what_runs_the_model(command: Command, model_path: Path) -> None:
    done = command("run", model_path, "a", "--threads", 1, "--require-native")
    backend = EdgeModel(model_path, threads=1, require_native=True).backend
    assert done.err == f"{backend}\n"
    assert backend.native
    assert done.err.startswith(f"native ({backend.path}), 1 thread, onnxruntime ")


def test_the_portable_path_says_why(command: Command, model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEBERT_EDGE_OPS_LIBRARY", "/nowhere/ops.so")
    done = command("run", model_path, "a")
    assert done.code == 0
    assert done.err.startswith("portable (")
    assert "/nowhere/ops.so" in done.err
    assert len(done.err.splitlines()) == 1
    done = command("run", model_path, "a", "--require-native")
    assert (done.code, done.out) == (1, "")
    assert "/nowhere/ops.so" in done.err


def test_a_multi_label_table_has_every_label_above_a_half(command: Command, tmp_path: Path) -> None:
    labels = ("joy", "anger", "fear")
    ensemble = answering(np.array([[0.5, 3.0, -2.0]] * 2, np.float32), problem="multi_label")
    ensemble = replace(ensemble, config=replace(ensemble.config, labels=labels))
    (tmp_path / "multi.onnx").write_bytes(build_model(ensemble)[0].SerializeToString())
    header, row = command("run", tmp_path / "multi.onnx", "x").out.splitlines()
    assert header.split() == ["text", "label", "highest", "members"]
    assert row.split(maxsplit=1)[1].split("  ")[0] == "anger 0.95, joy 0.62"
    assert row.endswith("0.9526  2/2")
    record = json.loads(command("run", tmp_path / "multi.onnx", "x", "--format", "json").out)
    assert (record["label"], record["labels"], list(record["scores"])) == ("joy, anger", ["joy", "anger"], list(labels))
    ensemble.tensors["classifier.bias"][:] = -1
    (tmp_path / "none.onnx").write_bytes(build_model(ensemble)[0].SerializeToString())
    _, row = command("run", tmp_path / "none.onnx", "x").out.splitlines()
    assert row.split() == ["x", "(none)", "0.2689", "2/2"]


def test_a_regression_table_has_the_value_and_those_of_the_members(command: Command, tmp_path: Path) -> None:
    ensemble = answering(np.array([[3.5], [-12.25]], np.float32), problem="regression", member_weights=(0.75, 0.25))
    (tmp_path / "regression.onnx").write_bytes(build_model(ensemble)[0].SerializeToString())
    header, row = command("run", tmp_path / "regression.onnx", "x").out.splitlines()
    assert header.split() == ["text", "label", "value", "members"]
    assert row.split("  ", maxsplit=1)[1].split() == ["label", "0", "-0.4375", "3.5000", "-12.2500"]
    record = json.loads(command("run", tmp_path / "regression.onnx", "x", "--format", "json").out)
    assert (record["scores"], record["score"], record["members_agree"]) == ({"label 0": -0.4375}, -0.4375, None)
    assert record["member_scores"] == [[3.5], [-12.25]]
    rows = list(csv.DictReader(io.StringIO(command("run", tmp_path / "regression.onnx", "x", "--format", "csv").out)))
    assert (rows[0]["score"], rows[0]["members_agree"], rows[0]["score_label 0"]) == ("-0.4375", "", "-0.4375")


def test_inspect_says_how_members_are_combined(command: Command, model_path: Path, tmp_path: Path) -> None:
    assert "weighted mean of their logits, temperature 1\n" in command("inspect", model_path).out
    other = write_model(tmp_path / "other.onnx", combination="probabilities", temperature=1.2345678)
    assert "weighted mean of their probabilities, temperature 1.23457\n" in command("inspect", other).out
    assert json.loads(command("inspect", other, "--format", "json").out)["temperature"] == 1.2345678


def test_json_lines_hold_every_field(command: Command, model_path: Path) -> None:
    done = command("run", model_path, "a good movie", "日本", "--format", "json")
    answers = EdgeModel(model_path).predict(["a good movie", "日本"])
    for line, answer in zip(done.out.splitlines(), answers, strict=True):
        record = json.loads(line)
        assert record["text"] == answer.text
        assert record["label"] == answer.label
        assert list(record["scores"]) == ["negative", "positive"]
        assert record["members_agree"] == answer.members_agree
        assert record["member_labels"] == list(answer.member_labels)
        assert record["truncated"] is False
    assert "日本" in done.out


def test_csv_is_read_back_by_csv(command: Command, model_path: Path) -> None:
    texts = ['a "quoted", text', "two\nlines", ""]
    done = command("run", model_path, *texts, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["text"] for row in rows] == texts
    assert all(float(row["score_negative"]) + float(row["score_positive"]) == pytest.approx(1) for row in rows)


@pytest.mark.parametrize("arguments", [["--input", "-"], []])
def test_stdin(command: Command, model_path: Path, arguments: list[str]) -> None:
    done = command("run", model_path, *arguments, "--format", "json", "--batch-size", 2, input="a\n\ndéjà\n".encode())
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == ["a", "", "déjà"]


def test_files_keep_their_order(command: Command, model_path: Path, tmp_path: Path) -> None:
    texts = [f"movie {'very ' * (i % 7)}{i}" for i in range(300)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    done = command("run", model_path, "-i", tmp_path / "texts.txt", "--format", "json", "--batch-size", 4)
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == texts


def test_pairs(command: Command, pair_model_path: Path, tmp_path: Path) -> None:
    done = command("run", pair_model_path, "a", "b", "--pair", "c", "--pair", "d", "--format", "json")
    assert [(r["text"], r["pair"]) for r in map(json.loads, done.out.splitlines())] == [("a", "c"), ("b", "d")]
    (tmp_path / "pairs.csv").write_text("id,one,two\n1,a,b\n")
    columns = ["--text-column", "one", "--pair-column", "two"]
    done = command("run", pair_model_path, "-i", tmp_path / "pairs.csv", *columns, "--format", "json")
    assert json.loads(done.out)["pair"] == "b"
    done = command("run", pair_model_path, "alone")
    assert (done.code, done.out.count("\n")) == (1, 1)
    assert "(text, pair)" in done.err


def test_flags_may_be_spelled_with_underscores(command: Command, model_path: Path) -> None:
    assert command("run", model_path, "a", "--batch_size", 1, "--require_native").code == 0


def test_without_model_the_shipped_one_answers(
    command: Command, model_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bebert_edge.runtime.default_model_path", lambda: model_path)
    assert command("run", "a good movie", "--format", "csv").out.count("\n") == 2
    monkeypatch.setattr("bebert_edge.runtime.default_model_path", lambda: tmp_path / "sst2.onnx")
    done = command("run", "a good movie")
    assert done.code == 1
    assert "no MODEL given" in done.err
    assert "bebert-edge run MODEL.onnx" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.onnx", "a"], "missing.onnx does not exist"),
        (["MODEL", "a", "--device", "cuda"], "device 'cuda' does not exist, expected one of: cpu"),
        (["MODEL", "-i", "missing.txt"], "missing.txt cannot be read: No such file or directory"),
        (["MODEL", "-i", "empty.txt"], "empty.txt holds no text"),
        (["MODEL", "-i", "latin1.txt"], "latin1.txt line 2 is not UTF-8: byte 0xe9"),
        (["MODEL", "-i", "."], "cannot be read"),
        (["MODEL", "\ud800"], "lone surrogate"),
        (["html.onnx", "a"], "html.onnx is an HTML or XML page"),
        ([".", "a"], "is a directory"),
        (["MODEL", "a", "-o", "missing/answers.txt"], "missing/answers.txt is in a directory that does not exist"),
        (["MODEL", "a", "-o", "."], "--output . is a directory"),
    ],
)
def test_errors_are_one_line_and_exit_code_1(
    command: Command,
    model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin1.txt").write_bytes(b"ok\ncaf\xe9\n")
    (tmp_path / "html.onnx").write_text("<!doctype html>")
    done = command("run", *[str(model_path) if argument == "MODEL" else argument for argument in arguments])
    assert done.code == 1
    (line,) = [line for line in done.err.splitlines() if line.startswith("bebert-edge: error: ")]
    assert message in line
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--threads", "0"],
        ["--batch-size", "0"],
        ["--batch-size", "many"],
        ["--format", "xml"],
        ["--pair", "one too many", "--pair", "two"],
        ["--input", "file.txt"],
        ["--text-column", "review"],
        ["--pair-column", "review"],
        ["--no-such-option"],
    ],
)
def test_wrong_usage_is_exit_code_2(command: Command, model_path: Path, arguments: list[str]) -> None:
    done = command("run", model_path, "text", *arguments)
    assert (done.code, done.out) == (2, "")
    assert arguments[0] in done.err


def test_an_empty_pipe_is_an_error(command: Command, model_path: Path) -> None:
    done = command("run", model_path, input=b"")
    assert done.code == 1
    assert "stdin holds no text" in done.err
