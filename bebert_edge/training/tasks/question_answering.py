# SPDX-License-Identifier: Apache-2.0
"""Answers as spans of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, BertForQuestionAnswering

from bebert_edge.runtime.answers import best_span, eligible
from bebert_edge.runtime.windows import WindowedText, WindowEncoder
from bebert_edge.training.data import Batch, EncodedExamples
from bebert_edge.training.question_files import Answer, QuestionExamples, read_questions
from bebert_edge.training.squad import best_scores
from bebert_edge.training.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOWHERE = -1e30
"""Logit of tokens where no answer can begin or end."""


@dataclass(frozen=True)
class EncodedQuestions(EncodedExamples):
    """Windows of texts, each with its question; labels are the places of begin and end, int64 [N, 2].

    Both are 0, the first token, where the answer is not in the window.

    Attributes:
        eligible: Where in each window an answer may begin or end.
        questions: The questions with their windows, in the order of the data.
        truth: What people answered.
    """

    eligible: Sequence[list[bool]] = ()
    questions: tuple[WindowedText, ...] = ()
    truth: tuple[list[str], ...] = ()

    def batch(self, index: Sequence[int]) -> Batch:
        """See `EncodedExamples.batch`; with `eligible` [B, S]."""
        batch = super().batch(index)
        mask = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
        for row, i in enumerate(index):
            mask[row, : len(self.eligible[i])] = torch.tensor(self.eligible[i])
        return batch | {"eligible": mask}


class QuestionAnswering(Task):
    """Where in a text the answer to a question begins and ends (Rajpurkar et al., 2016; Devlin et al., 2019).

    Texts beyond the longest input are several examples, windows that overlap. In those that do not hold the answer, it
    is at the first token.
    """

    name = "question-answering"
    model = BertForQuestionAnswering
    auto = AutoModelForQuestionAnswering
    last = "qa_outputs"
    boosts = False
    max_length = 384

    @property
    def metric(self) -> str:
        """See `Task.metric`."""
        return "F1"

    @classmethod
    def read(cls, path: str | Path, *, split: str, classes: Sequence[str] | None, **columns: Any) -> QuestionExamples:
        """A file of questions, texts and answers."""
        return read_questions(
            path,
            question_column=columns.get("text_column"),
            context_column=columns.get("text_pair_column"),
            answer_column=columns.get("label_column"),
        )

    def encode(
        self, examples: QuestionExamples, tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> EncodedQuestions:
        """Token ids of windows; the first of several answers is what is learnt."""
        encoder = WindowEncoder(tokenizer.backend_tokenizer.to_str(), max_length, text_pair=True)
        encoded = encoder.encode(list(zip(examples.questions, examples.contexts, strict=True)))
        ids, token_types, places, labels = [], [], [], []
        for text, answers in zip(encoded, examples.answers, strict=True):
            answer = _tokens(text, answers[0]) if answers else None
            for window in text.windows:
                ids.append(window.ids)
                token_types.append(window.type_ids)
                places.append(eligible(text, window).tolist())
                inside = answer is not None and window.tokens[0] <= answer[0] and answer[1] < window.tokens[1]
                offset = window.place - window.tokens[0]
                labels.append([offset + token for token in answer] if answer and inside else [0, 0])
        truth = tuple([text for text, _ in answers] for answers in examples.answers)
        pad = tokenizer.pad_token_id or 0
        return EncodedQuestions(ids, token_types, torch.tensor(labels), pad, places, tuple(encoded), truth)

    def logits(self, output: Any) -> Tensor:
        """Of begin and end, side by side."""
        return torch.stack([output.start_logits, output.end_logits], -1)

    def label_losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of begin and end, over the eligible tokens."""
        masked = _masked(logits, batch["eligible"])
        losses = F.cross_entropy(masked.flatten(0, 1), batch["labels"].flatten(), reduction="none")
        return losses.view(-1, 2).mean(-1)

    def teacher_losses(self, logits: Tensor, expected: Tensor, batch: Batch) -> Tensor:
        """The same with soft labels."""
        masked, wanted = (_masked(x, batch["eligible"]).flatten(0, 1) for x in (logits, expected))
        return F.cross_entropy(masked, wanted.softmax(-1), reduction="none").view(-1, 2).mean(-1)

    def answers(self, rows: list[Tensor], data: EncodedExamples) -> Tensor:
        """Two choices for each window, begin and end, among the eligible tokens: [2 N, tokens of the longest]."""
        assert isinstance(data, EncodedQuestions)
        choices = torch.full((len(rows), 2, max(map(len, rows), default=0)), NOWHERE)
        for i, row in enumerate(rows):
            places = torch.tensor(data.eligible[i])
            choices[i, :, : len(row)] = torch.where(places, row.T, NOWHERE)
        return choices.flatten(0, 1)

    def truth(self, data: EncodedExamples) -> Tensor:
        """Places of begin and end."""
        return data.labels.flatten()

    def score(self, answers: Tensor, data: EncodedExamples) -> float:
        """SQuAD's F1; no answer is one only where some question has none."""
        assert isinstance(data, EncodedQuestions)
        rows = answers.view(len(data), 2, -1).transpose(1, 2).numpy()
        found, place = [], 0
        for text, truth in zip(data.questions, data.truth, strict=True):
            windows = [rows[place + i, : len(window.ids)] for i, window in enumerate(text.windows)]
            place += len(windows)
            best, nothing = best_span(text, windows)
            says = "" if nothing > best.score and not all(data.truth) else text.text[best.start : best.end]
            found.append(best_scores(says, truth)[1])
        return float(np.mean(found))


def _masked(logits: Tensor, places: Tensor) -> Tensor:
    """[B, S, 2] -> [B, 2, S] with `NOWHERE` at places that are not eligible."""
    return logits.transpose(1, 2).masked_fill(~places[:, None], NOWHERE)


def _tokens(text: WindowedText, answer: Answer) -> tuple[int, int] | None:
    """The first and the last token that hold characters of an answer."""
    start, end = answer[1], answer[1] + len(answer[0])
    inside = [i for i, (a, b) in enumerate(text.spans) if a < b and a < end and start < b]
    return (inside[0], inside[-1]) if inside else None
