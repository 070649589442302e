# SPDX-License-Identifier: Apache-2.0
"""A label for every word of a text: named entities, parts of speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForTokenClassification, BertForTokenClassification

from bebert_edge.runtime.entities import first_tokens
from bebert_edge.runtime.tags import OUTSIDE, chunk_f1
from bebert_edge.runtime.windows import WindowEncoder
from bebert_edge.training.data import Batch, EncodedExamples
from bebert_edge.training.tasks.task import Task
from bebert_edge.training.token_files import TokenExamples, read_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNLABELLED = -100
"""Label of tokens that nothing is learnt for, as in transformers."""


@dataclass(frozen=True)
class EncodedTokens(EncodedExamples):
    """Windows of sentences; labels are int64 [N, tokens of the longest], `UNLABELLED` but for first tokens of words.

    Attributes:
        words: Of each window, the words whose first tokens are labelled, in their order.
        sentences: To which sentence each window belongs.
        truth: The tags of each sentence, by name.
        names: Names of the labels.
    """

    words: Sequence[list[int]] = ()
    sentences: Sequence[int] = ()
    truth: tuple[list[str], ...] = ()
    names: tuple[str, ...] = ()

    def batch(self, index: Sequence[int]) -> Batch:
        """See `EncodedExamples.batch`; labels are as wide as the batch."""
        batch = super().batch(index)
        return batch | {"labels": batch["labels"][:, : batch["input_ids"].shape[1]]}


class TokenClassification(Task):
    """Labels of words, each by its first token.

    Sentences beyond the longest input are several examples, windows that overlap; each word is learnt once. Boosting
    weighs these examples, by the share of their words that are wrong, as it does with the labels of multi-label tasks.
    """

    name = "token-classification"
    model = BertForTokenClassification
    auto = AutoModelForTokenClassification

    @property
    def metric(self) -> str:
        """See `Task.metric`."""
        return "entity F1"

    @classmethod
    def read(cls, path: str | Path, *, split: str, classes: Sequence[str] | None, **columns: Any) -> TokenExamples:
        """A file of words and tags."""
        return read_tokens(
            path, token_column=columns.get("text_column"), tag_column=columns.get("label_column"), classes=classes
        )

    def encode(self, examples: TokenExamples, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedTokens:
        """Token ids of the words with spaces between, as texts are when the model runs."""
        encoder = WindowEncoder(tokenizer.backend_tokenizer.to_str(), max_length, text_pair=False)
        ids, token_types, words, sentences, rows = [], [], [], [], []
        encoded = encoder.encode([" ".join(tokens) for tokens in examples.tokens])
        for sentence, (text, tokens, tags) in enumerate(zip(encoded, examples.tokens, examples.tags, strict=True)):
            firsts = first_tokens(text.spans, tokens)
            for window in text.windows:
                labels, inside = [UNLABELLED] * len(window.ids), []
                for word, token in firsts.items():
                    if window.own[0] <= token < window.own[1]:
                        labels[window.place + token - window.tokens[0]] = tags[word]
                        inside.append(word)
                ids.append(window.ids)
                token_types.append(window.type_ids)
                words.append(inside)
                sentences.append(sentence)
                rows.append(labels)
        padded = torch.full((len(rows), max(map(len, rows), default=0)), UNLABELLED)
        for row, labels in enumerate(rows):
            padded[row, : len(labels)] = torch.tensor(labels)
        names = tuple(examples.label_names)
        truth = tuple([names[tag] for tag in tags] for tags in examples.tags)
        return EncodedTokens(ids, token_types, padded, tokenizer.pad_token_id or 0, words, sentences, truth, names)

    def label_losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of the labelled tokens."""
        labels = batch["labels"]
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED, reduction="none")
        return _mean(losses.view_as(labels), labels)

    def teacher_losses(self, logits: Tensor, expected: Tensor, batch: Batch) -> Tensor:
        """The same with soft labels: at the tokens that the teacher was taught to answer for."""
        losses = F.cross_entropy(logits.flatten(0, 1), expected.softmax(-1).flatten(0, 1), reduction="none")
        return _mean(losses.view_as(batch["labels"]), batch["labels"])

    def answers(self, rows: list[Tensor], data: EncodedExamples) -> Tensor:
        """One choice for each labelled token."""
        return torch.cat([row[data.labels[i, : len(row)] != UNLABELLED] for i, row in enumerate(rows)])

    def truth(self, data: EncodedExamples) -> Tensor:
        """The labels of these tokens."""
        return data.labels[data.labels != UNLABELLED]

    def score(self, answers: Tensor, data: EncodedExamples) -> float:
        """F1 of whole entities, of all sentences together; words without a token are outside."""
        assert isinstance(data, EncodedTokens)
        found = [[OUTSIDE] * len(tags) for tags in data.truth]
        chosen = iter(answers.argmax(-1).tolist())
        for sentence, words in zip(data.sentences, data.words, strict=True):
            for word in words:
                found[sentence][word] = data.names[next(chosen)]
        return chunk_f1(data.truth, found)

    def mistakes(self, answers: Tensor, data: EncodedExamples) -> Tensor:
        """The share of an example's words that are wrong."""
        labelled = data.labels != UNLABELLED
        wrong = torch.zeros(data.labels.shape)
        wrong[labelled] = (answers.argmax(-1) != data.labels[labelled]).float()
        return _mean(wrong, data.labels)


def _mean(values: Tensor, labels: Tensor) -> Tensor:
    """Means over the labelled tokens of each example [B]; 0 where there are none."""
    labelled = (labels != UNLABELLED).to(values.dtype)
    return (values * labelled).sum(-1) / labelled.sum(-1).clamp(min=1)
