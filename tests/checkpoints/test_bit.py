# SPDX-License-Identifier: Apache-2.0
"""BiT checkpoints against the model of `bit_oracle`.

The oracle computes in float64. The packed model's products are exact integers with two roundings in float32 behind
them, and its softmax counts in steps of 2^-15 of the largest term, so a code can differ where a number is close to a
threshold: within some 1e-7 of what makes it up, or, for probabilities, within 2e-5. With the seeds of these tests none
does, and logits agree to 1e-4; `test_how_often_a_code_differs` counts over more texts. Exact zeros, and numbers beyond
the range of their codes, are what the hard cases are made of; they are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner

from bebert_edge import reference
from bebert_edge.checkpoints import load
from bebert_edge.cli.main import app
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import CheckpointError
from checkpoints.bit_oracle import Bit, Settings, State, arguments, random_state, write
from checkpoints.every_path import Feed, Floats, answers
from support import VOCABULARY

LENGTHS = (9, 1, 14, 5, 2)
SHAPE = Settings(vocab_size=len(VOCABULARY))
OTHER_SHAPE = dict(hidden_size=51, num_attention_heads=3, intermediate_size=20, num_hidden_layers=1, num_labels=3)
FIRST, LAYER = "bert.encoder.layer.0", "bert.encoder.layer.1"

Change = Callable[[State], None]


def settings_of(**changes: object) -> Settings:
    return Settings(**{"vocab_size": len(VOCABULARY), **changes})  # type: ignore[arg-type]


def feed_of(settings: Settings, lengths: tuple[int, ...] = LENGTHS, seed: int = 0, sequence: int = 0) -> Feed:
    """Random ids of sequences of these lengths, padded on the right."""
    rng = np.random.default_rng(seed)
    size = (len(lengths), max(sequence, *lengths))
    mask = (np.arange(size[1]) < np.array(lengths)[:, None]).astype(np.int64)
    return {
        "input_ids": rng.integers(0, settings.vocab_size, size) * mask,
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, settings.type_vocab_size, size) * mask,
    }


def trained(settings: Settings, seed: int = 0) -> State:
    """Random weights, and steps as a first batch sets them."""
    state = random_state(settings, seed)
    Bit(settings, state).set_steps(**arguments(feed_of(settings, (20,) * 8, seed=seed + 1)))
    return state


def expected(settings: Settings, state: State, feed: Feed, **rule: bool) -> Floats:
    return Bit(settings, state, **rule)(**arguments(feed)).numpy()


def check(ensemble: PackedEnsemble, settings: Settings, states: list[State], feed: Feed | None = None) -> None:
    """Every path gives the oracle's logits and labels, for every member."""
    feed = feed or feed_of(settings)
    members = np.stack([expected(settings, state, feed) for state in states])
    assert np.ptp(members[..., 0]) > 1e-2, "the texts do not differ: the case shows nothing"
    for path, logits, member_logits in answers(ensemble, feed):
        np.testing.assert_allclose(member_logits, members, rtol=0, atol=1e-4, err_msg=path)
        np.testing.assert_allclose(logits, members.mean(0), rtol=0, atol=1e-4, err_msg=path)
        np.testing.assert_array_equal(member_logits.argmax(-1), members.argmax(-1), err_msg=path)


def check_reference(ensemble: PackedEnsemble, settings: Settings, state: State, **rule: bool) -> None:
    """The reference gives the oracle's logits."""
    feed = feed_of(settings)
    logits, _ = reference.forward(ensemble, **feed)
    assert np.ptp(logits[:, 0]) > 1e-2, "the texts do not differ: the case shows nothing"
    np.testing.assert_allclose(logits, expected(settings, state, feed, **rule), rtol=0, atol=1e-4)


def pack(directory: Path, settings: Settings, *states: State) -> PackedEnsemble:
    paths = [write(directory / f"{i}", settings, state, VOCABULARY) for i, state in enumerate(states)]
    return load(paths)


def names(state: State, *ends: str) -> list[str]:
    """Tensors of the encoder and the pooler whose names end in one of `ends`."""
    return [name for name in state if name.endswith(ends) and "embeddings" not in name and "classifier" not in name]


def weights(state: State) -> list[str]:
    return [name for name in names(state, ".weight") if "LayerNorm" not in name]


@pytest.mark.parametrize("shape", [{}, OTHER_SHAPE], ids=["", "other-shape"])
@pytest.mark.parametrize("act", ["relu", "gelu"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_logits_are_those_of_the_checkpoint(bits: int, act: str, shape: dict[str, int], tmp_path: Path) -> None:
    settings = settings_of(input_bits=bits, hidden_act=act, **shape)
    state = trained(settings)
    # Behind GELU the least of a batch is not quite the least of all, whatever padding it has.
    check_reference(pack(tmp_path, settings, state), settings, state, static_minimum=act == "gelu")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_logits_on_every_path(bits: int, tmp_path: Path) -> None:
    settings = settings_of(input_bits=bits)
    states = [trained(settings, seed) for seed in range(2)]
    check(pack(tmp_path, settings, *states), settings, states)


# Changes of a state dict, which make numbers meet where codes change.


def no_biases(state: State) -> None:
    """Products are 0 where as many terms are +1 as -1."""
    for name in names(state, "query.bias", "key.bias", "value.bias", "dense.bias"):
        state[name].zero_()


def no_shifts(state: State) -> None:
    """The context is 0 where as many values are +1 as -1, or none passes."""
    for name in names(state, "move.bias"):
        state[name].zero_()


def nothing_added(state: State) -> None:
    """Neither biases nor shifts, nor biases of norms."""
    for name in names(state, ".bias"):
        state[name].zero_()
    state["bert.embeddings.LayerNorm.bias"].zero_()


def gains_of_zero(state: State) -> None:
    """Channels that a norm makes constant, and shifts to 0."""
    for norm, readers in (
        ("bert.embeddings", ("bert.encoder.layer.0.attention.self.key", "bert.encoder.layer.0.attention.self.value")),
        (f"{LAYER}.attention.output", (f"{LAYER}.intermediate.dense",)),
        (f"{LAYER}.output", ("bert.pooler.dense",)),
    ):
        state[f"{norm}.LayerNorm.weight"][::5] = 0
        for reader in readers:
            state[f"{reader}.move.bias"][::5] = -state[f"{norm}.LayerNorm.bias"][::5]


def sums_that_cancel(state: State) -> None:
    """Weights, steps, shifts and biases that are small multiples of powers of two."""
    rng = np.random.default_rng(1)
    for name in weights(state):
        state[name] = torch.from_numpy(rng.choice([-0.5, 0.5], state[name].shape).astype(np.float32))
        k = state[name].shape[1]
        bias, shift = name.replace(".weight", ".bias"), name.replace(".weight", ".move.bias")
        state[bias] = torch.from_numpy(rng.integers(-4, 5, len(state[bias])).astype(np.float32))
        state[shift] = torch.from_numpy(rng.integers(-2, 3, k).astype(np.float32))
        state[name.replace(".weight", ".input_clip_val")].fill_(0.5)
    for name in names(state, "clip_query", "clip_key", "clip_value", "clip_attn"):
        state[name].fill_(0.25)


def weights_at_their_mean(state: State) -> None:
    """Every third weight is 0, and so is the mean."""
    rng = np.random.default_rng(2)
    for name in [*weights(state), "bert.embeddings.word_embeddings.weight"]:
        values = np.resize(np.array([-0.5, 0.5, 0], np.float32), state[name].numel() // 3 * 3)
        values = np.append(values, np.zeros(state[name].numel() - len(values), np.float32))
        state[name] = torch.from_numpy(rng.permutation(values).reshape(state[name].shape))


def one_weight_at_its_mean(state: State) -> None:
    weight = state[f"{LAYER}.attention.self.key.weight"]
    weight.copy_(torch.tensor([0.25, -0.25]).repeat(weight.numel() // 2).view_as(weight))
    weight[3, :2] = 0


def equal_weights(state: State) -> None:
    """Of a product whose weights are all the same, and of a word whose are all 0, nothing is left."""
    state[f"{LAYER}.attention.self.query.weight"].fill_(0.375)
    state[f"{LAYER}.output.dense.weight"].fill_(-2)
    state["bert.embeddings.word_embeddings.weight"][:9] = 0


def zeros_everywhere(state: State) -> None:
    weights_at_their_mean(state)
    nothing_added(state)


STEPS = ("input_clip_val", "clip_query", "clip_key", "clip_value", "clip_attn")


def huge_numbers(state: State) -> None:
    for name in weights(state):
        if name.startswith(FIRST):
            state[name] *= 1e5
            state[name.replace(".weight", ".move.bias")] *= 1e3


def large_steps(state: State) -> None:
    """No probability, and hardly another value, is large enough for a code other than the least magnitude."""
    for name in names(state, *STEPS):
        state[name] *= 30 if name.startswith(FIRST) else 2


def small_steps(state: State) -> None:
    """All that is not 0 saturates; scores are so close that every probability does."""
    for name in names(state, *STEPS):
        state[name] *= 0.05


def steps_below_the_least(state: State) -> None:
    for name in names(state, f"{FIRST}.attention.self.query.input_clip_val", f"{FIRST}.attention.self.clip_query"):
        state[name].fill_(-0.3)
    state[f"{FIRST}.attention.output.dense.input_clip_val"].zero_()


HARD: list[Change] = [
    no_biases,
    no_shifts,
    nothing_added,
    gains_of_zero,
    sums_that_cancel,
    weights_at_their_mean,
    one_weight_at_its_mean,
    equal_weights,
    zeros_everywhere,
    huge_numbers,
    large_steps,
    small_steps,
    steps_below_the_least,
]


@pytest.mark.parametrize("change", HARD, ids=lambda change: change.__name__)
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ties_and_saturations(bits: int, change: Change, tmp_path: Path) -> None:
    settings = settings_of(input_bits=bits)
    state = trained(settings)
    change(state)
    # Numbers so large are the same for all tokens: a channel may be active for every one.
    check_reference(pack(tmp_path, settings, state), settings, state, static_minimum=change is huge_numbers)


@pytest.mark.parametrize(
    ("bits", "change"),
    [(1, zeros_everywhere), (1, sums_that_cancel), (1, gains_of_zero), (2, weights_at_their_mean), (4, small_steps)],
)
def test_ties_and_saturations_on_every_path(bits: int, change: Change, tmp_path: Path) -> None:
    settings = settings_of(input_bits=bits)
    state = trained(settings)
    change(state)
    check(pack(tmp_path, settings, state), settings, [state])


@pytest.mark.parametrize(
    ("change", "terms", "ternary"),
    [
        (lambda state: None, 1, set()),
        (no_biases, 1, {"attention"}),
        (no_shifts, 1, {"context"}),
        (nothing_added, 1, {"hidden", "attention", "context", "ffn", "pooler"}),
        (gains_of_zero, 1, {"hidden", "ffn", "pooler"}),
        (sums_that_cancel, 1, {"attention", "context"}),
        (one_weight_at_its_mean, 2, set()),
        (equal_weights, 1, set()),
    ],
)
def test_zeros_are_kept_where_they_are_real_and_nowhere_else(
    change: Change, terms: int, ternary: set[str], tmp_path: Path
) -> None:
    settings = settings_of()
    state = trained(settings)
    change(state)
    oracle = Bit(settings, state)
    oracle(**arguments(feed_of(settings)))
    assert bool(sum(oracle.zeros.values())) == bool(ternary), "the oracle itself meets none, or some"
    quantization = pack(tmp_path, settings, state).config.quantization
    found = {use for layer in quantization.layers for use, code in layer.codes().items() if code == "ternary"}
    assert found | ({"pooler"} if quantization.pooler == "ternary" else set()) == ternary
    assert quantization.terms == terms


def test_members_that_differ_in_their_zeros_are_one_ensemble(tmp_path: Path) -> None:
    settings = settings_of()
    states = [trained(settings, seed) for seed in range(4)]
    for state, change in zip(states[1:], (nothing_added, sums_that_cancel, one_weight_at_its_mean), strict=True):
        change(state)
    ensemble = pack(tmp_path, settings, *states)
    assert ensemble.config.quantization.terms == 2
    check(ensemble, settings, states)


@pytest.mark.parametrize("bits", [1, 4])
def test_answers_do_not_depend_on_company_or_padding(bits: int, tmp_path: Path) -> None:
    """Neither do the original's, in 1 bit; with more, they are these wherever its batch has padding."""
    settings = settings_of(input_bits=bits)
    state = trained(settings)
    ensemble = pack(tmp_path, settings, state)
    feed = feed_of(settings, sequence=20)
    together, _ = reference.forward(ensemble, **feed)
    np.testing.assert_allclose(together, expected(settings, state, feed), rtol=0, atol=1e-4)
    for i, length in enumerate(LENGTHS):
        alone = {name: array[i : i + 1, :length] for name, array in feed.items()}
        np.testing.assert_allclose(reference.forward(ensemble, **alone)[0][0], together[i], rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            expected(settings, state, alone, static_minimum=True)[0], together[i], rtol=0, atol=1e-4
        )


@pytest.mark.parametrize(("bits", "most"), [(1, 0), (2, 2), (4, 6)])
def test_how_often_a_code_differs(bits: int, most: int, tmp_path: Path) -> None:
    """Of 200 texts, how many have a code on the other side of a threshold, and no other label for it."""
    settings = settings_of(input_bits=bits)
    state = trained(settings, seed=1)
    feed = feed_of(settings, tuple(np.random.default_rng(3).integers(1, 25, 200)), seed=4)
    found, _ = reference.forward(pack(tmp_path, settings, state), **feed)
    logits = expected(settings, state, feed)
    assert (np.abs(found - logits).max(-1) > 1e-4).sum() <= most
    np.testing.assert_array_equal(found.argmax(-1), logits.argmax(-1))


def test_scales_per_row_and_per_table(tmp_path: Path) -> None:
    settings = settings_of(weight_layerwise=False, embed_layerwise=True)
    state = trained(settings)
    check_reference(pack(tmp_path, settings, state), settings, state)


def test_a_regression(tmp_path: Path) -> None:
    settings = settings_of(num_labels=1)
    state = trained(settings)
    ensemble = pack(tmp_path, settings, state)
    assert ensemble.config.task.problem == "regression"
    check_reference(ensemble, settings, state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_bits": 32}, "input_bits is 32, expected 1 or 2 or 4 or 8"),
        ({"input_bits": 3}, "input_bits is 3"),
        ({"weight_bits": 32}, "weight_bits is 32, expected 1"),
        ({"input_quant_method": "bwn"}, "input_quant_method is 'bwn', expected 'elastic'"),
        ({"weight_quant_method": "uniform"}, "weight_quant_method is 'uniform', expected 'bwn'"),
        ({"sym_quant_ffn_attn": True}, "sym_quant_ffn_attn is True, expected False"),
        ({"sym_quant_qkvo": False}, "sym_quant_qkvo is False"),
        ({"not_quantize_attention": True}, "not_quantize_attention is True"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish', expected 'relu' or 'gelu'"),
        ({"num_attention_heads": 5}, "config.json cannot be packed: .*heads is 5"),
    ],
)
def test_configurations_that_mean_something_else_are_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    state = random_state(settings_of())
    with pytest.raises(CheckpointError, match=message):
        pack(tmp_path, settings_of(**changes), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(f"{LAYER}.output.dense.move.bias"), r"output.dense.move.bias is missing"),
        (lambda state: state.pop(f"{LAYER}.attention.self.clip_attn"), "clip_attn is missing"),
        (lambda state: state.update({"qa_outputs.weight": torch.zeros(2, 32)}), "qa_outputs.weight is unknown"),
        (lambda state: state[f"{LAYER}.output.dense.move.bias"].fill_(np.nan), "move.bias is nan"),
    ],
)
def test_damaged_checkpoints_are_refused(change: Change, message: str, tmp_path: Path) -> None:
    state = random_state(SHAPE)
    change(state)
    with pytest.raises(CheckpointError, match=message):
        pack(tmp_path, SHAPE, state)


def test_the_command_says_where_the_original_depends_on_its_batch(tmp_path: Path) -> None:
    settings = settings_of(input_bits=4)
    state = trained(settings)
    state[f"{LAYER}.attention.self.clip_key"].fill_(1)
    directory = write(tmp_path / "kd_joint", settings, state, VOCABULARY)
    result = CliRunner().invoke(app, ["pack", str(directory), "-o", str(tmp_path / "packed")])
    assert result.exit_code == 0, result.output
    assert "the whole batch" in result.stderr
    assert f"1 step is exactly 1, the first {LAYER}.attention.self.clip_key" in " ".join(result.stderr.split())
    assert PackedEnsemble.load(tmp_path / "packed").config.quantization.layers[0].intermediate == "uint4"
    check_reference(PackedEnsemble.load(tmp_path / "packed"), settings, state)
