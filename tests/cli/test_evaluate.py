# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge evaluate`, from files to tables and JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")

from bebert_edge.runtime import EdgeModel
from model_files import write_model
from support import random_ensemble

Command = Any
TEXTS = [f"the {a} was {b} {c}" for a in ("movie", "film") for b in ("not", "very", "") for c in ("good", "bad")]


@pytest.fixture(scope="module")
def ensemble_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "ensemble"
    random_ensemble(seed=1, members=3).save(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.tsv"
    rows = [f"{text}\t{'positive' if 'good' in text else 'negative'}\n" for text in TEXTS]
    path.write_text("sentence\tlabel\n" + "".join(rows))
    return path


def test_json(command: Command, model_path: Path, ensemble_path: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    done = command(
        *("evaluate", model_path, "--data", data, "--compare-to", ensemble_path, "--format", "json", "-o", output),
        *("--perturb", "typos=0.5,embedding-noise=0.5", "--bootstrap", 100, "--threads", 1),
    )
    assert done.code == 0
    report = json.loads(done.out)
    assert report == json.loads(output.read_text())
    answers = EdgeModel(model_path).predict(TEXTS)
    right = [(a.label == "positive") == ("good" in text) for a, text in zip(answers, TEXTS, strict=True)]
    first, second = report["models"]
    assert first["scores"]["accuracy"]["value"] == sum(right) / len(TEXTS)
    assert [first["kind"], second["kind"]] == ["onnx", "packed ensemble"]
    assert [len(first["members"]), len(second["members"])] == [2, 3]
    assert [row["kind"] for row in first["robustness"]] == ["typos", "embedding-noise"]
    assert (report["examples"], report["resamples"], report["metric"]) == (12, 100, "accuracy")
    (comparison,) = report["comparisons"]
    assert (comparison["first"], comparison["second"]) == (str(model_path), str(ensemble_path))
    difference = first["scores"]["accuracy"]["value"] - second["scores"]["accuracy"]["value"]
    assert comparison["difference"]["value"] == pytest.approx(difference)


def test_the_table_has_the_numbers_of_the_json(
    command: Command, model_path: Path, ensemble_path: Path, data: Path
) -> None:
    arguments = (
        *("evaluate", model_path, "--data", data, "--compare-to", ensemble_path, "--perturb", "typos=0.5"),
        *("--bootstrap", 100, "--metric", "matthews"),
    )
    table = command(*arguments)
    assert (table.code, table.err) == (0, "")
    report = json.loads(command(*arguments, "--format", "json").out)
    model = report["models"][0]
    matthews = model["scores"]["matthews"]
    interval = f"{100 * matthews['interval']['low']:.2f} .. {100 * matthews['interval']['high']:.2f}"
    assert f" matthews, % {100 * matthews['value']:.2f} {interval} " in " ".join(table.out.split())
    for part in (
        f"{model['calibration']['nll']:.4f}",
        f"{100 * model['members'][1]['score']['value']:.2f}",
        f"{100 * model['gain']['over_mean']['value']:+.2f}",
        f"kappa {model['diversity']['kappa']:.3f}",
        f"{100 * model['robustness'][0]['loss']['value']:+.2f}",
        f"{100 * report['comparisons'][0]['difference']['value']:+.2f}",
        f"{report['comparisons'][0]['mcnemar']['p_value']:.3g}",
        str(ensemble_path),
        "The ensemble loses more than its members on average under",
        "12 examples, single_label, 2 labels; 95 % intervals of 100 resamples, seed 0",
    ):
        assert part in table.out


def test_no_resamples_no_intervals(command: Command, model_path: Path, data: Path) -> None:
    done = command("evaluate", model_path, "--data", data, "--bootstrap", 0, "--perturb", "drop-words=0.3")
    assert done.code == 0
    assert " .. " not in done.out


def test_a_model_of_three_labels_and_its_columns(command: Command, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", labels=("x", "y", "z"), text_pair=True)
    data = tmp_path / "data.csv"
    data.write_text("a,b,c\n" + "".join(f"good,bad,{label}\n" for label in "xyzx"))
    columns = ("--text-column", "a", "--pair-column", "b", "--label-column", "c")
    done = command("evaluate", model, "--data", data, *columns, "--format", "json", "--limit", 3)
    assert done.code == 0
    report = json.loads(done.out)
    assert report["examples"] == 3
    assert list(report["models"][0]["scores"]) == ["accuracy", "f1_macro", "f1_micro", "matthews"]


def test_several_labels_and_scores(command: Command, tmp_path: Path) -> None:
    several = write_model(tmp_path / "several.onnx", labels=("x", "y", "z"), problem="multi_label")
    data = tmp_path / "several.jsonl"
    rows = [{"text": text, "labels": ["x", "z"][: i % 3]} for i, text in enumerate(TEXTS)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = json.loads(command("evaluate", several, "--data", data, "--format", "json").out)["models"][0]
    answers = [answer.label.split(", ") for answer in EdgeModel(several).predict(TEXTS)]
    right = [set(row["labels"]) == set(answer) - {""} for row, answer in zip(rows, answers, strict=True)]
    assert found["scores"]["accuracy"]["value"] == sum(right) / len(TEXTS)
    assert "oracle" in command("evaluate", several, "--data", data).out

    regression = write_model(tmp_path / "regression.onnx", labels=("score",), problem="regression")
    data = tmp_path / "scores.tsv"
    scores = [answer.score for answer in EdgeModel(regression).predict(TEXTS)]
    data.write_text("text\tlabel\n" + "".join(f"{t}\t{2 * s + 1}\n" for t, s in zip(TEXTS, scores, strict=True)))
    found = json.loads(command("evaluate", regression, "--data", data, "--format", "json").out)["models"][0]
    assert found["scores"]["pearson"]["value"] == pytest.approx(1, abs=1e-4)
    assert "ambiguity" in command("evaluate", regression, "--data", data, "--perturb", "typos=0.9").out


def test_wrong_input_is_one_line(command: Command, model_path: Path, data: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.onnx", labels=("good", "bad"))
    regression = write_model(tmp_path / "regression.onnx", labels=("score",), problem="regression")
    (tmp_path / "empty.tsv").write_text("sentence\tlabel\n")
    for arguments, reason in [
        ((model_path, "--data", tmp_path / "none.tsv"), "none.tsv"),
        ((model_path, "--data", tmp_path / "empty.tsv"), "no examples"),
        ((model_path, "--data", data, "--label-column", "mood"), "--label-column"),
        ((model_path, "--data", data, "--metrics", "pearson"), "--metrics"),
        ((model_path, "--data", data, "--metric", "best"), "'best' is no metric"),
        ((model_path, "--data", data, "--perturb", "rain"), "--perturb has 'rain'"),
        ((model_path, "--data", data, "--bootstrap", 7), "--bootstrap is 7"),
        ((model_path, "--data", data, "--compare-to", other), "has the labels good, bad"),
        ((model_path, "--data", data, "--text-pair-column", "label"), "reads single texts"),
        ((regression, "--data", data), "expected a finite number"),
        ((other, "--data", data), "expected one of good, bad"),
        ((tmp_path / "none.onnx", "--data", data), "does not exist"),
    ]:
        done = command("evaluate", *arguments)
        assert (done.code, done.out) == (1, ""), reason
        assert done.err.startswith("bebert-edge: error: ")
        assert reason in done.err
        assert done.err.count("\n") == 1


def test_an_exported_model_needs_no_torch(
    command: Command, model_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torch", "transformers")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    assert command("evaluate", model_path, "--data", data, "--bootstrap", 0).code == 0


def test_without_scikit_learn_the_command_that_installs_it_is_named(
    command: Command, model_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    done = command("evaluate", model_path, "--data", data)
    assert done.code == 1
    assert "Run: pip install 'bebert-edge[evaluate]'" in done.err
