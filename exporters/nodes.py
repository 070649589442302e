# SPDX-License-Identifier: Apache-2.0
"""The parts a graph is put together from: constants, nodes, and the ops of docs/ops.md with their arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bebert_edge.ensemble import term_names
from bebert_edge.exporters.functions import DOMAIN
from bebert_edge.exporters.kept_product import kept_product
from bebert_edge.lowering import (
    LoweredAttention,
    LoweredLinear,
    LoweredNorm,
    LoweredProduct,
    LoweredQuantizedLinear,
    Quantizer,
)


@dataclass
class Graph:
    """Nodes and initializers in the order of their creation, names of the nodes, bytes of the initializers by part.

    If layers share weights (`sharing`), all constants with the same numbers are one initializer.
    """

    sharing: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    parts: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)
    shared: dict[tuple[str, str, tuple[int, ...], bytes], str] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[Any], part: str) -> str:
        """Adds an initializer; all zeros of one shape are one initializer."""
        name = self._shared_name(name, value) if self.sharing else name
        if value.dtype == np.float32 and not value.any():
            name = "zeros." + "x".join(map(str, value.shape))
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
            self.parts[part] += value.nbytes
        return name

    def channels(self, name: str, value: NDArray[Any], part: str) -> str:
        """Adds float32 constants `[E, C]`; stored as `[E, 1]`, expanded at loading, where a member's are all equal."""
        if value.shape[-1] == 1 or not (value == value[:, :1]).all():
            return self.constant(name, value, part)
        # Of its own kind: an initializer of the same numbers may not have the name of what is expanded.
        name = self._shared_name(name, value, "expanded") if self.sharing else name
        stored = self.constant(f"{name}.stored", value[:, :1], part)
        shape = self.integers(*value.shape)
        expanded = name if value.any() else f"zeros.{value.shape[-1]}"
        return expanded if expanded in self.names else self.node("Expand", [stored, shape], expanded)

    def _shared_name(self, name: str, value: NDArray[Any], kind: str = "stored") -> str:
        """The name that numbers of this kind were first given."""
        return self.shared.setdefault((kind, value.dtype.str, value.shape, sha256(value.tobytes()).digest()), name)

    def integers(self, *values: int, scalar: bool = False) -> str:
        """Adds an int64 constant that is named by its value."""
        name = "int." + ("" if scalar else "list.") + "_".join(map(str, values))
        array = np.array(values[0] if scalar else values, np.int64)
        return self.constant(name, array, "graph")

    def node(
        self, op: str, inputs: list[str], name: str, *, outputs: list[str] | None = None, **attributes: Any
    ) -> str:
        """Adds a standard node whose output, and the node itself, is called `name`."""
        self.nodes.append(helper.make_node(op, inputs, outputs or [name], name=name, **attributes))
        self.names.add(name)
        return name

    def op(self, op: str, inputs: list[str], name: str, *, outputs: list[str] | None = None, **attributes: Any) -> str:
        """Adds a node of our domain."""
        return self.node(op, inputs, name, outputs=outputs, domain=DOMAIN, **attributes)

    # The ops of docs/ops.md

    def quantizer(self, name: str, quantizer: Quantizer) -> list[str]:
        """The inputs `shift` and `inverse_step`."""
        return [
            self.channels(f"{name}.shift", quantizer.shift, "quantizers"),
            self.channels(f"{name}.inverse_step", quantizer.inverse_step, "quantizers"),
        ]

    def linear(self, linear: LoweredLinear, codes: list[str], name: str) -> str:
        """A sum of products; `codes` are those of each quantizer of the input. Returns the name of the float output."""
        total = ""
        terms = term_names(name, len(linear.products))
        for term, product in zip(terms, linear.products, strict=True):
            if product.is_binary:
                self.op("PackedBinaryMatMul", self._product(product, codes, term), term, **product.attributes)
            else:
                kept_product(self, product, codes[product.source], term)
            total = self.node("Add", [total, term], f"{name}.sum") if total else term
        return total

    def quantized_linear(self, linear: LoweredQuantizedLinear, codes: list[str], name: str) -> list[str]:
        """Returns the names of the codes of each output quantizer: of one product and one quantizer in one op."""
        if linear.gated:
            return self.quantize(
                self.linear(linear, codes, f"{name}.halves"), linear.outputs, name, linear.activation, "GatedQuantize"
            )
        if len(linear.products) > 1 or len(linear.outputs) > 1 or not linear.products[0].is_binary:
            return self.quantize(self.linear(linear, codes, name), linear.outputs, f"{name}.codes", linear.activation)
        (product,), (output,) = linear.products, linear.outputs
        inputs = self._product(product, codes, name) + self.quantizer(name, output)
        attributes: dict[str, Any] = {"output_code": output.code.triple, "activation": linear.activation}
        return [self.op("PackedBinaryMatMulQuantize", inputs, name, **product.attributes, **attributes)]

    def quantize(
        self, x: str, quantizers: Sequence[Quantizer], name: str, activation: int = 0, op: str = "Quantize"
    ) -> list[str]:
        """Returns the names of the codes of a float tensor by each quantizer."""
        names = [numbered(name, i) for i in range(len(quantizers))]
        for output, quantizer in zip(names, quantizers, strict=True):
            inputs, code = [x, *self.quantizer(output, quantizer)], quantizer.code.triple
            self.op(op, inputs, output, output_code=code, activation=activation)
        return names

    def _product(self, product: LoweredProduct, codes: list[str], name: str) -> list[str]:
        return [
            codes[product.source],
            self.constant(f"{name}.weight", product.weight, "encoder bits"),
            self.channels(f"{name}.scale", product.scale, "encoder scales"),
            self.channels(f"{name}.bias", product.bias, "biases"),
        ]

    def attention(
        self,
        attention: LoweredAttention,
        attended: tuple[str, str, str],
        channels: tuple[int, int, int],
        offsets: list[str],
        name: str,
    ) -> list[str]:
        """Of the codes of query, key and value; `channels` are where they begin in them."""
        scales = {
            "score_scale": attention.score_scale,
            "probability_inverse_step": attention.probability_inverse_step,
            "context_scale": attention.context_scale,
        }
        names = [numbered(name, i) for i in range(len(attention.outputs))]
        for output, quantizer in zip(names, attention.outputs, strict=True):
            self.op(
                attention.op,
                [*attended, *offsets]
                + [self.constant(f"{name}.{key}", value, "quantizers") for key, value in scales.items()]
                + self.quantizer(output, quantizer)
                + self._distance_bias(attention.distance_bias, name),
                output,
                **attention.attributes(channels, quantizer),
            )
        return names

    def _distance_bias(self, bias: NDArray[np.float32] | None, name: str) -> list[str]:
        """The last input of BiasedBinaryAttention; layers with equal ones share it."""
        if bias is None:
            return []
        return [self.constant(self._shared_name(f"{name}.distance_bias", bias), bias, "position and type embeddings")]

    def norm(self, norm: LoweredNorm, x: str, residual: str, epsilon: float, name: str) -> tuple[str, list[str]]:
        """Returns the names of the float tensor that goes on and of the codes of each quantizer."""
        first, *others = norm.outputs
        outputs = [name, f"{name}.codes"]
        inputs = [
            x,
            residual,
            self.constant(f"{name}.gamma", norm.gamma, "layer norms"),
            self.constant(f"{name}.beta", norm.beta, "layer norms"),
            *self.quantizer(name, first),
        ]
        code = first.code.triple
        self.op("AddLayerNormQuantize", inputs, name, outputs=outputs, epsilon=epsilon, output_code=code)
        names = [outputs[1], *self.quantize(name, others, f"{name}.more_codes")]
        return self.node("Add", [x, residual], f"{name}.sum") if norm.keeps_sum else name, names


def numbered(name: str, i: int) -> str:
    """The name of the i-th of several tensors; the first has the plain one."""
    return f"{name}.{i + 1}" if i else name
