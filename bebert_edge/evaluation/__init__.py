# SPDX-License-Identifier: Apache-2.0
"""Evaluation of every kind of model on labelled text. Needs scikit-learn and scipy; torch for torch models only."""

from bebert_edge.evaluation.data import EvaluationData, read_data
from bebert_edge.evaluation.evaluate import Settings, evaluate
from bebert_edge.evaluation.models import EmbeddingNoise, EvaluatedModel, MemberLogits, combine, open_model
from bebert_edge.evaluation.perturbation import Perturbation, perturb
from bebert_edge.evaluation.report import Report

__all__ = [
    "EmbeddingNoise",
    "EvaluatedModel",
    "EvaluationData",
    "MemberLogits",
    "Perturbation",
    "Report",
    "Settings",
    "combine",
    "evaluate",
    "open_model",
    "perturb",
    "read_data",
]
