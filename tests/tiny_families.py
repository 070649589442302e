# SPDX-License-Identifier: Apache-2.0
"""A tiny random model and tokenizer of every family that can be trained."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AlbertTokenizer,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertTokenizer,
    CamembertTokenizer,
    DistilBertTokenizer,
    MPNetTokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from latent import SENTENCES
from support import CHARACTERS, SPECIAL_TOKENS, VOCABULARY, WORDS

POSITIONS = 32
TEXTS = [
    *SENTENCES,
    "",
    "  spaces \t around  and   between ",
    "Zürich Genève naïve cafe\u0301",
    "日本語 movie 中文",
    "🎬 good 👍🏽",
    "<s> good </s> bad <pad> <mask>.",
    "it's not-good...very?! 4.5/5",
    "very " * 40,
]
PAIRS = [(TEXTS[i], TEXTS[-1 - i]) for i in range(len(TEXTS))]

_SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
_BERT = _SIZES | dict(intermediate_size=48, max_position_embeddings=POSITIONS, initializer_range=0.3)
_ROBERTA = _BERT | dict(max_position_embeddings=POSITIONS + 2, pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5)

SETTINGS = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": dict(dim=32, hidden_dim=48, n_layers=2, n_heads=4, initializer_range=0.3)
    | dict(max_position_embeddings=POSITIONS),
    "electra": _BERT | dict(embedding_size=32),
    "electra small": _BERT | dict(embedding_size=20),
    "albert": _BERT | dict(embedding_size=20, num_hidden_layers=3, hidden_act="gelu_new"),
    "albert groups": _BERT | dict(embedding_size=40, num_hidden_layers=4, num_hidden_groups=2),
    "ernie": _BERT | dict(use_task_id=True, type_vocab_size=4),
    "mpnet": _BERT | dict(max_position_embeddings=POSITIONS + 2),
    "modernbert": _BERT | dict(num_hidden_layers=3, pad_token_id=0, global_attn_every_n_layers=2),
    "modernbert biased": _BERT
    | dict(pad_token_id=0, attention_bias=True, mlp_bias=True, norm_bias=True, classifier_bias=True)
    | dict(hidden_activation="relu", classifier_activation="tanh", classifier_pooling="mean"),
}
"""Settings of a tiny model of each `model_type`; variants of one have names of a second word."""


def type_of(name: str) -> str:
    """The `model_type` of a tiny model."""
    return name.partition(" ")[0]


def _word_pieces(cls, vocabulary=VOCABULARY):
    return cls(vocab={token: i for i, token in enumerate(vocabulary)})


def _byte_pairs():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    vocabulary = trained["vocab"] | {"<mask>": len(trained["vocab"])}
    return RobertaTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in trained["merges"]])


def _sentence_pieces(cls, special):
    pieces = ["▁", *(f"▁{word}" for word in WORDS), *WORDS, *CHARACTERS]
    scored = [(piece, -2.0 - 0.1 * i) for i, piece in enumerate(dict.fromkeys(pieces))]
    return cls(vocab=[*((token, 0.0) for token in special), *scored, ("<mask>", 0.0)])


def _byte_pairs_with_brackets():
    """As ModernBERT's: byte-level, with BERT's special tokens, and types that the model does not have."""
    tokenizer = Tokenizer.from_str(_byte_pairs().backend_tokenizer.to_str())
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS, strict=True))
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    single, pair = "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **special,
    )


TOKENIZERS = {
    "bert": lambda: _word_pieces(BertTokenizer),
    "roberta": _byte_pairs,
    "xlm-roberta": lambda: _sentence_pieces(XLMRobertaTokenizer, ["<s>", "<pad>", "</s>", "<unk>"]),
    "camembert": lambda: _sentence_pieces(
        CamembertTokenizer, ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
    ),
    "distilbert": lambda: _word_pieces(DistilBertTokenizer),
    "electra": lambda: _word_pieces(BertTokenizer),
    "albert": lambda: _sentence_pieces(AlbertTokenizer, ["<pad>", "<unk>", "[CLS]", "[SEP]"]),
    "ernie": lambda: _word_pieces(BertTokenizer),
    "mpnet": lambda: _word_pieces(MPNetTokenizer, ["<s>", "<pad>", "</s>", "<mask>", *VOCABULARY]),
    "modernbert": _byte_pairs_with_brackets,
}


@cache
def tiny_tokenizer(name: str):
    """The tokenizer of a tiny model, of the class that the family has in transformers."""
    return TOKENIZERS[type_of(name)]()


def tiny_config(name: str, **settings):
    """The configuration of a tiny model."""
    vocabulary = max(tiny_tokenizer(name).get_vocab().values()) + 1
    return AutoConfig.for_model(type_of(name), vocab_size=vocabulary, **(SETTINGS[name] | settings))


def tiny_model(name: str, *, head: bool = True, seed: int = 0, **settings):
    """A random model in which no tensor is all zeros or ones; without a head it is just the encoder."""
    torch.manual_seed(seed)
    model = (AutoModelForSequenceClassification if head else AutoModel).from_config(tiny_config(name, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def write_tiny(directory: Path, name: str, **settings) -> Path:
    """The directory of a tiny model and its tokenizer."""
    tiny_model(name, **settings).save_pretrained(directory)
    tiny_tokenizer(name).save_pretrained(directory)
    return directory


def batch(name: str, items, max_length: int = POSITIONS):
    """A padded batch of texts or pairs, as transformers' tokenizer makes it, with token types."""
    columns = [list(column) for column in zip(*items, strict=True)] if isinstance(items[0], tuple) else [list(items)]
    return tiny_tokenizer(name)(
        *columns,
        padding=True,
        truncation=True,
        max_length=max_length,
        return_token_type_ids=True,
        return_tensors="pt",
    )


def logits_of(model, inputs):
    """The logits of a family's own model, which may not take token types."""
    inputs = {name: tensor for name, tensor in inputs.items() if name != "token_type_ids" or _has_types(model)}
    with torch.no_grad():
        return model(**inputs).logits


def _has_types(model) -> bool:
    return getattr(model.config, "type_vocab_size", 0) > 1
