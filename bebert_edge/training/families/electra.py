# SPDX-License-Identifier: Apache-2.0
"""ELECTRA's discriminator (Clark et al., 2020). The small one's embeddings are narrower than its layers."""

from bebert_edge.training.families.family import Family

FAMILY = Family(
    ("electra",),
    names=(
        (r"^electra\.embeddings_project\.", "bert.embeddings.projection."),
        (r"^electra\.", "bert."),
        (r"^classifier\.dense\.", "bert.pooler.dense."),
        (r"^classifier\.out_proj\.", "classifier."),
    ),
    pooler_activation="gelu",
)
