# SPDX-License-Identifier: Apache-2.0
"""BiBERT checkpoints, and BEBERT's on BiBERT, against the model of `bibert_oracle`.

The oracle computes in float64. The packed model's products are exact integers with two roundings in float32 behind
them, so a sign can differ where a number is within some 1e-7 of 0 relative to the terms that make it up; with the seeds
of these tests none does, and logits agree to 1e-4. Zeros themselves, which the hard cases are made of, are exact on
both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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
from checkpoints import bibert_oracle as oracle
from checkpoints.every_path import Feed, answers
from support import VOCABULARY

State = dict[str, Any]
SHAPE = oracle.config(vocab_size=len(VOCABULARY))
LENGTHS = (9, 1, 14, 5, 2)


def feed_of(shape: dict[str, Any], lengths: tuple[int, ...] = LENGTHS, seed: int = 0, sequence: int = 0) -> Feed:
    """Random ids of sequences of these lengths, padded on the right."""
    rng = np.random.default_rng(seed)
    size = (len(lengths), max(sequence, *lengths))
    mask = (np.arange(size[1]) < np.array(lengths)[:, None]).astype(np.int64)
    return {
        "input_ids": rng.integers(0, shape["vocab_size"], size) * mask,
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, shape["type_vocab_size"], size) * mask,
    }


def expected(state: State, shape: dict[str, Any], feed: Feed) -> np.ndarray:
    names = ("input_ids", "attention_mask", "token_type_ids")
    return oracle.forward(state, shape, *(torch.from_numpy(feed[name]) for name in names)).numpy()


def check(ensemble: PackedEnsemble, states: list[State], shape: dict[str, Any], feed: Feed | None = None) -> None:
    """Every path gives the oracle's logits and labels, for every member."""
    feed = feed or feed_of(shape)
    members = np.stack([expected(state, shape, feed) for state in states])
    mean = np.average(members, axis=0, weights=ensemble.config.member_weights)
    assert np.ptp(mean[:, 0]) > 1e-2, "the texts do not differ: the case shows nothing"
    for path, logits, member_logits in answers(ensemble, feed):
        np.testing.assert_allclose(member_logits, members, rtol=0, atol=1e-4, err_msg=path)
        np.testing.assert_allclose(logits, mean, rtol=0, atol=1e-4, err_msg=path)
        np.testing.assert_array_equal(member_logits.argmax(-1), members.argmax(-1), err_msg=path)


def of_part(state: State, part: str) -> list[str]:
    """Names of tensors, by what their names end in; of the encoder and the pooler."""
    return [name for name in state if name.endswith(part) and "embeddings" not in name and "classifier" not in name]


def random(state: State) -> None:
    pass


def without_product_biases(state: State) -> None:
    for name in of_part(state, ".bias"):
        if "LayerNorm" not in name:
            state[name].zero_()


def without_any_bias(state: State) -> None:
    for name in state:
        if name.endswith(".bias"):
            state[name].zero_()


def biases_that_products_reach(state: State) -> None:
    """Weights of one magnitude, 1/2, and biases that are odd or even multiples of it."""
    rng = np.random.default_rng(1)
    for name in of_part(state, ".weight"):
        if "LayerNorm" not in name:
            state[name] = torch.from_numpy(rng.choice([-0.5, 0.5, 0.5], state[name].shape).astype(np.float32))
            bias = name.replace(".weight", ".bias")
            state[bias] = torch.from_numpy(rng.integers(-4, 5, len(state[bias])).astype(np.float32) / 2)


def weights_at_their_mean(state: State) -> None:
    """Rows of -1/2, 0 and 1/2 with sum 0, in which every third weight is 0 after centring too."""
    rng = np.random.default_rng(2)
    for name in [*of_part(state, ".weight"), "bert.embeddings.word_embeddings.weight"]:
        if "LayerNorm" not in name:
            rows, k = state[name].shape
            row = np.resize(np.array([-0.5, 0.5, 0], np.float32), k // 3 * 3 + 3)[:k]
            row[k // 3 * 3 :] = 0
            state[name] = torch.from_numpy(np.stack([rng.permutation(row) for _ in range(rows)]))


def one_weight_at_its_mean(state: State) -> None:
    weight = state["bert.encoder.layer.1.attention.self.key.weight"]
    weight[3] = torch.tensor([1.0, -1.0, 0.0, 0.0]).repeat(len(weight[3]) // 4)


def equal_weights(state: State) -> None:
    """Whole rows, and one whole product, of one value: nothing is left of them but their bias."""
    for name in of_part(state, ".weight"):
        if "LayerNorm" not in name:
            state[name][::4] = 0.1
    state["bert.encoder.layer.0.attention.self.key.weight"].fill_(0.3)
    state["bert.embeddings.word_embeddings.weight"][0] = 0.7


def huge_activations(state: State) -> None:
    for name in of_part(state, ".weight"):
        state[name] *= 1e6
    state["bert.embeddings.word_embeddings.weight"] *= 1e9
    state["bert.embeddings.LayerNorm.weight"] *= 1e12


def tiny_activations(state: State) -> None:
    for name in [*of_part(state, ".weight"), *of_part(state, ".bias")]:
        if "encoder" in name:
            state[name] *= 1e-6


def saturated_gelus(state: State) -> None:
    for name in of_part(state, "intermediate.dense.bias"):
        state[name] -= 6
    for name in of_part(state, "intermediate.dense.weight"):
        state[name] *= 0.5


def dead_channels(state: State) -> None:
    for name in state:
        if "LayerNorm" in name and (".1." in name or "embeddings" in name):
            state[name][5:9] = 0


@dataclass(frozen=True)
class Expected:
    """How many terms a model takes, and the codes that are ternary although not in every model."""

    terms: int = 1
    ternary: frozenset[str] = frozenset()


def ternary_codes(ensemble: PackedEnsemble) -> frozenset[str]:
    quantization = ensemble.config.quantization
    assert all(layer.context == layer.intermediate == "ternary" for layer in quantization.layers)
    codes = {f"{i}.{use}": code for i, layer in enumerate(quantization.layers) for use, code in layer.codes().items()}
    codes["pooler"] = quantization.pooler
    always = (".context", ".intermediate")
    return frozenset(name for name, code in codes.items() if code == "ternary" and not name.endswith(always))


ATTENTION = frozenset({"0.attention", "1.attention"})
CASES: dict[Callable[[State], None], Expected] = {
    random: Expected(),
    without_product_biases: Expected(ternary=ATTENTION),
    without_any_bias: Expected(ternary=ATTENTION | {"0.hidden", "0.ffn", "1.hidden", "1.ffn", "pooler"}),
    biases_that_products_reach: Expected(ternary=ATTENTION),
    weights_at_their_mean: Expected(2),
    one_weight_at_its_mean: Expected(2),
    equal_weights: Expected(),
    huge_activations: Expected(),
    tiny_activations: Expected(),
    saturated_gelus: Expected(),
    dead_channels: Expected(ternary=frozenset({"0.hidden", "1.ffn", "pooler"})),
}


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_logits_are_those_of_the_checkpoint(change: Callable[[State], None], tmp_path: Path) -> None:
    state = oracle.random_state(SHAPE, labels=3, seed=1)
    change(state)
    ensemble = load(oracle.save_bibert(tmp_path, SHAPE, state, VOCABULARY))
    assert Expected(ensemble.config.quantization.terms, ternary_codes(ensemble)) == CASES[change]
    check(ensemble, [state], SHAPE)


def test_members_that_need_different_codes_become_one_ensemble(tmp_path: Path) -> None:
    states = [oracle.random_state(SHAPE, seed=seed) for seed in range(4)]
    for change, state in zip((dead_channels, one_weight_at_its_mean, without_product_biases), states[1:], strict=True):
        change(state)
    ensemble = load(oracle.save_bebert(tmp_path, SHAPE, states, VOCABULARY))
    assert ensemble.config.quantization.terms == 2
    assert ternary_codes(ensemble) == CASES[dead_channels].ternary | ATTENTION
    check(ensemble, states, SHAPE)


def test_a_tinybert_shape(tmp_path: Path) -> None:
    shape = SHAPE | {"hidden_size": 312, "num_attention_heads": 12, "intermediate_size": 1200, "num_hidden_layers": 4}
    states = [oracle.random_state(shape, labels=1, seed=seed) for seed in range(2)]
    ensemble = load(oracle.save_bebert(tmp_path, shape, states, VOCABULARY))
    assert (ensemble.config.encoder.head_size, ensemble.config.task.problem) == (26, "regression")
    check(ensemble, states, shape)


def test_answers_depend_neither_on_padding_nor_on_company(tmp_path: Path) -> None:
    state = oracle.random_state(SHAPE)
    without_any_bias(state)  # as many ties as can be
    ensemble = load(oracle.save_bibert(tmp_path, SHAPE, state, VOCABULARY))
    feed = feed_of(SHAPE, sequence=20)
    together, _ = reference.forward(ensemble, **feed)
    for i, length in enumerate(LENGTHS):
        alone = {name: array[i : i + 1, :length] for name, array in feed.items()}
        np.testing.assert_allclose(reference.forward(ensemble, **alone)[0], together[i : i + 1], rtol=0, atol=1e-6)
        np.testing.assert_allclose(expected(state, SHAPE, alone), together[i : i + 1], rtol=0, atol=1e-4)


def test_the_activation_is_gelu_whatever_the_configuration_says(tmp_path: Path) -> None:
    state = oracle.random_state(SHAPE)
    ensemble = load(oracle.save_bibert(tmp_path, SHAPE | {"hidden_act": "relu"}, state, VOCABULARY))
    check(ensemble, [state], SHAPE)


def test_the_oracle_s_gelu_is_zero_where_torch_s_is() -> None:
    x = torch.cat([torch.linspace(-9, -5.5548, 1000), torch.linspace(-5.5426, 9, 1000)]).float()
    published = x * 0.5 * (1 + torch.erf(x / 2**0.5))
    np.testing.assert_array_equal(torch.sign(published), torch.sign(oracle.gelu(x.double())))


def test_the_command_packs_and_exports_a_directory(tmp_path: Path) -> None:
    states = [oracle.random_state(SHAPE, seed=seed) for seed in range(2)]
    source = oracle.save_bebert(tmp_path / "bebert", SHAPE, states, VOCABULARY)
    result = CliRunner().invoke(app, ["pack", str(source), "-o", str(tmp_path / "packed"), "--labels", "no,yes"])
    assert result.exit_code == 0, result.output
    packed = PackedEnsemble.load(tmp_path / "packed")
    assert packed.config.labels == ("no", "yes")
    check(packed, states, SHAPE)
    result = CliRunner().invoke(app, ["export", str(tmp_path / "packed"), "-o", str(tmp_path / "model.onnx")])
    assert result.exit_code == 0, result.output


QUERY = "bert.encoder.layer.1.attention.self.query"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(f"{QUERY}.bias"), rf"{QUERY}.bias is missing"),
        (lambda s: s.update({f"{QUERY}.bias": torch.zeros(31)}), r"\[31\], expected \[32\]"),
        (lambda s: s.update({f"{QUERY}_1.weight": torch.zeros(1)}), rf"{QUERY}_1.weight is unknown"),
        (lambda s: s[f"{QUERY}.weight"].fill_(torch.nan), rf"{QUERY}.weight is nan"),
    ],
    ids=["missing", "shape", "unknown", "not finite"],
)
def test_a_damaged_checkpoint_is_refused(change: Callable[[State], Any], message: str, tmp_path: Path) -> None:
    state = oracle.random_state(SHAPE)
    change(state)
    with pytest.raises(CheckpointError, match=message):
        load(oracle.save_bibert(tmp_path, SHAPE, state, VOCABULARY))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("weight_bits", 2, "config.json: weight_bits is 2, expected 1"),
        ("input_bits", 8, "config.json: input_bits is 8, expected 1"),
        ("num_attention_heads", 5, "encoder.heads is 5, expected a divisor of hidden_size 32"),
        ("num_hidden_layers", 1, "bert.encoder.layer.1.[A-Za-z.]* is unknown"),
        ("num_hidden_layers", 3, "bert.encoder.layer.2.[A-Za-z.]* is missing"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(key: str, value: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(oracle.save_bibert(tmp_path, SHAPE | {key: value}, oracle.random_state(SHAPE), VOCABULARY))
