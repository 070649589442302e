# SPDX-License-Identifier: Apache-2.0
"""DistilBERT (Sanh et al., 2019): a BERT without token types, with a head of its own."""

from bebert_edge.training.families.family import Family

FAMILY = Family(
    ("distilbert",),
    names=(
        (r"^distilbert\.transformer\.", "bert.encoder."),
        (r"^distilbert\.", "bert."),
        (r"\.attention\.q_lin\.", ".attention.self.query."),
        (r"\.attention\.k_lin\.", ".attention.self.key."),
        (r"\.attention\.v_lin\.", ".attention.self.value."),
        (r"\.attention\.out_lin\.", ".attention.output.dense."),
        (r"\.sa_layer_norm\.", ".attention.output.LayerNorm."),
        (r"\.ffn\.lin1\.", ".intermediate.dense."),
        (r"\.ffn\.lin2\.", ".output.dense."),
        (r"\.output_layer_norm\.", ".output.LayerNorm."),
        (r"^pre_classifier\.", "bert.pooler.dense."),
    ),
    settings={
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "classifier_dropout": "seq_classif_dropout",
    },
    constants={"layer_norm_eps": 1e-12},
    pooler_activation="relu",
)
