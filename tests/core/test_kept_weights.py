# SPDX-License-Identifier: Apache-2.0
"""Linears with int8 and float16 weights: their format, their arithmetic, and the patterns that choose them."""

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bebert_edge.config import EnsembleConfig, TaskConfig
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import FormatError, TrainingError
from bebert_edge.kept_weights import choose, int8_rows, kept_matmul
from support import linear_names, random_ensemble

KEPT = {"layers.0.qkv": "int8", "layers.1.ffn_out": "float16", "pooler": "int8"}


def test_an_ensemble_loads_as_it_was(tmp_path: Path) -> None:
    ensemble = random_ensemble(weights=KEPT, terms=2)
    ensemble.save(tmp_path / "ensemble")
    loaded = PackedEnsemble.load(tmp_path / "ensemble")
    assert loaded.config == ensemble.config
    for name, array in ensemble.tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], array)
    assert loaded.tensors["layers.0.qkv.weight"].dtype == np.int8
    assert loaded.tensors["layers.1.ffn_out.weight"].dtype == np.float16
    assert "layers.0.qkv.second.shift" not in loaded.tensors  # a second term would add nothing to weights of 8 bits
    sizes = loaded.size()
    assert sizes["int8 weights"] == 2 * (72 * 24 + 24 * 24)
    assert sizes["float16 weights"] == 2 * 2 * 24 * 40


def test_nothing_is_written_where_nothing_is_kept() -> None:
    assert "weights" not in json.loads(random_ensemble().config.to_json())["quantization"]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (["pooler"], "quantization.weights is ['pooler'], expected an object"),
        ({"pooler": "int4"}, "quantization.weights['pooler'] is 'int4', expected one of ('int8', 'float16')"),
        ({"layers.2.qkv": "int8"}, "quantization.weights has 'layers.2.qkv', expected names of layers.0.qkv,"),
        ({"layers.0.query": "int8"}, "quantization.weights has 'layers.0.query', expected names of layers.0.qkv,"),
    ],
)
def test_a_wrong_configuration_is_refused(weights: object, expected: str) -> None:
    ensemble = random_ensemble()
    content = json.loads(ensemble.config.to_json())
    content["quantization"]["weights"] = weights
    with pytest.raises(FormatError, match=re.escape(expected)):
        PackedEnsemble(EnsembleConfig.from_json(json.dumps(content)), ensemble.tensors, ensemble.tokenizer).validate()


@pytest.mark.parametrize("name", ["layers.0.qkv.second", "decoder"])
def test_what_has_a_step_but_is_no_linear_keeps_no_weights(name: str) -> None:
    task = TaskConfig("fill-mask", mask_id=4)
    assert f"{name}.step" in random_ensemble(terms=2, task=task).tensors
    with pytest.raises(FormatError, match=re.escape(f"quantization.weights has {name!r}, expected names of layers")):
        random_ensemble(terms=2, task=task, weights={name: "int8"})


def test_wrong_tensors_are_refused() -> None:
    ensemble = random_ensemble(weights=KEPT)
    weight = ensemble.tensors["layers.1.ffn_out.weight"]
    ensemble.tensors["layers.1.ffn_out.weight"] = weight.astype(np.float32)
    with pytest.raises(FormatError, match=r"ffn_out\.weight has dtype float32, expected float16"):
        ensemble.validate()
    ensemble.tensors["layers.1.ffn_out.weight"] = np.full_like(weight, 60000)
    with pytest.raises(FormatError, match=r"a row of .*ffn_out\.weight sum to 2\.4e\+06, expected 2\.09715e\+06"):
        ensemble.validate()
    ensemble.tensors["layers.1.ffn_out.weight"] = np.full_like(weight, np.inf)
    with pytest.raises(FormatError, match=r"ffn_out\.weight is inf at \[0, 0, 0\], expected finite"):
        ensemble.validate()


def test_int8_rows_by_hand() -> None:
    weight, scale = int8_rows(np.array([[2.54, -1.27, 0.01, 0.015], [0, 0, 0, 0]], np.float32))
    np.testing.assert_array_equal(weight, [[127, -64, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(scale, np.array([2.54 / 127, 0], np.float32))


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_sums_are_rounded_once(kind: str) -> None:
    """Against exact rational arithmetic, with codes and weights of the largest magnitudes that there may be."""
    rng = np.random.default_rng(0)
    values = rng.integers(-128, 256, (1, 3, 640))
    weight = rng.integers(-128, 128, (1, 4, 640)).astype(np.int8)
    if kind == "float16":
        weight = (rng.normal(0, 1000, weight.shape) * 10.0 ** rng.integers(-8, 1, weight.shape)).astype(np.float16)
    scale, bias = rng.normal(size=(2, 1, 4)).astype(np.float32)
    found = kept_matmul(values, weight, scale, bias)
    for t, n in np.ndindex(3, 4):
        exact = sum(Fraction(int(v)) * Fraction(float(w)) for v, w in zip(values[0, t], weight[0, n], strict=True))
        # Python divides integers with one rounding to binary64, and those have 29 bits more than binary32.
        rounded = np.float32(exact.numerator / exact.denominator)
        assert found[0, t, n] == rounded * scale[0, n] + bias[0, n]


def test_patterns_choose_linears() -> None:
    names = linear_names(2)
    assert len(names) == 9
    assert choose(["pooler=float16", "layers.0.*=int8", "*.ffn_in=binary"], names) == {
        "layers.0.qkv": "int8",
        "layers.0.attention_output": "int8",
        "layers.0.ffn_out": "int8",
        "pooler": "float16",
    }
    assert choose([], names) == {}


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("pooler", "--keep is 'pooler', expected PATTERN=TYPE of int8, float16, binary"),
        ("=int8", "--keep is '=int8', expected PATTERN=TYPE"),
        ("pooler=int4", "--keep is 'pooler=int4', expected PATTERN=TYPE"),
        ("layers.2.*=int8", "--keep 'layers.2.*' matches no linear, expected some of layers.0.qkv,"),
    ],
)
def test_wrong_patterns_are_refused(keep: str, expected: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(expected)):
        choose([keep], linear_names(2))
