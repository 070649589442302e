# SPDX-License-Identifier: Apache-2.0
"""What the study trains: its tasks, its budgets, and the units of work in the order in which they tell most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A data set: `NAME/train.*.gz` and `NAME/dev.*.gz` in the data folder.

    Attributes:
        title: Its name in tables.
        metric: `accuracy`, `matthews`, `pearson` or `micro_f1`; docs/accuracy.md says how each is computed.
        problem: `single_label`, `multi_label` or `regression`.
        file_type: `tsv` or `jsonl`.
    """

    title: str
    metric: str
    problem: str = "single_label"
    file_type: str = "tsv"


TASKS = {
    "sst2": Task("SST-2", "accuracy"),
    "cola": Task("CoLA", "matthews"),
    "mrpc": Task("MRPC", "accuracy"),
    "rte": Task("RTE", "accuracy"),
    "stsb": Task("STS-B", "pearson", "regression"),
    "qnli": Task("QNLI, subset", "accuracy"),
    "clinc150": Task("CLINC150", "accuracy"),
    "goemotions": Task("GoEmotions", "micro_f1", "multi_label", file_type="jsonl"),
}
"""In the order of the tables."""


@dataclass(frozen=True)
class Recipe:
    """How much one task may cost.

    Attributes:
        train: Examples that members are trained on; None for all. The teacher always gets all.
        dev: Dev examples that are measured; None for all.
        max_length: Tokens of the longest input.
        teacher_epochs: Epochs of the full-precision model, in batches of 32.
        teacher_rate: Its peak learning rate.
        batch: Examples of a member's step.
        steps: Steps of one member.
        rate: Peak learning rate of members.
    """

    train: int | None
    dev: int | None
    max_length: int
    teacher_epochs: float
    teacher_rate: float
    batch: int
    steps: int
    rate: float


BUDGETS: dict[str, dict[str, Recipe]] = {
    # Two CPU cores for six hours: a member takes about two and a half minutes.
    "cpu": {
        #                    train   dev  len  teacher      batch steps rate
        "sst2": Recipe(16_000, None, 64, 2, 8e-5, 32, 400, 4e-4),
        "cola": Recipe(None, None, 64, 3, 1e-4, 32, 400, 4e-4),
        "mrpc": Recipe(None, None, 128, 3, 1e-4, 16, 300, 4e-4),
        "rte": Recipe(None, None, 128, 3, 1e-4, 16, 250, 4e-4),
        "stsb": Recipe(None, None, 96, 3, 1e-4, 16, 350, 4e-4),
        "qnli": Recipe(None, 1_000, 128, 3, 1e-4, 16, 250, 4e-4),
        "clinc150": Recipe(None, None, 64, 4, 2e-4, 32, 400, 4e-4),
        "goemotions": Recipe(16_000, 2_000, 64, 0.6, 1e-4, 32, 300, 4e-4),
    },
    # One GPU for some days: as many epochs as the papers train, or more.
    "full": {
        "sst2": Recipe(None, None, 64, 3, 5e-5, 32, 12_000, 2e-4),
        "cola": Recipe(None, None, 64, 10, 5e-5, 32, 6_000, 2e-4),
        "mrpc": Recipe(None, None, 128, 10, 5e-5, 32, 3_000, 2e-4),
        "rte": Recipe(None, None, 256, 10, 5e-5, 32, 2_000, 2e-4),
        "stsb": Recipe(None, None, 128, 10, 5e-5, 32, 4_000, 2e-4),
        "qnli": Recipe(None, None, 128, 10, 5e-5, 32, 2_000, 2e-4),
        "clinc150": Recipe(None, None, 64, 15, 1e-4, 32, 9_000, 2e-4),
        "goemotions": Recipe(None, None, 64, 4, 5e-5, 32, 10_000, 2e-4),
    },
}

PERTURBED = 300
"""Dev examples of the perturbed inputs."""
HELD_OUT_SHARE, HELD_OUT_LIMIT = 0.05, 400
"""The part of the training set that nothing is trained on: temperatures are fitted to it."""

MODEL = "model"
"""Folder of a unit's model, beside its results."""
_KINDS = ("independent", "control", "bag", "boost", "snapshot", "labels", "logits", "staged", "ternary")
KIND_SEEDS = {"teacher": 0} | {kind: 100 * i for i, kind in enumerate(_KINDS)}

BITS = (4, 1)
SMALL = ("cola", "mrpc", "rte", "stsb")
"""Tasks that are run with several seeds."""


@dataclass(frozen=True)
class Unit:
    """One training: the full-precision model of a task or one member.

    Attributes:
        task: A key of `TASKS`.
        bits: Bits of activations; 32 for the full-precision model.
        seed: Of the order of the data, replaced tokens and bootstraps.
        kind: `teacher`; `independent`, `bag`, `boost`, `snapshot`: a member by that method; `labels`, `logits`: a
            boosted member that learns from labels alone, or from the teacher's logits without its layers; `control`:
            one member trained `index` times as long; `staged`: one member, half of whose steps have more bits;
            `ternary`: two members from the halves of a model with ternary weights, which is trained as long as a
            member, and they half as long.
        index: Which member. Member 0 of boosting and of snapshots is independent member 0.
    """

    task: str
    bits: int
    seed: int
    kind: str
    index: int = 0

    @property
    def key(self) -> str:
        """A name for files."""
        return f"{self.task}-{self.bits}bit-seed{self.seed}-{self.kind}{self.index}"

    def teacher(self) -> Unit:
        """The full-precision model it learns from. All seeds share one: seeds are those of the members."""
        return Unit(self.task, 32, 0, "teacher")

    def previous(self) -> Unit | None:
        """The member that it goes on from."""
        if self.kind not in ("boost", "snapshot", "labels", "logits"):
            return None
        kind = "independent" if self.index == 1 else self.kind
        return Unit(self.task, self.bits, self.seed, kind, self.index - 1)

    @property
    def perturbed(self) -> bool:
        """Whether it also answers perturbed inputs, which cost as much as the clean ones."""
        return self.seed == 0 and self.bits > 1 and self.kind in ("teacher", "independent", "control", "boost")

    def needs(self) -> list[Unit]:
        """What must be done before it."""
        if self.kind == "teacher":
            return []
        previous = self.previous()
        return [self.teacher(), *([previous] if previous else [])]

    def steps(self, recipe: Recipe) -> int:
        """Its steps: as many for every member of every method."""
        return recipe.steps * (self.index if self.kind == "control" else 1)


@dataclass(frozen=True)
class Ensemble:
    """Members whose answers are combined.

    Attributes:
        method: What a table calls it.
        members: How many.
        kinds: Kind and index of each member.
        weighted: Whether members weigh by their alphas, rather than all the same.
    """

    method: str
    members: int
    kinds: tuple[tuple[str, int], ...]
    weighted: bool = False


def _series(kind: str, n: int, first: str | None = None) -> tuple[tuple[str, int], ...]:
    return tuple((first if first and i == 0 else kind, i) for i in range(n))


ENSEMBLES = [
    *(Ensemble("one", 1, (("independent", i),)) for i in range(4)),
    *(Ensemble("control", k, (("control", k),)) for k in (2, 4)),
    *(Ensemble("independent", n, _series("independent", n)) for n in (2, 4)),
    *(Ensemble("boost", n, _series("boost", n, "independent"), weighted=True) for n in (2, 4)),
    *(Ensemble("bag", n, _series("bag", n)) for n in (2, 4)),
    *(Ensemble("snapshot", n, _series("snapshot", n, "independent")) for n in (2, 4)),
    *(Ensemble("labels", n, _series("labels", n, "independent"), weighted=True) for n in (2, 4)),
    Ensemble("logits", 2, _series("logits", 2, "independent"), weighted=True),
    Ensemble("staged", 1, (("staged", 0),)),
    Ensemble("ternary", 2, (("ternary", 0),)),
]
"""What is made of the units of one task, bits and seed. `one` occurs once for each independent member."""

_FIRST = ("cola", "stsb", "sst2", "clinc150", "mrpc", "rte", "qnli", "goemotions")
_CHEAP = ("cola", "stsb", "sst2", "clinc150")
_TWO = (("independent", 0), ("independent", 1))
_FOUR = (*_TWO, ("independent", 2), ("independent", 3))
_MORE = (("snapshot", 1), ("bag", 0), ("bag", 1), ("staged", 0), ("ternary", 0), ("logits", 1))
_WAVES: list[tuple[tuple[str, ...], int, tuple[int, ...], tuple[tuple[str, int], ...]]] = [
    (_FIRST, 4, (0,), (*_TWO, ("control", 2))),
    (_CHEAP, 4, (0,), (("boost", 1), ("labels", 1), *_FOUR)),
    (("stsb", "sst2"), 1, (0,), _FOUR),
    (SMALL, 4, (1, 2), (*_TWO, ("control", 2))),
    (("stsb", "cola"), 4, (0,), _MORE),
    (("cola", "clinc150"), 1, (0,), _FOUR),
    (("stsb", "cola"), 4, (0,), (("control", 4), ("boost", 2), ("boost", 3))),
    (("stsb",), 1, (0,), (("staged", 0), ("control", 2), ("boost", 1))),
    (_FIRST, 4, (0,), (("boost", 1), ("labels", 1), *_FOUR, *_MORE)),
    (_FIRST, 1, (0,), _FOUR),
]
_EVERYTHING = tuple(dict.fromkeys(kind for ensemble in ENSEMBLES for kind in ensemble.kinds))


def units() -> list[Unit]:
    """All units, each after what it needs, the most telling first: whatever is done is a study of something."""

    def planned() -> Iterator[Unit]:
        for tasks, bits, seeds, kinds in _WAVES:
            for seed in seeds:
                for task in tasks:
                    for kind, index in kinds:
                        yield Unit(task, bits, seed, kind, index)
        for bits in BITS:
            for seed in range(3):
                for task in _FIRST if seed == 0 else SMALL:
                    for kind, index in _EVERYTHING:
                        yield Unit(task, bits, seed, kind, index)

    ordered: dict[Unit, None] = {}

    def add(unit: Unit) -> None:
        for needed in unit.needs():
            add(needed)
        ordered.setdefault(unit)

    for unit in planned():
        add(unit)
    return list(ordered)
