# SPDX-License-Identifier: Apache-2.0
"""Times in turn: every round runs every contender once, so that whatever else the machine does slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bebert_edge.bench.contender import Run

MIN_ROUNDS = 10
WARM_SECONDS = 0.03
"""Models of 20 MB needed some six runs, 15 ms, until their weights were back in a shared L3 cache."""
SPINNING_SECONDS = 0.25
"""onnxruntime's threads spin on for some 45 ms after a run, longer where they share a core with the next contender."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Times:
    """Seconds of some runs, by two clocks."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def clock(self, threads: int) -> list[float]:
        """The clock that counts.

        With one thread that is the CPU time of the process: it does not see other processes take the core. With more
        it would add up the threads, so there it is the wall clock.
        """
        return self.cpu if threads == 1 else self.wall


@dataclass(frozen=True)
class Turns:
    """One contender's turns, of which the first and the last run are timed.

    Attributes:
        cold: The first runs, for which the other contenders left little in the caches, as other programs do.
        warm: The last runs, as in a program that runs this model only.
    """

    cold: Times = field(default_factory=Times)
    warm: Times = field(default_factory=Times)


def warm_seconds(threads: int) -> float:
    """How long a contender has to run before a run counts as warm."""
    return WARM_SECONDS if threads == 1 else SPINNING_SECONDS


def clock_name(threads: int) -> str:
    """The clock of `Times.clock`, for people."""
    return "CPU time" if threads == 1 else "wall-clock time"


def time_in_turn(
    runs: Sequence[Run],
    rounds: int,
    seconds: float,
    progress: Progress = lambda done, rounds: None,
    warm_seconds: float = WARM_SECONDS,
) -> list[Turns]:
    """Times contenders in rounds, of which each begins with another contender.

    Args:
        runs: What each contender runs.
        rounds: Rounds to take.
        seconds: Take no more rounds after this time, once there are `MIN_ROUNDS`.
        progress: Called after each round.
        warm_seconds: How long a contender runs before the run that is timed as warm; one run at least.
    """
    turns = [Turns() for _ in runs]
    for run in runs:
        run()
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done >= MIN_ROUNDS and time.perf_counter() >= end:
            break
        for i in range(len(runs)):
            turn = (i + done) % len(runs)
            _take_turn(runs[turn], turns[turn], warm_seconds)
        progress(done + 1, rounds)
    return turns


def _take_turn(run: Run, turns: Turns, warm_seconds: float) -> None:
    warm = time.perf_counter() + warm_seconds
    _take(run, turns.cold)
    while time.perf_counter() < warm:
        run()
    _take(run, turns.warm)


def best_of(run: Run, threads: int, *, runs: int, seconds: float) -> float:
    """The fastest of some runs after a warm-up, in seconds: at least three, no more once the time is over."""
    run()
    times = Times()
    end = time.perf_counter() + seconds
    for done in range(runs):
        if done >= 3 and time.perf_counter() >= end:
            break
        _take(run, times)
    return min(times.clock(threads))


def _take(run: Run, times: Times) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    times.cpu.append(time.process_time() - cpu)
    times.wall.append(time.perf_counter() - wall)
