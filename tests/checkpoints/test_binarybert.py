# SPDX-License-Identifier: Apache-2.0
"""BinaryBERT checkpoints, and BEBERT's on BinaryBERT, against the model of `binarybert_oracle`.

The oracle computes in float64, and takes the minimum of the whole batch as the original does; batches have padding
unless a test says otherwise. Our products are exact integers with some roundings in float32 behind them, so a code can
differ where a number is within some 1e-6 of half a step. Probabilities come from integers that are right to 2^-16 of
the largest, so their codes can differ within some 2e-5 / step of half a step: with random weights of this size that
changes the logits of one text in fifty (13 of 680), and of none if the softmax is taken in float64. With the seeds of
these tests no code differs, and logits agree to 1e-4. Ties themselves are exact on both sides: where they are made,
steps and magnitudes are powers of two.

Uniform quantizers are in `test_binarybert_uniform`.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner

from bebert_edge.checkpoints import binarybert, load
from bebert_edge.cli.main import app
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import CheckpointError
from checkpoints import binarybert_oracle as oracle
from checkpoints.every_path import Feed, answers
from support import VOCABULARY

Config = dict[str, Any]
State = dict[str, Any]
Checkpoint = tuple[Config, State]
LENGTHS = (9, 1, 17, 12)
NARROW = {"attention_size": 16, "heads": 2, "intermediate_size": 24}
"""A DynaBERT of half the width: two of four heads, half of the feed-forward channels."""


def checkpoint(seed: int = 0, *, split: bool = True, equal_steps: bool = False, **config: Any) -> Checkpoint:
    settings = oracle.published_config(split=split, **{"vocab_size": len(VOCABULARY), **config})
    return settings, oracle.random_state(settings, split=split, equal_steps=equal_steps, seed=seed)


def write(directory: Path, config: Config, *states: State) -> Path:
    """What training leaves behind, for one model or for the members of an ensemble, with the vocabulary beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    names = ["pytorch_model.bin"] if len(states) == 1 else [f"{i}.bin" for i in range(len(states))]
    for name, state in zip(names, states, strict=True):
        torch.save(state, directory / name)
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return directory


def random_feed(lengths: tuple[int, ...] = LENGTHS, sequence: int = 20, seed: int = 0) -> Feed:
    """Random ids of sequences of these lengths, padded on the right to `sequence` tokens."""
    rng = np.random.default_rng(seed)
    mask = (np.arange(sequence) < np.array(lengths)[:, None]).astype(np.int64)
    return {
        "input_ids": rng.integers(5, len(VOCABULARY), mask.shape) * mask,
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, mask.shape) * mask,
    }


def expected(found: Checkpoint, feed: Feed, *, deployed: bool = False) -> np.ndarray:
    model = oracle.BinaryBert(*found, deployed=deployed)
    names = ("input_ids", "attention_mask", "token_type_ids")
    return model(*(torch.from_numpy(feed[name]) for name in names)).numpy()


def check(ensemble: PackedEnsemble, members: list[np.ndarray], feed: Feed, *, exported: bool = True) -> None:
    """The reference, and an exported model, give these logits of every member and the labels of their weighted mean."""
    mean = np.average(members, axis=0, weights=ensemble.config.member_weights)
    assert len(mean) == 1 or np.ptp(mean[:, 0]) > 1e-2, "the texts do not differ: the case shows nothing"
    for path, logits, member_logits in islice(answers(ensemble, feed), None if exported else 1):
        np.testing.assert_allclose(member_logits, members, rtol=0, atol=1e-4, err_msg=path)
        np.testing.assert_allclose(logits, mean, rtol=0, atol=1e-4, err_msg=path)
        np.testing.assert_array_equal(logits.argmax(-1), mean.argmax(-1), err_msg=path)


CASES = {
    "split": {},
    "split, equal steps": {"equal_steps": True},
    "split, half the width": NARROW,
    "split, scales per row and of the whole table": {"weight_layerwise": False, "embed_layerwise": True},
    "split, heads of 5 channels": {"attention_size": 20, "seed": 1},
    "split, 2 bits": {"input_bits": 2},
    "split, 8 bits": {"input_bits": 8},
    "ternary": {"split": False, "seed": 1},
    "ternary, half the width": {"split": False, **NARROW},
    "ternary, scales per row and of the whole table": {
        "split": False,
        "weight_layerwise": False,
        "embed_layerwise": True,
    },
    "binary, not split": {"split": False, "weight_quant_method": "bwn", "weight_bits": 1},
}


EXPORTED = ("split", "split, half the width", "ternary")


@pytest.mark.parametrize("case", CASES)
def test_a_packed_model_computes_what_the_checkpoint_computes(case, tmp_path):
    found = checkpoint(**CASES[case])
    ensemble = load(write(tmp_path, *found))
    check(ensemble, [expected(found, random_feed())], random_feed(), exported=case in EXPORTED)


def at_half_steps(found: Checkpoint) -> Checkpoint:
    """Magnitudes, steps and biases are powers of two, and what they add up to lies between two codes very often."""
    config, state = found
    for name, tensor in state.items():
        if name.endswith(("input_clip_val", "clip_query", "clip_key", "clip_value")):
            state[name] = torch.tensor(0.0625 if "output" in name else 0.25)
        elif name.endswith("clip_attn"):
            state[name] = torch.tensor(0.125)
        elif "LayerNorm" in name:  # every other channel of a hidden state is half a step, times an odd number
            tensor[::2] = 0 if name.endswith("weight") else 0.125 * (2 * torch.arange(len(tensor[::2])) % 14 - 7)
        elif name.endswith("bias") and "classifier" not in name:
            state[name] = torch.randint(-8, 9, tensor.shape, generator=torch.Generator().manual_seed(0)) / 32
        elif name.endswith("weight") and "classifier" not in name and "position" not in name and "type" not in name:
            kept = tensor.abs() > tensor.abs().median() / 2 if config["weight_quant_method"] == "twn" else 1
            state[name] = tensor.sign() * kept / 8
    return found


def uniform_attention(found: Checkpoint) -> Checkpoint:
    """All queries are 0: the probabilities of 16 tokens are half a step."""
    for name in found[1]:
        if name.endswith("clip_query"):
            found[1][name] = torch.tensor(1024.0)
            found[1][name.replace("query", "attn")] = torch.tensor(0.125)
    return found


def saturated(found: Checkpoint) -> Checkpoint:
    """Nearly every code is the least or the largest."""
    for name in found[1]:
        if "clip" in name:
            found[1][name] /= 1e5 if "attn" in name else 100
    return found


def cancelling(found: Checkpoint) -> Checkpoint:
    """The second half takes away what the first adds, in every other output channel."""
    for name in found[1]:
        if name.endswith("_1.weight"):
            second = found[1][name.replace("_1", "_2")]
            second[::2] = -found[1][name][::2]
    return found


HARD = [at_half_steps, uniform_attention, saturated]


@pytest.mark.parametrize("split", [True, False], ids=["split", "ternary"])
@pytest.mark.parametrize("change", HARD)
def test_hard_weights(change, split, tmp_path):
    found = change(checkpoint(3, split=split))
    feed = random_feed((16, 1, 8, 13))
    check(load(write(tmp_path, *found)), [expected(found, feed)], feed, exported=change is at_half_steps)


@pytest.mark.parametrize("equal_steps", [True, False])
def test_halves_that_cancel(equal_steps, tmp_path):
    found = cancelling(checkpoint(4, equal_steps=equal_steps))
    check(load(write(tmp_path, *found)), [expected(found, random_feed())], random_feed(), exported=False)


def test_ties_go_to_even_as_in_torch():
    """The hard case is one: a quarter of its hidden codes, and many others, come from ties."""
    found = at_half_steps(checkpoint(3))
    ties = []

    class Counting(oracle.BinaryBert):
        def symmetric(self, x, step):
            z = (x / step).abs()
            ties.append(float(((z % 1 == 0.5) & (z < 7.5)).double().mean()))
            return super().symmetric(x, step)

    feed = random_feed()
    Counting(*found)(*(torch.from_numpy(feed[name]) for name in ("input_ids", "attention_mask", "token_type_ids")))
    assert np.mean(ties) > 0.1
    assert max(ties) > 0.25


def test_a_text_alone_or_in_any_batch_has_one_answer(tmp_path):
    """Without padding the original takes another minimum of the probabilities: the one difference, and it is noted."""
    found = checkpoint(1)
    ensemble = load(write(tmp_path, *found))
    together = random_feed((9, 9, 9), 9)
    alone = {name: array[:1] for name, array in together.items()}
    padded = {name: np.pad(array[:1], [(0, 0), (0, 7)]) for name, array in together.items()}
    rows = [expected(found, feed, deployed=True)[0] for feed in (together, alone, padded)]
    np.testing.assert_allclose(rows, [rows[0]] * 3, rtol=0, atol=1e-12)
    for feed in (together, alone, padded):
        check(ensemble, [expected(found, feed, deployed=True)], feed, exported=False)
    np.testing.assert_array_equal(expected(found, padded), expected(found, padded, deployed=True))
    assert np.abs(expected(found, alone) - expected(found, alone, deployed=True)).max() > 1e-3


def test_a_text_of_one_token(tmp_path):
    found = checkpoint(2)
    feed = random_feed((1,), 1)
    check(load(write(tmp_path, *found)), [expected(found, feed, deployed=True)], feed)


def test_gelu_begins_at_its_least_value(tmp_path):
    found = checkpoint(5, hidden_act="gelu")
    check(load(write(tmp_path, *found)), [expected(found, random_feed(), deployed=True)], random_feed(), exported=False)


def test_the_start_of_the_halves_computes_what_the_ternary_model_computes(tmp_path):
    """Its configuration is still the ternary model's, its biases and clip values are float64."""
    config, state = checkpoint(7, split=False)
    start = oracle.split_ternary(state)
    assert start["bert.pooler.dense_1.bias"].dtype == torch.float64
    ensemble = load(write(tmp_path / "binary_model_init", config, start))
    check(ensemble, [expected((config, state), random_feed())], random_feed(), exported=False)


def test_members_of_bebert(tmp_path):
    """`nokd/0.bin`, `nokd/1.bin`: one configuration, steps and scales of their own."""
    config, first = checkpoint(1)
    second = oracle.random_state(config, seed=2)
    ensemble = load(write(tmp_path / "nokd", config, first, second))
    assert ensemble.config.members == 2
    check(ensemble, [expected((config, state), random_feed()) for state in (first, second)], random_feed())


def test_a_single_logit_is_a_regression(tmp_path):
    found = checkpoint(0, labels=1)
    ensemble = load(write(tmp_path, *found))
    assert ensemble.config.task.problem == "regression"
    check(ensemble, [expected(found, random_feed())], random_feed(), exported=False)


def test_terms_by_hand():
    weight = np.array([[1.0, -2.0, 3.0], [-0.5, 0.5, 0.5]], np.float32)
    bits, scale = binarybert.binary_rows(weight, layerwise=True)
    np.testing.assert_array_equal(bits, [[True, False, True], [False, True, True]])
    np.testing.assert_array_equal(scale, np.full(2, 1.25, np.float32))
    np.testing.assert_array_equal(binarybert.binary_rows(weight, layerwise=False)[1], np.array([2, 0.5], np.float32))

    def values(layerwise):
        return sum(np.where(b, 1, -1) * s[:, None] for b, s in binarybert.ternary_rows(weight, layerwise))

    np.testing.assert_array_equal(values(True), [[2, -2, 2], [0, 0, 0]])  # beyond 0.7 * 1.25
    np.testing.assert_array_equal(values(False), [[0, -2.5, 2.5], [-0.5, 0.5, 0.5]])  # beyond 1.4, and beyond 0.35


def test_a_ternary_row_of_zeros_is_zeros():
    for bits, scale in binarybert.ternary_rows(np.zeros((2, 3), np.float32), layerwise=False):
        assert bits.shape == (2, 3)
        np.testing.assert_array_equal(scale, [0, 0])


@pytest.mark.parametrize(
    ("config", "names", "found"),
    [
        ({}, ["bert.encoder.layer.0.attention.self.query_1.input_clip_val"], True),
        ({}, ["bert.pooler.dense.input_clip_val"], True),
        ({"bebert_edge": {}}, ["bert.pooler.dense.input_clip_val"], False),
        ({}, ["bert.pooler.dense.input_clip_val", "bert.pooler.dense.move.bias"], False),  # BiT
        ({}, ["bert.pooler.dense.act_clip_val", "bert.pooler.dense.weight_clip_val"], False),  # BiBERT
        ({}, ["bert.pooler.dense.weight"], False),
    ],
)
def test_detection(config, names, found):
    assert binarybert.detect(config, names) is found


FIRST = "bert.encoder.layer.0.attention.self.query_1"
QUERY = "bert.encoder.layer.1.attention.self.query_2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_quant_method": "laq"}, "weight_quant_method is 'laq', expected 'bwn' or 'twn'"),
        ({"weight_quant_method": None}, "weight_quant_method is None"),
        ({"weight_bits": 2}, "weight_bits is 2, expected 1: the bits of 'bwn'"),
        ({"input_quant_method": "minmax"}, "input_quant_method is 'minmax', expected 'lsq' or 'uniform'"),
        ({"input_bits": 32}, "input_bits is 32, expected 2 or 4 or 8"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish', expected 'relu' or 'gelu'"),
        ({"sym_quant_qkvo": False}, "sym_quant_qkvo is False, expected True"),
        ({"sym_quant_ffn_attn": True}, "sym_quant_ffn_attn is True, expected False"),
        ({"input_layerwise": False}, "input_layerwise is False, expected True"),
        ({"weight_layerwise": "yes"}, "weight_layerwise is 'yes'"),
        ({"num_attention_heads": 5}, "num_attention_heads is 5, expected a divisor of the 32 rows of .*query_1.weight"),
        ({"num_hidden_layers": 1}, "is unknown"),
        ({"num_hidden_layers": 10**9}, "is missing"),
        ({"num_hidden_layers": 3}, r"layer\.2\.attention\.self\.query_1\.weight is missing"),
        ({"hidden_size": 48}, r"has shape \[125, 32\], expected \[125, 48\]"),
    ],
)
def test_wrong_configurations_are_named(change, message, tmp_path):
    config, state = checkpoint()
    with pytest.raises(CheckpointError, match=message):
        load(write(tmp_path, config | change, state))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(f"{QUERY}.weight"), f"{QUERY}.weight is missing"),
        (lambda s: s.update({f"{QUERY}.weight": s[f"{QUERY}.weight"][1:]}), r"query_2.weight has shape \[31, 32\]"),
        (lambda s: s[f"{QUERY}.input_clip_val"].neg_(), r"query_2.input_clip_val is -0\.\d+, expected a step > 0"),
        (lambda s: s[f"{QUERY}.weight"][3, 4].zero_(), r"query_2.weight is exactly 0 at \[3, 4\] and 0 other places"),
        (lambda s: s.update({f"{FIRST}.weight": torch.ones(())}), r"0.attention.self.query_1.weight has shape \[\]"),
        (lambda s: s.update({"classifier.weight": torch.ones(())}), r"classifier.weight has shape \[\]"),
        (lambda s: s.update(extra=torch.ones(1)), "tensor extra is unknown"),
        (lambda s: s.pop(f"{QUERY}.input_clip_val"), f"{QUERY}.input_clip_val is missing"),
    ],
)
def test_damaged_tensors_are_named(change, message, tmp_path):
    config, state = checkpoint()
    change(state)
    with pytest.raises(CheckpointError, match=message):
        load(write(tmp_path, config, state))


def test_members_of_other_widths_are_refused(tmp_path):
    config, state = checkpoint()
    narrow = oracle.random_state(oracle.published_config(vocab_size=len(VOCABULARY), **NARROW))
    with pytest.raises(CheckpointError):
        load(write(tmp_path, config, state, narrow))


def test_the_command_says_where_it_deviates(tmp_path):
    config, state = checkpoint(vocab_size=400)
    state["bert.embeddings.word_embeddings_2.weight"][399, 7] = 0
    state["bert.pooler.dense_1.input_clip_val"].fill_(1)
    source, out = write(tmp_path / "kd_stage2", config, state), tmp_path / "packed"
    result = CliRunner().invoke(app, ["pack", str(source), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert PackedEnsemble.load(out).config.quantization.terms == 2
    words = " ".join(result.stderr.split())
    assert "minimum of the whole batch" in words
    assert "bert.pooler.dense_1.input_clip_val is exactly 1" in words
    assert "word_embeddings_2.weight is exactly 0 at [399, 7] and 0 other places" in words
