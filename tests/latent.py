# SPDX-License-Identifier: Apache-2.0
"""Tiny float BERTs and latent checkpoints, for the tests of training, checkpoints and exporters."""

from __future__ import annotations

import json
from pathlib import Path

from support import VOCABULARY, tokenizer_json

SENTENCES = [
    "the movie is good",
    "the film was bad",
    "a very good film , and it is good",
    "it was not good",
    "bad",
    "the movie is not bad , it is very very good and a good movie of the good",
]


def tokenizer():
    """The tokenizer of `support`, as transformers has it."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    special = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json()), model_input_names=names, **special
    )


def float_model(labels: int = 2, seed: int = 0, positions: int = 32, initializer_range: float = 0.3):
    """A random BERT: 2 layers, hidden 32, 4 heads, intermediate 48."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=positions,
        num_labels=labels,
        initializer_range=initializer_range,
    )
    return BertForSequenceClassification(config)


def write_backbone(directory: Path, **arguments) -> Path:
    """A Hugging Face directory of a random float BERT."""
    float_model(**arguments).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory


def binary_model(bits: int, seed: int = 0, labels: int = 2, embeddings: str = "binary"):
    """A binarized random BERT in evaluation mode, whose quantizers have seen a batch and whose shifts are not zero."""
    import torch

    from bebert_edge.training import binarize
    from bebert_edge.training.quantization import Quantizer
    from bebert_edge.training.words import store_words

    model = binarize(float_model(labels, seed), bits).train()
    store_words(model, embeddings)
    inputs = tokenizer()(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        model(**inputs)
        for module in model.modules():
            if isinstance(module, Quantizer) and module.shift is not None:
                module.shift.normal_(0, 0.1)
    return model.eval()


def write_member(directory: Path, bits: int = 4, seed: int = 0, embeddings: str = "binary", **settings) -> Path:
    """A latent checkpoint of a random member; `settings` are arguments of `save_member`."""
    from bebert_edge.training.latent import save_member

    settings = dict(bits=bits, labels=["negative", "positive"], text_pair=False, max_length=24) | settings
    model = binary_model(bits, seed, len(settings["labels"]), embeddings)
    save_member(model, tokenizer(), directory, **settings)
    return directory


def write_ensemble_file(directory: Path, **content) -> None:
    """An `ensemble.json`: of one member, `member-0`, unless `content` says otherwise."""
    defaults = {"format_version": 1, "members": ["member-0"], "member_weights": [1.0], "metadata": {}}
    (directory / "ensemble.json").write_text(json.dumps(defaults | content))


def write_latent_ensemble(
    directory: Path, *, bits: int, members: int = 2, content: dict[str, object] | None = None, **settings
) -> Path:
    """Latent checkpoints of random members of equal weight, and an `ensemble.json` with `content` added.

    `settings` are those of `write_member`.
    """
    names = [f"member-{i}" for i in range(members)]
    for seed, name in enumerate(names):
        write_member(directory / name, bits, seed, **settings)
    defaults = {"members": names, "member_weights": [1 / members] * members}
    write_ensemble_file(directory, **(defaults | (content or {})))
    return directory
