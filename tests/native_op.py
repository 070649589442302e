# SPDX-License-Identifier: Apache-2.0
"""One op in one session of onnxruntime with the native library, and random arguments for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bebert_edge import ops
from bebert_edge.bits import pack_bits
from bebert_edge.codes import CodeType

SIZES = (1, 7, 8, 9, 63, 64, 65, 767, 768)
OUTPUTS: dict[str, tuple[str, ...]] = {
    "PackedBinaryEmbedding": ("float32",),
    "Quantize": ("uint8",),
    "GatedQuantize": ("uint8",),
    "PackedBinaryMatMul": ("float32",),
    "PackedBinaryMatMulQuantize": ("uint8",),
    "BinaryAttention": ("uint8",),
    "BiasedBinaryAttention": ("uint8",),
    "AddLayerNormQuantize": ("float32", "uint8"),
}

Array = NDArray[Any]


def op_session(
    op: str,
    inputs: Mapping[str, Array],
    attributes: Mapping[str, Any],
    *,
    constants: Collection[str] = (),
    threads: int = 1,
) -> onnxruntime.InferenceSession:
    """A session of one node; `inputs` are in the order of the op's, those in `constants` become initializers."""
    element = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    outputs = [f"y{i}" for i in range(len(OUTPUTS[op]))]
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), outputs, domain="bebert", **attributes)],
        op,
        [
            helper.make_tensor_value_info(name, element[name], [f"{name}_{axis}" for axis in range(array.ndim)])
            for name, array in inputs.items()
            if name not in constants
        ],
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)
            for name, dtype in zip(outputs, OUTPUTS[op], strict=True)
        ],
        [numpy_helper.from_array(np.ascontiguousarray(inputs[name]), name) for name in constants],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("bebert", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    ops.register(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_op(
    op: str,
    inputs: Mapping[str, Array],
    attributes: Mapping[str, Any],
    *,
    constants: Collection[str] = (),
    threads: int = 1,
) -> list[Array]:
    """Runs one node and returns its outputs."""
    session = op_session(op, inputs, attributes, constants=constants, threads=threads)
    feeds = {name: array for name, array in inputs.items() if name not in constants}
    return list(session.run(None, feeds))


def assert_same(found: Sequence[Array], expected: Sequence[Array], case: object) -> None:
    """Asserts equal bits, but for the sign of zeros."""
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype, case
        assert a.shape == b.shape, case
        np.testing.assert_array_equal(a, b, err_msg=str(case))


def random_codes(rng: np.random.Generator, code: CodeType, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Valid codes of `shape` `[..., channels]`, stored."""
    levels = rng.integers(0, 2 if code.width == 1 else code.high - code.low + 1, shape)
    return pack_bits(levels != 0) if code.width == 1 else levels.astype(np.uint8)


def random_floats(rng: np.random.Generator, shape: Sequence[int], scale: float = 1.0) -> NDArray[np.float32]:
    """Normal numbers of standard deviation `scale`."""
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def random_quantizer(
    rng: np.random.Generator, members: int, channels: int, spread: float, code: CodeType
) -> dict[str, NDArray[np.float32]]:
    """`shift` and `inverse_step` with which floats of standard deviation `spread` meet all levels and both ends."""
    levels = code.high - code.low
    inverse_step = (rng.uniform(0.25, 0.5, (members, channels)) * levels / spread).astype(np.float32)
    middle = np.float32((code.high + code.low + 1) / 2) / inverse_step
    return {"shift": middle + random_floats(rng, (members, channels), 0.1 * spread), "inverse_step": inverse_step}
