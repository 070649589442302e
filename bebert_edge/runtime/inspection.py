# SPDX-License-Identifier: Apache-2.0
"""What is inside a model file or a packed ensemble, as plain values ready for JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bebert_edge.config import EnsembleConfig, QuantizationConfig
from bebert_edge.errors import ModelError
from bebert_edge.groups import GROUP
from bebert_edge.kept_weights import describe
from bebert_edge.metadata import read_metadata
from bebert_edge.runtime.onnx_file import read_outline

MINIMUM_ONNXRUNTIME_NATIVE = "1.17"
"""Oldest release that loads the native library."""


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describes an exported model or a packed ensemble.

    Args:
        path: An .onnx file, or the directory of a packed ensemble.

    Returns:
        A description that `json.dumps` accepts. `bytes` holds bytes by part, and their sum is `size`.

    Raises:
        ModelError: The file is missing, damaged, or not made by bebert-edge.
        FormatError: The directory is not a packed ensemble.
    """
    return _inspect_ensemble(Path(path)) if Path(path).is_dir() else _inspect_model(Path(path))


def _inspect_ensemble(path: Path) -> dict[str, Any]:
    from bebert_edge.ensemble import PackedEnsemble

    ensemble = PackedEnsemble.load(path)
    parts = ensemble.size()
    return {"path": str(path), "kind": "packed ensemble", **_config(ensemble.config), **_size(parts)}


def _inspect_model(path: Path) -> dict[str, Any]:
    outline = read_outline(path)
    try:
        metadata = read_metadata(outline.metadata)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return {
        "path": str(path),
        "kind": "ONNX model",
        **_config(metadata.config),
        "ops": dict(outline.ops.most_common()),
        "functions": outline.functions,
        "opsets": outline.opsets,
        "ir_version": outline.ir_version,
        "minimum_onnxruntime": metadata.minimum_onnxruntime,
        "minimum_onnxruntime_native": MINIMUM_ONNXRUNTIME_NATIVE,
        "bebert_edge_version": metadata.version,
        **_size(_parts(path, outline.size, metadata.size)),
    }


def _config(config: EnsembleConfig) -> dict[str, Any]:
    tasks = [config.of(name).task for name in config.task_names]
    quantization = quantization_by_layer(config.quantization, config.encoder.layers // config.encoder.distinct_layers)
    if not any(task.pooled or task.fills for task in tasks):
        del quantization["pooler"]
    return {
        "task": asdict(config.task),
        "labels": list(config.labels),
        "members": config.members,
        "member_weights": list(config.member_weights),
        "combination": config.combination,
        "temperature": config.temperature,
        "max_length": config.max_length,
        "encoder": asdict(config.encoder),
        "quantization": quantization,
        "license": config.metadata.get("license", ""),
        "metadata": config.metadata,
        "tasks": {head.name: {"task": asdict(head.task), "labels": list(head.labels)} for head in config.heads},
    }


def quantization_by_layer(quantization: QuantizationConfig, repeated: int = 1) -> dict[str, str]:
    """Code types by range of equal layers, e.g. `{"layers 0-2": "hidden int4, ...", "pooler": "int4"}`.

    Ranges of sequences and kept weights follow: `"int8 weights": "layers.0.qkv, pooler"`.

    Args:
        quantization: The code types.
        repeated: How many layers in a row share the weights of one.
    """
    runs: list[tuple[int, int, str]] = []
    for i, layer in enumerate(layer for layer in quantization.layers for _ in range(repeated)):
        text = ", ".join(f"{use} {code}" for use, code in layer.codes().items())
        if layer.scores != "softmax":
            text += f", {layer.scores} scores"
        if runs and runs[-1][2] == text:
            runs[-1] = (runs[-1][0], i, text)
        else:
            runs.append((i, i, text))
    described = {f"layers {a}-{b}" if a < b else f"layer {a}": text for a, b, text in runs}
    before = {"projection": quantization.projection} if quantization.projection else {}
    if quantization.embeddings != "binary":
        before = {"word embeddings": f"{quantization.embeddings}, in groups of {GROUP} channels", **before}
    kept = {f"{kind} weights": ", ".join(names) for kind, names in describe(quantization.weights).items() if names}
    ranges = {"ranges": "of each text, not fixed by steps"} if quantization.ranges == "sequence" else {}
    return {**before, **described, "pooler": quantization.pooler, **ranges, **kept}


def _parts(path: Path, size: int, stated: Mapping[str, int]) -> dict[str, int]:
    """Bytes of the file by part: what the exporter counted, and the rest, which is the graph."""
    rest = size - sum(stated.values())
    if rest < 0:
        raise ModelError(f"{path} has {size} bytes, fewer than its parts: another tool changed it. Export it again")
    return {**stated, "graph": stated.get("graph", 0) + rest}


def _size(parts: dict[str, int]) -> dict[str, Any]:
    ordered = dict(sorted(parts.items(), key=lambda item: -item[1]))
    return {"bytes": ordered, "size": sum(parts.values())}
