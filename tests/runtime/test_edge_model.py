# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bebert_edge import ops, reference
from bebert_edge.errors import DeviceError, NativeLibraryError, RuntimeInputError
from bebert_edge.exporters import build_model
from bebert_edge.runtime import EdgeModel
from bebert_edge.runtime.model import WINDOW_BATCHES
from bebert_edge.runtime.text import TextEncoder
from model_files import write_model
from support import answering, random_ensemble

TEXTS = ["a good movie", "", "the film is not very good, it is bad", "x", "good " * 100, "日本 語", "it was"]


@pytest.fixture(scope="module")
def model(model_path: Path) -> EdgeModel:
    return EdgeModel(model_path, threads=1)


def expected_logits(texts: list[Any], **arguments: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Logits and member logits of the numpy reference, one text at a time."""
    ensemble = random_ensemble(**arguments)
    config = ensemble.config
    encoded = TextEncoder(ensemble.tokenizer, config.max_length, config.task.text_pair).encode(texts)
    rows = []
    for text in encoded:
        ids, types = np.array([text.ids], np.int64), np.array([text.type_ids], np.int64)
        rows.append(reference.forward(ensemble, ids, np.ones_like(ids), types))
    return np.concatenate([logits for logits, _ in rows]), np.concatenate([members for _, members in rows], axis=1)


def test_answers_are_those_of_the_reference(model: EdgeModel) -> None:
    logits, member_logits = expected_logits(TEXTS)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(model.logits(TEXTS), logits, atol=1e-5)
    for i, answer in enumerate(model.predict(TEXTS)):
        assert answer.text == TEXTS[i]
        assert answer.pair is None
        assert answer.label == ("negative", "positive")[int(logits[i].argmax())]
        assert answer.score == max(answer.scores)
        np.testing.assert_allclose(answer.scores, probabilities[i], atol=1e-5)
        np.testing.assert_allclose(answer.logits, logits[i], atol=1e-5)
        winners = member_logits[:, i].argmax(-1)
        assert answer.member_labels == tuple(("negative", "positive")[w] for w in winners)
        assert answer.members_agree == int((winners == logits[i].argmax()).sum())
        assert np.shape(answer.member_scores) == (2, 2)


def test_members_disagree_on_some_text_so_that_the_count_is_tested(model: EdgeModel) -> None:
    assert {answer.members_agree for answer in model.predict(TEXTS)} > {1}


@pytest.mark.usefixtures("portable")
def test_the_portable_path_gives_the_same_answers_and_warns_once(
    model: EdgeModel, model_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from bebert_edge.runtime import backend

    backend._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "bebert_edge"):
        portable = EdgeModel(model_path, threads=1)
        EdgeModel(model_path, threads=1)
    assert len(caplog.records) == 1
    assert "/nowhere/bebert_edge_ops.so" in caplog.text
    assert not portable.backend.native
    assert str(portable.backend).startswith("portable (")
    np.testing.assert_allclose(portable.logits(TEXTS), model.logits(TEXTS), atol=1e-6)


@pytest.mark.usefixtures("portable")
def test_the_native_library_can_be_required(model_path: Path) -> None:
    with pytest.raises(NativeLibraryError, match=r"/nowhere/bebert_edge_ops\.so.*bebert-edge doctor"):
        EdgeModel(model_path, require_native=True)


def test_a_library_that_is_slower_than_the_functions_runs_only_on_request(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "info", lambda: ops.NativeInfo("scalar", ("scalar",), "0"))
    model = EdgeModel(model_path)
    assert not model.backend.native
    assert "scalar" in str(model.backend)
    assert EdgeModel(model_path, require_native=True).backend.path == "scalar"
    monkeypatch.setenv("BEBERT_EDGE_KERNEL", "scalar")
    assert EdgeModel(model_path).backend.path == "scalar"


def test_a_forced_path_is_never_replaced_silently(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEBERT_EDGE_KERNEL", "sse42")
    with pytest.raises(NativeLibraryError, match="sse42"):
        EdgeModel(model_path)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_answers_do_not_depend_on_batching(model: EdgeModel, batch_size: int) -> None:
    texts = TEXTS * 3
    alone = [model.predict([text])[0] for text in texts]
    for found, expected in zip(model.predict(texts, batch_size=batch_size), alone, strict=True):
        assert (found.text, found.label, found.members_agree) == (expected.text, expected.label, expected.members_agree)
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)


@pytest.mark.parametrize(("batch_size", "ahead"), [(2, 2 * WINDOW_BATCHES), (1, 0)])
def test_a_stream_reads_one_window_ahead_at_most(model: EdgeModel, batch_size: int, ahead: int) -> None:
    consumed = 0

    def endless() -> Any:
        nonlocal consumed
        for i in itertools.count():
            consumed += 1
            yield f"text {i}"

    answers = list(itertools.islice(model.stream(endless(), batch_size=batch_size), 70))
    assert [answer.text for answer in answers] == [f"text {i}" for i in range(70)]
    assert 70 <= consumed <= 70 + ahead


def test_a_model_may_be_shared_between_threads(model: EdgeModel) -> None:
    expected = model.logits(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: model.logits(TEXTS), range(20)):
            np.testing.assert_array_equal(found, expected)


def test_no_texts_give_no_answers(model: EdgeModel) -> None:
    assert model.predict([]) == []
    assert model.logits([]).shape == (0, 2)


def test_a_long_text_is_truncated_and_says_so(model: EdgeModel) -> None:
    long, short = model.predict(["good " * 10_000, "good"])
    assert (long.truncated, long.tokens) == (True, model.max_length)
    assert (short.truncated, short.tokens) == (False, 3)
    (same,) = model.predict(["good " * 30])
    assert long.logits == pytest.approx(same.logits, abs=1e-6)


def test_pairs(tmp_path: Path) -> None:
    model = EdgeModel(write_model(tmp_path / "pair.onnx", text_pair=True))
    pairs = [("a good movie", "it is bad"), ("a good movie", ""), ("good " * 40, "bad " * 40)]
    np.testing.assert_allclose(model.logits(pairs), expected_logits(pairs, text_pair=True)[0], atol=1e-5)
    assert [(answer.text, answer.pair) for answer in model.predict(pairs)] == pairs
    with pytest.raises(RuntimeInputError, match=r"input 0 is a str.*expected a .text, pair. tuple"):
        model.predict(["alone"])


def test_multi_label_answers_have_a_probability_for_each_label(tmp_path: Path) -> None:
    arguments = {"problem": "multi_label", "labels": ("joy", "anger", "fear"), "members": 3}
    model = EdgeModel(write_model(tmp_path / "multi.onnx", **arguments))
    logits, _ = expected_logits(TEXTS, **arguments)
    for answer, row in zip(model.predict(TEXTS), logits, strict=True):
        np.testing.assert_allclose(answer.scores, 1 / (1 + np.exp(-row)), atol=1e-5)
        names = [name for name, logit in zip(model.labels, row, strict=True) if logit > 0]
        assert answer.label == ", ".join(names)
        assert answer.score == max(answer.scores)


def test_regression_answers_are_values(tmp_path: Path) -> None:
    arguments = {"problem": "regression", "labels": ("similarity",)}
    model = EdgeModel(write_model(tmp_path / "regression.onnx", **arguments))
    logits, member_logits = expected_logits(TEXTS, **arguments)
    for i, answer in enumerate(model.predict(TEXTS)):
        assert (answer.label, answer.members_agree) == ("similarity", None)
        assert answer.score == pytest.approx(logits[i, 0], abs=1e-5)
        np.testing.assert_allclose(answer.member_scores, member_logits[:, i], atol=1e-5)


@pytest.mark.parametrize("native", [True, False], ids=["native", "portable"])
@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_probabilities_are_the_mean_of_the_members_at_a_temperature(
    problem: str, native: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With the temperature taken back, the answer's probabilities are the mean of the members' probabilities."""
    if not native:
        request.getfixturevalue("portable")
    arguments = {
        "problem": problem,
        "labels": ("a", "b", "c"),
        "member_weights": (0.7, 0.3),
        "combination": "probabilities",
        "temperature": 2.5,
    }
    model = EdgeModel(write_model(tmp_path / "model.onnx", **arguments), require_native=native)
    assert model.backend.native == native
    for answer, expected in zip(model.predict(TEXTS), expected_logits(TEXTS, **arguments)[0], strict=True):
        np.testing.assert_allclose(answer.logits, expected, atol=1e-5)
        found = probabilities(np.array(answer.logits), problem)
        np.testing.assert_allclose(answer.scores, found, atol=1e-6)
        # Of probabilities at a temperature, those without it.
        odds = np.array(answer.member_scores) / (1 if problem == "single_label" else 1 - np.array(answer.member_scores))
        members = probabilities(np.log(odds) * 2.5, problem)
        untempered = probabilities(np.array(answer.logits) * 2.5, problem)
        np.testing.assert_allclose(untempered, 0.7 * members[0] + 0.3 * members[1], atol=1e-5)
        above = [label for label, score in zip(model.labels, answer.scores, strict=True) if score > 0.5]
        if problem == "multi_label":
            assert answer.labels == tuple(above)
        else:
            assert answer.labels == (model.labels[int(np.argmax(answer.scores))],)
        assert answer.label == ", ".join(answer.labels)


def probabilities(logits: np.ndarray[Any, Any], problem: str) -> np.ndarray[Any, Any]:
    if problem == "multi_label":
        return np.asarray(1 / (1 + np.exp(-logits)))
    return np.asarray(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))


def test_a_temperature_changes_how_sure_an_answer_is_and_no_label(tmp_path: Path) -> None:
    by_temperature = [
        EdgeModel(write_model(tmp_path / "model.onnx", temperature=temperature)).predict(TEXTS)
        for temperature in (0.5, 1.0, 4.0)
    ]
    for sharp, plain, smooth in zip(*by_temperature, strict=True):
        assert sharp.label == plain.label == smooth.label
        assert sharp.member_labels == plain.member_labels == smooth.member_labels
        assert sharp.score > plain.score > smooth.score > 0.5


@pytest.mark.parametrize("combination", ["logits", "probabilities"])
@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_huge_logits_give_certain_answers_not_broken_ones(problem: str, combination: str, tmp_path: Path) -> None:
    ensemble = answering(
        np.array([[1e6, -1e6], [1e6, -1e6], [-1e6, 1e6]], np.float32),
        member_weights=(0.6, 0.4, 0.0),
        problem=problem,
        combination=combination,
        temperature=0.01,
    )
    (tmp_path / "model.onnx").write_bytes(build_model(ensemble)[0].SerializeToString())
    (answer,) = EdgeModel(tmp_path / "model.onnx").predict(["a movie"])
    assert (answer.labels, answer.scores, answer.members_agree) == (("label 0",), (1.0, 0.0), 2)
    assert answer.member_scores == ((1.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    assert np.isfinite(answer.logits).all()


def test_one_label_is_always_certain_or_a_yes_and_no_of_its_own(tmp_path: Path) -> None:
    for problem, combination in [("single_label", "probabilities"), ("multi_label", "probabilities")]:
        ensemble = answering(np.array([[-2.0], [-1.0]], np.float32), problem=problem, combination=combination)
        (tmp_path / "model.onnx").write_bytes(build_model(ensemble)[0].SerializeToString())
        (answer,) = EdgeModel(tmp_path / "model.onnx").predict(["a movie"])
        if problem == "single_label":
            assert (answer.label, answer.score) == ("label 0", pytest.approx(1, abs=1e-6))
        else:
            mean = (1 / (1 + np.exp(2)) + 1 / (1 + np.exp(1))) / 2
            assert (answer.label, answer.labels, answer.score) == ("", (), pytest.approx(mean, abs=1e-6))
            assert answer.members_agree == 2


def test_what_a_model_says_about_itself(model: EdgeModel) -> None:
    assert (model.labels, model.members, model.max_length) == (("negative", "positive"), 2, 32)
    assert model.metadata.license == "Apache-2.0"
    assert repr(model).startswith("EdgeModel('")
    assert "1 thread, onnxruntime" in str(model.backend)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "cuda"}, DeviceError, "device 'cuda' does not exist, expected one of: cpu"),
        ({"threads": 0}, RuntimeInputError, "threads is 0, expected an integer >= 1"),
        ({"threads": -3}, RuntimeInputError, "threads is -3"),
    ],
)
def test_settings_that_cannot_be(
    model_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        EdgeModel(model_path, **arguments)


def test_arguments_are_checked_before_the_first_answer_is_asked_for(model: EdgeModel) -> None:
    with pytest.raises(RuntimeInputError, match="batch_size is 0"):
        model.stream(["a"], batch_size=0)
    with pytest.raises(RuntimeInputError, match="texts is one str"):
        model.stream("a movie")
    with pytest.raises(RuntimeInputError, match="input 1 is a int"):
        model.predict(["a", 5])  # type: ignore[list-item]
