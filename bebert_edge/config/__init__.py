# SPDX-License-Identifier: Apache-2.0
"""The configuration of a packed ensemble, one file for each section of `config.json` (docs/format.md)."""

from bebert_edge.config.encoder import ACTIVATIONS, MAXIMUM_REPEATS, NORMS, POOLER_ACTIVATIONS, EncoderConfig
from bebert_edge.config.ensemble import FAMILIES, FORMAT_VERSION, TEMPERATURES, EnsembleConfig, is_temperature
from bebert_edge.config.quantization import (
    EMBEDDINGS,
    RANGE_CODES,
    RANGES,
    SCORES,
    LayerQuantization,
    QuantizationConfig,
)
from bebert_edge.config.task import (
    ALL_COMBINATIONS,
    COMBINATIONS,
    EMBEDDING_COMBINATIONS,
    POOLINGS,
    PROBLEMS,
    SPAN_LABELS,
    TASK_TYPES,
    HeadConfig,
    TaskConfig,
)

__all__ = [
    "ACTIVATIONS",
    "ALL_COMBINATIONS",
    "COMBINATIONS",
    "EMBEDDINGS",
    "EMBEDDING_COMBINATIONS",
    "FAMILIES",
    "FORMAT_VERSION",
    "MAXIMUM_REPEATS",
    "NORMS",
    "POOLER_ACTIVATIONS",
    "POOLINGS",
    "PROBLEMS",
    "RANGES",
    "RANGE_CODES",
    "SCORES",
    "SPAN_LABELS",
    "TASK_TYPES",
    "TEMPERATURES",
    "EncoderConfig",
    "EnsembleConfig",
    "HeadConfig",
    "LayerQuantization",
    "QuantizationConfig",
    "TaskConfig",
    "is_temperature",
]
