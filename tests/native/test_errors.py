# SPDX-License-Identifier: Apache-2.0
"""Every message names the op, the input or attribute, what was found and what was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from native_op import Array, run_op

SIGN, BOOL, INT4 = (1, -1, 1), (1, 0, 1), (8, -8, 7)


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def codes(*shape: int) -> Array:
    return np.zeros(shape, np.uint8)


# Valid arguments: 2 members, 5 tokens, 9 channels or heads of 2 x 4.
VALID: dict[str, tuple[dict[str, Array], dict[str, Any]]] = {
    "PackedBinaryEmbedding": (
        {"ids": np.zeros(5, np.int64), "weight": codes(2, 30, 8), "scale": zeros(2, 30)},
        {"k": 9},
    ),
    "Quantize": (
        {"x": zeros(2, 5, 9), "shift": zeros(2, 9), "inverse_step": zeros(2, 9)},
        {"output_code": INT4, "activation": 0},
    ),
    "PackedBinaryMatMul": (
        {"codes": codes(2, 5, 9), "weight": codes(2, 3, 8), "scale": zeros(2, 3), "bias": zeros(2, 3)},
        {"k": 9, "input_code": INT4},
    ),
    "PackedBinaryMatMulQuantize": (
        {
            "codes": codes(2, 5, 8),
            "weight": codes(2, 3, 8),
            "scale": zeros(2, 3),
            "bias": zeros(2, 3),
            "shift": zeros(2, 3),
            "inverse_step": zeros(2, 3),
        },
        {"k": 9, "input_code": SIGN, "output_code": INT4, "activation": 0},
    ),
    "BinaryAttention": (
        {
            "query": codes(2, 5, 24),
            "key": codes(2, 5, 24),
            "value": codes(2, 5, 24),
            "query_offsets": np.array([0, 2, 5]),
            "key_offsets": np.array([0, 2, 5]),
            "score_scale": zeros(2, 2) + 1,
            "probability_inverse_step": zeros(2, 2),
            "context_scale": zeros(2, 2),
            "shift": zeros(2, 8),
            "inverse_step": zeros(2, 8),
        },
        {
            "heads": 2,
            "head_size": 4,
            "channels": (0, 8, 16),
            "softmax": 1,
            "input_code": INT4,
            "probability_code": INT4,
            "output_code": INT4,
        },
    ),
    "AddLayerNormQuantize": (
        {
            "x": zeros(2, 5, 9),
            "residual": zeros(2, 5, 9),
            "gamma": zeros(2, 9),
            "beta": zeros(2, 9),
            "shift": zeros(2, 9),
            "inverse_step": zeros(2, 9),
        },
        {"epsilon": 1e-12, "output_code": INT4},
    ),
}

VALID["GatedQuantize"] = (
    {"x": zeros(2, 5, 18), "shift": zeros(2, 9), "inverse_step": zeros(2, 9)},
    {"output_code": INT4, "activation": 0},
)
_inputs, _attributes = VALID["BinaryAttention"]
VALID["BiasedBinaryAttention"] = (
    {**_inputs, "distance_bias": zeros(2, 2, 7)},
    {name: value for name, value in _attributes.items() if name != "softmax"},
)


def message(op: str, changes: Mapping[str, Any], constants: tuple[str, ...] = ()) -> str:
    """What onnxruntime says after `changes` of the valid inputs and attributes."""
    inputs, attributes = VALID[op]
    inputs = {name: changes.get(name, value) for name, value in inputs.items()}
    attributes = {name: changes.get(name, value) for name, value in attributes.items()}
    attributes = {name: value for name, value in attributes.items() if value is not None}
    with pytest.raises(Exception, match=rf"bebert::{op}: |Type Error: ") as error:
        run_op(op, inputs, attributes, constants=constants)
    return re.sub(r".*(bebert::)", r"\1", str(error.value), flags=re.DOTALL)


@pytest.mark.parametrize("op", VALID)
def test_valid_arguments_are_accepted(op: str) -> None:
    run_op(op, *VALID[op])


@pytest.mark.parametrize(
    ("op", "name", "value", "expected"),
    [
        ("Quantize", "x", zeros(5, 9), "has shape [5, 9], expected [1 or members=2, tokens, channels=9]"),
        (
            "GatedQuantize",
            "x",
            zeros(2, 5, 9),
            "has shape [2, 5, 9], expected [1 or members=2, tokens, 2 * channels=18]",
        ),
        ("Quantize", "x", zeros(3, 5, 9), "has shape [3, 5, 9], expected [1 or members=2, tokens, channels=9]"),
        ("Quantize", "shift", zeros(2, 0), "has shape [2, 0], expected [members, channels>=1]"),
        ("Quantize", "shift", zeros(), "has shape [], expected [members, channels>=1]"),
        ("Quantize", "inverse_step", zeros(1, 9), "has shape [1, 9], expected [members=2, channels=9]"),
        (
            "PackedBinaryEmbedding",
            "weight",
            codes(2, 30, 16),
            "has shape [2, 30, 16], expected [members, rows>=1, bytes",
        ),
        ("PackedBinaryEmbedding", "scale", zeros(2, 29), "has shape [2, 29], expected [members=2, rows=30]"),
        ("PackedBinaryEmbedding", "ids", np.array([0, 29, 30]), "has 30 at position 2, expected 0 .. 29"),
        ("PackedBinaryEmbedding", "ids", np.array([0, -1]), "has -1 at position 1, expected 0 .. 29"),
        ("PackedBinaryMatMul", "codes", codes(2, 5, 8), "has shape [2, 5, 8], expected [1 or members=2, tokens, bytes"),
        ("PackedBinaryMatMul", "weight", codes(2, 3, 9), "has shape [2, 3, 9], expected [members, n>=1, bytes"),
        ("PackedBinaryMatMul", "scale", zeros(2, 4), "has shape [2, 4], expected [members=2, n=3]"),
        ("PackedBinaryMatMulQuantize", "codes", codes(3, 5, 8), "has shape [3, 5, 8], expected [1 or members=2, tok"),
        ("PackedBinaryMatMulQuantize", "inverse_step", zeros(1, 3), "has shape [1, 3], expected [members=2, n=3]"),
        ("AddLayerNormQuantize", "residual", zeros(2, 4, 9), "has shape [2, 4, 9], expected [1 or members=2, tokens=5"),
        ("AddLayerNormQuantize", "beta", zeros(2, 8), "has shape [2, 8], expected [members=2, channels=9]"),
        ("BinaryAttention", "query", codes(1, 5, 24), "has shape [1, 5, 24], expected [members=2, query tokens, bytes"),
        ("BinaryAttention", "value", codes(2, 5, 23), "has rows of 23 bytes, expected at least 24 for 24 channels"),
        ("BinaryAttention", "value", codes(2, 4, 24), "has shape [2, 4, 24], expected [members=2, key tokens=5, bytes"),
        ("BinaryAttention", "score_scale", zeros(2, 3), "has shape [2, 3], expected [members, heads=2]"),
        ("BinaryAttention", "score_scale", zeros(2, 2), "has a number that is not positive at position [0, 0]"),
        ("BiasedBinaryAttention", "distance_bias", zeros(2, 3, 7), "has shape [2, 3, 7], expected [members=2, heads=2"),
        ("BiasedBinaryAttention", "distance_bias", zeros(2, 2, 0), "has shape [2, 2, 0], expected [members=2, heads=2"),
        ("BiasedBinaryAttention", "distance_bias", zeros(2, 2, 6), "has 6 numbers for each head, expected an odd"),
        ("BinaryAttention", "query_offsets", np.zeros(0, np.int64), "has shape [0], expected [sequences + 1>=1]"),
        ("BinaryAttention", "query_offsets", np.array([1, 2, 5]), "starts at 1, expected 0"),
        ("BinaryAttention", "key_offsets", np.array([0, 5]), "has shape [2], expected [sequences + 1=3]"),
        ("BinaryAttention", "key_offsets", np.array([0, 6, 5]), "falls from 6 to 5 at position 2, expected"),
        ("BinaryAttention", "key_offsets", np.array([0, 2, 6]), "ends at 6, expected the number of tokens, 5"),
    ],
)
def test_wrong_inputs(op: str, name: str, value: Array, expected: str) -> None:
    index = list(VALID[op][0]).index(name)
    assert message(op, {name: value}).startswith(f"bebert::{op}: input {index} ({name}) {expected}")


def test_rows_of_packed_codes_are_whole_words() -> None:
    found = message("BinaryAttention", {"input_code": SIGN, "key": codes(2, 5, 4)})
    expected = "input 1 (key) has rows of 4 bytes, expected a multiple of 8 and at least 8 for 16 channels"
    assert found.startswith(f"bebert::BinaryAttention: {expected}")


@pytest.mark.parametrize(
    ("op", "name", "value", "expected"),
    [
        (
            "Quantize",
            "output_code",
            (8, -8, 8),
            "is [8, -8, 8], expected [width, low, high] of a code type: sign [1, -1",
        ),
        ("Quantize", "output_code", (8, -8), "has 2 integers, expected 3"),
        ("Quantize", "output_code", (8, -8, 7, 0), "is missing or is not a list of 3 integers"),
        ("Quantize", "output_code", None, "is missing or is not a list of 3 integers"),
        ("Quantize", "output_code", 8, "has 0 integers, expected 3"),
        ("Quantize", "activation", 3, "is 3, expected 0 .. 2"),
        ("Quantize", "activation", None, "is missing or is not an integer"),
        ("PackedBinaryEmbedding", "k", 0, "is 0, expected 1 .. 2147483647"),
        ("PackedBinaryMatMul", "k", 2**40, "is 1099511627776, expected 1 .. 2147483647"),
        ("PackedBinaryMatMul", "k", None, "is missing or is not an integer"),
        ("PackedBinaryMatMul", "input_code", (1, 0, 2), "is [1, 0, 2], expected [width, low, high] of a code type"),
        ("PackedBinaryMatMulQuantize", "activation", 3, "is 3, expected 0 .. 2"),
        ("AddLayerNormQuantize", "epsilon", -1.0, "is not a number of at least 0"),
        ("AddLayerNormQuantize", "epsilon", None, "is missing or is not a float"),
        ("BinaryAttention", "heads", 0, "is 0, expected 1 .. 2147483647"),
        ("BinaryAttention", "channels", (0, -8, 8), "has -8 at position 1, expected 0 .. 2147483647"),
        ("BinaryAttention", "softmax", 2, "is 2, expected 0 .. 1"),
        ("BiasedBinaryAttention", "heads", 0, "is 0, expected 1 .. 2147483647"),
    ],
)
def test_wrong_attributes(op: str, name: str, value: object, expected: str) -> None:
    assert message(op, {name: value}).startswith(f"bebert::{op}: attribute {name} {expected}")


def test_boolean_attention_has_boolean_probabilities() -> None:
    found = message("BinaryAttention", {"softmax": 0})
    assert found.startswith(
        "bebert::BinaryAttention: attribute probability_code is not bool [1, 0, 1], expected so where"
    )
    run_op(
        "BinaryAttention",
        VALID["BinaryAttention"][0],
        {**VALID["BinaryAttention"][1], "probability_code": BOOL, "softmax": 0},
    )


def test_constant_weights_are_checked_when_the_session_is_created() -> None:
    found = message("PackedBinaryMatMul", {"weight": codes(2, 3, 16)}, constants=("weight",))
    assert found.startswith(
        "bebert::PackedBinaryMatMul: input 1 (weight) has shape [2, 3, 16], expected [members, n>=1"
    )


def test_other_inputs_must_agree_with_constant_weights() -> None:
    found = message("PackedBinaryMatMul", {"bias": zeros(2, 4)}, constants=("weight",))
    assert found.startswith("bebert::PackedBinaryMatMul: input 3 (bias) has shape [2, 4], expected [members=2, n=3]")


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, (inputs, _) in VALID.items() for name in inputs])
def test_wrong_dtype_is_refused_by_onnxruntime(op: str, name: str) -> None:
    inputs, attributes = VALID[op]
    with pytest.raises(Exception, match=r"Type Error.*tensor\(double\)"):
        run_op(op, {**inputs, name: inputs[name].astype(np.float64)}, attributes)
