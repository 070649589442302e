# SPDX-License-Identifier: Apache-2.0
"""Layers on ranges of sequences, and their linears, in nodes of the graph."""

from __future__ import annotations

import numpy as np

from bebert_edge.ensemble import term_names
from bebert_edge.exporters.nodes import Graph, numbered
from bebert_edge.lowering.ranges import RangeLayer, RangeLinear, RangeQuantizer

Ranged = list[str]
"""Names of an activation, and of the least and the largest number of it in each token's sequence."""


def range_layer(graph: Graph, layer: RangeLayer, hidden: str, offsets: str, epsilon: float, name: str) -> str:
    """Floats to floats. All tokens go through the last layer too: ranges are of all of them."""
    codes, steps, ranged = [], [], _range(graph, hidden, offsets)
    attention, uses = layer.attention, ("query", "key", "value")
    for linear, quantizer, use in zip(layer.qkv, attention.inputs, uses, strict=True):
        y = _range_linear(graph, linear, ranged, f"{name}.{use}")
        use_codes, step, _ = _quantize(graph, _range(graph, y, offsets), quantizer, f"{name}.{use}.codes")
        codes.append(use_codes)
        steps.append(step)
    clip = graph.constant(f"{name}.attention.clip", attention.probability.clip, "quantizers")
    inputs = [*codes, *steps, offsets, clip]
    context = graph.op("RangeAttention", inputs, f"{name}.attention", **attention.attributes)
    projected = range_linear(graph, layer.attention_output, context, offsets, f"{name}.attention_output")
    hidden, _ = graph.norm(layer.attention_norm, projected, hidden, epsilon, f"{name}.attention_norm")
    inner = range_linear(graph, layer.ffn_in, hidden, offsets, f"{name}.ffn_in")
    projected = range_linear(graph, layer.ffn_out, inner, offsets, f"{name}.ffn_out")
    return graph.norm(layer.ffn_norm, projected, hidden, epsilon, f"{name}.ffn_norm")[0]


def range_linear(graph: Graph, linear: RangeLinear, x: str, offsets: str, name: str) -> str:
    """The sum of products of codes of `x`, each in units of their step, and the bias."""
    return _range_linear(graph, linear, _range(graph, x, offsets, linear.activation), name)


def _range_linear(graph: Graph, linear: RangeLinear, ranged: Ranged, name: str) -> str:
    quantized = [
        _quantize(graph, ranged, quantizer, numbered(f"{name}.input", i))
        for i, quantizer in enumerate(linear.quantizers)
    ]
    total, zeros = "", np.zeros_like(linear.bias)
    for term, product in zip(term_names(name, len(linear.products)), linear.products, strict=True):
        codes, step, offset = quantized[product.source]
        inputs = [
            codes,
            graph.constant(f"{term}.weight", product.weight, "encoder bits"),
            graph.channels(f"{term}.scale", product.scale, "encoder scales"),
            graph.channels(f"{term}.bias", zeros, "biases"),
        ]
        graph.op("PackedBinaryMatMul", inputs, f"{term}.product", **product.attributes)
        y = graph.node("Mul", [f"{term}.product", step], f"{term}.scaled")
        if product.offset_scale is not None:
            scale = graph.constant(f"{term}.offset_scale", product.offset_scale[:, None], "encoder scales")
            graph.node("Mul", [offset, scale], f"{term}.offset")
            y = graph.node("Add", [y, f"{term}.offset"], f"{term}.sum")
        total = graph.node("Add", [total, y], f"{name}.terms") if total else y
    bias = graph.constant(f"{name}.bias", linear.bias[:, None], "biases")
    return graph.node("Add", [total, bias], name)


def _range(graph: Graph, x: str, offsets: str, activation: int = 0) -> Ranged:
    outputs, name = [f"{x}.activated", f"{x}.least", f"{x}.most"], f"{x}.range"
    if name in graph.names:
        return outputs
    graph.op("SequenceRange", [x, offsets], name, outputs=outputs, activation=activation)
    return outputs


def _quantize(graph: Graph, ranged: Ranged, quantizer: RangeQuantizer, name: str) -> list[str]:
    """Names of codes, step and offset."""
    clip = graph.constant(f"{name}.clip", quantizer.clip, "quantizers")
    outputs = [name, f"{name}.step", f"{name}.offset"]
    code = quantizer.code.triple
    graph.op("RangeQuantize", [*ranged, clip], name, outputs=outputs, output_code=code)
    return outputs
