# SPDX-License-Identifier: Apache-2.0
"""Kinds of tasks that can be trained, one file each (docs/tasks.md).

A task is transformers' model for it with a BERT inside, how examples become batches, and what is learnt from them. All
else (binarizing, distilling, members, checkpoints) knows the encoder alone.
"""

from __future__ import annotations

from bebert_edge.errors import TrainingError
from bebert_edge.training.tasks.fill_mask import FillMask
from bebert_edge.training.tasks.question_answering import QuestionAnswering
from bebert_edge.training.tasks.reranking import Reranking
from bebert_edge.training.tasks.sentence_embedding import SentenceEmbedding
from bebert_edge.training.tasks.task import LabelledExamples, Task
from bebert_edge.training.tasks.text_classification import TextClassification
from bebert_edge.training.tasks.token_classification import TokenClassification

__all__ = ["TASKS", "LabelledExamples", "Task", "TextClassification", "find", "of"]

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (TextClassification, TokenClassification, QuestionAnswering, Reranking, SentenceEmbedding, FillMask)
}


def find(name: str) -> type[Task]:
    """The task of this name.

    Raises:
        TrainingError: It cannot be trained.
    """
    if name not in TASKS:
        raise TrainingError(f"--task is {name!r}, expected one of {', '.join(TASKS)}")
    return TASKS[name]


def of(examples: LabelledExamples) -> Task:
    """The task that examples are of."""
    return find(examples.task)(examples.problem)
