# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bebert_edge import reference
from bebert_edge.bits import pack_bits
from bebert_edge.codes import CODE_TYPES, CodeType
from native_op import SIZES, assert_same, random_codes, random_floats, random_quantizer, run_op

pytestmark = pytest.mark.usefixtures("cpu_path")
INPUT_CODES = pytest.mark.parametrize("code", CODE_TYPES.values(), ids=CODE_TYPES)


def arguments(
    rng: np.random.Generator, code: CodeType, code_members: int, members: int, tokens: int, k: int, n: int
) -> dict[str, np.ndarray]:
    return {
        "codes": random_codes(rng, code, (code_members, tokens, k)),
        "weight": random_codes(rng, CODE_TYPES["sign"], (members, n, k)),
        "scale": random_floats(rng, (members, n)) / np.float32(np.sqrt(k) * (code.high - code.low)),
        "bias": random_floats(rng, (members, n)),
    }


@INPUT_CODES
def test_floats_equal_reference_at_every_size(code: CodeType) -> None:
    rng = np.random.default_rng(0)
    for i, k in enumerate(SIZES):
        n, members, tokens = SIZES[-1 - i], 1 + i % 8, (1, 5, 17)[i % 3]
        for code_members in {1, members}:
            inputs = arguments(rng, code, code_members, members, tokens, k, n)
            attributes = {"k": k, "input_code": code.triple}
            expected = [reference.packed_binary_matmul(**inputs, **attributes)]
            for constants in (("weight",), ()):
                found = run_op("PackedBinaryMatMul", inputs, attributes, constants=constants)
                assert_same(found, expected, (k, n, members, code_members, tokens, constants))


@INPUT_CODES
@pytest.mark.parametrize("activation", [0, 1, 2])
def test_codes_equal_reference_at_every_size(code: CodeType, activation: int) -> None:
    rng = np.random.default_rng(1)
    for i, n in enumerate(SIZES):
        output = list(CODE_TYPES.values())[(i + activation) % len(CODE_TYPES)]
        k, members = SIZES[(i + 4) % len(SIZES)], 1 + (i + activation) % 3
        inputs = {
            **arguments(rng, code, members, members, 9, k, n),
            **random_quantizer(rng, members, n, 1.0, output),
        }
        attributes = {"k": k, "input_code": code.triple, "output_code": output.triple, "activation": activation}
        found = run_op("PackedBinaryMatMulQuantize", inputs, attributes, constants=("weight",))
        assert_same(found, [reference.packed_binary_matmul_quantize(**inputs, **attributes)], (k, n, output))


@INPUT_CODES
def test_largest_sums(code: CodeType) -> None:
    k, n = 5000, 3
    low, high = np.zeros(k, np.int64), np.full(k, 1 if code.width == 1 else code.high - code.low)
    codes = np.stack([low, high]).astype(np.uint8)[None]
    weight = np.stack([np.zeros(k), np.ones(k), np.arange(k) % 2])[None]
    sign = CODE_TYPES["sign"]
    inputs = {
        "codes": pack_bits(codes != 0) if code.width == 1 else codes,
        "weight": pack_bits(weight != 0),
        "scale": np.ones((1, n), np.float32),
        "bias": np.zeros((1, n), np.float32),
    }
    assert inputs["weight"].shape[-1] == sign.stored_channels(k)
    (y,) = run_op("PackedBinaryMatMul", inputs, {"k": k, "input_code": code.triple}, constants=("weight",))
    np.testing.assert_array_equal(y, [[[-k * code.low, k * code.low, 0], [-k * code.high, k * code.high, 0]]])


def test_no_tokens_and_no_members() -> None:
    rng = np.random.default_rng(2)
    code = CODE_TYPES["int4"]
    attributes = {"k": 9, "input_code": code.triple}
    for members, tokens in ((2, 0), (0, 3), (0, 0)):
        inputs = arguments(rng, code, members, members, tokens, 9, 8)
        for constants in (("weight",), ()):
            (y,) = run_op("PackedBinaryMatMul", inputs, attributes, constants=constants)
            assert y.shape == (members, tokens, 8)


def test_gelu_is_equal_to_the_last_bit() -> None:
    """An output step of 2^-24 around the expected value shows a difference of one unit in the last place."""
    y = np.concatenate([np.linspace(-6, 9, 20001), [-5.5547, 5.5547, 0.0, -0.0, 1e-30, -1e-30, 100, -100]])
    y = y.astype(np.float32)
    expected = reference.gelu(y)
    code = CODE_TYPES["int8"]
    inputs = {
        "codes": np.zeros((1, 1, 1), np.uint8),
        "weight": np.zeros((1, y.size, 8), np.uint8),
        "scale": np.zeros((1, y.size), np.float32),
        "bias": y[None],
        "shift": -expected[None],
        "inverse_step": np.full((1, y.size), 2.0**126, np.float32),
    }
    attributes = {"k": 1, "input_code": code.triple, "output_code": code.triple, "activation": 2}
    (codes,) = run_op("PackedBinaryMatMulQuantize", inputs, attributes, constants=("weight",))
    np.testing.assert_array_equal(codes, np.full((1, 1, y.size), 128, np.uint8))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    code=st.sampled_from(list(CODE_TYPES.values())),
    output=st.sampled_from(list(CODE_TYPES.values())),
    members=st.integers(1, 8),
    tokens=st.integers(0, 40),
    k=st.integers(1, 300),
    n=st.integers(1, 300),
    activation=st.integers(0, 2),
)
def test_any_shape(
    seed: int, code: CodeType, output: CodeType, members: int, tokens: int, k: int, n: int, activation: int
) -> None:
    rng = np.random.default_rng(seed)
    inputs = {
        **arguments(rng, code, (1, members)[seed % 2], members, tokens, k, n),
        **random_quantizer(rng, members, n, 1.0, output),
    }
    attributes = {"k": k, "input_code": code.triple, "output_code": output.triple, "activation": activation}
    found = run_op("PackedBinaryMatMulQuantize", inputs, attributes, constants=("weight",))
    assert_same(found, [reference.packed_binary_matmul_quantize(**inputs, **attributes)], "any shape")
