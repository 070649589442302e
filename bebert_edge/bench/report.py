# SPDX-License-Identifier: Apache-2.0
"""The result of a benchmark as plain values; `docs/benchmarking.md` describes its JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bebert_edge.bench.architecture import Architecture
from bebert_edge.bench.environment import Environment
from bebert_edge.bench.footprint import Footprint
from bebert_edge.bench.profiling import Profile
from bebert_edge.bench.shape import Shape
from bebert_edge.bench.summary import Ratio, Summary

SCHEMA = 1
"""Version of the JSON. Raised when a key is removed or means something else."""


@dataclass(frozen=True)
class Result:
    """One contender in one timing.

    Attributes:
        model: Name of the ensemble or of the baseline.
        baseline: Name of the baseline, None for an ensemble.
        variant: How it was run, where there are several ways.
        time: The clock that counts, last run of each turn.
        cold: The clock that counts, first run of each turn, after other contenders used the caches.
        cpu: CPU time of the process, all threads added, last run of each turn.
        wall: Wall-clock time, last run of each turn.
        ratios: For an ensemble, by baseline: how many times as long that one took, in last runs.
    """

    model: str
    baseline: str | None
    variant: str
    time: Summary
    cold: Summary
    cpu: Summary
    wall: Summary
    ratios: dict[str, Ratio]


@dataclass(frozen=True)
class Timing:
    """All contenders on one shape with one number of threads.

    Attributes:
        clock: The clock that counts, for people.
        rounds: Rounds that were taken.
        tried: By baseline, the best time in milliseconds of every variant that was tried.
    """

    threads: int
    shape: Shape
    clock: str
    rounds: int
    results: tuple[Result, ...]
    tried: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Model:
    """What a model costs apart from time.

    Attributes:
        name: As in `Result.model`.
        baseline: As in `Result.baseline`.
        variant: The recipe of a baseline; it may have been run in several ways.
        file: The model file, or the packed ensemble that it was made from; None for an ensemble of random weights.
        file_bytes: Bytes of its files.
        random_weights: Whether its weights are random.
        members: Members of an ensemble, 1 for baselines.
        bits: Bits of activations of every layer; empty for baselines.
        footprint: Load time and memory.
    """

    name: str
    baseline: str | None
    variant: str
    file: str | None
    file_bytes: int
    random_weights: bool
    members: int
    bits: tuple[int, ...]
    footprint: Footprint


@dataclass(frozen=True)
class OpProfile:
    """Time by op of one ensemble."""

    model: str
    threads: int
    shape: Shape
    profile: Profile


@dataclass(frozen=True)
class Comparison:
    """All ensembles of one architecture, and the single models that they are compared with.

    Attributes:
        failed: By baseline, the variants that could not be made, and why.
    """

    architecture: Architecture
    models: tuple[Model, ...]
    timings: tuple[Timing, ...]
    profiles: tuple[OpProfile, ...]
    failed: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Report:
    """Everything that was measured, and with what."""

    command: str
    environment: Environment
    settings: dict[str, Any]
    comparisons: tuple[Comparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"schema": SCHEMA, **asdict(self)}
