# SPDX-License-Identifier: Apache-2.0
"""A tiny latent checkpoint, written with the training package's own functions."""

from __future__ import annotations

import json
from pathlib import Path

from support import VOCABULARY, tokenizer_json


def write_latent_ensemble(directory: Path, *, bits: int, members: int = 2) -> Path:
    """Writes `members` random binarized BERTs and their `ensemble.json`; needs torch and transformers."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from bebert_edge.training import binarize
    from bebert_edge.training.latent import save_member

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json()),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=32,
        num_labels=2,
    )
    names = [f"member-{i}" for i in range(members)]
    for i, name in enumerate(names):
        torch.manual_seed(i)
        model = binarize(BertForSequenceClassification(config), bits)
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):  # as initialized, all logits are nearly the bias
                torch.nn.init.normal_(module.weight, std=0.3)
        model.train()(input_ids=torch.randint(5, len(VOCABULARY), (8, 16)))  # sets the quantizers' steps
        save_member(model, tokenizer, directory / name, bits=bits, labels=["no", "yes"], text_pair=False, max_length=32)
    content = {"format_version": 1, "members": names, "member_weights": [1 / members] * members, "metadata": {}}
    (directory / "ensemble.json").write_text(json.dumps(content))
    return directory
