# SPDX-License-Identifier: Apache-2.0
"""Products of kept weights in standard operators of ONNX (docs/format.md, "Kept weights")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from bebert_edge.codes import CodeType

if TYPE_CHECKING:
    from bebert_edge.exporters.nodes import Graph
    from bebert_edge.lowering import LoweredProduct

_SATURATION = 2**15 - 1
"""Where onnxruntime's products of unsigned by signed bytes saturate on x86 without VNNI: sums of two neighbours."""


def kept_product(graph: Graph, product: LoweredProduct, codes: str, name: str) -> str:
    """Adds `float(sum) * scale + bias` of codes `[M, T, stored k]`; returns the name of that output, `[E, T, N]`."""
    levels = _levels(graph, codes, product.input_code, product.k, name)
    integers = product.weight.dtype == np.int8
    total = (_integer_sums if integers else _wide_sums)(graph, product, levels, name)
    graph.node("Cast", [total], f"{name}.float", to=TensorProto.FLOAT)
    scale = graph.channels(f"{name}.scale", product.scale, "encoder scales")
    bias = graph.channels(f"{name}.bias", product.bias, "biases")
    axis = graph.integers(1)
    graph.node("Unsqueeze", [scale, axis], f"{name}.scale.rows")
    graph.node("Unsqueeze", [bias, axis], f"{name}.bias.rows")
    graph.node("Mul", [f"{name}.float", f"{name}.scale.rows"], f"{name}.scaled")
    return graph.node("Add", [f"{name}.scaled", f"{name}.bias.rows"], name)


def _levels(graph: Graph, codes: str, code: CodeType, k: int, name: str) -> str:
    """One byte a channel, `value - low`, whatever the code type."""
    if code.width == 8:
        return codes
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    table = graph.constant(f"levels.{code.name}", bits * np.uint8(code.stride), "graph")
    stored = 8 * code.stored_channels(k)
    graph.node("Cast", [codes], f"{name}.bytes", to=TensorProto.INT32)
    graph.node("Gather", [table, f"{name}.bytes"], f"{name}.levels.of_bytes")
    levels = graph.node("Reshape", [f"{name}.levels.of_bytes", graph.integers(0, 0, stored)], f"{name}.levels.stored")
    if stored == k:
        return levels
    ends = [graph.integers(n) for n in (0, k, -1)]
    return graph.node("Slice", [levels, *ends], f"{name}.levels")


def _integer_sums(graph: Graph, product: LoweredProduct, levels: str, name: str) -> str:
    """int32; weights with an offset of 128 where unsigned by signed bytes could saturate."""
    code, weight = product.input_code, product.weight.swapaxes(1, 2)
    zero_points = [_zero_point(graph, -code.low)]
    if 2 * (code.high - code.low) * 128 > _SATURATION:
        weight = weight.view(np.uint8) ^ np.uint8(128)  # weight + 128
        zero_points.append(_zero_point(graph, 128))
    inputs = [levels, graph.constant(f"{name}.weight", weight, "int8 weights"), *zero_points]
    return graph.node("MatMulInteger", inputs, f"{name}.sum")


def _zero_point(graph: Graph, value: int) -> str:
    return graph.constant(f"zero_point.{value}", np.array(value, np.uint8), "graph")


def _wide_sums(graph: Graph, product: LoweredProduct, levels: str, name: str) -> str:
    """binary64, in which they are exact; onnxruntime folds the cast of the weights."""
    low = graph.constant(f"double.{product.input_code.low}", np.array(product.input_code.low, np.float64), "graph")
    weight = graph.constant(f"{name}.weight", product.weight.swapaxes(1, 2), "float16 weights")
    graph.node("Cast", [weight], f"{name}.weight.wide", to=TensorProto.DOUBLE)
    graph.node("Cast", [levels], f"{name}.levels.wide", to=TensorProto.DOUBLE)
    graph.node("Add", [f"{name}.levels.wide", low], f"{name}.values")
    return graph.node("MatMul", [f"{name}.values", f"{name}.weight.wide"], f"{name}.sum")
