# SPDX-License-Identifier: Apache-2.0
"""What an evaluation found, as plain values; docs/evaluating.md has the meaning of every field."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bebert_edge.evaluation.bootstrap import Interval
from bebert_edge.evaluation.calibration import Calibration, Errors
from bebert_edge.evaluation.diversity import Diversity, RegressionDiversity


@dataclass(frozen=True)
class Score:
    """A number and its bootstrap interval, if there was a bootstrap."""

    value: float
    interval: Interval | None

    @property
    def sure(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)


@dataclass(frozen=True)
class MemberRow:
    """One member alone: its weight, the main metric, and its calibration at temperature 1 (errors for regression)."""

    weight: float
    score: Score
    calibration: Calibration | Errors


@dataclass(frozen=True)
class Gain:
    """The ensemble's main metric less the mean of the members', and less that of the best member, number `best`."""

    over_mean: Score
    over_best: Score
    best: int


@dataclass(frozen=True)
class Robustness:
    """The main metric under one perturbation.

    Attributes:
        kind: `typos`, `drop-words` or `embedding-noise`.
        strength: Rate per word, or standard deviation.
        score: The ensemble's score under it.
        loss: What the ensemble loses: its score without perturbation less that.
        mean_member_loss: What a member alone loses, mean over members.
        member_losses: What each member alone loses.
        advantage: `mean_member_loss` less `loss`: above 0 where the ensemble is the more robust.
        loses_more_than: Numbers of the members that lose less than the ensemble.
    """

    kind: str
    strength: float
    score: Score
    loss: Score
    mean_member_loss: Score
    member_losses: tuple[float, ...]
    advantage: Score
    loses_more_than: tuple[int, ...]


@dataclass(frozen=True)
class ModelReport:
    """Everything about one model.

    Attributes:
        path: What was named.
        kind: See `EvaluatedModel`.
        backend: What computed.
        combination: What the members' weighted mean is taken of.
        temperature: What the combined logits are divided by.
        seconds: Time to answer the unperturbed texts, tokenizing included.
        scores: Every metric of the ensemble, by name.
        calibration: Of the ensemble, with its temperature (errors for regression).
        members: The members.
        diversity: None for a single member.
        gain: None for a single member.
        robustness: One entry per perturbation.
    """

    path: str
    kind: str
    backend: str
    combination: str
    temperature: float
    seconds: float
    scores: dict[str, Score]
    calibration: Calibration | Errors
    members: tuple[MemberRow, ...]
    diversity: Diversity | RegressionDiversity | None
    gain: Gain | None
    robustness: tuple[Robustness, ...]


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test of which examples two models have right (McNemar 1947): two-sided binomial test.

    An example of a multi-label task is right where every label is.

    Attributes:
        only_first: Examples that only the first model has right.
        only_second: Examples that only the second has right.
        p_value: Probability of counts as unequal as these if both models were equally good.
    """

    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Two models on the same examples.

    Attributes:
        first: Path of the one.
        second: Path of the other.
        difference: Main metric of the first less that of the second; the bootstrap is paired.
        mcnemar: None for regression.
        equal_answers: Share of the examples with one answer; None for regression.
        largest_logit_difference: Over all examples and classes, between the answers' logits (values, for regression).
    """

    first: str
    second: str
    difference: Score
    mcnemar: McNemar | None
    equal_answers: float | None
    largest_logit_difference: float


@dataclass(frozen=True)
class Report:
    """A whole evaluation.

    Attributes:
        data: The file.
        examples: Examples in it that were answered.
        problem: `single_label`, `multi_label` or `regression`.
        labels: Names of the classes in the order of the logits.
        metric: Name of the main metric.
        resamples: Resamples of the bootstrap; 0 for none.
        confidence: Of the intervals.
        seed: Seed of bootstrap and perturbations.
        draws: Draws of each perturbation, over which its numbers are means.
        models: The models, in the order named; what they are compared to comes last.
        comparisons: Of every model to that one.
    """

    data: str
    examples: int
    problem: str
    labels: tuple[str, ...]
    metric: str
    resamples: int
    confidence: float
    seed: int
    draws: int
    models: tuple[ModelReport, ...]
    comparisons: tuple[Comparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)
