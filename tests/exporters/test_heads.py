# SPDX-License-Identifier: Apache-2.0
"""Heads other than a classifier of texts: the graph, with and without native library, against the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from bebert_edge import ops, reference
from bebert_edge.config import EnsembleConfig, HeadConfig, TaskConfig
from bebert_edge.ensemble import PackedEnsemble, head_prefix
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


def run(
    ensemble: PackedEnsemble, feed: dict[str, Any], native: bool, outputs: list[str] | None = None
) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if native:
        ops.register(options)
    model = build_model(ensemble)[0]
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(outputs or list(ensemble.config.task.outputs), feed)


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


TASKS = (
    HeadConfig("topic", TaskConfig(), ("sport", "politics", "art"), "probabilities", 1.5),
    HeadConfig("tags", TaskConfig(problem="multi_label"), ("a", "b")),
)
MIXED = (
    *TASKS,
    HeadConfig("names", TOKENS, ("O", "B-LOC")),
    HeadConfig("vector", FIRST, (), "embeddings"),
    HeadConfig("mean", MEAN, (), "concatenation"),
)


@pytest.mark.parametrize("native", [False, True], ids=["portable", "native"])
@pytest.mark.parametrize("heads", [TASKS, MIXED], ids=["of first tokens", "of all kinds"])
def test_every_task_of_one_ensemble_has_its_answer(heads: tuple[HeadConfig, ...], native: bool) -> None:
    ensemble = random_ensemble(heads_of_tasks=heads)
    feed = random_batch(ensemble, [5, 1, 14, 9], sequence=17)
    expected = reference.forward_tasks(ensemble, **feed)
    assert list(expected) == ["", *(head.name for head in heads)]
    for name, answers in expected.items():
        outputs = [head_prefix(name) + output for output in ensemble.config.of(name).task.outputs]
        for found, other in zip(run(ensemble, feed, native, outputs), answers, strict=True):
            np.testing.assert_allclose(found, other, rtol=1e-5, atol=1e-5)


def test_a_task_more_does_not_change_the_others() -> None:
    ensemble = random_ensemble(heads_of_tasks=MIXED)
    alone = PackedEnsemble(ensemble.config.of(""), dict(ensemble.tensors), ensemble.tokenizer)
    for name in ensemble.tensors:
        if name.startswith("heads."):
            del alone.tensors[name]
    alone.validate()
    feed = random_batch(ensemble, [5, 3])
    for found, expected in zip(run(ensemble, feed, True), run(alone, feed, True), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_tasks_survive_json_and_disk(tmp_path: Path) -> None:
    ensemble = random_ensemble(heads_of_tasks=MIXED)
    ensemble.save(tmp_path / "packed")
    loaded = PackedEnsemble.load(tmp_path / "packed")
    assert loaded.config == ensemble.config
    assert loaded.tensors.keys() == ensemble.tensors.keys()


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ((TASKS[0], TASKS[0]), "heads is \\['topic', 'topic'\\], expected a name of its own"),
        ((HeadConfig("x", TOKENS, ()),), "labels is \\[\\].*heads, 'x'"),
    ],
)
def test_tasks_that_cannot_be_are_refused(heads: tuple[HeadConfig, ...], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        random_ensemble(heads_of_tasks=heads)


def test_a_task_without_a_usable_name_is_refused() -> None:
    with pytest.raises(FormatError, match=r"heads\[\].name is 'my task'"):
        HeadConfig("my task", TaskConfig(), ("a",))


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
        ({"type": "token-classification", "pooling": "mean"}, "task.pooling is 'mean'"),
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
