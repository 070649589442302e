# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bebert_edge.runtime.onnx_bytes import one_node_model
from bebert_edge.runtime.onnx_file import read_outline
from bebert_edge.runtime.protobuf import field, fields


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_survive_as_64_bit_twos_complement(value: int) -> None:
    assert list(fields(memoryview(field(3, value)))) == [(3, value % 2**64)]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_value_error(data: bytes) -> None:
    try:
        found = list(fields(memoryview(data)))
    except ValueError:
        return
    assert all(number > 0 for number, _ in found)


def test_the_model_runs_in_onnxruntime_and_passes_the_checker() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    model = one_node_model(
        "Gemm",
        "",
        inputs={"x": x},
        initializers={"weight": weight},
        outputs={"y": (np.dtype(np.float32), 2)},
        attributes={"alpha": 0.5, "transB": 0},
    )
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x @ weight * np.float32(0.5))


def test_attributes_are_read_back_by_onnx() -> None:
    attributes = {"k": 65, "epsilon": 1e-12, "input_code": (8, -128, 127)}
    x = np.zeros((1, 1), np.int64)
    model = onnx.load_from_string(
        one_node_model(
            "Op", "bebert", inputs={"x": x}, initializers={}, outputs={"y": (x.dtype, 2)}, attributes=attributes
        )
    )
    found = {a.name: onnx.helper.get_attribute_value(a) for a in model.graph.node[0].attribute}
    assert (found["k"], found["input_code"]) == (65, [8, -128, 127])
    assert np.float32(found["epsilon"]) == np.float32(1e-12)
    assert {i.domain: i.version for i in model.opset_import} == {"": 18, "bebert": 1}


def test_the_outline_is_what_onnx_reads(model_path: Path) -> None:
    outline, model = read_outline(model_path), onnx.load(model_path)
    assert outline.size == model_path.stat().st_size
    assert outline.ir_version == model.ir_version
    assert outline.opsets == {i.domain: i.version for i in model.opset_import}
    assert outline.metadata == {p.key: p.value for p in model.metadata_props}
    nodes = (f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in model.graph.node)
    assert outline.ops == Counter(nodes)
    assert outline.functions == [f"{f.domain}::{f.name}" for f in model.functions]
    assert outline.packed_ops == sum(node.domain == "bebert" for node in model.graph.node) > 0


def test_an_old_onnx_file_without_imports_is_not_mistaken_for_text(tmp_path: Path) -> None:
    from bebert_edge.errors import ModelError

    path = tmp_path / "text.onnx"
    path.write_text("this is no model at all\n")
    with pytest.raises(ModelError, match=r"not a whole ONNX model|not an ONNX model"):
        read_outline(path)
