# SPDX-License-Identifier: Apache-2.0
"""What a training reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class TrainingResult:
    """What came out: scores are the task's main metric on the examples given as `dev`, None without any.

    Attributes:
        directory: The latent checkpoint.
        metric: Name of the metric.
        member_weights: Weight of each member; their sum is 1.
        temperature: What the combined logits are divided by.
        teacher_score: The teacher's.
        member_scores: Each member's.
        score: The ensemble's.
    """

    directory: Path
    metric: str = "accuracy"
    member_weights: list[float] = field(default_factory=list)
    temperature: float = 1.0
    teacher_score: float | None = None
    member_scores: list[float] = field(default_factory=list)
    score: float | None = None

    def metadata(self) -> dict[str, str]:
        """The scores as text, for a model's metadata."""
        if self.score is None:
            return {}
        name = f"dev_{self.metric.lower().replace(' ', '_')}"
        return {
            name: f"{self.score:.4f}",
            f"{name}_members": " ".join(f"{score:.4f}" for score in self.member_scores),
            f"{name}_full_precision": f"{self.teacher_score:.4f}",
        }
