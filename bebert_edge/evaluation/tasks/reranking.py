# SPDX-License-Identifier: Apache-2.0
"""Reranking: the candidates of each query by a model's scores of query and document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.bootstrap import Bootstrap
from bebert_edge.evaluation.models import Array, EvaluatedModel, Progress
from bebert_edge.evaluation.tasks.ranking import means, ndcg, order, reciprocal_rank
from bebert_edge.evaluation.tasks.task import Measured, TaskEvaluation


@dataclass(frozen=True)
class RankingData:
    """Candidates of Q queries.

    Attributes:
        queries: A query for each of N rows.
        documents: A candidate document for each row.
        relevance: How relevant it is `[N]`; more than 0 is relevant.
        groups: Row numbers of each query's candidates.
    """

    queries: list[str]
    documents: list[str]
    relevance: Array
    groups: tuple[NDArray[np.int64], ...]


def read_ranking(
    path: str | Path,
    *,
    query_column: str | None = None,
    document_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
) -> RankingData:
    """Reads a .tsv, .csv or .jsonl file of queries, candidates and relevance, one candidate a line.

    Args:
        path: The file.
        query_column: Column of the query; by default `query`, or as for `read_examples`.
        document_column: Column of the document; by default `document`, or as for `read_examples`.
        label_column: Column of the relevance, a number: 0 is not relevant.
        limit: Only the first so many queries.

    Raises:
        TrainingError: The file cannot be read.
        EvaluationError: No query has a relevant document.
    """
    from bebert_edge.training.files import read_examples

    examples = read_examples(
        path,
        text_column=query_column,
        text_pair_column=document_column,
        label_column=label_column,
        problem="regression",
    )
    if examples.pairs is None:
        raise EvaluationError(
            f"{path} has no second text: name the columns, --text-column QUERY --text-pair-column DOCUMENT"
        )
    rows: dict[str, list[int]] = {}
    for i, query in enumerate(examples.texts):
        rows.setdefault(query, []).append(i)
    chosen = [group for group in rows.values() if any(examples.labels[i] > 0 for i in group)][:limit]
    if not chosen:
        raise EvaluationError(f"{path} has no relevant document: expected a label above 0 for each query")
    keep = [i for group in chosen for i in group]
    place = {row: i for i, row in enumerate(keep)}
    return RankingData(
        queries=[examples.texts[i] for i in keep],
        documents=[examples.pairs[i] for i in keep],
        relevance=np.array([examples.labels[i] for i in keep], np.float64),
        groups=tuple(np.array([place[i] for i in group]) for group in chosen),
    )


class Reranking(TaskEvaluation[Array]):
    """Mean reciprocal rank and nDCG of the first ten candidates. Answers are scores `[N]`.

    Args:
        data: The candidates. Queries without a relevant one were left out.
        resamples: Of the bootstrap over queries.
        seed: Of the bootstrap.
    """

    task = "reranking"
    metrics = ("mrr@10", "ndcg@10")

    def __init__(self, data: RankingData, resamples: int = 1000, seed: int = 0) -> None:
        self.data = data
        self.counts = {"queries": len(data.groups), "documents": len(data.documents)}
        self.bootstrap = Bootstrap(len(data.groups), resamples, seed)

    def check(self, model: EvaluatedModel) -> None:
        """See `TaskEvaluation.check`."""
        if model.text_pair is False or len(model.labels) != 1:
            raise EvaluationError(
                f"{model.path} is a model for {model.task} with {len(model.labels)} labels, expected one score of a "
                "query and a document: train one with --task reranking"
            )

    def answers(self, model: EvaluatedModel, batch_size: int, progress: Progress) -> tuple[Array, list[Array]]:
        """See `TaskEvaluation.answers`."""
        found = model.predict(self.data.queries, self.data.documents, batch_size=batch_size, progress=progress)
        return found.answer[:, 0], list(found.members[..., 0])

    def measure(self, answer: Array) -> dict[str, Measured]:
        """See `TaskEvaluation.measure`."""
        values: dict[str, list[float]] = {name: [] for name in self.metrics}
        for group in self.data.groups:
            judged = self.data.relevance[group]
            found = judged[order(answer[group], judged)]
            values["mrr@10"].append(reciprocal_rank(found))
            values["ndcg@10"].append(ndcg(found, judged))
        return means(values, self.bootstrap)
