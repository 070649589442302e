# SPDX-License-Identifier: Apache-2.0
"""ERNIE (Sun et al., 2019; 2020): a BERT, whose later versions add an embedding of the task, here always the first."""

from bebert_edge.training.families.family import Family

FAMILY = Family(
    ("ernie",),
    names=((r"^ernie\.", "bert."),),
    added_to_token_types="bert.embeddings.task_type_embeddings.weight",
)
