# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from bebert_edge import reference
from bebert_edge.codes import CODE_TYPES, CodeType
from native_op import SIZES, assert_same, random_floats, random_quantizer, run_op

pytestmark = pytest.mark.usefixtures("cpu_path")
CODES = pytest.mark.parametrize("code", CODE_TYPES.values(), ids=CODE_TYPES)


def check(inputs: dict[str, np.ndarray], code: CodeType, case: object, activation: int = 0) -> None:
    attributes = {"output_code": code.triple, "activation": activation}
    assert_same(run_op("Quantize", inputs, attributes), [reference.quantize(**inputs, **attributes)], case)


@CODES
def test_equals_reference_at_every_size(code: CodeType) -> None:
    rng = np.random.default_rng(0)
    for i, channels in enumerate(SIZES):
        for members, x_members, tokens in ((1 + i % 8, 1, 5), (1 + i % 8, 1 + i % 8, 43), (2, 2, 0), (0, 1, 3)):
            inputs = {
                "x": random_floats(rng, (x_members, tokens, channels)),
                **random_quantizer(rng, members, channels, 1.0, code),
            }
            check(inputs, code, (channels, members, x_members, tokens), activation=i % 3)


@CODES
@pytest.mark.parametrize("activation", [0, 1, 2], ids=["none", "relu", "gelu"])
def test_gated_equals_reference_at_every_size(code: CodeType, activation: int) -> None:
    rng = np.random.default_rng(2)
    attributes = {"output_code": code.triple, "activation": activation}
    for i, channels in enumerate(SIZES):
        for members, x_members, tokens in ((1 + i % 8, 1, 5), (1 + i % 8, 1 + i % 8, 43), (2, 2, 0)):
            x = 2 * random_floats(rng, (x_members, tokens, 2 * channels))
            inputs = {"x": x, **random_quantizer(rng, members, channels, 1.0, code)}
            found = run_op("GatedQuantize", inputs, attributes)
            assert_same(found, [reference.gated_quantize(**inputs, **attributes)], (channels, members, tokens))


@CODES
def test_ties_and_ends(code: CodeType) -> None:
    z = np.arange(4 * code.low - 8, 4 * code.high + 9, dtype=np.float32) / 4
    z = np.concatenate([z, np.array([-np.inf, np.inf, -0.0, 3e38, -3e38, 1e-40], np.float32)])
    around = np.concatenate([np.nextafter(z, np.float32(-np.inf)), z, np.nextafter(z, np.float32(np.inf))])
    inputs = {
        "x": around[None, None],
        "shift": np.zeros((1, around.size), np.float32),
        "inverse_step": np.ones((1, around.size), np.float32),
    }
    with np.errstate(over="ignore"):
        check(inputs, code, "ties")
        check(inputs, code, "ties of ReLU", activation=1)


@CODES
@pytest.mark.parametrize("activation", [1, 2], ids=["relu", "gelu"])
def test_activation_at_every_size(code: CodeType, activation: int) -> None:
    rng = np.random.default_rng(1)
    for channels in SIZES:
        inputs = {"x": 2 * random_floats(rng, (2, 5, channels)), **random_quantizer(rng, 2, channels, 1.0, code)}
        check(inputs, code, channels, activation)


@CODES
def test_gelu_is_the_same_number_everywhere(code: CodeType) -> None:
    """Steps from coarse to so fine that only numbers near 0, and their sign, count."""
    cutoff = np.float32(5.5547)
    ends = [-cutoff, np.nextafter(-cutoff, np.float32(0)), cutoff, np.nextafter(cutoff, np.float32(9)), 0.0, -0.0]
    x = np.concatenate([np.linspace(-9, 9, 2001), ends, [-3e38, 3e38, 1e-40]]).astype(np.float32)[None, None]
    for inverse_step in (1.0, 20.0, 2.0**24, 2.0**64):
        shape = 1, x.size
        inputs = {
            "x": x,
            "shift": np.zeros(shape, np.float32),
            "inverse_step": np.full(shape, inverse_step, np.float32),
        }
        with np.errstate(over="ignore"):
            check(inputs, code, inverse_step, activation=2)


def test_sign_of_zero_is_zero_for_ternary_with_a_huge_inverse_step() -> None:
    x = np.array([[[-1e-18, -0.0, 0.0, 1e-18]]], np.float32)
    inputs = {"x": x, "shift": np.zeros((1, 4), np.float32), "inverse_step": np.full((1, 4), 2.0**64, np.float32)}
    (codes,) = run_op("Quantize", inputs, {"output_code": CODE_TYPES["ternary"].triple, "activation": 0})
    np.testing.assert_array_equal(codes, [[[0, 1, 1, 2]]])


def test_a_bit_lands_at_its_index() -> None:
    x = np.eye(130, dtype=np.float32)[None] - np.float32(0.5)
    inputs = {"x": x, "shift": np.zeros((1, 130), np.float32), "inverse_step": np.ones((1, 130), np.float32)}
    (codes,) = run_op("Quantize", inputs, {"output_code": CODE_TYPES["sign"].triple, "activation": 0})
    assert codes.shape == (1, 130, 24)
    for channel in range(130):
        expected = np.zeros(24, np.uint8)
        expected[channel // 8] = 1 << channel % 8
        np.testing.assert_array_equal(codes[0, channel], expected)
