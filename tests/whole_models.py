# SPDX-License-Identifier: Apache-2.0
"""Whole exported models whose CPU paths are compared: the shipped one, and small ones of every code width.

Every output of every op of ours is made an output of the model, so that a difference shows where it begins and does not
drown in a logit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto, helper

from bebert_edge import ops
from bebert_edge.config import LayerQuantization
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.exporters import build_model
from bebert_edge.runtime import default_model_path
from native_op import Array
from support import random_batch, random_ensemble

SHIPPED = Path(__file__).parents[1] / "examples" / "sst2" / "ensemble"
MIXED = LayerQuantization(
    hidden="int2", attention="sign", probability="uint4", context="ternary", ffn="bool", intermediate="uint8"
)
CODES = ("PackedBinaryMatMulQuantize", "BinaryAttention", "BiasedBinaryAttention")
"""Ops whose outputs are codes."""
MODELS = ("shipped", "1 bit", "2 bits", "4 bits", "8 bits", "mixed widths", "1 bit, biased", "4 bits, biased")


@cache
def whole_model(name: str) -> tuple[bytes, dict[str, Array]]:
    """The .onnx file and the inputs of one of `MODELS`."""
    if name == "shipped":
        model, ensemble = onnx.load(default_model_path()), PackedEnsemble.load(SHIPPED)
    else:
        bits = MIXED if name == "mixed widths" else int(name.split()[0])
        ensemble = random_ensemble(
            bits=bits,
            hidden_size=72,
            intermediate_size=200,
            activation="relu" if bits == 4 else "gelu",
            structure={"distance_biases": (11,)} if name.endswith("biased") else None,
        )
        model, _ = build_model(ensemble)
    for node in model.graph.node:
        if node.domain == "bebert":
            for output in node.output:
                codes = output.endswith(".codes") or node.op_type in CODES
                element = TensorProto.UINT8 if codes else TensorProto.FLOAT
                model.graph.output.append(helper.make_tensor_value_info(output, element, None))
    return model.SerializeToString(), random_batch(ensemble, [9, 1, 17, 32])


def run_native(name: str) -> dict[str, Array]:
    """Outputs with the native library, as the environment has it now."""
    model, inputs = whole_model(name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    ops.register(options)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def differing(found: Mapping[str, Array], expected: Mapping[str, Array]) -> list[str]:
    """Names of the outputs that are not equal bit for bit, in the order of the graph."""
    assert list(found) == list(expected)
    return [
        name
        for name, array in expected.items()
        if (found[name].dtype, found[name].shape, found[name].tobytes()) != (array.dtype, array.shape, array.tobytes())
    ]
