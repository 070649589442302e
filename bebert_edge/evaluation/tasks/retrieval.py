# SPDX-License-Identifier: Apache-2.0
"""Retrieval: the documents of a corpus by the cosine of their embeddings with a query's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.bootstrap import Bootstrap
from bebert_edge.evaluation.models import Array, EvaluatedModel, Progress
from bebert_edge.evaluation.tasks.ranking import means, ndcg, order, recall, reciprocal_rank
from bebert_edge.evaluation.tasks.similarity import check_embeds
from bebert_edge.evaluation.tasks.task import Measured, TaskEvaluation
from bebert_edge.training.files import read_rows

IDS = ("_id", "id", "doc_id", "query_id", "corpus-id", "query-id")
TEXTS = ("text", "sentence", "query", "document")
SUFFIXES = (".tsv", ".csv", ".jsonl", ".tsv.gz", ".csv.gz", ".jsonl.gz")
DEPTHS = (1, 10, 100)
_CHUNK = 512  # queries in one matrix product

Vectors = tuple[Array, Array]
"""Embeddings of queries `[Q, size]` and documents `[D, size]`."""


@dataclass(frozen=True)
class RetrievalData:
    """Q queries, D documents, and which are relevant to which.

    Attributes:
        queries: The queries.
        documents: The documents.
        relevance: For each query how relevant documents are, by their number; those that are not named are not.
    """

    queries: list[str]
    documents: list[str]
    relevance: list[dict[int, float]]


def read_retrieval(directory: str | Path, *, split: str = "dev", limit: int | None = None) -> RetrievalData:
    """Reads a corpus, queries and judgements, laid out as BEIR does (arXiv:2104.08663) or with names by split.

    Files are `corpus` or `SPLIT_corpus`, `queries` or `SPLIT_queries`, and `qrels`, `SPLIT_qrels` or `qrels/SPLIT`,
    each .tsv, .csv or .jsonl, optionally with .gz. Texts have an id and a text, of a document also a title; judgements
    a query's id, a document's id and a number, more than 0 for relevant.

    Args:
        directory: Where they are.
        split: Which.
        limit: Only the first so many queries.

    Raises:
        EvaluationError: A file or a column is missing, a judgement names what does not exist, or none is relevant.
        TrainingError: A file cannot be read.
    """
    root = Path(directory)
    corpus = _texts(_file(root, f"{split}_corpus", "corpus"))
    queries = _texts(_file(root, f"{split}_queries", "queries"))
    path = _file(root, f"{split}_qrels", f"qrels/{split}", "qrels")
    places = {name: i for i, name in enumerate(corpus)}
    judged: dict[str, dict[int, float]] = {}
    for line, row in read_rows(path):
        query, document, relevance = (
            str(_value(path, line, row, names))
            for names in (("query_id", "query-id"), ("doc_id", "corpus-id"), ("label", "score", "relevance"))
        )
        if query not in queries or document not in places:
            raise EvaluationError(f"{path}: line {line} judges query {query} and document {document}: one is missing")
        judged.setdefault(query, {})[places[document]] = _number(path, line, relevance)
    chosen = [query for query in queries if any(x > 0 for x in judged.get(query, {}).values())][:limit]
    if not chosen:
        raise EvaluationError(f"{path} has no relevant document: expected a number above 0 for each query")
    return RetrievalData([queries[name] for name in chosen], list(corpus.values()), [judged[name] for name in chosen])


def _file(root: Path, *stems: str) -> Path:
    found = [root / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES if (root / f"{stem}{suffix}").is_file()]
    if not found:
        raise EvaluationError(
            f"{root} has no {' or '.join(stems)}, expected such a file of {', '.join(SUFFIXES[:3])}, maybe with .gz: "
            "choose another --split or --data"
        )
    return found[0]


def _texts(path: Path) -> dict[str, str]:
    texts = {}
    for line, row in read_rows(path):
        text = str(_value(path, line, row, TEXTS))
        texts[str(_value(path, line, row, IDS))] = f"{row['title']} {text}" if row.get("title") else text
    return texts


def _value(path: Path, line: int, row: dict[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise EvaluationError(f"{path}: line {line} has the columns {', '.join(row)}, expected one of {', '.join(names)}")


def _number(path: Path, line: int, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise EvaluationError(f"{path}: line {line} has the relevance {text!r:.60}, expected a number") from None


class Retrieval(TaskEvaluation[Vectors]):
    """Mean reciprocal rank and nDCG of the first ten documents, and recall at several depths.

    Args:
        data: Queries and documents.
        resamples: Of the bootstrap over queries.
        seed: Of the bootstrap.
    """

    task = "retrieval"
    metrics = ("mrr@10", "ndcg@10", *(f"recall@{k}" for k in DEPTHS))

    def __init__(self, data: RetrievalData, resamples: int = 1000, seed: int = 0) -> None:
        self.data = data
        self.counts = {"queries": len(data.queries), "documents": len(data.documents)}
        self.bootstrap = Bootstrap(len(data.queries), resamples, seed)

    def check(self, model: EvaluatedModel) -> None:
        """See `TaskEvaluation.check`."""
        check_embeds(model)

    def answers(self, model: EvaluatedModel, batch_size: int, progress: Progress) -> tuple[Vectors, list[Vectors]]:
        """See `TaskEvaluation.answers`."""
        found = model.predict([*self.data.queries, *self.data.documents], batch_size=batch_size, progress=progress)
        queries = len(self.data.queries)

        def split(vectors: Array) -> Vectors:
            return vectors[:queries], vectors[queries:]

        return split(found.answer), [split(member) for member in found.members]

    def measure(self, answer: Vectors) -> dict[str, Measured]:
        """See `TaskEvaluation.measure`."""
        queries, documents = (vectors.astype(np.float32) for vectors in answer)
        values: dict[str, list[float]] = {name: [] for name in self.metrics}
        for begin in range(0, len(queries), _CHUNK):
            for i, cosines in enumerate(queries[begin : begin + _CHUNK] @ documents.T, begin):
                relevance = self.data.relevance[i]
                judged = np.array(list(relevance.values()))
                top = np.argpartition(-cosines, min(DEPTHS[-1], len(cosines) - 1))[: DEPTHS[-1]]
                found = np.array([relevance.get(int(document), 0.0) for document in top])
                found = found[order(cosines[top], found)]
                values["mrr@10"].append(reciprocal_rank(found))
                values["ndcg@10"].append(ndcg(found, judged))
                for k in DEPTHS:
                    values[f"recall@{k}"].append(recall(found, judged, k))
        return means(values, self.bootstrap)
