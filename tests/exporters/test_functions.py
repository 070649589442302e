# SPDX-License-Identifier: Apache-2.0
"""Every op's ONNX function against its definition, bit for bit: in onnxruntime and in onnx's own evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bebert_edge import reference
from bebert_edge.bits import pack_bits
from bebert_edge.codes import CODE_TYPES, CodeType
from one_op import run_body

CODES = list(CODE_TYPES.values())
AWKWARD = (1, 7, 8, 9, 63, 64, 65)
SMALL = settings(max_examples=12)

codes = st.sampled_from(CODES)
seeds = st.integers(0, 2**32 - 1)
sizes = st.one_of(st.sampled_from(AWKWARD), st.integers(1, 20))
evaluators = st.booleans()


class Draw:
    """Random arguments of ops."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def floats(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape).astype(np.float32)

    def positive(self, *shape: int) -> np.ndarray:
        return np.exp(self.floats(*shape))

    def signs(self, *shape: int) -> np.ndarray:
        return pack_bits(self.rng.random(shape) < 0.5)

    def codes(self, code: CodeType, *shape: int) -> np.ndarray:
        if code.width == 1:
            return self.signs(*shape)
        return self.rng.integers(0, code.high - code.low + 1, shape).astype(np.uint8)

    def offsets(self, lengths: list[int]) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def assert_equal(found: list[np.ndarray], *expected: np.ndarray) -> None:
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == e.dtype
        np.testing.assert_array_equal(f, e)


def check_matmuls(
    seed: int,
    members: int,
    shared: bool,
    tokens: int,
    k: int,
    n: int,
    activation: int,
    types: list[CodeType],
    evaluator: bool,
) -> None:
    draw, (input_code, output_code) = Draw(seed), types
    # onnxruntime does not broadcast one shared row of codes to no members at all.
    x = draw.codes(input_code, 1 if shared and members else members, tokens, k)
    linear = draw.signs(members, n, k), draw.positive(members, n), draw.floats(members, n)
    plain: dict[str, Any] = {"k": k, "input_code": input_code.triple}
    found = run_body("PackedBinaryMatMul", x, *linear, constant=(1, 2, 3), evaluator=evaluator, **plain)
    assert_equal(found, reference.packed_binary_matmul(x, *linear, **plain))

    quantized = {**plain, "output_code": output_code.triple, "activation": activation}
    arguments = *linear, draw.floats(members, n), draw.positive(members, n)
    found = run_body(
        "PackedBinaryMatMulQuantize", x, *arguments, constant=(1, 2, 3, 4, 5), evaluator=evaluator, **quantized
    )
    assert_equal(found, reference.packed_binary_matmul_quantize(x, *arguments, **quantized))


@SMALL
@given(
    seeds,
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 5),
    sizes,
    sizes,
    st.integers(0, 2),
    st.tuples(codes, codes),
    evaluators,
)
def test_matmuls(
    seed: int,
    members: int,
    shared: bool,
    tokens: int,
    k: int,
    n: int,
    activation: int,
    types: tuple[CodeType, CodeType],
    evaluator: bool,
) -> None:
    check_matmuls(seed, members, shared, tokens, k, n, activation, list(types), evaluator)


@pytest.mark.parametrize("k", [*AWKWARD, 767, 768])
@pytest.mark.parametrize("name", ["sign", "int4", "uint8"])
def test_matmuls_of_awkward_sizes(name: str, k: int) -> None:
    check_matmuls(k, 2, True, 3, k, 9, 2, [CODE_TYPES[name], CODE_TYPES["int8"]], evaluator=False)


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
@pytest.mark.parametrize("evaluator", [False, True])
def test_largest_sums_are_exact(code: CodeType, evaluator: bool) -> None:
    k = 3072
    x = np.full((1, 1, code.stored_channels(k)), 255 if code.width == 1 else code.high - code.low, np.uint8)
    weight = pack_bits(np.array([[[True] * k, [False] * k]]))
    scale, bias = np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32)
    (y,) = run_body(
        "PackedBinaryMatMul",
        x,
        weight,
        scale,
        bias,
        constant=(1, 2, 3),
        evaluator=evaluator,
        k=k,
        input_code=code.triple,
    )
    np.testing.assert_array_equal(y, [[[code.high * k, -code.high * k]]])


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
@pytest.mark.parametrize("evaluator", [False, True])
def test_rounding_at_and_beside_ties(code: CodeType, evaluator: bool) -> None:
    ties = np.arange(code.low - 2.5, code.high + 3, 0.5, dtype=np.float32)
    z = np.concatenate(
        [ties, np.nextafter(ties, np.float32(-np.inf)), np.nextafter(ties, np.float32(np.inf)), [-np.inf, np.inf, -0.0]]
    )
    x = z.astype(np.float32)[None, None]
    zeros, ones = np.zeros(x.shape[1:], np.float32), np.ones(x.shape[1:], np.float32)
    found = run_body("Quantize", x, zeros, ones, evaluator=evaluator, output_code=code.triple, activation=0)
    assert_equal(found, reference.quantize(x, zeros, ones, output_code=code.triple))


@pytest.mark.parametrize("evaluator", [False, True])
def test_ternary_with_a_huge_inverse_step_is_the_sign(evaluator: bool) -> None:
    x = np.array([[[-3.0, -1e-12, 0.0, -0.0, 1e-12, 3e8]]], np.float32)
    shift, inverse = np.zeros((1, 6), np.float32), np.full((1, 6), 2.0**64, np.float32)
    attributes = {"output_code": CODE_TYPES["ternary"].triple, "activation": 0}
    (levels,) = run_body("Quantize", x, shift, inverse, evaluator=evaluator, **attributes)
    np.testing.assert_array_equal(levels.astype(int) - 1, [[[-1, -1, 0, 0, 1, 1]]])


@SMALL
@given(seeds, st.integers(0, 3), st.booleans(), st.integers(0, 5), sizes, codes, st.integers(0, 2), evaluators)
def test_quantize(
    seed: int,
    members: int,
    shared: bool,
    tokens: int,
    channels: int,
    code: CodeType,
    activation: int,
    evaluator: bool,
) -> None:
    draw = Draw(seed)
    x = 3 * draw.floats(1 if shared else members, tokens, channels)
    arguments = x, draw.floats(members, channels), draw.positive(members, channels)
    attributes: dict[str, Any] = {"output_code": code.triple, "activation": activation}
    found = run_body("Quantize", *arguments, evaluator=evaluator, **attributes)
    assert_equal(found, reference.quantize(*arguments, **attributes))


@SMALL
@given(seeds, st.integers(0, 3), st.booleans(), st.integers(0, 5), sizes, codes, st.integers(0, 2), evaluators)
def test_gated_quantize(
    seed: int,
    members: int,
    shared: bool,
    tokens: int,
    channels: int,
    code: CodeType,
    activation: int,
    evaluator: bool,
) -> None:
    draw = Draw(seed)
    x = 3 * draw.floats(1 if shared else members, tokens, 2 * channels)
    arguments = x, draw.floats(members, channels), draw.positive(members, channels)
    attributes: dict[str, Any] = {"output_code": code.triple, "activation": activation}
    found = run_body("GatedQuantize", *arguments, evaluator=evaluator, **attributes)
    assert_equal(found, reference.gated_quantize(*arguments, **attributes))


@pytest.mark.parametrize("evaluator", [False, True])
def test_gelu_is_the_same_number_everywhere(evaluator: bool) -> None:
    """A product of one sign code, 0 * scale + bias, gives the activation any input through its bias."""
    x = np.concatenate([np.linspace(-9, 9, 20001), [-5.5547, -5.5546, 5.5547, 0.0, -0.0]]).astype(np.float32)
    n = x.size
    zero = np.array([[[0]]], np.uint8)
    weight = pack_bits(np.ones((1, n, 1), bool))
    shift = np.zeros((1, n), np.float32)
    # Two quantizers read the fine and the coarse part of the activation's value.
    for inverse_step in (20.0, 2.0**24):
        arguments = zero, weight, np.ones((1, n), np.float32), x[None], shift, np.full((1, n), inverse_step, np.float32)
        attributes = {
            "k": 1,
            "input_code": CODE_TYPES["uint8"].triple,
            "output_code": CODE_TYPES["int8"].triple,
            "activation": 2,
        }
        found = run_body(
            "PackedBinaryMatMulQuantize", *arguments, constant=(1, 2, 3), evaluator=evaluator, **attributes
        )
        assert_equal(found, reference.packed_binary_matmul_quantize(*arguments, **attributes))
        rest = {name: attributes[name] for name in ("output_code", "activation")}
        assert_equal(run_body("Quantize", x[None, None], *arguments[4:], evaluator=evaluator, **rest), *found)


@SMALL
@given(
    seeds,
    st.sampled_from([(1, 1, 1), (2, 2, 2), (3, 1, 3), (3, 3, 1), (3, 1, 1), (0, 1, 0)]),
    st.integers(0, 5),
    sizes,
    codes,
    evaluators,
)
def test_add_layer_norm_quantize(
    seed: int, leading: tuple[int, int, int], tokens: int, channels: int, code: CodeType, evaluator: bool
) -> None:
    draw, (members, m, n) = Draw(seed), leading
    parameters = draw.floats(members, channels), draw.floats(members, channels), draw.floats(members, channels)
    arguments = (
        draw.floats(m, tokens, channels),
        draw.floats(n, tokens, channels),
        *parameters,
        draw.positive(members, channels),
    )
    attributes: dict[str, Any] = {"epsilon": 1e-12, "output_code": code.triple}
    found = run_body("AddLayerNormQuantize", *arguments, evaluator=evaluator, **attributes)
    assert_equal(found, *reference.add_layer_norm_quantize(*arguments, **attributes))


def test_layer_norm_of_a_constant_row_is_its_bias() -> None:
    x, zeros = np.full((1, 2, 65), 0.1, np.float32), np.zeros((1, 65), np.float32)
    arguments = x, x, np.ones((1, 65), np.float32), zeros, zeros, np.ones((1, 65), np.float32)
    y, _ = run_body("AddLayerNormQuantize", *arguments, epsilon=1e-12, output_code=CODE_TYPES["int4"].triple)
    assert np.isfinite(y).all()
    assert np.abs(y).max() < 0.05


@SMALL
@given(seeds, st.integers(1, 3), st.integers(0, 6), st.integers(1, 9), sizes, evaluators)
def test_embedding(seed: int, members: int, tokens: int, vocabulary: int, k: int, evaluator: bool) -> None:
    draw = Draw(seed)
    ids = draw.rng.integers(0, vocabulary, tokens)
    arguments = ids, draw.signs(members, vocabulary, k), draw.positive(members, vocabulary)
    found = run_body("PackedBinaryEmbedding", *arguments, constant=(1, 2), evaluator=evaluator, k=k)
    assert_equal(found, reference.packed_binary_embedding(*arguments, k=k))


@pytest.mark.parametrize("bad", [-1, -5, 5, 2**40])
def test_an_id_outside_the_vocabulary_is_an_error(bad: int) -> None:
    draw = Draw(0)
    arguments = np.array([1, bad]), draw.signs(1, 5, 8), draw.positive(1, 5)
    with pytest.raises(Exception, match=r"(?i)out of data bounds|out of range"):
        run_body("PackedBinaryEmbedding", *arguments, constant=(1, 2), k=8)


def attention_attributes(
    heads: int, size: int, types: tuple[CodeType, CodeType, CodeType], channels: list[int]
) -> dict[str, Any]:
    code, probability, output = types
    return {
        "heads": heads,
        "head_size": size,
        "channels": channels,
        "softmax": int(probability.name != "bool"),
        "input_code": code.triple,
        "probability_code": probability.triple,
        "output_code": output.triple,
    }


def attention_parameters(draw: Draw, members: int, heads: int, size: int) -> tuple[np.ndarray, ...]:
    width = heads * size
    return (
        draw.positive(members, heads) * np.float32(0.05),
        draw.positive(members, heads) * 200,
        draw.positive(members, heads) * np.float32(0.02),
        draw.floats(members, width),
        draw.positive(members, width),
    )


probabilities = st.sampled_from([code for code in CODES if code.low == 0])
lengths = st.lists(st.integers(0, 9), max_size=4)


@settings(max_examples=40)
@given(
    seeds,
    st.integers(0, 2),
    lengths,
    st.integers(1, 3),
    st.sampled_from([1, 7, 8, 9, 64]),
    st.tuples(codes, probabilities, codes),
    st.booleans(),
    evaluators,
)
def test_self_attention(
    seed: int,
    members: int,
    lengths: list[int],
    heads: int,
    size: int,
    types: tuple[CodeType, CodeType, CodeType],
    softmax: bool,
    evaluator: bool,
) -> None:
    draw, width = Draw(seed), heads * size
    offsets = draw.offsets(lengths)
    qkv = draw.codes(types[0], members, int(offsets[-1]), 3 * width)
    arguments = qkv, qkv, qkv, offsets, offsets, *attention_parameters(draw, members, heads, size)
    attributes = attention_attributes(heads, size, types, [0, width, 2 * width])
    if types[1].name == "bool":
        attributes["softmax"] = int(softmax)
    found = run_body("BinaryAttention", *arguments, constant=(5, 6, 7, 8, 9), evaluator=evaluator, **attributes)
    assert_equal(found, reference.binary_attention(*arguments, **attributes))


@SMALL
@given(
    seeds,
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=4),
    st.tuples(codes, probabilities, codes),
    evaluators,
)
def test_queries_and_keys_of_different_tensors_and_lengths(
    seed: int, lengths: list[tuple[int, int]], types: tuple[CodeType, CodeType, CodeType], evaluator: bool
) -> None:
    draw, heads, size = Draw(seed), 2, 5
    query_offsets, key_offsets = (draw.offsets([pair[i] for pair in lengths]) for i in (0, 1))
    query = draw.codes(types[0], 2, int(query_offsets[-1]), 13)
    key, value = (draw.codes(types[0], 2, int(key_offsets[-1]), n) for n in (10, 70))
    arguments = query, key, value, query_offsets, key_offsets, *attention_parameters(draw, 2, heads, size)
    attributes = attention_attributes(heads, size, types, [3, 0, 59])
    found = run_body("BinaryAttention", *arguments, evaluator=evaluator, **attributes)
    assert_equal(found, reference.binary_attention(*arguments, **attributes))


@SMALL
@given(
    seeds,
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=4),
    st.tuples(codes, probabilities, codes),
    st.integers(0, 7),
    evaluators,
)
def test_attention_with_a_bias_by_distance(
    seed: int,
    lengths: list[tuple[int, int]],
    types: tuple[CodeType, CodeType, CodeType],
    most_distance: int,
    evaluator: bool,
) -> None:
    draw, heads, size = Draw(seed), 2, 5
    query_offsets, key_offsets = (draw.offsets([pair[i] for pair in lengths]) for i in (0, 1))
    query = draw.codes(types[0], 2, int(query_offsets[-1]), 10)
    key, value = (draw.codes(types[0], 2, int(key_offsets[-1]), 10) for _ in range(2))
    bias = draw.floats(2, heads, 2 * most_distance + 1)
    if most_distance:
        bias[:, 0, :1] = -1e30
    arguments = query, key, value, query_offsets, key_offsets, *attention_parameters(draw, 2, heads, size), bias
    attributes = attention_attributes(heads, size, types, [0, 0, 0])
    del attributes["softmax"]
    found = run_body("BiasedBinaryAttention", *arguments, constant=(10,), evaluator=evaluator, **attributes)
    assert_equal(found, reference.binary_attention(*arguments, **attributes))


def test_attention_over_more_keys_than_fit_a_float_sum() -> None:
    """600 equal scores sum to 600 * 32768 > 2^24."""
    draw, heads, size, keys = Draw(0), 1, 8, 600
    code = CODE_TYPES["int8"]
    query, key = np.full((1, 1, size), 128 + 1, np.uint8), np.full((1, keys, size), 128 + 1, np.uint8)
    key[:, ::7] = 127
    value = draw.codes(code, 1, keys, size)
    parameters = attention_parameters(draw, 1, heads, size)
    arguments = (
        query,
        key,
        value,
        np.array([0, 1]),
        np.array([0, keys]),
        *parameters[:1],
        parameters[1] * 100,
        *parameters[2:],
    )
    attributes = attention_attributes(heads, size, (code, CODE_TYPES["uint8"], code), [0, 0, 0])
    for evaluator in (False, True):
        found = run_body("BinaryAttention", *arguments, evaluator=evaluator, **attributes)
        assert_equal(found, reference.binary_attention(*arguments, **attributes))


@pytest.mark.parametrize("evaluator", [False, True])
def test_fixed_exp_over_its_whole_range(evaluator: bool) -> None:
    """One key against itself and a row of others: every difference of scores from 0 down to where exp vanishes."""
    code, probability = CODE_TYPES["uint8"], CODE_TYPES["uint8"]
    key = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)
    arguments = (
        np.full((1, 1, 1), 255, np.uint8), key, np.full((1, 256, 1), 1, np.uint8), np.array([0, 1]), np.array([0, 256]),
        *(np.full((1, 1), value, np.float32) for value in (14 / 255 / 255, 7000, 0.01, 0, 1)),
    )  # fmt: skip
    attributes = attention_attributes(1, 1, (code, probability, code), [0, 0, 0])
    found = run_body("BinaryAttention", *arguments, evaluator=evaluator, **attributes)
    assert_equal(found, reference.binary_attention(*arguments, **attributes))


def test_every_optimization_level_gives_the_same_codes() -> None:
    draw, code = Draw(3), CODE_TYPES["int4"]
    x = draw.codes(code, 2, 4, 65)
    arguments = (
        x,
        draw.signs(2, 70, 65),
        draw.positive(2, 70),
        draw.floats(2, 70),
        draw.floats(2, 70),
        draw.positive(2, 70),
    )
    attributes = {"k": 65, "input_code": code.triple, "output_code": CODE_TYPES["sign"].triple, "activation": 2}
    expected = reference.packed_binary_matmul_quantize(*arguments, **attributes)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):
        found = run_body(
            "PackedBinaryMatMulQuantize",
            *arguments,
            constant=(1, 2, 3, 4, 5),
            level=getattr(onnxruntime.GraphOptimizationLevel, level),
            **attributes,
        )
        assert_equal(found, expected)
