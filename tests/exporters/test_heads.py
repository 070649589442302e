# SPDX-License-Identifier: Apache-2.0
"""Heads other than a classifier of texts: the graph, with and without native library, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from bebert_edge import ops, reference
from bebert_edge.config import EnsembleConfig, TaskConfig
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import FormatError
from bebert_edge.exporters import build_model
from support import random_batch, random_ensemble

TOKENS = TaskConfig("token-classification")
SPANS = TaskConfig("question-answering", text_pair=True)
FIRST = TaskConfig("sentence-embedding", "embedding")
MEAN = TaskConfig("sentence-embedding", "embedding", pooling="mean")
CASES: list[tuple[TaskConfig, dict[str, Any]]] = [
    (TOKENS, {"labels": ("O", "B-LOC", "I-LOC")}),
    (TOKENS, {"labels": ("O", "B-LOC"), "combination": "probabilities", "temperature": 1.5}),
    (SPANS, {}),
    (FIRST, {"combination": "embeddings"}),
    (MEAN, {"combination": "embeddings", "member_weights": (0.25, 0.75)}),
    (MEAN, {"combination": "concatenation", "member_weights": (0.25, 0.75)}),
]


def run(ensemble: PackedEnsemble, feed: dict[str, Any], native: bool) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if native:
        ops.register(options)
    model = build_model(ensemble)[0]
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(list(ensemble.config.task.outputs), feed)


@pytest.mark.parametrize("native", [False, True], ids=["portable", "native"])
@pytest.mark.parametrize(("task", "arguments"), CASES)
def test_the_graph_answers_as_the_reference(task: TaskConfig, arguments: dict[str, Any], native: bool) -> None:
    ensemble = random_ensemble(task=task, **arguments)
    feed = random_batch(ensemble, [5, 1, 14, 9], sequence=17)
    found, expected = run(ensemble, feed, native), reference.forward(ensemble, **feed)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    if task.answers_tokens:
        assert not found[0][feed["attention_mask"] == 0].any()
        assert found[0][feed["attention_mask"] != 0].any(axis=-1).all()


@pytest.mark.parametrize(("task", "arguments"), CASES)
def test_padding_and_company_change_nothing(task: TaskConfig, arguments: dict[str, Any]) -> None:
    ensemble = random_ensemble(task=task, **arguments)
    feed = random_batch(ensemble, [4, 9])
    together, _ = run(ensemble, feed, True)
    alone, _ = run(ensemble, {name: array[:1, :4] for name, array in feed.items()}, True)
    places = (slice(4),) if task.answers_tokens else ()
    np.testing.assert_allclose(together[0][places], alone[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("task", "arguments"), CASES)
def test_no_texts_have_no_answers(task: TaskConfig, arguments: dict[str, Any]) -> None:
    ensemble = random_ensemble(task=task, **arguments)
    feed = {name: np.zeros((0, 5), np.int64) for name in ("input_ids", "attention_mask")}
    for native in (False, True):
        found = run(ensemble, feed, native)
        assert [x.shape for x in found] == [x.shape for x in reference.forward(ensemble, **feed)]


def test_products_of_concatenated_embeddings_are_weighted_means_of_the_members() -> None:
    weights = (0.25, 0.75)
    ensemble = random_ensemble(task=MEAN, combination="concatenation", member_weights=weights)
    feed = random_batch(ensemble, [5, 8, 3])
    combined, members = run(ensemble, feed, True)
    expected = sum(w * (m @ m.T) for w, m in zip(weights, members, strict=True))
    np.testing.assert_allclose(combined @ combined.T, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(combined, axis=1), 1, atol=1e-6)


def test_a_mean_is_taken_over_the_tokens_of_a_text_alone() -> None:
    members = {}
    for task in (FIRST, MEAN):
        ensemble = random_ensemble(task=task, combination="embeddings")
        members[task.pooling] = run(ensemble, random_batch(ensemble, [1, 6]), True)[1]
    np.testing.assert_allclose(members["first"][:, 0], members["mean"][:, 0], atol=1e-6)
    assert np.abs(members["first"][:, 1] - members["mean"][:, 1]).max() > 1e-2


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        (TOKENS, {"labels": ()}, "labels is \\[\\], expected a list of one or more"),
        (MEAN, {"combination": "logits"}, "combination is 'logits', expected one of \\('embeddings'"),
        (MEAN, {"combination": "embeddings", "temperature": 2.0}, "temperature is 2.0, expected 1"),
        (MEAN, {"combination": "concatenation", "member_weights": (-0.5, 1.5)}, "member_weights"),
        (SPANS, {"combination": "probabilities"}, "combination is 'probabilities', expected one of \\('logits',"),
    ],
)
def test_what_a_task_cannot_have_is_refused(task: TaskConfig, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        random_ensemble(task=task, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"type": "translation"}, "task.type is 'translation'"),
        ({"type": "token-classification", "problem": "multi_label"}, "task.problem is 'multi_label'"),
        ({"type": "question-answering"}, "task.text_pair is False, expected true"),
        ({"type": "text-classification", "pooling": "mean"}, "task.pooling is 'mean'"),
        ({"type": "sentence-embedding"}, "task.problem is 'single_label', expected one of \\('embedding',"),
    ],
)
def test_a_task_that_is_none_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        TaskConfig(**arguments)


@pytest.mark.parametrize(("task", "arguments"), CASES)
def test_the_configuration_survives_json(task: TaskConfig, arguments: dict[str, Any]) -> None:
    config = random_ensemble(task=task, **arguments).config
    assert EnsembleConfig.from_json(config.to_json()) == config
