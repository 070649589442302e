# SPDX-License-Identifier: Apache-2.0
"""Word embeddings of 8 or 4 bits: how far they are from the table, how they are stored, what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from bebert_edge import groups, reference
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import FormatError
from bebert_edge.shrinking import halve_tables, trim_vocabulary
from support import random_ensemble


@pytest.mark.parametrize("channels", [1, 7, 64, 65, 150])
@pytest.mark.parametrize("kind", groups.BITS)
def test_rows_are_the_table_s_to_half_a_scale(kind: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    table = (rng.normal(0, 1, (2, 9, channels)) * rng.uniform(0.01, 10, (2, 9, 1))).astype(np.float32)
    table[0, 3] = 0
    codes, scale = groups.quantize(table, kind)
    assert codes.shape == (2, 9, channels if kind == "int8" else (channels + 1) // 2)
    assert scale.shape == (2, 9, -(-channels // 64))
    ids = np.array([3, 8, 8, 0])
    rows = groups.GroupedTable(kind, channels, codes, scale).rows(ids)
    assert rows.dtype == np.float32
    for c in range(channels):
        largest = abs(table[..., c // 64 * 64 : c // 64 * 64 + 64]).max(-1)
        assert (abs(rows[..., c] - table[:, ids, c]) <= largest[:, ids] / (127 if kind == "int8" else 7) * 0.5001).all()
    assert not rows[0, 0].any()


def test_nibbles_are_stored_as_documented() -> None:
    values = np.array([[-7, 0, 7, 1, -1]], np.float32)  # levels 1, 8, 15; 9, 7
    codes, scale = groups.quantize(values * np.float32(0.5), "int4")
    np.testing.assert_array_equal(codes, [[0x91, 0x78, 0x0F]])
    np.testing.assert_array_equal(scale, [[0.5]])
    rows = groups.GroupedTable("int4", 5, codes[None], scale[None]).rows(np.array([0]))
    np.testing.assert_array_equal(rows[0], values * 0.5)


def test_a_code_behind_the_last_channel_is_refused() -> None:
    ensemble = random_ensemble(embeddings="int4", embedding_size=7)
    ensemble.tensors["embeddings.word.codes"][1, 5, -1] |= 0x10
    with pytest.raises(FormatError, match=re.escape("embeddings.word.codes has a code after channel 7")):
        ensemble.validate()


def test_sizes_count_codes_and_scales_which_may_be_half(tmp_path: Path) -> None:
    ensemble = random_ensemble(embeddings="int4", hidden_size=72, members=2)
    words = ensemble.config.encoder.vocab_size
    assert ensemble.size()["word embedding codes"] == 2 * words * 36
    assert ensemble.size()["word embedding scales"] == 2 * words * 2 * 4
    halved = halve_tables(ensemble)
    halved.save(tmp_path / "half")
    assert PackedEnsemble.load(tmp_path / "half").size()["word embedding scales"] == 2 * words * 2 * 2


def test_a_trimmed_table_gives_the_same_answers() -> None:
    ensemble = random_ensemble(embeddings="int4")
    trimmed = trim_vocabulary(ensemble, ["the movie is good"])
    assert trimmed.config.encoder.vocab_size < ensemble.config.encoder.vocab_size
    answers = []
    for each in (ensemble, trimmed):
        ids = np.array([Tokenizer.from_str(each.tokenizer).encode("the good movie").ids])
        answers.append(reference.forward(each, ids, np.ones_like(ids))[1])
    np.testing.assert_array_equal(*answers)
