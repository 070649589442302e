# SPDX-License-Identifier: Apache-2.0
"""BinaryBERT checkpoints whose activations have the range of the batch (1-1-8), against `binarybert_oracle`.

What is expected of a text is what the oracle answers to that text alone, without padding: the range is then its own.
The oracle computes in float64, so a code can differ where a number is within some 1e-5 of a step of the middle between
two codes: with random weights of this size that changes the logits of one text in twenty-five, by up to 0.07. With the
seeds of these tests no code differs, and logits agree to 1e-5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from bebert_edge.checkpoints import load
from bebert_edge.ensemble import PackedEnsemble
from checkpoints import test_binarybert as lsq
from checkpoints.every_path import Feed, answers
from checkpoints.test_binarybert import NARROW, Checkpoint, random_feed, write

UNIFORM: dict[str, Any] = {"input_bits": 8, "input_quant_method": "uniform", "hidden_act": "gelu"}


def checkpoint(seed: int = 0, **config: Any) -> Checkpoint:
    return lsq.checkpoint(seed, **{**UNIFORM, **config})


def each_alone(feed: Feed) -> list[Feed]:
    """One feed for each text, without padding."""
    lengths = feed["attention_mask"].sum(1)
    return [{name: array[i : i + 1, :n] for name, array in feed.items()} for i, n in enumerate(lengths)]


def expected(found: Checkpoint, feed: Feed) -> np.ndarray:
    return np.concatenate([lsq.expected(found, text) for text in each_alone(feed)])


def check(ensemble: PackedEnsemble, members: list[np.ndarray], feed: Feed) -> None:
    """Of the reference and of the exported model, without and with the native library."""
    mean = np.average(members, axis=0, weights=ensemble.config.member_weights)
    assert len(mean) == 1 or np.ptp(mean[:, 0]) > 1e-2, "the texts do not differ: the case shows nothing"
    for path, logits, member_logits in answers(ensemble, feed):
        np.testing.assert_allclose(member_logits, members, rtol=0, atol=1e-5, err_msg=path)
        np.testing.assert_array_equal(logits.argmax(-1), mean.argmax(-1), err_msg=path)


CASES = {
    "split": {},
    "split, equal clips": {"equal_steps": True},
    "split, half the width": NARROW,
    "split, relu": {"hidden_act": "relu"},
    "split, 4 bits": {"input_bits": 4},
    "split, 2 bits": {"input_bits": 2},
    "split, scales per row and of the whole table": {"weight_layerwise": False, "embed_layerwise": True},
    "ternary": {"split": False},
    "ternary, half the width": {"split": False, **NARROW},
    "binary, not split": {"split": False, "weight_quant_method": "bwn", "weight_bits": 1, "seed": 1},
}


@pytest.mark.parametrize("case", CASES)
def test_a_text_has_the_answer_that_the_checkpoint_gives_to_it_alone(case, tmp_path):
    found = checkpoint(**CASES[case])
    check(load(write(tmp_path, *found)), [expected(found, random_feed())], random_feed())
