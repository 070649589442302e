# SPDX-License-Identifier: Apache-2.0
"""Masked tokens in the graph: a transform, then a product with the very bits of the word embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bebert_edge.config import EnsembleConfig
from bebert_edge.ensemble import term_names
from bebert_edge.exporters.nodes import Graph
from bebert_edge.lowering import LoweredMaskHead
from bebert_edge.reference import GELU_CUTOFF, GELU_P, GELU_Q

RELU = 1


def fill(
    graph: Graph, head: LoweredMaskHead, config: EnsembleConfig, codes: list[str], prefix: str, output: str
) -> None:
    """Adds logits `[E, masks, V]` of the codes of masked tokens; names begin with `prefix`."""
    name = f"{prefix}transform"
    dense = graph.linear(head.transform, codes, name)
    relu = head.transform.activation == RELU
    active = graph.node("Relu", [dense], f"{name}.active") if relu else _gelu(graph, dense, f"{name}.active")
    shape = graph.node("Shape", [active], f"{name}.shape")
    zeros = graph.node("ConstantOfShape", [shape], f"{name}.zeros")
    _, (decoded,) = graph.norm(head.norm, active, zeros, config.encoder.layer_norm_epsilon, f"{name}.norm")
    product = _product(graph, head, config, decoded, f"{prefix}decoder")
    step = graph.constant(f"{prefix}decoder.step", head.step[:, None, None], "quantizers")
    bias = graph.constant(f"{prefix}decoder.bias", head.bias[:, None], "biases")
    scaled = graph.node("Mul", [product, step], f"{prefix}decoder.scaled")
    graph.node("Add", [scaled, bias], prefix + output)


def _gelu(graph: Graph, x: str, name: str) -> str:
    """docs/ops.md's GELU, one rounding an operation: the codes that follow it are the same everywhere."""

    def number(value: float | np.float32) -> str:
        return graph.constant(f"float.{float(value)!r}", np.array(value, np.float32), "graph")

    def polynomial(coefficients: NDArray[np.float32], of: str) -> str:
        total = number(coefficients[-1])
        for i, coefficient in enumerate(coefficients[-2::-1]):
            product = graph.node("Mul", [total, f"{name}.square"], f"{name}.{of}{i}.product")
            total = graph.node("Add", [product, number(coefficient)], f"{name}.{of}{i}")
        return total

    low = number(-GELU_CUTOFF)
    clipped = graph.node("Clip", [x, low, number(GELU_CUTOFF)], f"{name}.clipped")
    graph.node("Mul", [clipped, clipped], f"{name}.square")
    numerator = graph.node("Mul", [clipped, polynomial(GELU_P, "p")], f"{name}.numerator")
    ratio = graph.node("Div", [numerator, polynomial(GELU_Q, "q")], f"{name}.ratio")
    phi = graph.node("Add", [ratio, number(0.5)], f"{name}.phi")
    bounded = graph.node("Clip", [phi, number(2.0**-26), number(1)], f"{name}.bounded")
    product = graph.node("Mul", [x, bounded], f"{name}.product")
    below = graph.node("LessOrEqual", [x, low], f"{name}.below")
    return graph.node("Where", [below, number(0), product], name)


def _product(graph: Graph, head: LoweredMaskHead, config: EnsembleConfig, codes: str, name: str) -> str:
    """Codes `[E, masks, stored K]` times the word embeddings `[1 or E, V, K]`."""
    members = len(head.words[0].weight)
    shared = members < config.members
    if shared:  # one member to the op: the tokens of all, side by side
        width = graph.node("Shape", [codes], f"{name}.width", start=2)
        flat = graph.node("Concat", [graph.integers(1, -1), width], f"{name}.flat", axis=0)
        codes = graph.node("Reshape", [codes, flat], f"{name}.codes")
    (quantizer,) = head.norm.outputs
    nothing = graph.constant(f"{name}.zero", np.zeros((members, 1), np.float32), "graph")
    rows = graph.integers(members, config.encoder.vocab_size)
    bias = graph.node("Expand", [nothing, rows], f"{name}.zeros")
    total = ""
    terms = term_names("embeddings.word", len(head.words))
    for term, own, words in zip(terms, term_names(name, len(head.words)), head.words, strict=True):
        weight = graph.constant(f"{term}.weight", words.weight, "word embedding bits")
        scale = graph.constant(f"{term}.scale", words.scale, "word embedding scales")
        k, code = head.norm.gamma.shape[-1], quantizer.code.triple
        graph.op("PackedBinaryMatMul", [codes, weight, scale, bias], own, k=k, input_code=code)
        total = graph.node("Add", [total, own], f"{name}.sum") if total else own
    if not shared:
        return total
    by_member = graph.integers(config.members, -1, config.encoder.vocab_size)
    return graph.node("Reshape", [total, by_member], f"{name}.by_member")
