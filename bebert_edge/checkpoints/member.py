# SPDX-License-Identifier: Apache-2.0
"""What every family makes of a checkpoint: one member of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from bebert_edge.config import EncoderConfig, QuantizationConfig, TaskConfig


@dataclass(frozen=True)
class Member:
    """One member as the packed ensemble wants it.

    Attributes:
        encoder: Shape of the encoder.
        quantization: Code types of its activations.
        task: What the logits mean.
        labels: One for each logit.
        max_length: Tokens of the longest input.
        tensors: Those of docs/format.md, without the leading axis.
        tokenizer: The text of `tokenizer.json`.
        notes: Lines for whoever packs it: where the packed model cannot do exactly what the checkpoint's own code does,
            and what it does instead.
    """

    encoder: EncoderConfig
    quantization: QuantizationConfig
    task: TaskConfig
    labels: tuple[str, ...]
    max_length: int
    tensors: dict[str, NDArray[Any]]
    tokenizer: str
    notes: tuple[str, ...] = ()
