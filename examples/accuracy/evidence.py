# SPDX-License-Identifier: Apache-2.0
"""The results as scores and differences of scores, with bootstrap intervals over examples and seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from plan import TASKS
from scores import Array, score, statistics, unpack

REPLICATES = 2_000


@dataclass(frozen=True)
class What:
    """What is scored: `full precision`, `one` member, a `control`, or an ensemble by its method and size."""

    method: str
    members: int = 1
    bits: int = 4
    input: str = "clean"


FULL = What("full precision", bits=32)


@dataclass(frozen=True)
class Estimate:
    """A number in points, and the middle 95 % of its bootstrap replicates.

    Attributes:
        value: The number.
        replicates: Its bootstrap replicates.
        tasks: How many tasks it is the mean of.
        seeds: How many seeds, at the most.
    """

    value: float
    replicates: Array
    tasks: int = 1
    seeds: int = 1

    @property
    def interval(self) -> tuple[float, float]:
        """Its 2.5 % and 97.5 % quantiles."""
        low, high = np.quantile(self.replicates, (0.025, 0.975))
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{signed(self.value)} [{signed(low)}, {signed(high)}]"


def signed(value: float) -> str:
    """A number of points as tables have it."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\u2212")


@dataclass
class Evidence:
    """All results.

    Attributes:
        results: What `study.py collect` wrote, by task.
    """

    results: dict[str, dict[str, Any]]
    _replicates: dict[tuple[str, What], dict[int, tuple[float, Array]]] = field(default_factory=dict)
    _draws: dict[tuple[str, int], Array] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Evidence:
        """Reads a folder of results; tasks come in the order of the tables."""
        paths = {task: folder / f"{task}.json" for task in TASKS}
        return cls({task: json.loads(path.read_text()) for task, path in paths.items() if path.is_file()})

    def _draw(self, task: str, examples: int) -> Array:
        """How often each example is drawn in each replicate [R, N]: the same for all that is compared."""
        if (task, examples) not in self._draws:
            generator = np.random.default_rng([list(TASKS).index(task), examples])
            counts = generator.multinomial(examples, np.full(examples, 1 / examples), REPLICATES)
            self._draws[task, examples] = counts.astype(np.float64)
        return self._draws[task, examples]

    def seeds(self, task: str, what: What) -> dict[int, tuple[float, Array]]:
        """Score and replicates by seed; of several single members, their mean."""
        if (task, what) not in self._replicates:
            found: dict[int, list[tuple[float, Array]]] = {}
            for cell in self.results.get(task, {}).get("cells", ()):
                if What(cell["method"], cell["members"], cell["bits"], cell["input"]) == what:
                    found.setdefault(cell["seed"], []).append(self._score(task, cell))
            self._replicates[task, what] = {
                seed: (float(np.mean([value for value, _ in several])), np.mean([r for _, r in several], 0))
                for seed, several in found.items()
            }
        return self._replicates[task, what]

    def _score(self, task: str, cell: dict[str, Any]) -> tuple[float, Array]:
        metric, problem = TASKS[task].metric, TASKS[task].problem
        truth = self.results[task]["labels"]["clean" if cell["input"] == "clean" else "perturbed"]
        n = truth["examples"]
        found, labels = (unpack(text, problem, n) for text in (cell["predictions"], truth["packed"]))
        each = statistics(found, labels, metric)
        return float(score(each.sum(0), metric, n)), score(self._draw(task, n) @ each, metric, n)

    def score(self, task: str, what: What) -> float | None:
        """The mean over seeds, in percent."""
        seeds = self.seeds(task, what)
        return float(np.mean([value for value, _ in seeds.values()])) if seeds else None

    def difference(self, task: str, a: What, b: What) -> Estimate | None:
        """`a` less `b`, seed by seed, over the seeds that both have; full precision is the same for all seeds."""
        first, second = self.seeds(task, a), self.seeds(task, b)
        if a.bits == 32 and first:
            first = dict.fromkeys(second, first[0])
        if b.bits == 32 and second:
            second = dict.fromkeys(first, second[0])
        common = sorted(first.keys() & second.keys())
        if not common:
            return None
        value = float(np.mean([first[seed][0] - second[seed][0] for seed in common]))
        replicates = np.stack([first[seed][1] - second[seed][1] for seed in common])
        generator = np.random.default_rng(list(TASKS).index(task))
        drawn = generator.integers(len(common), size=(len(common), REPLICATES))
        return Estimate(value, np.take_along_axis(replicates, drawn, 0).mean(0), 1, len(common))

    def mean(self, estimates: Iterable[Estimate | None]) -> Estimate | None:
        """The mean over tasks, of those that were measured."""
        found = [estimate for estimate in estimates if estimate is not None]
        if not found:
            return None
        return Estimate(
            float(np.mean([e.value for e in found])),
            np.mean([e.replicates for e in found], 0),
            len(found),
            max(e.seeds for e in found),
        )

    def mean_difference(self, a: What, b: What, tasks: Iterable[str] = TASKS) -> Estimate | None:
        """The mean of :meth:`difference` over the tasks that have both."""
        return self.mean(self.difference(task, a, b) for task in tasks)

    def with_all(self, whats: Iterable[What]) -> list[str]:
        """The tasks that have all of these."""
        whats = list(whats)
        return [task for task in self.results if all(self.seeds(task, what) for what in whats)]

    def units(self, task: str, kind: str, index: int, bits: int = 4) -> list[dict[str, Any]]:
        """The trainings of this kind."""
        return [
            unit
            for unit in self.results.get(task, {}).get("units", ())
            if (unit["kind"], unit["index"], unit["bits"]) == (kind, index, bits)
        ]
