# SPDX-License-Identifier: Apache-2.0
"""Linears with int8 and float16 weights in the graph, against the reference: equal codes, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bebert_edge import ops
from bebert_edge.bits import pack_bits
from bebert_edge.codes import CODE_TYPES
from bebert_edge.config import LayerQuantization
from bebert_edge.errors import NativeLibraryError
from bebert_edge.exporters import build_model
from bebert_edge.exporters.functions import opset_imports
from bebert_edge.exporters.nodes import Graph
from bebert_edge.kept_weights import kept_matmul
from bebert_edge.lowering import LoweredLinear, LoweredProduct
from bebert_edge.reference import forward, values
from bebert_edge.runtime.inspection import inspect
from support import linear_names, random_batch, random_ensemble

MIXED = LayerQuantization("int2", "sign", "uint4", "ternary", "bool", "uint8")
STRUCTURES: dict[str, dict[str, Any]] = {
    "every linear int8": {"weights": dict.fromkeys(linear_names(2), "int8")},
    "with a projection": {
        "weights": {"embeddings.projection": "int8", "layers.0.qkv": "int8", "layers.1.ffn_in": "float16"},
        "embedding_size": 10,
    },
    "shared by two layers": {
        "weights": {"layers.0.ffn_in": "int8", "layers.0.qkv": "int8", "layers.0.ffn_out": "float16"},
        "distinct_layers": 1,
    },
    "gated, rotated, norms before": {
        "weights": dict.fromkeys(linear_names(2), "int8") | {"layers.1.qkv": "float16"},
        "structure": {"norm": "pre", "gated": True, "rotary_bases": (10000.0, 160000.0)},
    },
    "every linear float16": {"weights": dict.fromkeys(linear_names(2), "float16")},
    "some": {"weights": {"layers.0.ffn_in": "float16", "layers.1.qkv": "int8", "layers.1.ffn_out": "float16"}},
    "apart, in two terms": {
        "weights": {"layers.0.key": "int8", "layers.1.query": "float16", "layers.0.ffn_out": "int8"},
        "fused_qkv": False,
        "terms": 2,
    },
}


def session(model: onnx.ModelProto, native: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if native:
        try:
            ops.register(options)
        except NativeLibraryError as error:
            pytest.skip(str(error))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("native", [False, True], ids=["portable", "native"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, MIXED], ids=["1", "2", "4", "8", "mixed"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_whole_ensemble_is_the_reference_s(structure: str, bits: int | LayerQuantization, native: bool) -> None:
    ensemble = random_ensemble(bits=bits, activation="gelu", **STRUCTURES[structure])
    model, parts = build_model(ensemble)
    onnx.checker.check_model(model, full_check=True)
    feed = random_batch(ensemble, [5, 1, 14, 9], sequence=16)
    found = session(model, native).run(["logits", "member_logits"], feed)
    for f, e in zip(found, forward(ensemble, **feed), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-5, atol=1e-5)
    for part in ("int8 weights", "float16 weights"):
        assert parts.get(part, 0) == ensemble.size().get(part, 0)


@pytest.mark.parametrize("kind", ["int8", "float16"])
@pytest.mark.parametrize("code", CODE_TYPES)
def test_one_product_is_the_reference_s_bit_for_bit(code: str, kind: str) -> None:
    """With weights of the largest magnitudes: where unsigned by signed bytes saturated, sums would differ."""
    rng, code_type, k = np.random.default_rng(0), CODE_TYPES[code], 72
    if code_type.width == 1:
        codes = pack_bits(rng.random((2, 5, k)) < 0.5)
    else:
        codes = rng.integers(0, code_type.high - code_type.low + 1, (2, 5, k)).astype(np.uint8)
        codes[:, 0] = code_type.high - code_type.low
    weight: np.ndarray = rng.integers(-128, 128, (2, 3, k)).astype(np.int8)
    weight[:, 0] = -128
    if kind == "float16":
        weight = rng.normal(0, 10, weight.shape).astype(np.float16)
    scale, bias = rng.normal(size=(2, 2, 3)).astype(np.float32)
    graph, product = Graph(), LoweredProduct(k, 0, code_type, weight, scale, bias)
    graph.linear(LoweredLinear((product,)), ["codes"], "y")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "product",
            [helper.make_tensor_value_info("codes", TensorProto.UINT8, [2, "tokens", codes.shape[-1]])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            list(graph.initializers.values()),
        ),
        opset_imports=opset_imports(),
        ir_version=8,
    )
    expected = kept_matmul(values(codes, code_type, k), weight, scale, bias)
    found = session(model)
    np.testing.assert_array_equal(found.run(["y"], {"codes": codes})[0], expected)
    assert found.run(["y"], {"codes": codes[:, :0]})[0].shape == (2, 0, 3)


@pytest.mark.parametrize(("bits", "dtype"), [(4, TensorProto.INT8), (8, TensorProto.UINT8)])
def test_bytes_of_eight_bits_never_meet_signed_ones(bits: int, dtype: int) -> None:
    """Without VNNI onnxruntime adds two products of unsigned by signed bytes in 16 bits, with saturation."""
    model, _ = build_model(random_ensemble(bits=bits, weights={"layers.0.qkv": "int8"}))
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "layers.0.qkv.weight")
    assert weight.data_type == dtype


def test_graphs_without_kept_weights_have_no_such_nodes() -> None:
    model, _ = build_model(random_ensemble())
    assert not {"MatMulInteger", "Unsqueeze"} & {node.op_type for node in model.graph.node}


def test_a_file_says_what_is_kept(tmp_path) -> None:
    ensemble = random_ensemble(weights={"pooler": "float16", "layers.0.qkv": "int8", "layers.1.ffn_in": "int8"})
    model, _ = build_model(ensemble)
    onnx.save(model, tmp_path / "model.onnx")
    found = inspect(tmp_path / "model.onnx")
    assert found["quantization"]["int8 weights"] == "layers.0.qkv, layers.1.ffn_in"
    assert found["quantization"]["float16 weights"] == "pooler"
    assert found["bytes"]["int8 weights"] == 2 * (72 * 24 + 40 * 24)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["bebert_edge.quantization"].startswith("1-bit weights (1 linear float16, 2 linears int8), act")
