# SPDX-License-Identifier: Apache-2.0
"""Answers from an exported model: needs numpy, onnxruntime and tokenizers, nothing else."""

from bebert_edge.runtime.answers import QuestionPrediction
from bebert_edge.runtime.backend import Backend
from bebert_edge.runtime.embedding import Embedding
from bebert_edge.runtime.entities import Entity, TokenPrediction
from bebert_edge.runtime.filling import FilledText, Guess
from bebert_edge.runtime.model import EdgeModel, default_model_path
from bebert_edge.runtime.prediction import Prediction
from bebert_edge.runtime.ranking import RankedDocument
from bebert_edge.runtime.text import Text

__all__ = [
    "Backend",
    "EdgeModel",
    "Embedding",
    "Entity",
    "FilledText",
    "Guess",
    "Prediction",
    "QuestionPrediction",
    "RankedDocument",
    "Text",
    "TokenPrediction",
    "default_model_path",
]
