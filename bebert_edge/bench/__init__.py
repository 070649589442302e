# SPDX-License-Identifier: Apache-2.0
"""What an ensemble costs, against the single models that one would run instead (docs/benchmarking.md)."""

from bebert_edge.bench.architecture import ARCHITECTURES, Architecture, random_ensemble, read_architecture
from bebert_edge.bench.baselines import BASELINES
from bebert_edge.bench.compare import Settings, benchmark
from bebert_edge.bench.report import Report
from bebert_edge.bench.shape import Shape
from bebert_edge.bench.subjects import Subject, find_subjects

__all__ = [
    "ARCHITECTURES",
    "BASELINES",
    "Architecture",
    "Report",
    "Settings",
    "Shape",
    "Subject",
    "benchmark",
    "find_subjects",
    "random_ensemble",
    "read_architecture",
]
