# SPDX-License-Identifier: Apache-2.0
"""The batches that are timed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Feed = dict[str, NDArray[np.int64]]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Shape:
    """A batch of texts: the tokens of each, all padded to the longest."""

    lengths: tuple[int, ...]

    @classmethod
    def spread(cls, batch_size: int, shortest: int, longest: int) -> Shape:
        """A batch whose lengths go from the shortest to the longest in even steps."""
        return cls(tuple(round(length) for length in np.linspace(shortest, longest, batch_size).tolist()))

    @property
    def mixed(self) -> bool:
        """Whether texts differ in length, so that some are padded."""
        return len(set(self.lengths)) > 1

    @property
    def longest(self) -> int:
        """Tokens of the longest text, to which the others are padded."""
        return max(self.lengths)

    def __str__(self) -> str:
        tokens = f"{min(self.lengths)}..{self.longest}" if self.mixed else str(self.longest)
        return f"{len(self.lengths)} x {tokens}"

    def feed(self, vocab_size: int, seed: int) -> Feed:
        """Random ids, padded on the right."""
        sequence = np.arange(self.longest)
        mask = (sequence < np.array(self.lengths).reshape(-1, 1)).astype(np.int64)
        ids = np.random.default_rng(seed).integers(vocab_size, size=mask.shape)
        return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}

    def rows(self, feed: Feed) -> list[Feed]:
        """The texts of a batch as batches of one, without padding."""
        return [
            {name: array[i : i + 1, :length] for name, array in feed.items()} for i, length in enumerate(self.lengths)
        ]
