# SPDX-License-Identifier: Apache-2.0
"""PackedEnsemble -> ONNX: graph, functions, metadata, verification. Needs onnx and onnxscript."""

from bebert_edge.exporters.export import ExportReport, export
from bebert_edge.exporters.graph import build_model
from bebert_edge.exporters.verify import Check

__all__ = ["Check", "ExportReport", "build_model", "export"]
