# SPDX-License-Identifier: Apache-2.0
"""Compares ensembles with the single models that one would run instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bebert_edge.bench.architecture import Architecture
from bebert_edge.bench.baselines import BASELINES, PORTABLE, check_installed, make_baseline, variants
from bebert_edge.bench.cache import default_cache
from bebert_edge.bench.contender import Contender, Engine, Run
from bebert_edge.bench.environment import describe_environment
from bebert_edge.bench.footprint import measure
from bebert_edge.bench.profiling import profile
from bebert_edge.bench.report import Comparison, Model, OpProfile, Report, Result, Timing
from bebert_edge.bench.shape import Feed, Shape
from bebert_edge.bench.subjects import Subject
from bebert_edge.bench.summary import Ratio, Summary
from bebert_edge.bench.timing import best_of, clock_name, time_in_turn, warm_seconds
from bebert_edge.errors import BenchError, NativeLibraryError

CHOICE_RUNS, CHOICE_SECONDS = 10, 1.5
"""Runs of each variant of a baseline, of which the best decides which variant is compared with."""

ONE_BY_ONE = "one text at a time"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """What to measure and how long.

    Attributes:
        against: Names of `baselines.BASELINES`.
        threads: Threads of a session, each measured on its own.
        shapes: Batches, each measured on its own.
        rounds: The most rounds of a timing.
        seconds: Time after which a timing takes no more rounds than `timing.MIN_ROUNDS`.
        profile: Also measure the time by op of the ensembles.
        seed: Seed of token ids.
        cache: Where model files of baselines are kept.
    """

    against: tuple[str, ...] = ("fp32", "int8")
    threads: tuple[int, ...] = (1,)
    shapes: tuple[Shape, ...] = (Shape((128,)),)
    rounds: int = 50
    seconds: float = 20.0
    profile: bool = False
    seed: int = 0
    cache: Path = field(default_factory=default_cache)


def benchmark(
    subjects: Sequence[Subject],
    settings: Settings,
    *,
    command: str = "",
    progress: Progress = lambda step, done, steps: None,
) -> Report:
    """Measures ensembles and baselines.

    Args:
        subjects: The ensembles.
        settings: What to measure.
        command: What the user typed, for the report.
        progress: Called with the name of a step, how much of it is done, and of how much.

    Raises:
        BenchError: A setting does not fit, a package is missing, or a baseline cannot be made.
        NativeLibraryError: The native library is missing or does not load.
    """
    _check(subjects, settings)
    environment = describe_environment()
    comparisons = [_Comparer(group, settings, progress).compare() for group in _by_architecture(subjects)]
    return Report(command, environment, _plain(settings), tuple(comparisons))


def _check(subjects: Sequence[Subject], settings: Settings) -> None:
    for baseline in settings.against:
        if baseline not in BASELINES:
            raise BenchError(f"there is no baseline {baseline!r}: expected some of {', '.join(BASELINES)}")
        check_installed(baseline)
    for subject in subjects:
        positions = subject.architecture.encoder.positions
        for shape in settings.shapes:
            if shape.longest > positions:
                raise BenchError(
                    f"{subject.architecture.name} reads {positions} tokens at most, not {shape.longest}: "
                    "choose a smaller --sequence-length"
                )


def _by_architecture(subjects: Sequence[Subject]) -> list[list[Subject]]:
    groups: dict[tuple[Any, ...], list[Subject]] = {}
    for subject in subjects:
        encoder, labels = subject.architecture.encoder, subject.architecture.labels
        groups.setdefault((encoder, labels), []).append(subject)
    return list(groups.values())


def _plain(settings: Settings) -> dict[str, Any]:
    return {**asdict(settings), "cache": str(settings.cache)}


@dataclass(frozen=True)
class _Entry:
    """One contender of a timing.

    Attributes:
        of: Name of the ensemble that a portable or one-by-one contender belongs to.
    """

    name: str
    baseline: str | None
    variant: str
    contender: Contender
    of: str | None = None


class _Comparer:
    """Measures the ensembles of one architecture."""

    def __init__(self, subjects: Sequence[Subject], settings: Settings, progress: Progress) -> None:
        self.subjects, self.settings, self.progress = subjects, settings, progress
        self.architecture = _common_name(subjects)
        self.files: dict[str, dict[str, Path]] = {}
        self.failed: dict[str, dict[str, str]] = {}
        self.used: dict[tuple[str, str], _Entry] = {}

    def compare(self) -> Comparison:
        for baseline in self.settings.against:
            if baseline != PORTABLE:
                self._make(baseline)
        timings: list[Timing] = []
        profiles: list[OpProfile] = []
        for threads in self.settings.threads:
            for shape in self.settings.shapes:
                feed = shape.feed(self.architecture.encoder.vocab_size, self.settings.seed)
                timings.append(self._time(threads, shape, feed))
                if self.settings.profile:
                    profiles += self._profile(threads, shape, feed)
        return Comparison(self.architecture, tuple(self._models()), tuple(timings), tuple(profiles), self.failed)

    def _make(self, baseline: str) -> None:
        def report(recipe: str, done: int, recipes: int) -> None:
            self.progress(f"making {baseline} of {self.architecture.name}: {recipe}", done, recipes)

        files, failed = make_baseline(baseline, self.architecture, self.settings.cache, report)
        self.files[baseline] = files
        if failed:
            self.failed[baseline] = failed

    def _time(self, threads: int, shape: Shape, feed: Feed) -> Timing:
        where = f"{self.architecture.name}, {shape} tokens, {threads} thread{'s' if threads > 1 else ''}"
        entries = list(self._ensembles(shape))
        tried: dict[str, dict[str, float]] = {}
        for baseline in self.settings.against:
            if baseline == PORTABLE:
                entries += [self._portable(subject) for subject in self.subjects]
            else:
                entry, tried[baseline] = self._choose(baseline, threads, shape, feed, where)
                entries.append(entry)
        runs = [_start(entry.contender, threads, shape, feed) for entry in entries]
        turns = time_in_turn(
            runs,
            self.settings.rounds,
            self.settings.seconds,
            lambda done, rounds: self.progress(f"timing {where}", done, rounds),
            warm_seconds(threads),
        )
        results = []
        for entry, own in zip(entries, turns, strict=True):
            self.used.setdefault((entry.name, entry.variant), entry)
            ratios = {
                other.baseline: Ratio.of(theirs.warm.clock(threads), own.warm.clock(threads))
                for other, theirs in zip(entries, turns, strict=True)
                if other.baseline and not entry.baseline and other.of in (None, entry.of)
            }
            results.append(
                Result(
                    model=entry.name,
                    baseline=entry.baseline,
                    variant=entry.variant,
                    time=Summary.of(own.warm.clock(threads)),
                    cold=Summary.of(own.cold.clock(threads)),
                    cpu=Summary.of(own.warm.cpu),
                    wall=Summary.of(own.warm.wall),
                    ratios=ratios,
                )
            )
        return Timing(threads, shape, clock_name(threads), len(turns[0].warm.wall), tuple(results), tried)

    def _ensembles(self, shape: Shape) -> Iterator[_Entry]:
        for subject in self.subjects:
            contender = Contender(subject.path, Engine.native)
            yield _Entry(subject.name, None, "", contender, subject.name)
            if shape.mixed:
                yield _Entry(subject.name, None, ONE_BY_ONE, replace(contender, one_by_one=True), subject.name)

    def _portable(self, subject: Subject) -> _Entry:
        contender = Contender(subject.path, Engine.onnxruntime)
        return _Entry(f"{subject.name}, portable", PORTABLE, "", contender, subject.name)

    def _choose(
        self, baseline: str, threads: int, shape: Shape, feed: Feed, where: str
    ) -> tuple[_Entry, dict[str, float]]:
        """The fastest variant of a baseline on this shape, and the times of all."""
        candidates = variants(baseline, self.files[baseline], shape)
        milliseconds: dict[str, float] = {}
        for done, (variant, contender) in enumerate(candidates.items()):
            self.progress(f"choosing {baseline} for {where}: {variant}", done, len(candidates))
            try:
                run = _start(contender, threads, shape, feed)
            except BenchError as error:
                self.failed.setdefault(baseline, {})[variant] = str(error)
                continue
            milliseconds[variant] = 1e3 * best_of(run, threads, runs=CHOICE_RUNS, seconds=CHOICE_SECONDS)
        if not milliseconds:
            reasons = "; ".join(self.failed[baseline].values())
            raise BenchError(f"no model of the baseline {baseline} runs ({reasons:.1000}). Leave it out: --against")
        fastest = min(milliseconds, key=lambda variant: milliseconds[variant])
        return _Entry(baseline, baseline, fastest, candidates[fastest]), milliseconds

    def _profile(self, threads: int, shape: Shape, feed: Feed) -> Iterator[OpProfile]:
        for done, subject in enumerate(self.subjects):
            self.progress(f"profiling {subject.name}", done, len(self.subjects))
            yield OpProfile(
                subject.name, threads, shape, profile(Contender(subject.path, Engine.native), threads, feed)
            )

    def _models(self) -> Iterator[Model]:
        """The cost of every contender that was timed; one that was run in two ways counts once."""
        largest = max(self.settings.shapes, key=lambda shape: len(shape.lengths) * shape.longest)
        seen: set[tuple[str, Path]] = set()
        subjects = {subject.name: subject for subject in self.subjects}
        for done, entry in enumerate(self.used.values()):
            if (entry.name, entry.contender.path) in seen:
                continue
            seen.add((entry.name, entry.contender.path))
            self.progress(f"loading {entry.name}", done, len(self.used))
            subject = subjects.get(entry.of or "")
            contender = replace(entry.contender, one_by_one=False, static=None)
            recipes = {path: recipe for recipe, path in self.files.get(entry.baseline or "", {}).items()}
            yield Model(
                name=entry.name,
                baseline=entry.baseline,
                variant=recipes.get(contender.path, ""),
                file=subject.source if subject else str(contender.path),
                file_bytes=contender.size,
                random_weights=subject is None or subject.source is None,
                members=subject.members if subject else 1,
                bits=subject.bits if subject else (),
                footprint=measure(contender, self.settings.threads[0], largest, self.architecture.encoder.vocab_size),
            )


def _start(contender: Contender, threads: int, shape: Shape, feed: Feed) -> Run:
    """Loads a model and runs it once.

    Raises:
        BenchError: The model cannot be loaded or run.
        NativeLibraryError: The native library is missing or does not load.
    """
    try:
        run = contender.bind(contender.open(threads), shape, feed)
        run()
    except NativeLibraryError:
        raise
    except Exception as error:  # the exceptions of onnxruntime and OpenVINO have no public base class
        reason = " ".join(str(error).split())
        raise BenchError(
            f"{contender.path} does not run: {reason:.300}. Look at it with: bebert-edge inspect {contender.path}"
        ) from error
    return run


def _common_name(subjects: Sequence[Subject]) -> Architecture:
    """The architecture of a group, under every name that the user gave it."""
    names = dict.fromkeys(subject.architecture.name for subject in subjects)
    return replace(subjects[0].architecture, name=", ".join(names))
