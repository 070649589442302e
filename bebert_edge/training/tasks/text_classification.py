# SPDX-License-Identifier: Apache-2.0
"""One answer for a text or a pair of texts: a class, several, or a score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from bebert_edge.training.data import Batch, EncodedExamples
from bebert_edge.training.files import Examples
from bebert_edge.training.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

METRICS = {"single_label": "accuracy", "multi_label": "micro F1", "regression": "Pearson correlation"}


class TextClassification(Task):
    """Classes of texts, by the first token."""

    name = "text-classification"
    model = BertForSequenceClassification
    auto = AutoModelForSequenceClassification

    @property
    def metric(self) -> str:
        """See `Task.metric`."""
        return METRICS[self.problem]

    @classmethod
    def read(cls, path: str | Path, *, split: str, classes: Sequence[str] | None, **columns: Any) -> Examples:
        """A file of texts and labels, or a GLUE task."""
        from bebert_edge.training.glue import resolve

        return resolve(str(path), split, classes=classes, **columns)

    def encode(self, examples: Examples, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedExamples:
        """Token ids and labels; longer texts lose their end."""
        encoded = tokenizer(
            examples.texts, examples.pairs, truncation=True, max_length=max_length, return_token_type_ids=True
        )
        if examples.problem == "multi_label":
            labels = torch.zeros(len(examples), len(examples.label_names))
            for row, classes in enumerate(examples.labels):
                labels[row, classes] = 1.0
        else:
            dtype = torch.float32 if examples.problem == "regression" else torch.int64
            labels = torch.tensor(examples.labels, dtype=dtype)
        return EncodedExamples(encoded["input_ids"], encoded["token_type_ids"], labels, tokenizer.pad_token_id or 0)

    def label_losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy, mean binary cross-entropy, or squared error."""
        labels = batch["labels"]
        if self.problem == "regression":
            return (logits[:, 0] - labels).square()
        if self.problem == "multi_label":
            return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)
        return F.cross_entropy(logits, labels, reduction="none")

    def teacher_losses(self, logits: Tensor, expected: Tensor, batch: Batch) -> Tensor:
        """The same with soft labels (Hinton et al., 2015)."""
        if self.problem == "regression":
            return (logits - expected)[:, 0].square()
        if self.problem == "multi_label":
            return F.binary_cross_entropy_with_logits(logits, expected.sigmoid(), reduction="none").mean(-1)
        return F.cross_entropy(logits, expected.softmax(-1), reduction="none")

    def score(self, answers: Tensor, data: EncodedExamples) -> float:
        """By the labels that the model would answer."""
        from scipy.stats import pearsonr
        from sklearn.metrics import accuracy_score, f1_score

        labels = data.labels
        if self.problem == "regression":
            constant = len(labels) < 2 or float(answers.std()) == 0 or float(labels.std()) == 0
            return 0.0 if constant else float(pearsonr(answers[:, 0].double(), labels.double()).statistic)
        if self.problem == "multi_label":
            return float(f1_score(labels.numpy() > 0.5, answers.numpy() > 0, average="micro", zero_division=0.0))
        return float(accuracy_score(labels.numpy(), answers.argmax(-1).numpy()))

    def mistakes(self, answers: Tensor, data: EncodedExamples) -> Tensor:
        """Whether the class is wrong; the share of wrong labels; how far off the score is."""
        if self.problem == "regression":
            return (answers[:, 0] - data.labels).abs()
        if self.problem == "multi_label":
            return ((answers > 0) != (data.labels > 0.5)).float().mean(-1)
        return answers.argmax(-1) != data.labels
