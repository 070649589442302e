# SPDX-License-Identifier: Apache-2.0
"""Evaluations of tasks other than labels of texts: each its data, its metrics, one report for all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.models import EvaluatedModel
from bebert_edge.evaluation.tasks.task import TaskEvaluation, TaskReport, evaluate_task

__all__ = ["CLASSIFICATION", "TaskEvaluation", "TaskReport", "evaluate_task", "open_task", "task_of"]

CLASSIFICATION = "text-classification"


def task_of(models: Sequence[EvaluatedModel]) -> str:
    """The first task of models that is not classification of texts: Hugging Face models with one score say that too."""
    return next((model.task for model in models if model.task != CLASSIFICATION), CLASSIFICATION)


def open_task(
    task: str,
    data: Path,
    *,
    split: str = "dev",
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> TaskEvaluation[Any]:
    """Reads a task's data.

    Args:
        task: `reranking`, `sentence-embedding`, `token-classification`, `question-answering` or `fill-mask`.
        data: Reranking: a file of queries, documents and relevance. Sentence embeddings: a file of pairs of texts and
            scores, a directory of a corpus (`read_retrieval`), or the name of a GLUE task of scores. Token
            classification, question answering: a file as for `read_tokens`, `read_questions`. Fill-mask: a file of
            texts.
        split: Of a directory or a GLUE task.
        text_column: Column of a file's text.
        text_pair_column: Column of the second.
        label_column: Column of the score or relevance.
        limit: Only the first so many examples, or queries.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        EvaluationError, TrainingError: The data cannot be read, or the task has no evaluation of its own.
    """
    columns = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
    if limit is not None and limit < 1:
        raise EvaluationError(f"--limit is {limit}, expected 1 or more")
    if task == "reranking":
        from bebert_edge.evaluation.tasks.reranking import Reranking, read_ranking

        found = read_ranking(
            data, query_column=text_column, document_column=text_pair_column, label_column=label_column, limit=limit
        )
        return Reranking(found, resamples, seed)
    if task == "sentence-embedding":
        if data.is_dir():
            from bebert_edge.evaluation.tasks.retrieval import Retrieval, read_retrieval

            return Retrieval(read_retrieval(data, split=split, limit=limit), resamples, seed)
        from bebert_edge.evaluation.tasks.similarity import Similarity
        from bebert_edge.training.glue import resolve

        examples = resolve(data, split, problem="regression", **columns)
        return Similarity(examples.select(range(min(limit or len(examples), len(examples)))), resamples, seed)
    if task == "token-classification":
        from bebert_edge.evaluation.tasks.entities import Entities
        from bebert_edge.training.token_files import read_tokens

        tagged = read_tokens(data, token_column=text_column, tag_column=label_column)
        return Entities(tagged.select(range(min(limit or len(tagged), len(tagged)))), resamples, seed)
    if task == "question-answering":
        from bebert_edge.evaluation.tasks.questions import Questions
        from bebert_edge.training.question_files import read_questions

        asked = read_questions(
            data, question_column=text_column, context_column=text_pair_column, answer_column=label_column
        )
        return Questions(asked.select(range(min(limit or len(asked), len(asked)))), resamples, seed)
    if task == "fill-mask":
        from bebert_edge.evaluation.tasks.masks import Masks
        from bebert_edge.training.files import read_texts

        rows = read_texts(data, text_column=text_column, text_pair_column=text_pair_column)
        return Masks([text for row in rows for text in row if text is not None][:limit], resamples, seed)
    raise EvaluationError(
        f"{task} has no evaluation: expected reranking, sentence-embedding, token-classification, question-answering "
        "or fill-mask"
    )
