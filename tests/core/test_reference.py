# SPDX-License-Identifier: Apache-2.0
"""The oracle itself, against hand-computed numbers, exact arithmetic and plain loops."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bebert_edge import reference
from bebert_edge.bits import pack_bits, unpack_bits
from bebert_edge.codes import CODE_TYPES, CodeType, code_type, from_triple
from bebert_edge.ensemble import PackedEnsemble, tensor_specs
from bebert_edge.errors import FormatError
from support import random_ensemble

DOCS = Path(__file__).parents[2] / "docs"
CODES = list(CODE_TYPES.values())


def random_codes(rng: np.random.Generator, code: CodeType, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Values and how they are stored."""
    levels = rng.integers(0, 2 if code.width == 1 else code.high - code.low + 1, shape)
    stored = pack_bits(levels != 0) if code.width == 1 else levels.astype(np.uint8)
    return code.low + code.stride * levels, stored


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_storing_and_reading_codes_are_inverse(code: CodeType) -> None:
    z = np.arange(code.low, code.high + 1, code.stride, dtype=np.float32)[None]
    stored = reference.store(z, code)
    assert stored.dtype == np.uint8
    assert stored.shape == (1, code.stored_channels(z.shape[1]))
    np.testing.assert_array_equal(reference.values(stored, code, z.shape[1]), z)
    assert from_triple(code.triple) is code


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_rounding_clamps_and_sends_ties_as_specified(code: CodeType) -> None:
    low, high = code.low, code.high
    z = np.array([[-np.inf, -1e30, low - 0.6, high + 0.6, 1e30, np.inf]], np.float32)
    np.testing.assert_array_equal(reference.values(reference.store(z, code), code, 6), [[low] * 3 + [high] * 3])
    ties = np.arange(low + 0.5, high, code.stride, dtype=np.float32)[None]
    expected = np.full(ties.shape, low) if code.width == 1 else 2 * np.round(ties / 2)
    if code.name == "sign":
        ties = np.zeros_like(ties)
    np.testing.assert_array_equal(reference.values(reference.store(ties, code), code, ties.shape[1]), expected)


def test_unknown_codes_are_refused() -> None:
    with pytest.raises(FormatError, match="int3"):
        code_type("int3")
    with pytest.raises(FormatError, match=r"\[8, 0, 7\]"):
        from_triple([8, 0, 7])


def test_ternary_with_a_huge_inverse_step_is_the_sign_function() -> None:
    x = np.array([[[-3.0, -1e-12, 0.0, -0.0, 1e-12, 3e8]]], np.float32)
    shift, inverse = np.zeros((1, 6), np.float32), np.full((1, 6), 2.0**64, np.float32)
    codes = reference.quantize(x, shift, inverse, output_code=CODE_TYPES["ternary"].triple)
    np.testing.assert_array_equal(codes, [[[0, 0, 1, 1, 2, 2]]])


def test_an_activation_comes_before_the_quantization() -> None:
    x = np.array([[[-9.0, -1.0, -0.2, 0.4, 1.0, 30.0]]], np.float32)
    shift, inverse = np.full((1, 6), 0.25, np.float32), np.full((1, 6), 4, np.float32)
    int8 = CODE_TYPES["int8"]

    def values(**activation: int) -> list[int]:
        stored = reference.quantize(x, shift, inverse, output_code=int8.triple, **activation)
        return [int(value) for value in reference.values(stored, int8, 6)[0, 0]]

    assert values() == values(activation=0) == [-35, -3, 0, 3, 5, 121]
    assert values(activation=1) == [1, 1, 1, 3, 5, 121]
    # x * Phi(x) is -0, -0.159, -0.084, 0.262, 0.841 and 30.
    assert values(activation=2) == [1, 0, 1, 2, 4, 121]


def test_fixed_exp_is_within_its_bound() -> None:
    t = -np.concatenate([np.linspace(0, 14, 200_001), np.geomspace(1e-9, 1e9, 1001)]).astype(np.float32)
    error = np.abs(reference.fixed_exp(t) - 32768 * np.exp(t.astype(np.float64)))
    assert error.max() <= 0.51
    np.testing.assert_array_equal(reference.fixed_exp(np.zeros(1, np.float32)), [32768])


def test_gelu_is_within_its_bound_and_zero_where_erf_saturates() -> None:
    x = np.linspace(-8, 8, 100_001).astype(np.float32)
    exact = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x.astype(np.float64)])
    assert np.abs(reference.gelu(x) - exact).max() <= 2e-6
    large = np.array([10, 1e3, 1e30], np.float32)
    np.testing.assert_allclose(reference.gelu(large), large, rtol=2e-7)
    below = reference.gelu(np.array([-5.5547, -6, -1e30], np.float32))
    np.testing.assert_array_equal(below, [0, 0, 0])
    assert (reference.gelu(np.array([-5.554, -1, -1e-30], np.float32)) < 0).all()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(CODES),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(1, 70),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_matmul_equals_loops(
    code: CodeType, members: int, tokens: int, k: int, n: int, shared: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, codes = random_codes(rng, code, (1 if shared else members, tokens, k))
    sign = rng.integers(0, 2, (members, n, k)) * 2 - 1
    scale, bias = rng.standard_normal((2, members, n)).astype(np.float32)
    y = reference.packed_binary_matmul(codes, pack_bits(sign > 0), scale, bias, k=k, input_code=code.triple)
    assert y.shape == (members, tokens, n)
    assert y.dtype == np.float32
    for e, t, c in np.ndindex(y.shape):
        total = sum(int(a) * int(b) for a, b in zip(x[0 if shared else e, t], sign[e, c], strict=True))
        assert y[e, t, c] == np.float32(np.float32(total) * scale[e, c]) + bias[e, c]


def test_attention_is_softmax_attention_of_the_values_up_to_quantization() -> None:
    rng = np.random.default_rng(3)
    heads, size, lengths = 3, 8, [5, 0, 1, 9]
    offsets = np.cumsum([0, *lengths])
    code = CODE_TYPES["int8"]
    x, codes = random_codes(rng, code, (2, offsets[-1], 3 * heads * size))
    steps = {"score": 1e-4, "probability": 1 / 255, "context": 1e-2}
    full = [np.full((2, heads), v, np.float32) for v in (steps["score"], 255, steps["probability"] * 1e-2)]
    zero, one = np.zeros((2, heads * size), np.float32), np.full((2, heads * size), 100, np.float32)
    out = reference.binary_attention(
        codes, codes, codes, offsets, offsets, *full, zero, one,
        heads=heads, head_size=size, channels=(0, heads * size, 2 * heads * size), softmax=1,
        input_code=code.triple, probability_code=CODE_TYPES["uint8"].triple, output_code=code.triple,
    )  # fmt: skip
    got = reference.values(out, code, heads * size) / 100
    q, k, v = np.split(x.astype(np.float64), 3, axis=-1)
    for e in range(2):
        for b in range(4):
            for a in range(heads):
                s, h = slice(offsets[b], offsets[b + 1]), slice(a * size, a * size + size)
                weights = np.exp(q[e, s, h] @ k[e, s, h].T * 1e-4)
                weights /= weights.sum(-1, keepdims=True)
                expected = weights @ v[e, s, h] * 1e-2
                assert np.abs(got[e, s, h] - np.clip(expected, -1.28, 1.27)).max(initial=0) < 0.03


def test_boolean_attention_counts_keys_with_a_positive_score() -> None:
    sign = CODE_TYPES["sign"]
    q = np.array([[[1, 1], [1, -1]]])
    k = np.array([[[1, 1], [1, -1]]])
    v = np.array([[[1, -1], [-1, -1]]])
    stored = [pack_bits(x > 0) for x in (q, k, v)]
    ones = np.ones((1, 1), np.float32)
    out = reference.binary_attention(
        *stored, np.array([0, 2]), np.array([0, 2]), ones, ones, ones, np.zeros((1, 2), np.float32),
        np.full((1, 2), 2.0**64, np.float32), heads=1, head_size=2, channels=(0, 0, 0), softmax=0,
        input_code=sign.triple, probability_code=CODE_TYPES["bool"].triple, output_code=CODE_TYPES["ternary"].triple,
    )  # fmt: skip
    # Query 0 scores (2, 0): only key 0. Query 1 scores (0, 2): only key 1.
    np.testing.assert_array_equal(reference.values(out, CODE_TYPES["ternary"], 2), [[[1, -1], [-1, -1]]])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_no_answer_depends_on_padding_or_company(bits: int) -> None:
    ensemble = random_ensemble(bits=bits, members=2)
    rng = np.random.default_rng(bits)
    ids = rng.integers(1, ensemble.config.encoder.vocab_size, (3, 7))
    mask = np.array([[1] * 7, [1] * 4 + [0] * 3, [0] * 7])
    logits, members = reference.forward(ensemble, ids, mask)
    assert members.shape == (2, 3, len(ensemble.config.labels))
    np.testing.assert_allclose(logits, np.tensordot(ensemble.config.member_weights, members, 1), atol=1e-6)
    for row, length in enumerate([7, 4, 1]):
        alone, _ = reference.forward(ensemble, ids[row : row + 1, :length], np.ones((1, length), np.int64))
        np.testing.assert_allclose(logits[row], alone[0], atol=1e-6)


def test_a_second_term_that_is_the_first_counts_it_twice() -> None:
    """Halved scales, twice: the same sums but for a rounding, and so nearly the same logits."""
    one = random_ensemble(bits=8, members=2)
    config = replace(one.config, quantization=replace(one.config.quantization, terms=2))
    two = PackedEnsemble(config, dict(one.tensors), one.tokenizer)
    for name in tensor_specs(config):
        source = name.replace(".second", "")
        halved = name.endswith(".scale")
        two.tensors[name] = one.tensors[source] / np.float32(2) if halved else one.tensors[source]
    two.validate()
    ids, mask = np.array([[2, 9, 4, 5]]), np.ones((1, 4), np.int64)
    np.testing.assert_allclose(reference.forward(two, ids, mask)[1], reference.forward(one, ids, mask)[1], atol=1e-4)


def test_query_key_and_value_apart_are_the_fused_ones() -> None:
    fused = random_ensemble(bits=4, members=2)
    quantization = replace(fused.config.quantization, fused_qkv=False)
    apart = PackedEnsemble(replace(fused.config, quantization=quantization), dict(fused.tensors), fused.tokenizer)
    width = fused.config.encoder.attention_size
    for name in [name for name in fused.tensors if ".qkv." in name]:
        tensor = apart.tensors.pop(name)
        for i, use in enumerate(("query", "key", "value")):
            whole = name.endswith(("shift", "step"))
            apart.tensors[name.replace("qkv", use)] = tensor if whole else tensor[:, i * width : (i + 1) * width]
    apart.validate()
    ids, mask = np.array([[2, 9, 4, 5]]), np.ones((1, 4), np.int64)
    for found, expected in zip(reference.forward(apart, ids, mask), reference.forward(fused, ids, mask), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_members_do_not_influence_each_other() -> None:
    ensemble = random_ensemble(bits=4, members=3)
    ids, mask = np.array([[2, 9, 4]]), np.ones((1, 3), np.int64)
    _, before = reference.forward(ensemble, ids, mask)
    ensemble.tensors["layers.0.qkv.bias"] = ensemble.tensors["layers.0.qkv.bias"].copy()
    ensemble.tensors["layers.0.qkv.bias"][1] += 10
    _, after = reference.forward(ensemble, ids, mask)
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])
    assert not np.array_equal(before[1], after[1])


def test_the_worked_example_of_the_format_is_right() -> None:
    text = (DOCS / "format.md").read_text(encoding="utf-8")
    rows = re.findall(r"row \d:  ([+ -]+?) {3,}((?:[0-9a-f]{2} ?){8})", text)
    signs = np.array([[c == "+" for c in row.split()] for row, _ in rows])
    stored = np.array([list(bytes.fromhex(stored)) for _, stored in rows], np.uint8)
    np.testing.assert_array_equal(pack_bits(signs), stored)

    def numbers(name: str) -> list[str]:
        found = re.search(rf"^    {name}: +(.*)$", text, re.MULTILINE)
        assert found
        return found[1].split()

    x = np.array([[[float(v) for v in numbers("x")]]], np.float32)
    shift, inverse = np.zeros((1, 10), np.float32), np.full((1, 10), 2, np.float32)
    int4 = CODE_TYPES["int4"]
    levels = reference.quantize(x, shift, inverse, output_code=int4.triple)
    np.testing.assert_array_equal(levels[0, 0], [int(v, 16) for v in numbers("level")])
    np.testing.assert_array_equal(reference.values(levels, int4, 10)[0, 0], [int(v) for v in numbers("value")])
    y = reference.packed_binary_matmul(
        levels,
        stored[None],
        np.full((1, 2), 0.05, np.float32),
        np.array([[0, 1]], np.float32),
        k=10,
        input_code=int4.triple,
    )
    np.testing.assert_allclose(y[0, 0], [-0.05, 1.05], rtol=1e-6)

    sign = re.search(r"bits `([+ -]+)` .*?stored `([0-9a-f ]+)`", text)
    assert sign
    packed = reference.quantize(x, shift, inverse, output_code=CODE_TYPES["sign"].triple)[0, 0]
    assert packed.tobytes() == bytes.fromhex(sign[2])
    np.testing.assert_array_equal(unpack_bits(packed, 10), [c == "+" for c in sign[1].split()])


def test_the_constants_of_the_op_definitions_are_those_of_the_reference() -> None:
    text = (DOCS / "ops.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    table = {row[0]: row[1:] for row in rows}
    exp2 = rows[[row[0] for row in rows].index("c1") + 2]
    np.testing.assert_array_equal(np.array(exp2, np.float32), reference.EXP2_COEFFICIENTS)
    np.testing.assert_array_equal(np.array(table["p"], np.float32), reference.GELU_P)
    np.testing.assert_array_equal(np.array([1, *table["q"][1:]], np.float32), reference.GELU_Q)
