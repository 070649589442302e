# SPDX-License-Identifier: Apache-2.0
"""The ops on ranges of sequences: their ONNX functions against their definition, bit for bit, and graphs of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bebert_edge import ops, reference
from bebert_edge.codes import CODE_TYPES, CodeType
from bebert_edge.config import RANGE_CODES, HeadConfig, TaskConfig
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import FormatError
from bebert_edge.exporters import build_model
from bebert_edge.reference import ranges as range_reference
from exporters.test_functions import Draw, assert_equal
from one_op import run_body
from support import random_batch, random_ensemble

SIGNED, UNSIGNED = ([CODE_TYPES[name] for name in RANGE_CODES[kind]] for kind in ("signed", "unsigned"))
RANGES: dict[str, Any] = {"bits": 8, "fused_qkv": False, "ranges": "sequence"}

seeds = st.integers(0, 2**32 - 1)
lengths = st.lists(st.integers(1, 9), max_size=4)
evaluators = st.booleans()


@settings(max_examples=25)
@given(seeds, st.integers(1, 2), lengths, st.sampled_from([1, 7, 64]), st.integers(0, 2), evaluators)
@example(0, 1, [], 5, 2, False)
@example(0, 1, [], 5, 0, True)
def test_sequence_range(
    seed: int, members: int, lengths: list[int], channels: int, activation: int, evaluator: bool
) -> None:
    draw, offsets = Draw(seed), Draw(seed).offsets(lengths)
    x = draw.floats(members, int(offsets[-1]), channels) * 3 - draw.positive(members, 1, 1)
    found = run_body("SequenceRange", x, offsets, activation=activation, evaluator=evaluator)
    assert_equal(found, *range_reference.sequence_range(x, offsets, activation=activation))


def quantize(y: np.ndarray, ends: np.ndarray, clip: np.ndarray, code: CodeType, evaluator: bool) -> list[np.ndarray]:
    """Checks the function's outputs, and returns them."""
    least, most = (np.full((*y.shape[:2], 1), end, np.float32) for end in ends)
    found = run_body("RangeQuantize", y, least, most, clip, output_code=code.triple, evaluator=evaluator)
    assert_equal(found, *range_reference.range_quantize(y, least, most, clip, output_code=code.triple))
    return found


@settings(max_examples=40)
@given(seeds, st.sampled_from([*SIGNED, *UNSIGNED]), st.sampled_from([1e-30, 1e-8, 1, 1e6]), evaluators)
def test_range_quantize(seed: int, code: CodeType, size: float, evaluator: bool) -> None:
    draw = Draw(seed)
    y = draw.floats(2, 5, 9) * np.float32(size)
    clip = np.sort(draw.floats(2, 2), axis=1) * np.float32(size) * 2  # with both ends on one side of 0, now and then
    codes, step, offset = quantize(y, np.array([y.min(), y.max()]), clip, code, evaluator)
    # What codes stand for is within half a step of what was quantized.
    meant = (codes.astype(np.float64) + code.low) * step + offset
    clipped = np.maximum(np.minimum(y, clip[:, 1].reshape(2, 1, 1)), clip[:, 0].reshape(2, 1, 1))
    assert (np.abs(meant - clipped) <= step * 0.5001 + 1e-8).all()


@pytest.mark.parametrize("evaluator", [False, True])
def test_ties_go_to_even(evaluator: bool) -> None:
    y = np.arange(-255, 256, dtype=np.float32).reshape(1, 1, -1) / 128  # every half step of 1/64
    clip = np.array([[-127 / 64, 127 / 64]], np.float32)
    codes, step, _ = quantize(y, np.array([-4, 4]), clip, CODE_TYPES["int8"], evaluator)
    np.testing.assert_array_equal(codes.astype(int) - 128, np.clip(np.rint(y * 64), -127, 127))
    assert float(step[0, 0, 0]) == 1 / 64


@pytest.mark.parametrize("code", [*SIGNED, *UNSIGNED], ids=lambda code: code.name)
def test_equal_numbers_have_a_range_too(code: CodeType) -> None:
    clip = np.array([[-2, 2]], np.float32)
    for number in (0.0, -0.0, 1.5, -1.5, 1e-38):
        y = np.full((1, 2, 3), number, np.float32)
        codes, step, offset = quantize(y, np.array([number, number]), clip, code, False)
        np.testing.assert_allclose((codes.astype(float) + code.low) * step + offset, y, atol=1e-7)


@settings(max_examples=40)
@given(
    seeds,
    st.integers(1, 2),
    lengths,
    st.tuples(st.integers(1, 3), st.sampled_from([1, 7, 8, 64])),
    st.tuples(st.sampled_from(SIGNED), st.sampled_from(UNSIGNED)),
    evaluators,
)
@example(0, 2, [], (1, 1), (SIGNED[0], UNSIGNED[0]), False)
def test_range_attention(
    seed: int,
    members: int,
    lengths: list[int],
    sizes: tuple[int, int],
    types: tuple[CodeType, CodeType],
    evaluator: bool,
) -> None:
    draw, (heads, size) = Draw(seed), sizes
    offsets = draw.offsets(lengths)
    tokens = int(offsets[-1])
    codes = [draw.codes(types[0], members, tokens, heads * size) for _ in range(3)]
    by_sequence = np.repeat(np.arange(len(lengths)), lengths).astype(int)
    steps = [(draw.positive(members, len(lengths), 1) / 50)[:, by_sequence] for _ in range(3)]
    clip = np.stack([draw.floats(members) * np.float32(0.1) - 0.1, draw.positive(members)], axis=1).astype(np.float32)
    arguments = *codes, *steps, offsets, clip
    attributes = {
        "heads": heads,
        "head_size": size,
        "input_code": types[0].triple,
        "probability_code": types[1].triple,
    }
    found = run_body("RangeAttention", *arguments, evaluator=evaluator, **attributes)
    assert_equal(found, range_reference.range_attention(*arguments, **attributes))


def test_fine_exp_is_right_to_the_last_of_24_bits_or_two() -> None:
    t = np.linspace(-18, 0, 20001, dtype=np.float32)
    e = reference.fixed_exp(t, bits=24)
    assert np.abs(e - np.exp(t.astype(np.float64)) * 2**24).max() < 64
    assert e[-1] == 2**24
    assert reference.fixed_exp(np.float32([-100]), bits=24) == 0


# Graphs


def session(model: onnx.ModelProto, native: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if native:
        ops.register(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_equal_on_every_path(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = random_ensemble(
        **{**RANGES, "bits": bits}, members=2, terms=2, activation="gelu", hidden_size=42, intermediate_size=70
    )
    feed = random_batch(ensemble, [7, 1, 12])
    recorded: list[np.ndarray] = []
    compute = range_reference.range_quantize

    def record(*args: Any, **kwargs: Any) -> Any:
        result = compute(*args, **kwargs)
        recorded.append(result[0])
        return result

    monkeypatch.setattr(range_reference, "range_quantize", record)
    reference.forward(ensemble, **feed)
    of_activations = [codes for codes in recorded if codes.ndim == 3]
    model, _ = build_model(ensemble)
    names = [node.output[0] for node in model.graph.node if node.op_type == "RangeQuantize"]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, None) for n in names)
    found = [dict(zip(names, session(model, native).run(names, feed), strict=True)) for native in (False, True)]
    # The graph quantizes query, key and value after all their products, the reference too: both in the same order.
    assert len(names) == len(of_activations) == 2 * (3 * 2 + 3 + 2 + 2 + 2) + 2
    for name, codes in zip(names, of_activations, strict=True):
        np.testing.assert_array_equal(found[0][name], found[1][name], err_msg=name)
        np.testing.assert_array_equal(found[0][name], codes, err_msg=name)
        assert len(np.unique(codes)) > 2, name


def test_a_text_has_one_answer_whatever_stands_beside_it() -> None:
    ensemble = random_ensemble(**RANGES, terms=2, activation="gelu")
    feed = random_batch(ensemble, [4, 12, 9, 1], sequence=16)
    run = session(build_model(ensemble)[0], native=False).run
    together = run(["member_logits"], feed)[0]
    for i, length in enumerate([4, 12, 9, 1]):
        alone = run(["member_logits"], {name: array[i : i + 1, :length] for name, array in feed.items()})[0]
        np.testing.assert_allclose(alone[:, 0], together[:, i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("native", [False, True], ids=["portable", "native"])
def test_several_tasks_and_none(native: bool) -> None:
    tokens, mean = TaskConfig(type="token-classification"), TaskConfig(pooling="mean")
    heads = (HeadConfig("topic", mean, ("a", "b", "c")), HeadConfig("names", tokens, ("O", "B-LOC")))
    ensemble = random_ensemble(**RANGES, heads_of_tasks=heads)
    feed = random_batch(ensemble, [5, 1, 9], sequence=11)
    run = session(build_model(ensemble)[0], native).run
    for name, answers in reference.forward_tasks(ensemble, **feed).items():
        output = f"heads.{name}.logits" if name else "logits"
        np.testing.assert_allclose(run([output], feed)[0], answers[0], rtol=1e-5, atol=1e-5)
    nothing = {name: np.zeros((0, 5), np.int64) for name in ("input_ids", "attention_mask")}
    assert run(["logits"], nothing)[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fused_qkv": True}, "quantization.fused_qkv is True, expected false, for ranges of the sequence"),
        ({"bits": 1}, "is 'sign', expected one of"),
        ({"embedding_size": 10}, "encoder.embedding_size is 10, expected nothing, for ranges of the sequence"),
        ({"structure": {"norm": "pre"}}, "encoder.norm is 'pre', expected nothing, for ranges of the sequence"),
        ({"weights": {"layers.0.ffn_in": "int8"}}, "quantization.weights"),
        ({"ranges": "batch"}, "quantization.ranges is 'batch', expected one of"),
        ({"task": TaskConfig("fill-mask", mask_id=4)}, "quantization.ranges is 'sequence', expected 'fixed'"),
    ],
)
def test_what_has_no_ranges_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        random_ensemble(**{**RANGES, **arguments})


def test_ends_in_the_wrong_order_are_refused() -> None:
    ensemble = random_ensemble(**RANGES)
    ensemble.tensors["layers.0.query.clip"][0] = [1, 1]
    with pytest.raises(FormatError, match=r"layers.0.query.clip .* the first below the second"):
        PackedEnsemble(ensemble.config, ensemble.tensors, ensemble.tokenizer).validate()
