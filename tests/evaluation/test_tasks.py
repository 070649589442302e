# SPDX-License-Identifier: Apache-2.0
"""Reranking, similarity and retrieval: values against scikit-learn, scipy and loops, and the command."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score
from typer.testing import CliRunner

from bebert_edge.cli.main import app
from bebert_edge.config import TaskConfig
from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation import EvaluatedModel
from bebert_edge.evaluation.tasks import evaluate_task, open_task
from bebert_edge.evaluation.tasks.ranking import ndcg, order, reciprocal_rank
from bebert_edge.runtime import EdgeModel
from bebert_edge.runtime.text import EncodedText
from model_files import write_model

MEAN = TaskConfig("sentence-embedding", "embedding", pooling="mean")


class Known(EvaluatedModel):
    """Answers text "i ..." (of a pair, the second) with row i of its numbers `[E, N, C]`."""

    def __init__(self, answers: Any, problem: str = "regression", combination: str = "logits") -> None:
        self.answers = np.asarray(answers, np.float64)
        self.path, self.kind, self.problem, self.combination = "known", "onnx", problem, combination
        self.task = "sentence-embedding" if problem == "embedding" else "reranking"
        self.labels = () if problem == "embedding" else ("relevant",)
        self.text_pair = problem != "embedding"
        self.weights = (1 / len(self.answers),) * len(self.answers)

    @property
    def width(self) -> int:
        return self.answers.shape[-1]

    def encode(self, texts: Any, pairs: Any) -> list[EncodedText]:
        return [EncodedText(text, None, [0], [0], False) for text in (texts if pairs is None else pairs)]

    def run(self, batch: Any, index: Any, noise: Any) -> Any:
        return self.answers[:, [int(text.text.split()[0]) for text in batch]]


def test_ranking_metrics_are_those_of_others() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        relevance = rng.integers(0, 3, 30).astype(float)
        scores = rng.permutation(30) / 7
        found = relevance[order(scores, relevance)]
        assert ndcg(found, relevance) == pytest.approx(ndcg_score([relevance], [scores], k=10))
        places = [i for i, x in enumerate(found[:10], 1) if x]
        assert reciprocal_rank(found) == (1 / places[0] if places else 0)
    assert reciprocal_rank(np.array([0.0] * 10 + [1])) == 0
    tied = np.array([1.0, 0, 0])
    assert reciprocal_rank(tied[order(np.zeros(3), tied)]) == 1 / 3


def test_reranking_counts_every_query_once(tmp_path: Path) -> None:
    rows = [("a", 0, 0), ("b", 1, 1), ("a", 2, 1), ("b", 3, 0), ("c", 4, 0), ("a", 5, 2)]
    lines = [f"{query}\t{i} text\t{relevance}" for query, i, relevance in rows]
    (tmp_path / "data.tsv").write_text("query\tdocument\tlabel\n" + "\n".join(lines))
    evaluation = open_task("reranking", tmp_path / "data.tsv")
    assert evaluation.counts == {"queries": 2, "documents": 5}  # c has nothing relevant
    first, second = [3, 1, 2, 0, 9, 1], [3, 0, 4, 1, 9, 5]
    report = evaluate_task([Known(np.array([first, second])[..., None])], evaluation)
    (found,) = report.models
    # a: of the first member 0, 2, 5; of the second 5, 2, 0. b: 1 before 3, and after it. All of their means tie.
    assert found.members[0].value == (1 / 2 + 1) / 2
    assert found.members[1].value == (1 + 1 / 2) / 2
    assert (report.metric, report.task) == ("mrr@10", "reranking")
    tied = [ndcg_score([[0, 1, 2]], [[3, 2, 1]]), ndcg_score([[0, 1]], [[2, 1]])]
    assert found.scores["ndcg@10"].value == pytest.approx(np.mean(tied))
    assert found.gain is not None
    for score in found.scores.values():
        assert score.interval is not None
        assert score.interval.low <= score.value <= score.interval.high


def unit(*shape: int, seed: int = 0) -> Any:
    vectors = np.random.default_rng(seed).normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("combination", ["embeddings", "concatenation"])
def test_similarity_is_the_correlation_of_cosines(tmp_path: Path, combination: str) -> None:
    scores = np.random.default_rng(1).uniform(0, 5, 40)
    lines = [f"{i} a\t{i + 40} b\t{score}" for i, score in enumerate(scores)]
    (tmp_path / "sts.tsv").write_text("sentence1\tsentence2\tscore\n" + "\n".join(lines))
    vectors = unit(2, 80, 6)
    model = Known(vectors, "embedding", combination)
    (found,) = evaluate_task([model], open_task("sentence-embedding", tmp_path / "sts.tsv")).models
    cosines = (vectors[:, :40] * vectors[:, 40:]).sum(-1)
    mean = vectors.mean(0)
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    answer = (mean[:40] * mean[40:]).sum(-1) if combination == "embeddings" else cosines.mean(0)
    assert found.scores["spearman"].value == pytest.approx(spearmanr(answer, scores).statistic)
    assert [x.value for x in found.members] == pytest.approx([spearmanr(c, scores).statistic for c in cosines])


def write_corpus(directory: Path) -> list[set[int]]:
    rng = np.random.default_rng(2)
    relevant = [set(rng.choice(150, rng.integers(1, 4), replace=False).tolist()) for _ in range(20)]
    with gzip.open(directory / "dev_corpus.tsv.gz", "wt") as file:
        file.write("doc_id\tsentence\n" + "".join(f"d{i}\t{i + 20} text\n" for i in range(150)))
    queries = [json.dumps({"_id": f"q{i}", "text": f"{i} query"}) for i in range(20)]
    (directory / "dev_queries.jsonl").write_text("\n".join(queries))
    (directory / "qrels").mkdir()
    judged = "".join(f"q{i}\td{document}\t1\n" for i, found in enumerate(relevant) for document in found)
    (directory / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return relevant


def test_retrieval_ranks_the_whole_corpus(tmp_path: Path) -> None:
    relevant = write_corpus(tmp_path)
    vectors = unit(1, 170, 8)
    model = Known(vectors, "embedding", "embeddings")
    evaluation = open_task("sentence-embedding", tmp_path)
    (found,) = evaluate_task([model], evaluation).models
    ranks = np.argsort(-(vectors[0, :20] @ vectors[0, 20:].T), axis=1)
    for k in (1, 10, 100):
        shares = [
            len(wanted & set(row[:k])) / len(wanted) for wanted, row in zip(relevant, ranks.tolist(), strict=True)
        ]
        assert found.scores[f"recall@{k}"].value == pytest.approx(np.mean(shares))
    firsts = [
        next((1 / place for place, i in enumerate(row[:10], 1) if i in wanted), 0)
        for wanted, row in zip(relevant, ranks.tolist(), strict=True)
    ]
    assert found.scores["mrr@10"].value == pytest.approx(np.mean(firsts))
    with pytest.raises(EvaluationError, match="test_corpus or corpus"):
        open_task("sentence-embedding", tmp_path, split="test")
    with pytest.raises(EvaluationError, match="is a model for reranking, expected one that gives embeddings"):
        evaluate_task([Known(np.zeros((1, 170, 1)))], evaluation)
    with pytest.raises(EvaluationError, match="'accuracy' is no metric of retrieval"):
        evaluate_task([model], evaluation, metrics=["accuracy"])


def evaluate(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_command_evaluates_exported_models(tmp_path: Path) -> None:
    texts = ["a good movie", "the film is bad", "it was very good", "not a movie", "a", "is it good"]
    rows = [(a, b, (i * 7 + j) % 5 + 0.5) for i, a in enumerate(texts) for j, b in enumerate(texts[:i])]
    (tmp_path / "sts.tsv").write_text(
        "sentence1\tsentence2\tlabel\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in rows)
    )
    model = write_model(tmp_path / "embed.onnx", task=MEAN, combination="embeddings")
    done = evaluate(model, "--data", tmp_path / "sts.tsv", "--format", "json", "-o", tmp_path / "report.json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    first, second = (EdgeModel(model).embed([row[side] for row in rows]) for side in (0, 1))
    expected = spearmanr((first * second).sum(1), [row[2] for row in rows]).statistic
    assert report["models"][0]["scores"]["spearman"]["value"] == pytest.approx(expected, abs=1e-3)
    assert report["task"] == "sentence-embedding"
    table = evaluate(model, "--data", tmp_path / "sts.tsv").stdout
    assert "sentence-embedding, 15 pairs; 95 % intervals" in table
    assert "ensemble less mean member" in table
    for option in (("--perturb", "typos"), ("--label-names", "a,b")):
        done = evaluate(model, "--data", tmp_path / "sts.tsv", *option)
        assert done.exit_code == 1
        assert option[0] in done.stderr

    task = TaskConfig("reranking", "multi_label", text_pair=True)
    ranker = write_model(tmp_path / "rank.onnx", task=task, labels=("relevant",))
    other = write_model(tmp_path / "other.onnx", task=task, labels=("relevant",), seed=1)
    (tmp_path / "rank.tsv").write_text(
        "query\tdocument\tlabel\n" + "".join(f"{a}\t{b}\t{int(score > 2)}\n" for a, b, score in rows)
    )
    done = evaluate(ranker, "--data", tmp_path / "rank.tsv", "--compare-to", other, "--format", "json")
    report = json.loads(done.stdout)
    assert [model["path"] for model in report["models"]] == [str(ranker), str(other)]
    values = [model["scores"]["mrr@10"]["value"] for model in report["models"]]
    assert report["comparisons"][0]["difference"]["value"] == pytest.approx(values[0] - values[1])
