# SPDX-License-Identifier: Apache-2.0
"""Runs one op of the domain `bebert` by its function body: in onnxruntime, or in onnx's own evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

from bebert_edge.exporters.functions import DOMAIN, function_protos, opset_imports
from bebert_edge.exporters.range_functions import FUNCTIONS as RANGE_FUNCTIONS

OUTPUTS = {
    "PackedBinaryEmbedding": [np.float32],
    "Quantize": [np.uint8],
    "GatedQuantize": [np.uint8],
    "PackedBinaryMatMul": [np.float32],
    "PackedBinaryMatMulQuantize": [np.uint8],
    "BinaryAttention": [np.uint8],
    "BiasedBinaryAttention": [np.uint8],
    "AddLayerNormQuantize": [np.float32, np.uint8],
    "SequenceRange": [np.float32, np.float32, np.float32],
    "RangeQuantize": [np.uint8, np.float32, np.float32],
    "RangeAttention": [np.float32],
}
FUNCTIONS = function_protos(OUTPUTS, RANGE_FUNCTIONS)


def model_of(
    op: str, inputs: list[np.ndarray], constants: dict[int, np.ndarray], attributes: dict[str, Any]
) -> onnx.ModelProto:
    """A model of one node; the inputs at the positions in `constants` are initializers."""

    def info(name: str, dtype: Any, rank: int | None) -> onnx.ValueInfoProto:
        shape = None if rank is None else [None] * rank
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    names = [f"x{i}" for i in range(len(inputs))]
    outputs = [f"y{i}" for i in range(len(OUTPUTS[op]))]
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, domain=DOMAIN, **attributes)],
        op,
        [
            info(name, x.dtype, x.ndim)
            for i, (name, x) in enumerate(zip(names, inputs, strict=True))
            if i not in constants
        ],
        [info(name, dtype, None) for name, dtype in zip(outputs, OUTPUTS[op], strict=True)],
        [onnx.numpy_helper.from_array(x, f"x{i}") for i, x in constants.items()],
    )
    return helper.make_model(graph, functions=FUNCTIONS, opset_imports=opset_imports(), ir_version=8)


def run_body(
    op: str,
    *inputs: np.ndarray,
    constant: tuple[int, ...] = (),
    evaluator: bool = False,
    level: Any = None,
    **attributes: Any,
) -> list[np.ndarray]:
    """Outputs of the op's function body.

    Args:
        constant: Positions of the inputs that are initializers.
        evaluator: Run in onnx's evaluator, not in onnxruntime.
        level: Optimization level of onnxruntime.
    """
    attributes = {k: list(v) if isinstance(v, tuple) else v for k, v in attributes.items()}
    constant = tuple(i for i in constant if inputs[i].size)  # onnxruntime 1.23 crashes while it folds empty ones
    model = model_of(op, list(inputs), {i: inputs[i] for i in constant}, attributes)
    feed = {f"x{i}": x for i, x in enumerate(inputs) if i not in constant}
    if evaluator:
        return ReferenceEvaluator(model).run(None, feed)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if level is not None:
        options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)
