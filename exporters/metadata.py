# SPDX-License-Identifier: Apache-2.0
"""The values of the metadata keys of `bebert_edge.metadata` for an ensemble."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import bebert_edge
from bebert_edge import metadata as keys
from bebert_edge.config import EnsembleConfig
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.exporters.functions import VERSION

MINIMUM_ONNXRUNTIME = "1.17"


def metadata_properties(ensemble: PackedEnsemble, parts: Mapping[str, int]) -> tuple[dict[str, str], dict[str, int]]:
    """Everything that a runtime needs beside the graph, so that one file is enough.

    Args:
        ensemble: The ensemble that the model was built from.
        parts: Bytes of the model by part, without the metadata.

    Returns:
        `metadata_props`, and `parts` with the tokenizer added.
    """
    config, tokenizer = ensemble.config, keys.encode_tokenizer(ensemble.tokenizer)
    all_parts = {**parts, "tokenizer": len(tokenizer)}
    optional = {keys.COMBINATION: config.combination, keys.TEMPERATURE: str(float(config.temperature))}
    return {
        keys.FORMAT: keys.FORMAT_VERSION,
        keys.TOKENIZER: tokenizer,
        keys.LABELS: _json(config.labels),
        keys.TASK: _json(config.task.to_dict()),
        keys.MAX_LENGTH: str(config.max_length),
        keys.MEMBERS: str(config.members),
        keys.MEMBER_WEIGHTS: _json(config.member_weights),
        keys.CONFIG: _json(json.loads(config.to_json())),
        keys.SIZE: _json(all_parts),
        keys.QUANTIZATION: quantization_summary(config),
        keys.VERSION: bebert_edge.__version__,
        keys.OPS_VERSION: str(VERSION),
        keys.MINIMUM_ONNXRUNTIME: MINIMUM_ONNXRUNTIME,
        keys.LICENSE: config.metadata.get("license", ""),
        **{key: value for key, value in optional.items() if value != keys.DEFAULTS[key]},
    }, all_parts


def quantization_summary(config: EnsembleConfig) -> str:
    """For example `1-bit weights (1 linear int8), activations int4 and uint4`: code types, the most frequent first."""
    codes = Counter(name for layer in config.quantization.layers for name in layer.codes().values())
    codes[config.quantization.pooler] += 1
    kept = Counter(config.quantization.weights.values())
    linears = ", ".join(f"{count} linear{'s' if count > 1 else ''} {kind}" for kind, count in kept.items())
    weights = f"1-bit weights ({linears})" if linears else "1-bit weights"
    if config.quantization.embeddings != "binary":
        weights += f", {config.quantization.embeddings} word embeddings"
    return f"{weights}, activations " + " and ".join(name for name, _ in codes.most_common())


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
