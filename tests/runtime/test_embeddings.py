# SPDX-License-Identifier: Apache-2.0
"""Embeddings and ranked documents through the public doors, against the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bebert_edge import reference
from bebert_edge.cli.main import app
from bebert_edge.config import TaskConfig
from bebert_edge.errors import RuntimeInputError
from bebert_edge.exporters import build_model
from bebert_edge.runtime import EdgeModel
from bebert_edge.runtime.text import TextEncoder
from model_files import write_model
from support import random_ensemble

MEAN = TaskConfig("sentence-embedding", "embedding", pooling="mean")
TEXTS = ["a good movie", "", "it is not very good, it is bad", "a good movie " * 20]


def written(tmp_path: Path, **arguments: Any) -> tuple[Any, Path]:
    ensemble = random_ensemble(**arguments)
    path = tmp_path / "model.onnx"
    path.write_bytes(build_model(ensemble)[0].SerializeToString())
    return ensemble, path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


@pytest.mark.parametrize("combination", ["embeddings", "concatenation"])
def test_embeddings_are_those_of_the_reference(tmp_path: Path, combination: str) -> None:
    ensemble, path = written(tmp_path, task=MEAN, combination=combination, member_weights=(0.25, 0.75))
    config = ensemble.config
    encoded = TextEncoder(ensemble.tokenizer, config.max_length, False).encode(TEXTS)
    expected = []
    for text in encoded:
        ids = np.array([text.ids])
        expected.append(reference.forward(ensemble, ids, np.ones_like(ids))[0][0])
    model = EdgeModel(path)
    found = model.embed(TEXTS, batch_size=2)
    assert found.dtype == np.float32
    assert found.shape == (4, model.embedding_size) == (4, 24 if combination == "embeddings" else 48)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert model.embed([]).shape == (0, model.embedding_size)
    assert [x.truncated for x in model.stream_embeddings(TEXTS)] == [False, False, False, True]


def test_the_cosines_of_members_are_with_their_weighted_mean(tmp_path: Path) -> None:
    _, path = written(tmp_path, task=MEAN, combination="concatenation", member_weights=(0.25, 0.75))
    (answer,) = EdgeModel(path).stream_embeddings(["a movie"])
    first, second = np.split(np.array(answer.vector), 2) / np.sqrt([[0.25], [0.75]])
    mean = 0.25 * first + 0.75 * second
    expected = [first @ mean / np.linalg.norm(mean), second @ mean / np.linalg.norm(mean)]
    np.testing.assert_allclose(answer.member_cosines, expected, atol=1e-5)


def test_run_writes_an_array(tmp_path: Path) -> None:
    _, path = written(tmp_path, task=MEAN, combination="embeddings")
    expected = EdgeModel(path).embed(TEXTS)
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    done = run(path, "--input", tmp_path / "texts.jsonl", "--format", "npy", "-o", tmp_path / "x.npy")
    assert done.exit_code == 0, done.stderr
    found = np.load(tmp_path / "x.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert "1 truncated" in done.stderr
    piped = run(path, "--format", "npy", *TEXTS)
    assert piped.stdout_bytes == (tmp_path / "x.npy").read_bytes()


def test_run_prints_embeddings_in_text(tmp_path: Path) -> None:
    _, path = written(tmp_path, task=MEAN, combination="embeddings")
    expected = EdgeModel(path).embed(TEXTS)
    records = [json.loads(line) for line in run(path, *TEXTS, "--format", "json").stdout.splitlines()]
    assert [record["text"] for record in records] == TEXTS
    np.testing.assert_allclose([record["embedding"] for record in records], expected)
    header, *rows = run(path, *TEXTS, "--format", "csv").stdout.splitlines()
    assert header.split(",")[:4] == ["text", "tokens", "truncated", "embedding_0"]
    assert len(rows) == 4
    header, *rows = run(path, *TEXTS).stdout.splitlines()
    assert "24 numbers" in header
    assert f"{expected[0][1]:.4f}" in rows[0]
    assert rows[3].endswith("truncated")


def test_a_file_of_answers_is_whole_or_not_there(tmp_path: Path, model_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "good"}\n{"text": 3}\n')
    done = run(model_path, "--input", tmp_path / "texts.jsonl", "--batch-size", 1, "-o", tmp_path / "out.txt")
    assert done.exit_code == 1
    assert [file.name for file in tmp_path.iterdir()] == ["texts.jsonl"]
    done = run(model_path, "good", "--format", "json", "-o", tmp_path / "out.jsonl")
    assert (done.exit_code, done.stdout) == (0, "")
    assert json.loads((tmp_path / "out.jsonl").read_text())["text"] == "good"


def test_models_of_other_tasks_are_refused(tmp_path: Path, model_path: Path) -> None:
    done = run(model_path, "good", "--format", "npy")
    assert done.exit_code == 1
    assert "npy is for embeddings, this is a model for text-classification: expected table, json, csv" in done.stderr
    with pytest.raises(RuntimeInputError, match="gives no embeddings: it is a model for text-classification"):
        EdgeModel(model_path).embed(["good"])
    with pytest.raises(RuntimeInputError, match="cannot rank documents"):
        EdgeModel(model_path).rank("good", ["bad"])
    done = run(model_path, "good", "--query", "bad")
    assert "cannot rank documents: it is a model for text-classification" in done.stderr
    path = write_model(tmp_path / "embed.onnx", task=MEAN, combination="embeddings")
    with pytest.raises(RuntimeInputError, match="no label for a whole text: it is a model for sentence-embedding"):
        EdgeModel(path).predict(["good"])


@pytest.mark.parametrize("problem", ["multi_label", "regression"])
def test_documents_are_ranked_by_their_scores(tmp_path: Path, problem: str) -> None:
    task = TaskConfig("reranking", problem, text_pair=True)
    path = write_model(tmp_path / "rank.onnx", task=task, labels=("relevant",))
    model = EdgeModel(path)
    documents = ["a good movie", "bad", "the film is bad", "it was very good", "bad"]
    answers = model.predict([("good film", document) for document in documents])
    ranked = model.rank("good film", documents)
    assert [x.rank for x in ranked] == [1, 2, 3, 4, 5]
    assert sorted(x.index for x in ranked) == [0, 1, 2, 3, 4]
    assert [x.score for x in ranked] == sorted((answer.score for answer in answers), reverse=True)
    for found in ranked:
        assert (found.document, found.score) == (documents[found.index], answers[found.index].score)
    assert [x.index for x in ranked if x.document == "bad"] == [1, 4]
    if problem == "multi_label":
        assert ranked[0].score == pytest.approx(1 / (1 + np.exp(-answers[ranked[0].index].logits[0])))

    (tmp_path / "documents.txt").write_text("\n".join(documents))
    done = run(path, "--query", "good film", "--input", tmp_path / "documents.txt", "--format", "json")
    assert [json.loads(line)["index"] for line in done.stdout.splitlines()] == [x.index for x in ranked]
    table = "query\tdocument\n" + "".join(f"good film\t{document}\n" for document in documents)
    (tmp_path / "documents.tsv").write_text(table)
    assert (
        run(path, "--query", "good film", "--input", tmp_path / "documents.tsv", "--format", "json").stdout
        == done.stdout
    )
    rows = run(path, "--query", "good film", *documents).stdout.splitlines()
    assert rows[0].split() == ["rank", "document", "value" if problem == "regression" else "probability", "members"]
    assert rows[1].startswith(f"   1  {ranked[0].document}  ")
    assert run(path, "--query", "good film", *documents, "--format", "csv").stdout.splitlines()[1].startswith("1,")
    assert "give --query or --pair" in run(path, "x", "--query", "y", "--pair", "z").stderr
