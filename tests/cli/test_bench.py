# SPDX-License-Identifier: Apache-2.0
"""`bench` on an architecture of one small layer: what is measured and told, never how long it took."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bebert_edge.bench import baselines, compare
from bebert_edge.bench.recipes import SCRIPT_EAGER, Exported, Quantized
from bebert_edge.runtime.onnx_bytes import one_node_model
from model_files import write_model

Command = Any
FAST = ("--rounds", 10, "--seconds", 0)
CONFIG = {
    "model_type": "bert",
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}
BROKEN = Quantized(Exported("TorchScript", "nonsense"), "none", per_channel=False)  # type: ignore[arg-type]
ONE_NODE = one_node_model(
    "Identity",
    "",
    inputs={"input_ids": np.zeros((1, 1), np.int64)},
    initializers={},
    outputs={"logits": (np.dtype(np.int64), 2)},
    attributes={},
)
needs_torch = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "transformers"))), reason="baselines are made by transformers"
)


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "warm_seconds", lambda threads: 0)


@pytest.fixture
def architecture(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def few_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One way to make each baseline, instead of all that take minutes, and one that fails."""
    monkeypatch.setattr(baselines, "RECIPES", {
        "fp32": (SCRIPT_EAGER,),
        "int8": (Quantized(SCRIPT_EAGER, "gelu", per_channel=False), BROKEN),
    })  # fmt: skip


@needs_torch
def test_the_report(command: Command, architecture: Path, cache: Path, few_recipes: None, tmp_path: Path) -> None:
    done = command(
        *("bench", architecture, "--bits", 4, "--members", 2, "--threads", "1,2", "--sequence-length", "7,3..9"),
        *("--batch-size", 3, "--against", "fp32,int8,portable", "--cache-dir", cache, "--profile", *FAST),
        *("--format", "json", "-o", tmp_path / "report.json"),
    )
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert set(report) == {"schema", "command", "environment", "settings", "comparisons"}
    assert report["schema"] == 1
    assert report["environment"]["cpu_path"]
    assert report["environment"]["versions"]["onnxruntime"]
    (comparison,) = report["comparisons"]
    assert set(comparison) == {"architecture", "models", "timings", "profiles", "failed"}
    assert comparison["architecture"]["encoder"]["hidden_size"] == 32
    assert [*comparison["failed"]] == ["int8"]

    ensembles = ["2 members, 4-bit"]
    portable = [f"{name}, portable" for name in ensembles]
    assert [m["name"] for m in comparison["models"]] == [*ensembles, "fp32", "int8", *portable]
    for model in comparison["models"]:
        assert model["random_weights"]
        assert model["file_bytes"] > 0
        assert model["footprint"]["load_ms"] > 0

    timings = comparison["timings"]
    assert [(t["threads"], t["shape"]["lengths"]) for t in timings] == [
        (threads, lengths) for threads in (1, 2) for lengths in ([7, 7, 7], [3, 6, 9])
    ]
    for timing in timings:
        mixed = timing["shape"]["lengths"] == [3, 6, 9]
        assert timing["rounds"] == 10
        assert timing["clock"] == ("CPU time" if timing["threads"] == 1 else "wall-clock time")
        ways = 2 if mixed else 1
        assert [r["model"] for r in timing["results"]] == [
            *(name for name in ensembles for _ in range(ways)), "fp32", "int8", *portable
        ]  # fmt: skip
        for result in timing["results"]:
            for time in (result["time"], result["cold"]):
                assert 0 < time["best"] <= time["median"] <= time["p95"]
            assert set(result["ratios"]) == (set() if result["baseline"] else {"fp32", "int8", "portable"})
            assert result["time"] == result["cpu" if timing["threads"] == 1 else "wall"]
        assert len(timing["tried"]["fp32"]) == ways
        assert min(timing["tried"]["fp32"].values()) == next(
            timing["tried"]["fp32"][r["variant"]] for r in timing["results"] if r["model"] == "fp32"
        )

    assert [p["model"] for p in comparison["profiles"]] == ensembles * 4
    for entry in comparison["profiles"]:
        ops = {op["op"]: op for op in entry["profile"]["ops"]}
        assert {"PackedBinaryMatMul", "BinaryAttention"} <= set(ops)
        assert sum(op["share"] for op in ops.values()) == pytest.approx(1)
        assert 0 < entry["profile"]["products_share"] < 1


@needs_torch
@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="charts are drawn by matplotlib")
def test_the_table_and_the_chart(
    command: Command, architecture: Path, cache: Path, few_recipes: None, tmp_path: Path
) -> None:
    for name, magic in (("chart.png", b"\x89PNG"), ("chart.svg", b"<?xml")):
        chart = tmp_path / name
        done = command(
            *("bench", architecture, "--bits", 4, "--sequence-length", 5, "--against", "fp32", "--profile"),
            *("--cache-dir", cache, "--chart", chart, *FAST),
        )
        assert done.code == 0, done.err
        assert chart.read_bytes().startswith(magic)
    assert all(len(line) <= 100 for line in done.out.splitlines())
    for part in ("1 member, 4-bit", "fp32", "TorchScript, eager", "1 x 5 tokens, 1 thread, 10 rounds, CPU time"):
        assert part in done.out
    for part in ("Random weights", "one single model", "matrix products", "BinaryAttention", "load time"):
        assert part in done.out
    assert "1 member, 4-bit" in chart.read_text()


def test_a_model_without_baselines_needs_nothing_but_itself(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model.onnx", members=2)
    found = importlib.util.find_spec
    absent = ("torch", "transformers", "onnx", "onnxscript", "matplotlib")
    monkeypatch.setattr(baselines, "find_spec", lambda name: None if name in absent else found(name))
    done = command("bench", model, "--against", "none", "--sequence-length", 4, *FAST)
    assert done.code == 0, done.err
    assert "model.onnx, 2 members, 4-bit" in done.out
    assert "Random weights" not in done.out


@pytest.mark.parametrize(("package", "baseline", "install"), [
    ("torch", "int8", "pip install 'bebert-edge[bench]'"),
    ("openvino", "openvino", "pip install openvino nncf"),
])  # fmt: skip
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    command: Command, model_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, baseline: str, install: str
) -> None:
    monkeypatch.setattr(baselines, "find_spec", lambda name: None if name == package else object())
    done = command("bench", model_path, "--against", baseline, "--sequence-length", 4)
    assert (done.code, done.out) == (1, "")
    assert f"needs the package {package!r}, which is not installed. Run: {install}" in done.err


def test_no_baseline_can_be_made(
    command: Command, architecture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "check_installed", lambda baseline: None)
    monkeypatch.setattr(baselines, "baseline_directory", lambda cache, architecture: cache)
    monkeypatch.setattr(baselines, "_make", lambda recipes, *rest: [(recipe, "OSError: full") for recipe in recipes])
    done = command("bench", architecture, "--against", "matmulnbits", "--cache-dir", tmp_path, "--sequence-length", 4)
    assert (done.code, done.out) == (1, "")
    assert "no model of the baseline matmulnbits could be made (TorchScript, eager, blocks of 32" in done.err
    assert "OSError: full" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bits", "1,3"), "expected some of 1, 2, 4, 8"),
        (("--bits", ""), "the list is empty"),
        (("--members", "0"), "no integer >= 1"),
        (("--threads", "1;2"), "no integer >= 1"),
        (("--against", "fp32,int7"), "'int7'"),
        (("--against", "none,fp32"), "stands alone"),
        (("--sequence-length", "16..8", "--batch-size", "2"), "SHORTEST..LONGEST"),
        (("--sequence-length", "8..16"), "needs --batch-size 2 or more"),
        (("--chart", "chart.bmp"), "ends in .svg, .png, .pdf"),
        (("--rounds", "9"), "greater than or equal to 10"),
    ],
)
def test_wrong_usage(command: Command, arguments: tuple[str, ...], message: str) -> None:
    done = command("bench", "minilm-l6", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in " ".join(done.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bert-huge",), "bert-huge is neither an architecture nor a file"),
        (("none.onnx",), "none.onnx does not exist"),
        (("minilm-l6", "--sequence-length", "513"), "reads 512 tokens at most, not 513"),
    ],
)
def test_errors(command: Command, arguments: tuple[str, ...], message: str) -> None:
    done = command("bench", *arguments, "--against", "none")
    assert (done.code, done.out) == (1, "")
    assert message in done.err


def test_a_model_that_does_not_run(command: Command, model_path: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(model_path)
    model.graph.node[-1].op_type = "NoSuchOp"
    onnx.save(model, tmp_path / "bad.onnx")
    done = command("bench", tmp_path / "bad.onnx", "--against", "none", "--sequence-length", 4)
    assert (done.code, done.out) == (1, "")
    assert "bad.onnx does not run: " in done.err
    assert "NoSuchOp" in done.err


@needs_torch
def test_a_baseline_that_does_not_run_is_left_out(
    command: Command, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(ONE_NODE)
    bad.write_bytes(b"nonsense")
    made = {"good recipe": good, "bad recipe": bad}
    monkeypatch.setattr(compare, "make_baseline", lambda *arguments: (made, {}))
    arguments = ("bench", model_path, "--against", "fp32", "--sequence-length", 4, "--format", "json", *FAST)
    (comparison,) = json.loads(command(*arguments).out)["comparisons"]
    assert [*comparison["timings"][0]["tried"]["fp32"]] == ["good recipe"]
    assert "bad.onnx does not run" in comparison["failed"]["fp32"]["bad recipe"]
    del made["good recipe"]
    done = command(*arguments)
    assert (done.code, done.out) == (1, "")
    assert "no model of the baseline fp32 runs" in done.err


def test_without_the_native_library(command: Command, model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEBERT_EDGE_OPS_LIBRARY", "/nowhere/ops.so")
    done = command("bench", model_path, "--against", "none", "--sequence-length", 4)
    assert (done.code, done.out) == (1, "")
    assert "/nowhere/ops.so" in done.err
