# SPDX-License-Identifier: Apache-2.0
"""Several tasks on one ensemble, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bebert_edge import reference
from bebert_edge.cli.main import app
from bebert_edge.config import HeadConfig, TaskConfig
from bebert_edge.errors import RuntimeInputError
from bebert_edge.exporters import build_model
from bebert_edge.runtime import EdgeModel
from bebert_edge.runtime.text import TextEncoder
from support import random_ensemble

PAIRS = TaskConfig(text_pair=True)
HEADS = (
    HeadConfig("topic", TaskConfig(), ("sport", "politics", "art"), temperature=0.5),
    HeadConfig("same", PAIRS, ("no", "yes")),
    HeadConfig("vector", TaskConfig("sentence-embedding", "embedding", pooling="mean"), (), "embeddings"),
)
TEXTS = ["a good movie", "", "it is not very good, it is bad"]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tasks") / "model.onnx"
    path.write_bytes(build_model(random_ensemble(heads_of_tasks=HEADS))[0].SerializeToString())
    return path


def expected(texts: list[Any], task: str) -> np.ndarray:
    ensemble = random_ensemble(heads_of_tasks=HEADS)
    config = ensemble.config.of(task)
    rows = []
    for text in TextEncoder(ensemble.tokenizer, config.max_length, config.task.text_pair).encode(texts):
        ids, types = (np.array([numbers], np.int64) for numbers in (text.ids, text.type_ids))
        rows.append(reference.forward_tasks(ensemble, ids, np.ones_like(ids), types)[task][0][0])
    return np.stack(rows)


def test_every_task_has_its_own_labels_and_answers(model_path: Path) -> None:
    model = EdgeModel(model_path)
    assert model.tasks == ("", "topic", "same", "vector")
    assert model.of("topic").labels == ("sport", "politics", "art")
    np.testing.assert_allclose(model.of("topic").logits(TEXTS), expected(TEXTS, "topic"), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.logits(TEXTS), expected(TEXTS, ""), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.of("vector").embed(TEXTS), expected(TEXTS, "vector"), rtol=1e-5, atol=1e-5)
    pairs = [("a good movie", "a bad film"), ("it", "")]
    np.testing.assert_allclose(model.of("same").logits(pairs), expected(pairs, "same"), rtol=1e-5, atol=1e-5)
    assert model.labels == ("negative", "positive")


def test_a_task_that_is_not_there(model_path: Path) -> None:
    with pytest.raises(RuntimeInputError, match="has no task 'tone', expected one of topic, same, vector, or none"):
        EdgeModel(model_path).of("tone")


def test_a_model_of_one_task_has_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(build_model(random_ensemble())[0].SerializeToString())
    with pytest.raises(RuntimeInputError, match="has no task 'topic', it has only one"):
        EdgeModel(path).of("topic")


def test_the_command_answers_the_task_that_is_named(model_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", str(model_path), TEXTS[0], "--task", "topic", "--format", "json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["label"] == ("sport", "politics", "art")[int(expected(TEXTS[:1], "topic").argmax())]
    result = CliRunner().invoke(app, ["run", str(model_path), TEXTS[0], "--task", "tone"])
    assert result.exit_code == 1
    assert "has no task 'tone'" in result.stderr


def test_inspect_shows_all_tasks(model_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(model_path)])
    assert "task topic" in result.stdout
    assert "sport, politics, art" in result.stdout
    found = json.loads(CliRunner().invoke(app, ["inspect", str(model_path), "--format", "json"]).stdout)
    assert found["tasks"]["same"]["labels"] == ["no", "yes"]
    assert found["tasks"]["same"]["task"]["text_pair"] is True
