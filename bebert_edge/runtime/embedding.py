# SPDX-License-Identifier: Apache-2.0
"""Vectors of texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebert_edge.config import EnsembleConfig
from bebert_edge.runtime.prediction import check_finite
from bebert_edge.runtime.text import EncodedText


@dataclass(frozen=True)
class Embedding:
    """The vector of one text.

    Attributes:
        text: The text.
        vector: Its embedding, of length 1.
        member_cosines: The cosine of each member's vector with the mean of all of them, by weight.
        tokens: Tokens that the model read, special tokens included.
        truncated: Whether the text was longer than the model's longest input, and its end was not read.
    """

    text: str
    vector: tuple[float, ...]
    member_cosines: tuple[float, ...]
    tokens: int
    truncated: bool


def embedding(
    encoded: EncodedText, vector: NDArray[np.float32], members: NDArray[np.float32], config: EnsembleConfig
) -> Embedding:
    """The embedding of one text, from the ensemble's vector `[size]` and its members' `[members, H]`.

    Raises:
        ModelError: A number is not finite.
    """
    check_finite(vector, f"embedding of {encoded.text[:40]!r} is")
    mean = np.asarray(config.member_weights) @ members
    cosines = members @ mean / max(float(np.linalg.norm(mean)), 1e-12)
    return Embedding(
        text=encoded.text,
        vector=tuple(vector.tolist()),
        member_cosines=tuple(cosines.tolist()),
        tokens=len(encoded.ids),
        truncated=encoded.truncated,
    )
