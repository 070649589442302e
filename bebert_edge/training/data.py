# SPDX-License-Identifier: Apache-2.0
"""Token ids in batches of similar length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

_CHUNK = 50  # batches that are sorted by length together
Batch = dict[str, Tensor]
"""Tensors by name: what a model reads, labels, weights."""
MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class EncodedExamples:
    """Examples as token ids. Tasks whose labels are others, or whose batches hold more, have classes of their own.

    Attributes:
        ids: Token ids of each example.
        token_types: Token types of each example.
        labels: int64 [N] classes, float32 [N] targets of a regression, or float32 [N, classes] of ones and zeros for
            a multi-label task.
        pad_id: Token that fills a batch.
    """

    ids: list[list[int]]
    token_types: list[list[int]]
    labels: Tensor
    pad_id: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def rows(self) -> int:
        """Rows of a batch of all examples, which `index` numbers: an example has as many as it has rows of a batch."""
        return len(self)

    def take(self, index: Tensor) -> EncodedExamples:
        """These examples in this order, repeated where an index is."""
        rows = index.tolist()
        taken: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            column = getattr(self, name)
            if isinstance(column, (list, Tensor)):
                taken[name] = column[index] if isinstance(column, Tensor) else [column[i] for i in rows]
        return replace(self, **taken)

    def batch(self, index: Sequence[int]) -> dict[str, Tensor]:
        """A padded batch: int64 `input_ids`, `attention_mask`, `token_type_ids` [B, S], `labels`, and `index` [B]."""
        shape = (len(index), max(len(self.ids[i]) for i in index))
        ids = torch.full(shape, self.pad_id)
        mask = torch.zeros(shape, dtype=torch.long)
        token_types = torch.zeros(shape, dtype=torch.long)
        for row, i in enumerate(index):
            length = len(self.ids[i])
            ids[row, :length] = torch.tensor(self.ids[i])
            token_types[row, :length] = torch.tensor(self.token_types[i])
            mask[row, :length] = 1
        rows = torch.tensor(index)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": token_types,
            "labels": self.labels[rows],
            "index": rows,
        }

    def sequential(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """Every example once, shortest first; `index` says which is which."""
        order = sorted(range(len(self)), key=lambda i: len(self.ids[i]))
        for begin in range(0, len(order), batch_size):
            yield self.batch(order[begin : begin + batch_size])


class LengthGroupedBatches(Sampler[list[int]]):
    """A whole schedule of full batches: the texts of a batch have similar lengths, every epoch has another order.

    It is one long epoch, so that the number of batches drawn is all that a resumed training has to know. What does not
    fill a batch at the end of an epoch is left out; another order leaves out others.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples of a batch; no more than there are.
        batches: How many batches to draw.
        seed: Same seed, same batches.
    """

    drop_last = False  # accelerate asks, to share batches out to several processes

    def __init__(self, lengths: Sequence[int], batch_size: int, batches: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = min(batch_size, len(lengths))
        self.batches = batches
        self.seed = seed

    def __len__(self) -> int:
        return self.batches

    def _epoch(self, generator: random.Random) -> list[list[int]]:
        order = list(range(len(self.lengths)))
        generator.shuffle(order)
        size = self.batch_size
        batches = []
        for begin in range(0, len(order) // size * size, size * _CHUNK):
            end = min(begin + size * _CHUNK, len(order) // size * size)
            chunk = sorted(order[begin:end], key=lambda i: self.lengths[i])
            batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
        generator.shuffle(batches)
        return batches

    def __iter__(self) -> Iterator[list[int]]:
        generator = random.Random(self.seed)
        drawn = 0
        while True:
            for batch in self._epoch(generator):
                if drawn == self.batches:
                    return
                yield batch
                drawn += 1
