# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from bebert_edge import reference
from bebert_edge.codes import CODE_TYPES, CodeType
from native_op import SIZES, assert_same, random_floats, random_quantizer, run_op

pytestmark = pytest.mark.usefixtures("cpu_path")
CODES = pytest.mark.parametrize("code", CODE_TYPES.values(), ids=CODE_TYPES)


def check(inputs: dict[str, np.ndarray], code: CodeType, case: object) -> None:
    attributes = {"output_code": code.triple}
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
            check(inputs, code, (channels, members, x_members, tokens))


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


def test_sign_of_zero_is_zero_for_ternary_with_a_huge_inverse_step() -> None:
    x = np.array([[[-1e-18, -0.0, 0.0, 1e-18]]], np.float32)
    inputs = {"x": x, "shift": np.zeros((1, 4), np.float32), "inverse_step": np.full((1, 4), 2.0**64, np.float32)}
    (codes,) = run_op("Quantize", inputs, {"output_code": CODE_TYPES["ternary"].triple})
    np.testing.assert_array_equal(codes, [[[0, 1, 1, 2]]])


def test_a_bit_lands_at_its_index() -> None:
    x = np.eye(130, dtype=np.float32)[None] - np.float32(0.5)
    inputs = {"x": x, "shift": np.zeros((1, 130), np.float32), "inverse_step": np.ones((1, 130), np.float32)}
    (codes,) = run_op("Quantize", inputs, {"output_code": CODE_TYPES["sign"].triple})
    assert codes.shape == (1, 130, 24)
    for channel in range(130):
        expected = np.zeros(24, np.uint8)
        expected[channel // 8] = 1 << channel % 8
        np.testing.assert_array_equal(codes[0, channel], expected)
