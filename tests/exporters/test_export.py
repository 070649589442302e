# SPDX-License-Identifier: Apache-2.0
"""Exporting: what is written, what verification proves, and that nothing is left behind when it fails."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from bebert_edge import lowering
from bebert_edge.cli.main import app
from bebert_edge.config import HeadConfig, TaskConfig
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import CheckpointError, ExportError, FormatError, VerificationError
from bebert_edge.exporters import ExportReport, export, heads
from bebert_edge.exporters import graph as graph_module
from bebert_edge.exporters import verify as verify_module
from bebert_edge.exporters.samples import SENTENCES, samples
from support import random_ensemble

FILL = TaskConfig("fill-mask", mask_id=4)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    random_ensemble(bits=4).save(tmp_path / "packed")
    return tmp_path / "packed"


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def passed(report: ExportReport) -> dict[str, bool | None]:
    return {check.name: check.passed for check in report.checks}


def test_a_packed_ensemble_becomes_one_verified_file(packed: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    report = export(packed, tmp_path / "new" / "model.onnx", progress=steps.append)
    assert report.path.stat().st_size == report.size == sum(report.parts.values())
    assert names_in(report.path.parent) == ["model.onnx"]
    assert passed(report)["onnx.checker"] is True
    assert passed(report)["without the native library"] is True
    assert passed(report)["with the native library"] is not False
    assert passed(report)["PyTorch"] is None
    assert "labels agree 32/32" in report.checks[1].detail
    assert steps[:2] == ["reading the source", "building the graph"]
    assert (report.members, report.nodes) == (2, len(onnx.load(report.path).graph.node))
    json.dumps(report.to_dict())


def test_an_ensemble_in_memory_can_be_exported_unverified(tmp_path: Path) -> None:
    report = export(random_ensemble(), tmp_path / "model.onnx", verify=False)
    assert report.checks == ()
    onnxruntime.InferenceSession(str(report.path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression"])
@pytest.mark.parametrize("text_pair", [False, True])
def test_every_task_is_verified(problem: str, text_pair: bool, tmp_path: Path) -> None:
    labels = ("score",) if problem == "regression" else ("a", "b", "c")
    ensemble = random_ensemble(problem=problem, text_pair=text_pair, labels=labels)
    report = export(ensemble, tmp_path / "model.onnx")
    assert passed(report)["without the native library"] is True
    assert ("labels agree 32/32" in report.checks[1].detail) == (problem != "regression")


def test_latent_checkpoints_are_compared_with_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from latent import write_latent_ensemble

    latent = write_latent_ensemble(tmp_path / "latent", bits=4)
    report = export(latent, tmp_path / "model.onnx")
    assert passed(report)["PyTorch"] is True
    assert "labels agree 32/32" in report.checks[-1].detail
    members = export([latent / "member-0", latent / "member-1"], tmp_path / "members.onnx")
    assert passed(members)["PyTorch"] is True

    def wrong(**feed: Any) -> Any:
        import torch

        class Answer:
            logits = torch.ones(len(feed["input_ids"]), 2) * torch.tensor([5.0, -5.0])

        return Answer

    with pytest.raises(VerificationError, match="PyTorch: labels agree"):
        export(latent, tmp_path / "wrong.onnx", torch_members=[wrong, wrong])
    assert not (tmp_path / "wrong.onnx").exists()


@pytest.mark.parametrize(
    ("problem", "labels", "answer"),
    [
        ("single_label", ["a", "b", "c"], {"combination": "probabilities", "temperature": 0.4}),
        ("multi_label", ["a", "b", "c"], {"combination": "probabilities", "temperature": 3.0}),
        ("regression", ["score"], {}),
    ],
)
def test_latent_checkpoints_of_every_problem_become_a_model_that_answers(
    problem: str, labels: list[str], answer: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from bebert_edge.runtime import EdgeModel
    from latent import SENTENCES, write_latent_ensemble

    latent = write_latent_ensemble(
        tmp_path / "latent", bits=4, problem=problem, labels=labels, content={**answer, "member_weights": [3, 1]}
    )
    report = export(latent, tmp_path / "model.onnx")
    assert passed(report)["PyTorch"] is True
    model = EdgeModel(report.path)
    config = model.metadata.config
    assert (config.task.problem, list(model.labels), config.member_weights) == (problem, labels, (0.75, 0.25))
    for prediction in model.predict(SENTENCES):
        assert len(prediction.scores) == len(labels)
        assert (prediction.members_agree is None) == (problem == "regression")


def test_a_wrong_temperature_or_weight_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter alone sees the wrong number: members are right, and what is made of them is not."""
    combine = heads._Head.combine
    wrong_numbers = ({"temperature": 2.001}, {"member_weights": (0.51, 0.49)}, {"combination": "logits"})
    for problem, wrong in itertools.product(("single_label", "multi_label"), wrong_numbers):
        ensemble = random_ensemble(problem=problem, combination="probabilities", temperature=2.0)

        def combine_wrongly(head, *names, wrong=wrong):
            head.config = replace(head.config, **wrong)
            return combine(head, *names)

        monkeypatch.setattr(heads._Head, "combine", combine_wrongly)
        with pytest.raises(VerificationError, match="without the native library"):
            export(ensemble, tmp_path / "model.onnx", samples=["my own text", "good"])


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("field", ["scale", "weight", "bias"])
def test_a_broken_export_fails_and_leaves_nothing(
    field: str, layer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the exporter sees the wrong number: as if it had put it there."""

    def lower_wrongly(ensemble: PackedEnsemble) -> lowering.LoweredEnsemble:
        model = lowering.lower(ensemble)
        (product,) = model.layers[layer].ffn_out.products
        value = np.array(getattr(product, field))
        value[0, ::2] = 255 - value[0, ::2] if field == "weight" else value[0, ::2] + 1
        linear = lowering.LoweredLinear((replace(product, **{field: value}),))
        wrong = replace(model.layers[layer], ffn_out=linear)
        return replace(model, layers=tuple(wrong if i == layer else good for i, good in enumerate(model.layers)))

    monkeypatch.setattr(graph_module, "lower", lower_wrongly)
    target = tmp_path / "out" / "model.onnx"
    target.parent.mkdir()
    target.write_bytes(b"what was there before")
    with pytest.raises(VerificationError, match=r"without the native library.*worst sample"):
        export(random_ensemble(), target, overwrite=True)
    assert names_in(target.parent) == ["model.onnx"]
    assert target.read_bytes() == b"what was there before"


def test_an_error_of_the_runtime_is_a_failed_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "function_protos", lambda *used: [])
    with pytest.raises(VerificationError, match="without the native library"):
        export(random_ensemble(), tmp_path / "model.onnx")
    assert names_in(tmp_path) == []


def test_outputs_that_cannot_be_written_are_refused(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "there.onnx").write_bytes(b"")
    (tmp_path / "folder.onnx").mkdir()
    for output, message in [
        (tmp_path / "there.onnx", "exists.*--overwrite"),
        (tmp_path / "folder.onnx", "is a directory"),
        (packed, "is a directory"),
        (packed / "model.safetensors", r"does not end in \.onnx"),
        (tmp_path / "there.onnx" / "model.onnx", "cannot be written"),
    ]:
        with pytest.raises(ExportError, match=message):
            export(packed, output)
    export(packed, tmp_path / "there.onnx", overwrite=True, verify=False)
    PackedEnsemble.load(packed)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_an_error(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    with pytest.raises(ExportError, match="cannot be written: Permission denied"):
        export(packed, folder / "model.onnx")


def test_sources_that_cannot_be_read_are_refused(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a directory"):
        export(tmp_path / "nowhere", tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="packed ensemble: expected it alone"):
        export([packed, packed], tmp_path / "model.onnx")
    (packed / "tokenizer.json").unlink()
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        export(packed, tmp_path / "model.onnx")
    assert names_in(tmp_path) == ["packed"]


def test_samples_must_fit_the_task(tmp_path: Path) -> None:
    for given, message in [([], "no samples"), ([("a", "b")], "single texts"), (["a", ("a", "b")], "single texts")]:
        with pytest.raises(ExportError, match=message):
            export(random_ensemble(), tmp_path / "model.onnx", samples=given)
    report = export(random_ensemble(), tmp_path / "model.onnx", samples=["my own text"])
    assert "labels agree 1/1" in report.checks[1].detail


def test_a_task_that_fills_masks_beside_one_on_pairs_is_verified_on_masks(tmp_path: Path) -> None:
    ensemble = random_ensemble(text_pair=True, heads_of_tasks=[HeadConfig("guess", FILL, ())])
    report = export(ensemble, tmp_path / "model.onnx")
    assert passed(report)["without the native library, task guess"] is True
    with pytest.raises(ExportError, match="no sample has a mask"):
        export(ensemble, tmp_path / "other.onnx", samples=[("a film", "a movie")])


def test_of_masks_no_sample_is_called_the_worst(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verify_module, "EXACT_TOLERANCE", -1.0)
    with pytest.raises(VerificationError, match="without the native library: labels agree") as error:
        export(random_ensemble(task=FILL), tmp_path / "model.onnx")
    assert "worst sample" not in str(error.value)


def test_the_shipped_samples_are_varied() -> None:
    assert len(set(SENTENCES)) == 32
    assert "" in SENTENCES
    assert max(map(len, SENTENCES)) > 500
    assert sum(not sentence.isascii() for sentence in SENTENCES) >= 6
    assert all(len(pair) == 2 for pair in samples(random_ensemble(text_pair=True)))


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_command_prints_size_by_part_and_every_check(packed: Path, tmp_path: Path) -> None:
    result = run(packed, "-o", tmp_path / "model.onnx")
    assert result.exit_code == 0, result.stderr
    assert f"{tmp_path / 'model.onnx'}: 2 members" in result.stdout
    assert "encoder bits" in result.stdout
    assert "-[✓] without the native library: labels agree 32/32" in result.stdout
    again = run(packed, "-o", tmp_path / "model.onnx")
    assert again.exit_code == 1
    assert "exists" in again.stderr
    assert again.stdout == ""


def test_the_command_answers_in_json(packed: Path, tmp_path: Path) -> None:
    result = run(packed, "-o", tmp_path / "model.onnx", "--no-verify", "--format", "json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["size"] == sum(report["parts"].values())
    assert report["checks"] == []


def test_the_command_fails_if_verification_does(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "function_protos", lambda *used: [])
    result = run(packed, "-o", tmp_path / "model.onnx")
    assert result.exit_code == 1
    assert "was not written" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "model.onnx").exists()


def test_the_command_without_a_source_is_wrong_usage() -> None:
    assert run().exit_code == 2
