# SPDX-License-Identifier: Apache-2.0
"""One-node ONNX models as bytes, for self-tests on devices without the `onnx` package.

Field numbers are those of `onnx.proto3`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.runtime.protobuf import field

IR_VERSION = 8
OPSET = 18
ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int64": 7}

Attribute = int | float | Sequence[int]


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, 2)
    if isinstance(value, float):
        return field(1, name) + field(2, value) + field(20, 1)
    return field(1, name) + b"".join(field(8, item) for item in value) + field(20, 7)


def _tensor(name: str, array: NDArray[Any]) -> bytes:
    dims = b"".join(field(1, size) for size in array.shape)
    # A single tensor stays far below 2 GB here; ONNX stores raw data little-endian.
    raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return dims + field(2, ELEMENT_TYPES[array.dtype.name]) + field(8, name) + field(9, raw)


def _value_info(name: str, dtype: str, rank: int) -> bytes:
    shape = b"".join(field(1, field(2, f"{name}_{axis}")) for axis in range(rank))
    tensor_type = field(1, ELEMENT_TYPES[dtype]) + field(2, shape)
    return field(1, name) + field(2, field(1, tensor_type))


def one_node_model(
    op: str,
    domain: str,
    *,
    inputs: Mapping[str, NDArray[Any]],
    initializers: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, tuple[np.dtype[Any], int]],
    attributes: Mapping[str, Attribute],
) -> bytes:
    """Encodes a model of one node.

    Args:
        op: Type of the node.
        domain: Domain of the node, imported at version 1 (the standard domain at 18).
        inputs: Graph inputs in the order of the node's inputs; their dtype and rank are used, their sizes left open.
        initializers: Constants: the node's inputs after those.
        outputs: dtype and rank of each output.
        attributes: Integers, floats and lists of integers.

    Returns:
        A serialized ModelProto.
    """
    node = b"".join(field(1, name) for name in [*inputs, *initializers])
    node += b"".join(field(2, name) for name in outputs) + field(4, op)
    node += b"".join(field(5, _attribute(name, value)) for name, value in attributes.items()) + field(7, domain)
    graph = field(1, node) + field(2, op)
    graph += b"".join(field(5, _tensor(name, array)) for name, array in initializers.items())
    graph += b"".join(field(11, _value_info(name, array.dtype.name, array.ndim)) for name, array in inputs.items())
    graph += b"".join(field(12, _value_info(name, dtype.name, rank)) for name, (dtype, rank) in outputs.items())
    opsets = {domain: 1, "": OPSET}
    imports = b"".join(field(8, field(1, name) + field(2, version)) for name, version in opsets.items())
    return field(1, IR_VERSION) + field(7, graph) + imports
