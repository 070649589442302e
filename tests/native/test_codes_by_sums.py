# SPDX-License-Identifier: Apache-2.0
"""Codes with constant parameters, where kernels may decide by the integer sum alone."""

from __future__ import annotations

import numpy as np
import pytest

from bebert_edge import reference
from bebert_edge.codes import CODE_TYPES
from native_op import assert_same, random_codes, run_op

pytestmark = pytest.mark.usefixtures("cpu_path")
PARAMETERS = ("scale", "bias", "shift", "inverse_step")


@pytest.mark.parametrize("activation", [0, 1, 2])
@pytest.mark.parametrize("output", ["sign", "bool"])
@pytest.mark.parametrize("code", ["sign", "bool", "ternary", "int4", "uint8"])
def test_codes_equal_reference(code: str, output: str, activation: int) -> None:
    """Parameters of both signs, zeros, and channels that are the same for every sum."""
    rng = np.random.default_rng(3)
    members, tokens, k, n = 2, 40, 65, 200
    shape = (members, n)
    inputs = {
        "codes": random_codes(rng, CODE_TYPES[code], (members, tokens, k)),
        "weight": random_codes(rng, CODE_TYPES["sign"], (members, n, k)),
        "scale": rng.uniform(-3, 3, shape) * rng.integers(0, 4, shape) / (np.sqrt(k) * CODE_TYPES[code].high),
        "bias": rng.uniform(-1, 1, shape),
        "shift": rng.uniform(-0.2, 0.2, shape) + 1e3 * rng.integers(-1, 2, shape) * (rng.random(shape) < 0.1),
        "inverse_step": rng.uniform(-3, 3, shape) * rng.integers(0, 10, shape),
    }
    for name in PARAMETERS:
        inputs[name] = inputs[name].astype(np.float32)
    attributes = {
        "k": k,
        "input_code": CODE_TYPES[code].triple,
        "output_code": CODE_TYPES[output].triple,
        "activation": activation,
    }
    expected = reference.packed_binary_matmul_quantize(**inputs, **attributes)
    for constants in (("weight", *PARAMETERS), ("weight", "scale", "bias", "shift"), PARAMETERS):
        found = run_op("PackedBinaryMatMulQuantize", inputs, attributes, constants=constants)
        assert_same(found, [expected], constants)


@pytest.mark.parametrize("activation", [0, 1, 2])
@pytest.mark.parametrize("output", ["ternary", "int2", "int4", "uint4"])
@pytest.mark.parametrize("code", ["sign", "bool", "int4", "uint4"])
def test_levels_equal_reference(code: str, output: str, activation: int) -> None:
    """Parameters as trained models have them, but for one channel in a hundred."""
    rng = np.random.default_rng(5)
    members, tokens, k, n = 2, 40, 130, 200
    shape = (members, n)
    high = CODE_TYPES[output].high
    inputs = {
        "codes": random_codes(rng, CODE_TYPES[code], (members, tokens, k)),
        "weight": random_codes(rng, CODE_TYPES["sign"], (members, n, k)),
        "scale": rng.uniform(0.5, 2, shape) / (np.sqrt(k) * CODE_TYPES[code].high),
        "bias": rng.uniform(-1, 1, shape),
        "shift": rng.uniform(-0.2, 0.2, shape),
        "inverse_step": rng.uniform(0.3, 0.5, shape) * high * np.where(rng.random(shape) < 0.01, -1, 1),
    }
    for name in PARAMETERS:
        inputs[name] = inputs[name].astype(np.float32)
    attributes = {
        "k": k,
        "input_code": CODE_TYPES[code].triple,
        "output_code": CODE_TYPES[output].triple,
        "activation": activation,
    }
    expected = reference.packed_binary_matmul_quantize(**inputs, **attributes)
    found = run_op("PackedBinaryMatMulQuantize", inputs, attributes, constants=("weight", *PARAMETERS))
    assert_same(found, [expected], output)


@pytest.mark.parametrize("code", ["sign", "bool", "ternary"])
def test_signs_of_gelu_equal_reference(code: str) -> None:
    """Ternary codes of a tiny step: 0 where the sum is 0, and where GELU saturates."""
    rng = np.random.default_rng(6)
    members, tokens, k, n = 2, 40, 130, 200
    shape = (members, n)
    inputs = {
        "codes": random_codes(rng, CODE_TYPES[code], (members, tokens, k)),
        "weight": random_codes(rng, CODE_TYPES["sign"], (members, n, k)),
        "scale": np.full(shape, 0.25, np.float32),
        "bias": (0.25 * rng.integers(-20, 21, shape)).astype(np.float32),
        "shift": np.zeros(shape, np.float32),
        "inverse_step": np.full(shape, 2.0**64, np.float32),
    }
    attributes = {
        "k": k,
        "input_code": CODE_TYPES[code].triple,
        "output_code": CODE_TYPES["ternary"].triple,
        "activation": 2,
    }
    expected = reference.packed_binary_matmul_quantize(**inputs, **attributes)
    assert np.bincount(expected.reshape(-1)).min() > 100
    found = run_op("PackedBinaryMatMulQuantize", inputs, attributes, constants=("weight", *PARAMETERS))
    assert_same(found, [expected], code)


def test_a_wrong_shape_of_a_constant_names_it() -> None:
    rng = np.random.default_rng(4)
    inputs = {
        "codes": random_codes(rng, CODE_TYPES["sign"], (1, 2, 8)),
        "weight": random_codes(rng, CODE_TYPES["sign"], (1, 9, 8)),
        **{name: np.ones((1, 9), np.float32) for name in PARAMETERS},
    }
    inputs["shift"] = np.ones((1, 8), np.float32)
    sign = CODE_TYPES["sign"].triple
    attributes = {"k": 8, "input_code": sign, "output_code": sign, "activation": 0}
    with pytest.raises(Exception, match=r"input 4 \(shift\) has shape \[1, 8\], expected \[members=1, n=9\]"):
        run_op("PackedBinaryMatMulQuantize", inputs, attributes, constants=("weight", *PARAMETERS))
