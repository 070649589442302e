# SPDX-License-Identifier: Apache-2.0
"""How to train an ensemble."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bebert_edge.config import ALL_COMBINATIONS, POOLINGS
from bebert_edge.errors import TrainingError
from bebert_edge.kept_weights import parse_keep
from bebert_edge.training.augmentation import REPLACE_BY
from bebert_edge.training.distillation import DISTILL
from bebert_edge.training.quantization import BITS, PRECISIONS
from bebert_edge.training.trainer import Schedule
from bebert_edge.training.words import EMBEDDINGS

METHODS = ("boost", "bag", "snapshot", "independent")
BOOST_BY = ("weights", "resampling")
WEIGH_BY = ("method", "equal", "fitted")
STARTS = ("none", "ternary")


@dataclass(frozen=True)
class TrainingOptions:
    """How to train an ensemble.

    Attributes:
        members: Members of the ensemble.
        bits: Bits of every activation that enters a matrix product; weights have one.
        keep: Linears whose weights have more, as texts `PATTERN=int8` or `PATTERN=float16` (`kept_weights.choose`).
        embeddings: How word embeddings are stored: `binary`, trained as such, or `int8` or `int4`, trained in full
            precision.
        method: How members come to differ. `boost`: each sees more of the mistakes before it (SAMME, or AdaBoost.R2
            for regression). `bag`: each has its own bootstrap sample. `snapshot`: one run whose learning rate starts
            again for every member (Huang et al., 2017). `independent`: other seeds.
        distill: What members learn from the teacher: `none`, `logits` or `layers` (with the logits).
        first_distill: The same for the first member alone; None for no difference. Members that start from it then
            start distilled, as BEBERT's do, whatever its rounds learn from.
        boost_by: Whether boosting weighs the losses of examples or draws examples by weight.
        weigh_by: What members weigh in the answer: what the `method` says (boosting: their alphas), `equal`, or weights
            `fitted` to the examples of `calibration_share`.
        combination: What the answer is the mean of: the members' `logits` or their `probabilities`; of sentence
            embeddings the direction of their mean (`embeddings`), or all side by side (`concatenation`).
        pooling: What a sentence embedding is made of: the `first` token's state or the `mean` of all; None for what the
            teacher or backbone says, or else the mean.
        stages: Bits of students that are trained one after the other before the members, each taught and started by
            the one before (the multi-distillation of BiT, Liu et al., 2022), e.g. (8, 4).
        start: `ternary` trains a model with ternary weights first, as long as a member, and splits it into the starts
            of the members with an even and an odd number (BinaryBERT, Bai et al., 2021). `none` does not.
        epochs: Epochs of the first member.
        steps: Steps of the first member, instead of `epochs`.
        batch_size: Examples of a step on each device.
        learning_rate: Peak rate of the binary members.
        max_length: Tokens of the longest input.
        seed: Seeds the order of the data and new parameters; the same seed gives the same members.
        warm_start: Whether a boosted member starts from the one before it; it then takes `warm_share` of the steps.
        warm_share: See `warm_start`.
        boost_rate: Shrinks the rounds of boosting; 1 is SAMME as published.
        label_weight: Weight of the labels' loss beside the teacher's.
        replaced: Share of tokens that are replaced while the teacher labels them, for more varied text.
        replace_by: What by: `neighbours`, tokens with similar embeddings, or `batch`, others of the batch.
        calibration_share: Share of the examples that nothing is trained on: the temperature is fitted there, after
            averaging (Rahaman and Thiery, 2020). 0 leaves the temperature at 1.
        teacher_epochs: Epochs of fine-tuning, where no teacher is given.
        teacher_learning_rate: Its peak rate.
        new_head: Whether the teacher or backbone gets a new classification head even if it has one.
        precision: Of products in training: `bf16`, `fp32`, or `auto` for bf16 where the device has instructions for it.
        device: `auto` or `cpu`.
        checkpoint_steps: Steps between the checkpoints from which an interrupted training goes on.
    """

    members: int = 2
    bits: int = 4
    keep: tuple[str, ...] = ()
    embeddings: str = "binary"
    method: str = "boost"
    distill: str = "layers"
    first_distill: str | None = None
    boost_by: str = "weights"
    weigh_by: str = "method"
    combination: str = "logits"
    pooling: str | None = None
    stages: tuple[int, ...] = ()
    start: str = "none"
    epochs: float = 1.5
    steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 5e-4
    max_length: int = 128
    seed: int = 0
    warm_start: bool = True
    warm_share: float = 0.5
    boost_rate: float = 0.5
    label_weight: float = 0.0
    replaced: float = 0.2
    replace_by: str = "neighbours"
    calibration_share: float = 0.02
    teacher_epochs: float = 2.0
    teacher_learning_rate: float = 8e-5
    new_head: bool = False
    precision: str = "auto"
    device: str = "auto"
    checkpoint_steps: int = 250

    def __post_init__(self) -> None:
        def require(condition: bool, name: str, expected: str) -> None:
            if not condition:
                raise TrainingError(f"--{name.replace('_', '-')} is {getattr(self, name)!r}, expected {expected}")

        def among(name: str, choices: tuple[object, ...]) -> None:
            require(getattr(self, name) in choices, name, f"one of {', '.join(map(str, choices))}")

        among("bits", BITS)
        for text in self.keep:
            parse_keep(text)
        among("embeddings", EMBEDDINGS)
        among("method", METHODS)
        among("distill", DISTILL)
        among("first_distill", (None, *DISTILL))
        among("boost_by", BOOST_BY)
        among("weigh_by", WEIGH_BY)
        among("combination", ALL_COMBINATIONS)
        among("pooling", (None, *POOLINGS))
        among("replace_by", REPLACE_BY)
        among("precision", PRECISIONS)
        among("start", STARTS)
        among("device", ("auto", "cpu"))
        require(all(bits in BITS for bits in self.stages), "stages", f"numbers among {', '.join(map(str, BITS))}")
        require(self.members >= 1, "members", "1 or more")
        require(self.max_length >= 2, "max_length", "2 or more")
        require(self.batch_size >= 1, "batch_size", "1 or more")
        require(self.checkpoint_steps >= 1, "checkpoint_steps", "1 or more")
        require(self.steps is None or self.steps >= 1, "steps", "1 or more")
        for name in ("epochs", "learning_rate", "teacher_epochs", "teacher_learning_rate", "boost_rate", "warm_share"):
            require(math.isfinite(getattr(self, name)) and getattr(self, name) > 0, name, "a number > 0")
        for name in ("replaced", "calibration_share"):
            require(0 <= getattr(self, name) < 1, name, "a number from 0 to below 1")
        if self.weigh_by == "fitted":
            require(self.calibration_share > 0, "calibration_share", "more than 0 for --weigh-by fitted")
        require(math.isfinite(self.label_weight) and self.label_weight >= 0, "label_weight", "a number >= 0")

    @property
    def continues(self) -> bool:
        """Whether a member starts from the one before it."""
        return self.method == "snapshot" or (self.method == "boost" and self.warm_start)

    def distill_of(self, member: int) -> str:
        """What one member learns from the teacher."""
        return self.first_distill if member == 0 and self.first_distill is not None else self.distill

    def schedule(self, examples: int, member: int) -> Schedule:
        """The schedule of one member on this many examples."""
        steps = self.steps or math.ceil(self.epochs * math.ceil(examples / self.batch_size))
        if member > 0 and self.method == "boost" and self.warm_start:
            steps = max(1, round(steps * self.warm_share))
        return Schedule(
            steps,
            self.batch_size,
            self.learning_rate,
            seed=self.seed + member,
            decay="cosine" if self.method == "snapshot" else "linear",
            checkpoint_steps=self.checkpoint_steps,
        )

    def teacher_schedule(self, examples: int) -> Schedule:
        """The schedule of the teacher's fine-tuning."""
        steps = math.ceil(self.teacher_epochs * math.ceil(examples / self.batch_size))
        return Schedule(
            steps,
            self.batch_size,
            self.teacher_learning_rate,
            self.seed,
            checkpoint_steps=self.checkpoint_steps,
        )
