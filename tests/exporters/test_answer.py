# SPDX-License-Identifier: Apache-2.0
"""The last nodes of the graph, members' logits to the ensemble's, against the definition in exact arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given

from answers import cases, defined_answer
from bebert_edge import metadata, ops, reference
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import ModelError
from bebert_edge.exporters import build_model, export
from bebert_edge.reference.answer import combine
from support import answering, random_batch, random_ensemble

FEED = {name: np.full((2, 3), 2, np.int64) for name in ("input_ids", "attention_mask")}


def run(ensemble: PackedEnsemble, feed: dict[str, Any], *, native: bool = False) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if native:
        ops.register(options)
    model = build_model(ensemble)[0].SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(["logits", "member_logits"], feed)


@given(cases())
def test_the_graph_s_answer_is_what_the_format_defines(case: dict[str, Any]) -> None:
    arguments = {"member_weights": case["weights"], **{k: case[k] for k in ("combination", "problem", "temperature")}}
    ensemble = answering(case["member_logits"], **arguments)
    logits, member_logits = run(ensemble, FEED)
    np.testing.assert_array_equal(member_logits, np.stack([case["member_logits"]] * 2, axis=1))
    tolerance = 1e-5 * max(1, np.abs(member_logits).max()) / case["temperature"]
    for row in logits:
        np.testing.assert_allclose(row, defined_answer(**case), rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.0, 0.0, 1.0), (0.0, 0.4, 0.6)])
def test_the_largest_logits_that_are_promised_give_finite_answers(problem: str, weights: tuple[float, ...]) -> None:
    member_logits = np.array([[1e29, -1e29], [-1e29, 1e29], [-1e29, -1e29]], np.float32)
    ensemble = answering(
        member_logits, problem=problem, member_weights=weights, combination="probabilities", temperature=1e-6
    )
    logits, _ = run(ensemble, FEED)
    expected = combine(member_logits, ensemble.config)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits, [expected] * 2, rtol=1e-5, atol=1e-5 * 1e29 / 1e-6)


@pytest.mark.parametrize("native", [False, True], ids=["portable", "native"])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_native_and_portable_answers_are_the_reference_s(problem: str, temperature: float, native: bool) -> None:
    ensemble = random_ensemble(
        members=3,
        labels=("a", "b", "c"),
        problem=problem,
        member_weights=(0.5, 0.0, 0.5),
        combination="probabilities",
        temperature=temperature,
    )
    feed = random_batch(ensemble, [5, 1, 14, 9])
    for found, expected in zip(run(ensemble, feed, native=native), reference.forward(ensemble, **feed), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 / temperature)


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_no_texts_have_no_answers(problem: str) -> None:
    ensemble = random_ensemble(combination="probabilities", problem=problem, temperature=2.0)
    feed = {name: np.zeros((0, 5), np.int64) for name in ("input_ids", "attention_mask")}
    assert [a.shape for a in run(ensemble, feed)] == [(0, 2), (2, 0, 2)]


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression"])
def test_defaults_add_no_node_and_no_key(problem: str) -> None:
    model, _ = build_model(random_ensemble(problem=problem, labels=("a",)))
    assert [node.op_type for node in model.graph.node[-4:]] == ["MatMul", "Add", "Mul", "ReduceSum"]
    assert model.graph.node[-1].output == ["logits"]
    keys = {entry.key for entry in model.metadata_props}
    assert not keys & {metadata.COMBINATION, metadata.TEMPERATURE}


@pytest.mark.parametrize("combination", ["logits", "probabilities"])
@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_the_file_is_valid_and_says_how_it_answers(problem: str, combination: str) -> None:
    ensemble = random_ensemble(problem=problem, combination=combination, temperature=1.7)
    model, _ = build_model(ensemble)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.node[-1].output == ["logits"]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    read = metadata.read_metadata(properties)
    assert (read.combination, read.temperature, read.config) == (combination, 1.7, ensemble.config)
    for key, value in [(metadata.COMBINATION, "votes"), (metadata.TEMPERATURE, "2.0"), (metadata.TEMPERATURE, "warm")]:
        with pytest.raises(ModelError, match=key):
            metadata.read_metadata({**properties, key: value})


@pytest.mark.parametrize("temperature", [1e-6, 0.05, 1e6])
@pytest.mark.parametrize("combination", ["logits", "probabilities"])
@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_every_combination_is_verified(problem: str, combination: str, temperature: float, tmp_path: Any) -> None:
    ensemble = random_ensemble(
        members=3, labels=("a", "b", "c"), problem=problem, combination=combination, temperature=temperature
    )
    report = export(ensemble, tmp_path / "model.onnx")
    assert {check.name: check.passed for check in report.checks}["without the native library"] is True
