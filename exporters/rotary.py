# SPDX-License-Identifier: Apache-2.0
"""Rotary positions in standard operators (docs/format.md, "Rotary positions")."""

from __future__ import annotations

from bebert_edge.exporters.nodes import Graph
from bebert_edge.lowering import LoweredLayer, LoweredQuantizedLinear
from bebert_edge.lowering.rotary import Rotary


def rotated_query_key_value(
    graph: Graph,
    layer: LoweredLayer,
    rotary: Rotary,
    query_codes: list[str],
    codes: list[str],
    positions: str,
    name: str,
) -> tuple[tuple[str, str, str], tuple[int, int, int]]:
    """The tensors that hold query, key and value, and the channels at which they begin in them.

    Queries of first tokens only (`query_codes` other than `codes`) are at position 0, whose rotation changes nothing.
    """

    def rotated(linear: LoweredQuantizedLinear, use: str) -> str:
        floats = graph.linear(linear, codes, f"{name}.{use}")
        turned = _rotate(graph, floats, rotary, positions, f"{name}.{use}.rotated")
        (quantized,) = graph.quantize(turned, linear.outputs, f"{name}.{use}.codes")
        return quantized

    query, key, value = layer.query_key_value
    (values,) = graph.quantized_linear(value, codes, f"{name}.value")
    if query_codes is codes and len(layer.qkv) == 1:
        width = layer.attention.width
        both = rotated(layer.qkv[0].rows(0, 2 * width), "query_key")
        return (both, both, values), (0, width, 0)
    if query_codes is codes:
        queries = rotated(query, "query")
    else:
        (queries,) = graph.quantized_linear(query, query_codes, f"{name}.query")
    return (queries, rotated(key, "key"), values), (0, 0, 0)


def _rotate(graph: Graph, x: str, rotary: Rotary, positions: str, name: str) -> str:
    """Turns `x [E, T, heads * D]`: `x * cos + swapped * sin`, where the sine of first halves is negative."""
    cos, sin = _cos_and_sin(graph, rotary, positions)
    head_size = 2 * rotary.cos.shape[1]
    graph.node("Reshape", [x, graph.integers(0, 0, -1, head_size)], f"{name}.heads")
    halves = [f"{name}.first", f"{name}.second"]
    graph.node("Split", [f"{name}.heads"], f"{name}.halves", outputs=halves, axis=-1, num_outputs=2)
    graph.node("Concat", halves[::-1], f"{name}.swapped", axis=-1)
    graph.node("Mul", [f"{name}.heads", cos], f"{name}.by_cos")
    graph.node("Mul", [f"{name}.swapped", sin], f"{name}.by_sin")
    graph.node("Add", [f"{name}.by_cos", f"{name}.by_sin"], f"{name}.turned")
    return graph.node("Reshape", [f"{name}.turned", graph.integers(0, 0, -1)], name)


def _cos_and_sin(graph: Graph, rotary: Rotary, positions: str) -> tuple[str, str]:
    """Those of every token, `[T, 1, D]`; layers of one base share them."""
    name = f"rotary.{rotary.base:.17g}"
    names = f"{name}.cos", f"{name}.sin"
    if names[0] in graph.names:
        return names
    axis = graph.integers(1)
    for use, table in (("cos", rotary.cos), ("sin", rotary.sin)):
        half = graph.constant(f"{name}.{use}.table", table, "position and type embeddings")
        graph.node("Gather", [half, positions], f"{name}.{use}.half")
        first = f"{name}.{use}.half" if use == "cos" else graph.node("Neg", [f"{name}.{use}.half"], f"{name}.{use}.neg")
        graph.node("Concat", [first, f"{name}.{use}.half"], f"{name}.{use}.rows", axis=-1)
        graph.node("Unsqueeze", [f"{name}.{use}.rows", axis], f"{name}.{use}")
    return names
