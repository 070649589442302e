# SPDX-License-Identifier: Apache-2.0
"""Time by op of one model, by onnxruntime's profiler."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bebert_edge.bench.contender import Contender, session_options, start_session
from bebert_edge.bench.shape import Feed
from bebert_edge.bench.summary import Summary
from bebert_edge.bench.timing import time_in_turn

PRODUCTS = ("PackedBinaryMatMul", "PackedBinaryMatMulQuantize")
"""The ops that are matrix products with weights, each with its epilogue."""

RUNS = 30


@dataclass(frozen=True)
class OpTime:
    """Time of all nodes of one type in one run.

    Attributes:
        op: Type of the nodes.
        nodes: How many there are.
        microseconds: Median over runs of their sum.
        share: Of the sum of all ops.
    """

    op: str
    nodes: int
    microseconds: float
    share: float


@dataclass(frozen=True)
class Profile:
    """Where the time of a run goes.

    Attributes:
        ops: The most expensive first.
        products_share: Share of the matrix products, epilogues included.
        run_ms: Median of a run without the profiler.
        profiled_run_ms: Median of a run with the profiler, which makes nodes slower, the small ones most.
    """

    ops: tuple[OpTime, ...]
    products_share: float
    run_ms: float
    profiled_run_ms: float


def profile(contender: Contender, threads: int, feed: Feed, runs: int = RUNS) -> Profile:
    """Runs a model of onnxruntime with and without its profiler."""
    with tempfile.TemporaryDirectory() as directory:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(directory, "profile"))
        session = start_session(contender, options)
        inputs = {i.name: feed[i.name] for i in session.get_inputs()}
        plain = contender.open(threads)(feed)
        plain_turns, profiled_turns = time_in_turn([plain, lambda: session.run(None, inputs)], runs, math.inf)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ops = op_times(events, skip=1)  # the first is the warm-up
    products = sum(op.share for op in ops if op.op in PRODUCTS)
    run, profiled = (Summary.of(turns.warm.clock(threads)).median for turns in (plain_turns, profiled_turns))
    return Profile(ops, products, run, profiled)


def op_times(events: Iterable[Mapping[str, Any]], skip: int) -> tuple[OpTime, ...]:
    """Adds up the events of a profile by op.

    Args:
        events: Content of the profiler's file. An event `model_run` ends each run.
        skip: Leave out so many runs from the first on.
    """
    by_run: list[Counter[str]] = []
    nodes: dict[str, set[str]] = defaultdict(set)
    current: Counter[str] = Counter()
    for event in sorted(events, key=lambda event: event["ts"] + event.get("dur", 0)):
        if event["name"] == "model_run":
            by_run.append(current)
            current = Counter()
        elif event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            op = event["args"]["op_name"]
            current[op] += event["dur"]
            nodes[op].add(event["name"])
    medians = {op: statistics.median(run[op] for run in by_run[skip:]) for op in nodes}
    total = sum(medians.values()) or 1
    times = [OpTime(op, len(nodes[op]), float(median), median / total) for op, median in medians.items()]
    return tuple(sorted(times, key=lambda time: -time.microseconds))
