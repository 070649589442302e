# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from bebert_edge.config import LayerQuantization, QuantizationConfig, TaskConfig
from bebert_edge.errors import FormatError, ModelError
from bebert_edge.runtime.inspection import inspect, quantization_by_layer
from model_files import write_model
from support import random_ensemble


def test_a_model_and_its_ensemble_agree(model_path: Path, tmp_path: Path) -> None:
    random_ensemble().save(tmp_path / "ensemble")
    model, ensemble = inspect(model_path), inspect(tmp_path / "ensemble")
    assert model["kind"] == "ONNX model"
    assert ensemble["kind"] == "packed ensemble"
    different = {"path", "kind", "bytes", "size"}
    assert set(ensemble) - different >= {"task", "labels", "members", "max_length", "encoder", "quantization"}
    for key in set(ensemble) - different:
        assert model[key] == ensemble[key], key
    assert model["bytes"]["encoder bits"] == ensemble["bytes"]["encoder bits"]
    json.dumps([model, ensemble])


def test_how_members_are_combined(tmp_path: Path) -> None:
    arguments = {"combination": "probabilities", "temperature": 1.25}
    random_ensemble(**arguments).save(tmp_path / "ensemble")
    for path in (write_model(tmp_path / "model.onnx", **arguments), tmp_path / "ensemble"):
        found = inspect(path)
        assert {key: found[key] for key in arguments} == arguments


def test_the_bytes_of_a_model_are_all_its_bytes(model_path: Path) -> None:
    found = inspect(model_path)
    assert sum(found["bytes"].values()) == found["size"] == model_path.stat().st_size
    assert list(found["bytes"].values()) == sorted(found["bytes"].values(), reverse=True)


def test_ops_are_counted(model_path: Path) -> None:
    ops = inspect(model_path)["ops"]
    assert ops["bebert::BinaryAttention"] == 2
    assert ops["bebert::PackedBinaryMatMulQuantize"] == 5


def test_layers_of_equal_quantization_are_one_entry() -> None:
    one, four = LayerQuantization.for_bits(1), LayerQuantization.for_bits(4)
    found = quantization_by_layer(QuantizationConfig((four, four, one), "int4"))
    assert list(found) == ["layers 0-1", "layer 2", "pooler"]
    assert found["layer 2"].startswith("hidden sign")
    found = quantization_by_layer(QuantizationConfig((four, one), "int4", projection="int8"), repeated=3)
    assert list(found) == ["projection", "layers 0-2", "layers 3-5", "pooler"]


def test_a_head_without_a_pooler_shows_none(tmp_path: Path) -> None:
    random_ensemble(task=TaskConfig("token-classification"), labels=("O", "B-LOC")).save(tmp_path / "tags")
    random_ensemble().save(tmp_path / "classes")
    assert "pooler" not in inspect(tmp_path / "tags")["quantization"]
    assert "pooler" in inspect(tmp_path / "classes")["quantization"]


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"config.json is missing"):
        inspect(tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        inspect(tmp_path / "model.onnx")
