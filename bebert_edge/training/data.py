# SPDX-License-Identifier: Apache-2.0
"""Token ids in batches of similar length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bebert_edge.training.files import Examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 50  # batches that are sorted by length together


@dataclass(frozen=True)
class Batch:
    """A padded batch: int64 tensors.

    Attributes:
        input_ids: Token ids [B, S].
        attention_mask: 1 for tokens, 0 for padding [B, S].
        token_type_ids: Token types [B, S].
        labels: Classes [B].
        index: Which examples of the data set these are [B].
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor
    index: Tensor

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The arguments of a transformers model."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "token_type_ids": self.token_type_ids,
        }


@dataclass(frozen=True)
class EncodedExamples:
    """Examples as token ids."""

    ids: list[list[int]]
    token_types: list[list[int]]
    labels: list[int]
    pad_id: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def _batch(self, index: Sequence[int]) -> Batch:
        shape = (len(index), max(len(self.ids[i]) for i in index))
        ids = torch.full(shape, self.pad_id)
        mask = torch.zeros(shape, dtype=torch.long)
        token_types = torch.zeros(shape, dtype=torch.long)
        for row, i in enumerate(index):
            length = len(self.ids[i])
            ids[row, :length] = torch.tensor(self.ids[i])
            token_types[row, :length] = torch.tensor(self.token_types[i])
            mask[row, :length] = 1
        return Batch(ids, mask, token_types, torch.tensor([self.labels[i] for i in index]), torch.tensor(index))

    def shuffled(self, batch_size: int, seed: int) -> Iterator[Batch]:
        """Batches without end, in another order every epoch; the texts of a batch have similar lengths."""
        generator = random.Random(seed)
        while True:
            order = list(range(len(self)))
            generator.shuffle(order)
            batches = []
            for begin in range(0, len(order), batch_size * _CHUNK):
                chunk = sorted(order[begin : begin + batch_size * _CHUNK], key=lambda i: len(self.ids[i]))
                batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
            generator.shuffle(batches)
            for index in batches:
                yield self._batch(index)

    def sequential(self, batch_size: int) -> Iterator[Batch]:
        """Every example once, shortest first; `Batch.index` says which is which."""
        order = sorted(range(len(self)), key=lambda i: len(self.ids[i]))
        for begin in range(0, len(order), batch_size):
            yield self._batch(order[begin : begin + batch_size])


def encode(examples: Examples, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedExamples:
    """Tokenizes examples, cut to `max_length` tokens."""
    encoded = tokenizer(
        examples.texts, examples.pairs, truncation=True, max_length=max_length, return_token_type_ids=True
    )
    pad_id = tokenizer.pad_token_id or 0
    return EncodedExamples(encoded["input_ids"], encoded["token_type_ids"], examples.labels, pad_id)
