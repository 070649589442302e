# SPDX-License-Identifier: Apache-2.0
"""Word embeddings of 8 or 4 bits in standard ops of opset 18."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from bebert_edge.exporters.nodes import Graph
from bebert_edge.groups import GroupedTable


def grouped_words(graph: Graph, table: GroupedTable, ids: str, name: str) -> str:
    """Rows of a table, `[M, T, channels]` float32."""
    codes = graph.constant(f"{name}.codes", table.codes, "word embedding codes")
    levels = graph.node("Gather", [codes, ids], f"{name}.levels", axis=1)
    if table.kind == "int4":
        levels = _nibbles(graph, table.channels, levels, name)
    graph.node("Cast", [levels], f"{name}.float", to=TensorProto.FLOAT)
    zero = graph.constant(f"float.{table.zero}", np.array(table.zero, np.float32), "graph")
    graph.node("Sub", [f"{name}.float", zero], f"{name}.values")

    stored = graph.constant(f"{name}.scale", table.scale, "word embedding scales")
    scale = graph.node("Gather", [stored, ids], f"{name}.scales", axis=1)
    if table.scale.dtype == np.float16:
        scale = graph.node("Cast", [scale], f"{name}.scales.float", to=TensorProto.FLOAT)
    groups = graph.constant(f"{name}.groups", table.group_of_channels, "graph")
    graph.node("Gather", [scale, groups], f"{name}.scales.channels", axis=2)
    return graph.node("Mul", [f"{name}.values", f"{name}.scales.channels"], name)


def _nibbles(graph: Graph, channels: int, packed: str, name: str) -> str:
    """The low nibbles of all bytes, then the high ones."""
    mask, width = (graph.constant(f"uint8.{n}", np.array(n, np.uint8), "graph") for n in (15, 4))
    graph.node("BitwiseAnd", [packed, mask], f"{name}.low")
    graph.node("BitShift", [packed, width], f"{name}.high", direction="RIGHT")
    both = graph.node("Concat", [f"{name}.low", f"{name}.high"], f"{name}.nibbles", axis=2)
    if channels % 2 == 0:
        return both
    last = [graph.integers(0), graph.integers(channels), graph.integers(2)]
    return graph.node("Slice", [both, *last], f"{name}.nibbles.used")
