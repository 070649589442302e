# SPDX-License-Identifier: Apache-2.0
"""BinaryBERT checkpoints whose activations have the range of the batch (1-1-8), against `binarybert_oracle`.

What is expected of a text is what the oracle answers to that text alone, without padding: the range is then its own.
The oracle computes in float64, so a code can differ where a number is within some 1e-5 of a step of the middle between
two codes: with random weights of this size that changes the logits of one text in twenty-five, by up to 0.07. With the
seeds of these tests no code differs, and logits agree to 1e-5.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from typer.testing import CliRunner

from bebert_edge import reference
from bebert_edge.checkpoints import load
from bebert_edge.cli.main import app
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import CheckpointError
from checkpoints import binarybert_oracle as oracle
from checkpoints import test_binarybert as lsq
from checkpoints.every_path import Feed, answers
from checkpoints.test_binarybert import NARROW, Checkpoint, cancelling, random_feed, write

UNIFORM: dict[str, Any] = {"input_bits": 8, "input_quant_method": "uniform", "hidden_act": "gelu"}


def checkpoint(seed: int = 0, **config: Any) -> Checkpoint:
    return lsq.checkpoint(seed, **{**UNIFORM, **config})


def each_alone(feed: Feed) -> list[Feed]:
    """One feed for each text, without padding."""
    lengths = feed["attention_mask"].sum(1)
    return [{name: array[i : i + 1, :n] for name, array in feed.items()} for i, n in enumerate(lengths)]


def expected(found: Checkpoint, feed: Feed) -> np.ndarray:
    return np.concatenate([lsq.expected(found, text) for text in each_alone(feed)])


def check(ensemble: PackedEnsemble, members: list[np.ndarray], feed: Feed, *, exported: bool = False) -> None:
    """Of the reference and, if asked for, of the exported model without and with the native library."""
    mean = np.average(members, axis=0, weights=ensemble.config.member_weights)
    assert len(mean) == 1 or np.ptp(mean[:, 0]) > 1e-2, "the texts do not differ: the case shows nothing"
    for path, logits, member_logits in islice(answers(ensemble, feed), None if exported else 1):
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
EXPORTED = ("split, half the width", "ternary")


@pytest.mark.parametrize("case", CASES)
def test_a_text_has_the_answer_that_the_checkpoint_gives_to_it_alone(case, tmp_path):
    """In a batch with padding; that of one text at a time is asked for below."""
    found = checkpoint(**CASES[case])
    check(load(write(tmp_path, *found)), [expected(found, random_feed())], random_feed(), exported=case in EXPORTED)


def test_the_company_of_a_text_changes_the_original_s_answer_and_not_ours(tmp_path):
    found = checkpoint(2)
    ensemble, feed = load(write(tmp_path, *found)), random_feed()
    own = expected(found, feed)
    assert np.abs(lsq.expected(found, feed) - own).max() > 1e-3
    for text, logits in zip(each_alone(feed), own, strict=True):
        check(ensemble, [logits[None]], text)


def clips(found: Checkpoint, *uses: str) -> list[str]:
    return [name for name in found[1] if "clip" in name and any(use in name for use in uses or ("",))]


def at_half_steps(found: Checkpoint) -> Checkpoint:
    """Ranges are 127/64 wide, and what is quantized in them is an odd multiple of half a step very often."""
    lsq.at_half_steps(found)
    for name in clips(found):
        found[1][name] = torch.tensor([-127.0, 127.0]) / 64
    for name, tensor in found[1].items():
        if "LayerNorm" in name:  # every other channel of a hidden state lies between two codes, and one at each end
            numbers = (2 * torch.arange(len(tensor[::2])) - 15) / 128
            tensor[::2] = 0 if name.endswith("weight") else numbers
            tensor[[0, 2]] = 0.0 if name.endswith("weight") else torch.tensor([4.0, -4.0])
    return found


def saturated(found: Checkpoint) -> Checkpoint:
    """Nearly every number is beyond the ends."""
    for name in clips(found):
        found[1][name] /= 100
    return found


def wide(found: Checkpoint) -> Checkpoint:
    """No number is beyond the ends, so that all ranges are those of the text."""
    for name in clips(found):
        found[1][name] *= 1e4
    return found


def off_zero(found: Checkpoint) -> Checkpoint:
    """Both ends are on one side of 0."""
    for name in clips(found, "query", "attn", "output.dense"):
        found[1][name] = torch.tensor([0.05, 0.6])
    for name in clips(found, "key", "intermediate"):
        found[1][name] = torch.tensor([-2.0, -0.125])
    return found


@pytest.mark.parametrize("split", [True, False], ids=["split", "ternary"])
@pytest.mark.parametrize("change", [at_half_steps, saturated, wide, off_zero])
def test_hard_weights(change, split, tmp_path):
    found = change(checkpoint(3, split=split))
    feed = random_feed((16, 1, 8, 13))
    check(load(write(tmp_path, *found)), [expected(found, feed)], feed, exported=change is off_zero)


def test_ties_go_to_even_as_in_torch():
    """The hard case is one: many codes come from ties."""
    ties = []

    class Counting(oracle.BinaryBert):
        def symmetric(self, x, step):
            z = x.clamp(step[0], step[1]) / x.clamp(step[0], step[1]).abs().max() * 127
            ties.append(float((z.abs() % 1 == 0.5).double().mean()))
            return super().symmetric(x, step)

    (feed,) = each_alone(random_feed((16,)))
    names = ("input_ids", "attention_mask", "token_type_ids")
    Counting(*at_half_steps(checkpoint(3)))(*(torch.from_numpy(feed[name]) for name in names))
    assert max(ties) > 0.25


@pytest.mark.parametrize("equal_steps", [True, False])
def test_halves_that_cancel(equal_steps, tmp_path):
    found = cancelling(checkpoint(4, equal_steps=equal_steps))
    check(load(write(tmp_path, *found)), [expected(found, random_feed())], random_feed())


def test_where_the_original_divides_by_zero_there_is_an_answer(tmp_path):
    """All queries are 0: 0 / 0 there. Here they are 0, and attention is uniform, as where queries hardly differ."""
    found, nearly = checkpoint(6), checkpoint(6)
    for _, state in (found, nearly):
        for name in state:
            if "self.query" in name and "clip" not in name:
                state[name] *= 0 if state is found[1] else 1e-9
    (feed,) = each_alone(random_feed((9,)))
    assert np.isnan(lsq.expected(found, feed)).all()
    ensemble = load(write(tmp_path, *found))
    logits = reference.forward(ensemble, **feed)[1][0]
    np.testing.assert_allclose(logits, lsq.expected(nearly, feed), rtol=0, atol=1e-4)


def test_the_start_of_the_halves_computes_what_the_ternary_model_computes(tmp_path):
    config, state = checkpoint(7, split=False)
    ensemble = load(write(tmp_path / "binary_model_init", config, oracle.split_ternary(state)))
    check(ensemble, [expected((config, state), random_feed())], random_feed())


def test_members_of_bebert(tmp_path):
    """One configuration, ranges and scales of their own."""
    config, first = checkpoint(1)
    second = oracle.random_state(config, seed=2)
    ensemble = load(write(tmp_path / "nokd", config, first, second))
    feed = random_feed((9, 3, 12))
    check(ensemble, [expected((config, state), feed) for state in (first, second)], feed, exported=True)


QUERY = "bert.encoder.layer.1.attention.self.query_2.input_clip_val"


@pytest.mark.parametrize(
    ("config", "clip", "message"),
    [
        ({}, [2.5, -2.5], r"query_2.input_clip_val is \[2.5, -2.5\], expected the first below the second"),
        ({}, 0.3, r"query_2.input_clip_val has shape \[\], expected \[2\]"),
        ({}, [float("nan"), 1.0], r"query_2.input_clip_val is nan at \[0\], expected finite numbers"),
        ({"input_layerwise": False}, [-1.0, 1.0], "input_layerwise is False, expected True"),
        ({"sym_quant_qkvo": False}, [-1.0, 1.0], "sym_quant_qkvo is False, expected True"),
        ({"sym_quant_ffn_attn": True}, [-1.0, 1.0], "sym_quant_ffn_attn is True, expected False"),
        ({"input_bits": 32}, [-1.0, 1.0], "input_bits is 32, expected 2 or 4 or 8"),
    ],
)
def test_what_cannot_be_read_is_named(config, clip, message, tmp_path):
    settings, state = checkpoint()
    state[QUERY] = torch.tensor(clip)
    with pytest.raises(CheckpointError, match=message):
        load(write(tmp_path, settings | config, state))


def test_the_commands_say_where_they_deviate(tmp_path):
    source = write(tmp_path / "kd_stage2", *checkpoint())
    for command, out in (("pack", tmp_path / "packed"), ("export", tmp_path / "model.onnx")):
        result = CliRunner().invoke(app, [command, str(source), "-o", str(out)])
        assert result.exit_code == 0, result.output
        words = " ".join(result.stderr.split())
        assert "the original takes the range of the whole batch" in words
        assert "for a text alone" in words
    assert "of each text, not fixed by steps" in CliRunner().invoke(app, ["inspect", str(out)]).stdout
    written = json.loads((tmp_path / "packed" / "config.json").read_text())
    assert written["quantization"]["ranges"] == "sequence"
    assert PackedEnsemble.load(tmp_path / "packed").config.quantization.layers[0].probability == "uint8"
