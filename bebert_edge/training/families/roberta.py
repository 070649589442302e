# SPDX-License-Identifier: Apache-2.0
"""RoBERTa (Liu et al., 2019) and its descendants in other languages: XLM-R, CamemBERT."""

from bebert_edge.training.families.family import Family

FAMILY = Family(
    ("roberta", "xlm-roberta", "camembert"),
    names=(
        (r"^roberta\.", "bert."),
        (r"^classifier\.dense\.", "bert.pooler.dense."),
        (r"^classifier\.out_proj\.", "classifier."),
    ),
    positions_after_padding=True,
)
