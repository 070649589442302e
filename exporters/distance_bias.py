# SPDX-License-Identifier: Apache-2.0
"""Parts of the ONNX function of BiasedBinaryAttention (docs/ops.md), which only models carry that have such a layer."""

# mypy: ignore-errors
# ruff: noqa: N802
# Reason: the bodies are ONNX in Python syntax, read by onnxscript and never run; their names and types are ONNX's.

from __future__ import annotations

import numpy as np
from onnx.numpy_helper import from_array
from onnxscript import opset18 as op
from onnxscript import script
from onnxscript.onnx_types import BOOL, DOUBLE, FLOAT, INT32, INT64

from bebert_edge.exporters.function_parts import detail

LOWEST_SCORE = from_array(np.finfo(np.float32).min)


@script(detail)
def DistanceBias(biases: FLOAT[...], queries: INT64[...], keys: INT64[...]) -> FLOAT[...]:
    """[E, A, 2 U + 1] -> the bias of every query and key of padded indices [B, Sq] and [B, Sk], [E, 1, A, Sq, Sk]."""
    most = op.Div(op.Gather(op.Shape(biases), 2), 2)
    i = op.Unsqueeze(op.Range(0, op.Gather(op.Shape(queries), 1), 1), [1])
    j = op.Unsqueeze(op.Range(0, op.Gather(op.Shape(keys), 1), 1), [0])
    place = op.Add(op.Clip(op.Sub(j, i), op.Neg(most), most), most)
    return op.Unsqueeze(op.Gather(biases, place, axis=2), [1])


@script(detail)
def BiasedProbabilities(
    dot: INT32[...], real: BOOL[...], score_scale: FLOAT[...], inverse_step: FLOAT[...], bias: FLOAT[...]
) -> FLOAT[...]:
    """As ScaledProbabilities, of softmax with a bias [E, 1, A, Sq, Sk]."""
    scores = op.Add(op.Mul(op.Cast(dot, to=FLOAT.dtype), score_scale), bias)
    masked = op.Where(real, scores, op.Constant(value=LOWEST_SCORE))
    e = op.Where(real, detail.FixedExp(op.Sub(masked, op.ReduceMax(masked, [-1]))), 0.0)
    total = op.Cast(op.ReduceSum(op.Cast(e, to=DOUBLE.dtype), [-1]), to=FLOAT.dtype)
    return op.Mul(e, op.Div(inverse_step, op.Max(total, 1.0)))  # a sequence without keys sums to 0


PARTS = (DistanceBias, BiasedProbabilities)
"""Callees first."""
