# SPDX-License-Identifier: Apache-2.0
"""What a training reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

MAIN_METRICS = {"single_label": "accuracy", "multi_label": "micro F1", "regression": "Pearson correlation"}
"""The one number that training reports, by problem; `bebert-edge evaluate` has all others."""


def main_score(logits: Tensor, labels: Tensor, problem: str) -> float:
    """The main metric of logits [N, C], a fraction: by the labels that the model would answer.

    Args:
        logits: Of a member or of an ensemble.
        labels: As in `EncodedExamples`.
        problem: Which of `MAIN_METRICS`.
    """
    from scipy.stats import pearsonr
    from sklearn.metrics import accuracy_score, f1_score

    if problem == "regression":
        constant = len(labels) < 2 or float(logits.std()) == 0 or float(labels.std()) == 0
        return 0.0 if constant else float(pearsonr(logits[:, 0].double(), labels.double()).statistic)
    if problem == "multi_label":
        return float(f1_score(labels.numpy() > 0.5, logits.numpy() > 0, average="micro", zero_division=0.0))
    return float(accuracy_score(labels.numpy(), logits.argmax(-1).numpy()))


@dataclass
class TrainingResult:
    """What came out: scores are the problem's main metric on the examples given as `dev`, None without any.

    Attributes:
        directory: The latent checkpoint.
        problem: `single_label`, `multi_label` or `regression`.
        member_weights: Weight of each member; their sum is 1.
        temperature: What the combined logits are divided by.
        teacher_score: The teacher's.
        member_scores: Each member's.
        score: The ensemble's.
    """

    directory: Path
    problem: str = "single_label"
    member_weights: list[float] = field(default_factory=list)
    temperature: float = 1.0
    teacher_score: float | None = None
    member_scores: list[float] = field(default_factory=list)
    score: float | None = None

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return MAIN_METRICS[self.problem]

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
