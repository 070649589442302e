# SPDX-License-Identifier: Apache-2.0
"""How well a document answers a query: one score of the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bebert_edge.errors import TrainingError
from bebert_edge.training.files import Examples
from bebert_edge.training.tasks.text_classification import TextClassification

LABEL = "relevance"


@dataclass(frozen=True)
class RankingExamples(Examples):
    """Queries (`texts`), documents (`pairs`) and relevance."""

    @property
    def task(self) -> str:
        """See `Examples.task`."""
        return Reranking.name


class Reranking(TextClassification):
    """One label of a pair: its probability where relevance is 0 or 1, else its value."""

    name = "reranking"

    @classmethod
    def read(cls, path: str | Path, *, split: str, classes: Sequence[str] | None, **columns: Any) -> RankingExamples:
        """A file of queries, documents and relevance."""
        wanted = columns.pop("problem", "auto")
        if wanted == "single_label":
            raise TrainingError(f"--problem is {wanted!r}, expected multi_label or regression for {cls.name}")
        found = super().read(path, split=split, classes=None, **columns, problem="regression")
        if found.pairs is None:
            raise TrainingError(
                f"{path} has no documents: name the columns, --text-column QUERY --text-pair-column DOCUMENT"
            )
        names = list(classes or [LABEL])
        binary = wanted == "multi_label" or (wanted == "auto" and set(found.labels) <= {0.0, 1.0})
        if not binary:
            return RankingExamples(found.texts, found.pairs, found.labels, names, "regression")
        if not set(found.labels) <= {0.0, 1.0}:
            raise TrainingError(f"{path} has a relevance that is neither 0 nor 1: pass --problem regression")
        return RankingExamples(found.texts, found.pairs, [[0] if x else [] for x in found.labels], names, "multi_label")
