# SPDX-License-Identifier: Apache-2.0
"""What a user can say about checkpoints that they do not say themselves."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from bebert_edge.config import ALL_COMBINATIONS
from bebert_edge.errors import CheckpointError
from bebert_edge.groups import BITS

AUTO = "auto"


@dataclass(frozen=True)
class Options:
    """How to read checkpoints. None leaves it to the checkpoints.

    Attributes:
        family: Name of a family, or `auto`: found from configuration and tensors.
        alpha: A weight > 0 for each member; divided by their sum.
        combination: What the answer is the weighted mean of: `logits` or `probabilities`.
        labels: Names of the labels, one for each row of the classifier.
        text_pair: Whether an input is two texts.
        max_length: Tokens of the longest input.
        embeddings: How word embeddings are stored, where they were trained in full precision: `int8` or `int4`.
        tokenizer: A directory with `tokenizer.json` or `vocab.txt`, or such a file.

    Raises:
        CheckpointError: A value is none of these.
    """

    family: str = AUTO
    alpha: Sequence[float] | None = None
    combination: str | None = None
    labels: Sequence[str] | None = None
    text_pair: bool | None = None
    max_length: int | None = None
    tokenizer: str | os.PathLike[str] | None = None
    embeddings: str | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None and not (self.alpha and all(0 < weight < math.inf for weight in self.alpha)):
            raise CheckpointError(f"alpha is {list(self.alpha)}, expected numbers > 0, one for each member (--alpha)")
        if self.combination not in (None, *ALL_COMBINATIONS):
            raise CheckpointError(f"combination is {self.combination!r}, expected one of {', '.join(ALL_COMBINATIONS)}")
        if self.embeddings not in (None, *BITS):
            raise CheckpointError(
                f"embeddings is {self.embeddings!r}, expected one of {', '.join(BITS)} (--embeddings)"
            )
        if self.labels is not None and (len(set(self.labels)) < len(self.labels) or not all(self.labels)):
            raise CheckpointError(f"labels are {list(self.labels)}, expected different names, none empty (--labels)")
