# SPDX-License-Identifier: Apache-2.0
"""BERT itself (Devlin et al., 2019), and MiniLM, TinyBERT and others that are saved as BERTs."""

from bebert_edge.training.families.family import Family

FAMILY = Family(("bert",))
