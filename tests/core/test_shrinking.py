# SPDX-License-Identifier: Apache-2.0
"""Smaller ensembles that answer as before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from bebert_edge import reference
from bebert_edge.config import HeadConfig, TaskConfig
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import FormatError
from bebert_edge.exporters import build_model
from bebert_edge.runtime.text import TextEncoder
from bebert_edge.shrinking import halve_tables, trim_vocabulary
from support import VOCABULARY, random_batch, random_ensemble

CORPUS = ["a fine and moving film", "it is dull, dull and far too long", "nobody would call it a masterpiece"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def answer(ensemble: PackedEnsemble, text: str) -> np.ndarray:
    (encoded,) = TextEncoder(ensemble.tokenizer, ensemble.config.max_length, text_pair=False).encode([text])
    ids = np.array([encoded.ids])
    return reference.forward(ensemble, ids, np.ones_like(ids))[0]


def with_tokenizer(tokenizer: Tokenizer) -> PackedEnsemble:
    """A random ensemble that embeds a tokenizer's vocabulary."""
    ensemble = random_ensemble()
    size, old = tokenizer.get_vocab_size(), ensemble.config.encoder.vocab_size
    config = replace(ensemble.config, encoder=replace(ensemble.config.encoder, vocab_size=size))
    rows = np.random.default_rng(0).integers(0, old, size)
    words = {n: x[:, rows] for n, x in ensemble.tensors.items() if n.startswith("embeddings.word.")}
    grown = PackedEnsemble(config, {**ensemble.tensors, **words}, tokenizer.to_str())
    grown.tensors["embeddings.word.scale"] = np.random.default_rng(1).uniform(0.5, 2, (2, size)).astype(np.float32)
    grown.validate()
    return grown


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=90, special_tokens=SPECIAL))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=SPECIAL, unk_token="[UNK]")
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


@pytest.mark.parametrize("tokenizer", [word_piece, unigram])
def test_texts_of_kept_words_have_the_same_answer(tokenizer) -> None:
    whole = with_tokenizer(tokenizer())
    trimmed = trim_vocabulary(whole, CORPUS[:2])
    assert trimmed.config.encoder.vocab_size < whole.config.encoder.vocab_size
    assert trimmed.size()["word embedding bits"] < whole.size()["word embedding bits"]
    for text in [*CORPUS[:2], "a dull film", "far too long and too dull", ""]:
        np.testing.assert_array_equal(answer(trimmed, text), answer(whole, text))
    answer(trimmed, "nobody ever saw zebras \U0001f993")  # spelt, or unknown, and never out of range


def test_a_mask_that_is_no_special_token_is_kept() -> None:
    mask_id = VOCABULARY.index("##ing")
    ensemble = random_ensemble(heads_of_tasks=[HeadConfig("guess", TaskConfig("fill-mask", mask_id=mask_id), ())])
    trimmed = trim_vocabulary(ensemble, ["a film"])
    (head,) = trimmed.config.heads
    assert head.task.mask_id is not None
    assert Tokenizer.from_str(trimmed.tokenizer).id_to_token(head.task.mask_id) == "##ing"


def test_trimming_again_changes_nothing() -> None:
    trimmed = trim_vocabulary(with_tokenizer(word_piece()), CORPUS[:1])
    assert trim_vocabulary(trimmed, CORPUS[:1]) is trimmed


def test_a_byte_pair_encoding_is_refused() -> None:
    ensemble = with_tokenizer(word_piece())
    content = json.loads(ensemble.tokenizer)
    content["model"] |= {"type": "BPE", "merges": []}
    with pytest.raises(FormatError, match="the tokenizer is BPE, expected one of WordPiece"):
        trim_vocabulary(PackedEnsemble(ensemble.config, ensemble.tensors, json.dumps(content)), CORPUS)


def test_half_tables_are_saved_exported_and_read_as_they_are(tmp_path: Path) -> None:
    whole = random_ensemble(bits=8)
    half = halve_tables(whole)
    half.save(tmp_path / "half")
    loaded = PackedEnsemble.load(tmp_path / "half")
    assert loaded.tensors["embeddings.position"].dtype == np.float16
    part = "position and type embeddings"
    assert build_model(half)[1][part] * 2 == build_model(whole)[1][part] == whole.size()[part]
    feed = random_batch(whole, [5, 9])
    close, exact = (reference.forward(e, **feed)[0] for e in (whole, loaded))
    np.testing.assert_allclose(close, exact, atol=0.05)
    import onnxruntime

    session = onnxruntime.InferenceSession(build_model(half)[0].SerializeToString())
    np.testing.assert_allclose(session.run(["logits"], feed)[0], exact, atol=1e-5)


def test_numbers_that_do_not_fit_are_named() -> None:
    ensemble = random_ensemble()
    ensemble.tensors["embeddings.position"][0, 0, 0] = 1e6
    with pytest.raises(FormatError, match=r"embeddings\.position has numbers beyond 65504"):
        halve_tables(ensemble)
