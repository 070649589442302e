# SPDX-License-Identifier: Apache-2.0
"""PackedEnsemble -> the arguments of every op: what the reference and the exporter both read."""

from bebert_edge.lowering.lower import lower
from bebert_edge.lowering.parts import (
    ACTIVATION_NUMBERS,
    Floats,
    LoweredAttention,
    LoweredClassifier,
    LoweredEmbedding,
    LoweredEnsemble,
    LoweredHead,
    LoweredLayer,
    LoweredLinear,
    LoweredMaskHead,
    LoweredNorm,
    LoweredPooler,
    LoweredProduct,
    LoweredQuantizedLinear,
    LoweredWords,
    Quantizer,
)

__all__ = [
    "ACTIVATION_NUMBERS",
    "Floats",
    "LoweredAttention",
    "LoweredClassifier",
    "LoweredEmbedding",
    "LoweredEnsemble",
    "LoweredHead",
    "LoweredLayer",
    "LoweredLinear",
    "LoweredMaskHead",
    "LoweredNorm",
    "LoweredPooler",
    "LoweredProduct",
    "LoweredQuantizedLinear",
    "LoweredWords",
    "Quantizer",
    "lower",
]
