# SPDX-License-Identifier: Apache-2.0
"""A further task for the encoders of a trained ensemble: nothing but a head is trained (docs/training.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bebert_edge.checkpoints import ENSEMBLE_FILE
from bebert_edge.checkpoints.bert import SECTION
from bebert_edge.checkpoints.files import CONFIG_FILE, read_json
from bebert_edge.checkpoints.latent import read_ensemble_file
from bebert_edge.errors import TrainingError
from bebert_edge.training.options import TrainingOptions

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

POOLER = "pooler"
"""The one part of transformers' encoder that belongs to a task."""


@dataclass(frozen=True)
class Encoders:
    """The members of a latent ensemble (docs/latent.md) whose encoders another task shares.

    Attributes:
        members: Their directories.
        weights: What they weigh, sum 1.
    """

    members: tuple[Path, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, directory: Path) -> Encoders:
        """Reads a directory that `bebert-edge train` wrote.

        Raises:
            TrainingError: It is none.
            CheckpointError: It is damaged.
        """
        if not (directory / ENSEMBLE_FILE).is_file():
            raise TrainingError(f"--onto {directory}: {ENSEMBLE_FILE} is missing, expected a directory of 'train'")
        file = read_ensemble_file(directory)
        total = sum(file.weights)
        return cls(tuple(file.directories), tuple(weight / total for weight in file.weights))

    def adopt(self, options: TrainingOptions) -> TrainingOptions:
        """Options with all that the encoders decide; what would change them is left out."""
        section: dict[str, Any] = read_json(self.members[0] / CONFIG_FILE)[SECTION]
        return replace(
            options,
            members=len(self.members),
            bits=section["bits"],
            max_length=section["max_length"],
            embeddings=section.get("embeddings", "binary"),
            keep=tuple(f"{name}={kind}" for name, kind in section.get("weights", {}).items() if name != POOLER),
            method="independent",
            distill="logits" if options.distill == "layers" else options.distill,
            first_distill=None,
            weigh_by="method",
            stages=(),
            start="none",
        )


def freeze_encoder(model: PreTrainedModel) -> None:
    """Keeps a transformers model's encoder as it is in training; its pooler and the layers behind it learn."""
    encoder: nn.Module = model.base_model
    for name, part in encoder.named_children():
        part.requires_grad_(name == POOLER)
