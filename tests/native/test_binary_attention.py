# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bebert_edge import reference
from bebert_edge.codes import CODE_TYPES, CodeType
from native_op import assert_same, random_codes, random_quantizer, run_op

pytestmark = pytest.mark.usefixtures("cpu_path")
CODES = list(CODE_TYPES.values())
INPUT_CODES = pytest.mark.parametrize("code", CODES, ids=CODE_TYPES)
BOOL = CODE_TYPES["bool"]


def offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def parameters(
    rng: np.random.Generator,
    members: int,
    heads: int,
    head_size: int,
    code: CodeType,
    probability: CodeType,
    output: CodeType,
) -> dict[str, np.ndarray]:
    """Scales with which probabilities and outputs are spread over their codes."""
    spread = (code.high - code.low) * max(probability.high, 1)
    return {
        "score_scale": rng.uniform(0.01, 2.0 / (code.high - code.low) ** 2, (members, heads)).astype(np.float32)
        if code.high - code.low < 14
        else rng.uniform(1e-5, 1e-3, (members, heads)).astype(np.float32),
        "probability_inverse_step": rng.uniform(1, 2 * probability.high + 1, (members, heads)).astype(np.float32),
        "context_scale": (rng.uniform(0.5, 1, (members, heads)) / spread).astype(np.float32),
        **random_quantizer(rng, members, heads * head_size, 1.0, output),
    }


def check(
    rng: np.random.Generator,
    *,
    code: CodeType,
    probability: CodeType,
    output: CodeType,
    softmax: int,
    members: int,
    heads: int,
    head_size: int,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int] | None,
    most_distance: int | None = None,
) -> None:
    """Self-attention in one tensor where `key_lengths` is None, else attention between tensors.

    `most_distance` is that of the bias, None for no bias.
    """
    hidden = heads * head_size
    query_offsets = offsets(query_lengths)
    if key_lengths is None:
        key_offsets = query_offsets
        query = key = value = random_codes(rng, code, (members, sum(query_lengths), 3 * hidden))
        channels = (0, hidden, 2 * hidden)
    else:
        key_offsets = offsets(key_lengths)
        channels = (3, 0, hidden + 2)
        query = random_codes(rng, code, (members, sum(query_lengths), hidden + 3))
        key = random_codes(rng, code, (members, sum(key_lengths), hidden))
        value = random_codes(rng, code, (members, sum(key_lengths), 2 * hidden + 5))
    inputs = {
        "query": query,
        "key": key,
        "value": value,
        "query_offsets": query_offsets,
        "key_offsets": key_offsets,
        **parameters(rng, members, heads, head_size, code, probability, output),
    }
    attributes = {
        "heads": heads,
        "head_size": head_size,
        "channels": channels,
        "softmax": softmax,
        "input_code": code.triple,
        "probability_code": probability.triple,
        "output_code": output.triple,
    }
    op = "BinaryAttention"
    if most_distance is not None:
        op = "BiasedBinaryAttention"
        inputs["distance_bias"] = rng.normal(0, 2, (members, heads, 2 * most_distance + 1)).astype(np.float32)
        del attributes["softmax"]
    expected = reference.binary_attention(**inputs, **attributes)
    assert_same(run_op(op, inputs, attributes), [expected], attributes)


@INPUT_CODES
@pytest.mark.parametrize("probability", ["bool", "uint2", "uint4", "uint8", "int8", "sign"])
def test_softmax_equals_reference(code: CodeType, probability: str) -> None:
    rng = np.random.default_rng(0)
    for i, (heads, head_size) in enumerate(((1, 1), (3, 7), (2, 8), (5, 9), (2, 32), (1, 63), (2, 64), (1, 65))):
        check(
            rng,
            code=code,
            probability=CODE_TYPES[probability],
            output=CODES[i % len(CODES)],
            softmax=1,
            members=1 + i % 3,
            heads=heads,
            head_size=head_size,
            query_lengths=((5, 1, 0, 17), (66,), (1, 1), (31, 33))[i % 4],
            key_lengths=(None, (3, 0, 4, 70))[i % 4 == 0],
        )


@INPUT_CODES
@pytest.mark.parametrize("probability", ["bool", "uint2", "uint4", "uint8", "int8", "sign"])
def test_softmax_with_a_bias_equals_reference(code: CodeType, probability: str) -> None:
    rng = np.random.default_rng(4)
    for i, (heads, head_size) in enumerate(((1, 1), (3, 7), (2, 8), (5, 9), (2, 32), (1, 63), (2, 64), (1, 65))):
        check(
            rng,
            code=code,
            probability=CODE_TYPES[probability],
            output=CODES[i % len(CODES)],
            softmax=1,
            members=1 + i % 3,
            heads=heads,
            head_size=head_size,
            query_lengths=((5, 1, 0, 17), (66,), (1, 1), (31, 33))[i % 4],
            key_lengths=(None, (3, 0, 4, 70))[i % 4 == 0],
            most_distance=(0, 1, 5, 30, 64, 100)[i % 6],
        )


def test_a_window_leaves_keys_outside_of_it_out() -> None:
    """Each query sees three keys, itself and its neighbours: changing others changes nothing."""
    rng = np.random.default_rng(5)
    code, tokens, heads, head_size = CODE_TYPES["int4"], 40, 2, 8
    hidden = heads * head_size
    bias = np.full((1, heads, 5), -1e30, np.float32)
    bias[..., 1:4] = rng.normal(0, 1, (1, heads, 3))
    qkv = random_codes(rng, code, (1, tokens, 3 * hidden))
    other = qkv.copy()
    other[:, 20:, hidden:] = random_codes(rng, code, (1, tokens - 20, 2 * hidden))
    given = parameters(rng, 1, heads, head_size, code, CODE_TYPES["uint4"], code)
    attributes = {
        "heads": heads,
        "head_size": head_size,
        "channels": (0, hidden, 2 * hidden),
        "input_code": code.triple,
        "probability_code": CODE_TYPES["uint4"].triple,
        "output_code": code.triple,
    }
    found = []
    for x in (qkv, other):
        inputs = {
            "query": x,
            "key": x,
            "value": x,
            "query_offsets": offsets([tokens]),
            "key_offsets": offsets([tokens]),
            **given,
            "distance_bias": bias,
        }
        (codes,) = run_op("BiasedBinaryAttention", inputs, attributes)
        assert_same([codes], [reference.binary_attention(**inputs, **attributes)], attributes)
        found.append(codes)
    np.testing.assert_array_equal(found[0][:, :19], found[1][:, :19])
    assert (found[0][:, 19:] != found[1][:, 19:]).any()


@INPUT_CODES
def test_boolean_attention_equals_reference(code: CodeType) -> None:
    rng = np.random.default_rng(1)
    for i, (heads, head_size) in enumerate(((1, 1), (3, 7), (2, 8), (5, 9), (2, 32), (1, 63), (2, 64), (1, 65))):
        for output in (CODE_TYPES["sign"], CODE_TYPES["ternary"], CODE_TYPES["uint8"]):
            check(
                rng,
                code=code,
                probability=BOOL,
                output=output,
                softmax=0,
                members=1 + i % 3,
                heads=heads,
                head_size=head_size,
                query_lengths=((5, 1, 0, 17), (66,), (1, 1), (127, 2))[i % 4],
                key_lengths=(None, (3, 0, 4, 70))[i % 4 == 0],
            )


def test_fixed_exp_is_equal_to_the_unit() -> None:
    """Two keys with scores 1 and 0, and a head for each `t`: the probability of the second is a threshold on its e.

    Its bit is 1 where `e / (32768 + e) * inverse_step > 0.5`: two inverse steps, a quarter of a unit of `e` below and
    above, show any other `e`.
    """
    t = np.linspace(1e-3, 10.5, 8001, dtype=np.float32)
    e = reference.fixed_exp(-t).astype(np.float64)
    assert np.abs(e - 32768 * np.exp(-t.astype(np.float64))).max() < 0.51
    half = 0.5 * (32768 + e) / e
    heads = 2 * t.size
    inputs = {
        "query": np.ones((1, 1, heads), np.uint8),
        "key": np.stack([np.ones(heads), np.zeros(heads)]).astype(np.uint8)[None],
        "value": np.stack([np.zeros(heads), np.ones(heads)]).astype(np.uint8)[None],
        "query_offsets": np.array([0, 1]),
        "key_offsets": np.array([0, 2]),
        "score_scale": np.concatenate([t, t])[None],
        "probability_inverse_step": np.concatenate([half * (1 - 0.25 / e), half * (1 + 0.25 / e)])[None].astype(
            np.float32
        ),
        "context_scale": np.ones((1, heads), np.float32),
        "shift": np.zeros((1, heads), np.float32),
        "inverse_step": np.ones((1, heads), np.float32),
    }
    uint2 = CODE_TYPES["uint2"].triple
    attributes = {
        "heads": heads,
        "head_size": 1,
        "channels": (0, 0, 0),
        "softmax": 1,
        "input_code": uint2,
        "probability_code": BOOL.triple,
        "output_code": uint2,
    }
    (codes,) = run_op("BinaryAttention", inputs, attributes)
    np.testing.assert_array_equal(codes[0, 0], np.repeat([0, 1], t.size))


def test_long_sequences() -> None:
    """At the limit of 514 keys of 8-bit probabilities and values."""
    rng = np.random.default_rng(2)
    for softmax, probability in ((1, CODE_TYPES["uint8"]), (0, BOOL)):
        for code in (CODE_TYPES["uint8"], CODE_TYPES["int4"], CODE_TYPES["sign"]):
            check(
                rng,
                code=code,
                probability=probability,
                output=CODE_TYPES["int8"],
                softmax=softmax,
                members=1,
                heads=2,
                head_size=64,
                query_lengths=(514,),
                key_lengths=None,
            )


def test_no_sequences_no_members_no_keys() -> None:
    rng = np.random.default_rng(3)
    cases: tuple[tuple[int, Sequence[int], Sequence[int] | None], ...] = (
        (2, (), None),
        (2, (0, 0), None),
        (0, (3,), None),
        (2, (4, 1), (0, 0)),
    )
    for members, query_lengths, key_lengths in cases:
        for code in (CODE_TYPES["sign"], CODE_TYPES["int4"]):
            for softmax in (0, 1):
                check(
                    rng,
                    code=code,
                    probability=BOOL,
                    output=code,
                    softmax=softmax,
                    members=members,
                    heads=3,
                    head_size=5,
                    query_lengths=query_lengths,
                    key_lengths=key_lengths,
                    most_distance=2 if softmax and code.width == 8 else None,
                )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    code=st.sampled_from(CODES),
    probability=st.sampled_from(CODES),
    output=st.sampled_from(CODES),
    members=st.integers(1, 8),
    heads=st.integers(1, 5),
    head_size=st.integers(1, 70),
    lengths=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 70)), max_size=4),
    self_attention=st.booleans(),
    most_distance=st.none() | st.integers(0, 80),
)
def test_any_shape(
    seed: int,
    code: CodeType,
    probability: CodeType,
    output: CodeType,
    members: int,
    heads: int,
    head_size: int,
    lengths: list[tuple[int, int]],
    self_attention: bool,
    most_distance: int | None,
) -> None:
    check(
        np.random.default_rng(seed),
        code=code,
        probability=probability,
        output=output,
        softmax=int(probability is not BOOL or most_distance is not None or seed % 2),
        members=members,
        heads=heads,
        head_size=head_size,
        query_lengths=[queries for queries, _ in lengths],
        key_lengths=None if self_attention else [keys for _, keys in lengths],
        most_distance=most_distance,
    )
