# SPDX-License-Identifier: Apache-2.0
"""Training: binarize a BERT, distil it, boost an ensemble. Needs torch and transformers."""

from bebert_edge.training.binarize import binarize
from bebert_edge.training.ensemble import METHODS, TrainingOptions, TrainingResult, train
from bebert_edge.training.files import Examples, read_examples
from bebert_edge.training.latent import load_member

__all__ = [
    "METHODS",
    "Examples",
    "TrainingOptions",
    "TrainingResult",
    "binarize",
    "load_member",
    "read_examples",
    "train",
]
