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
        microseconds: Sum of the medians of the nodes: a node that was interrupted in one run counts as in the others.
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
        plain_turns, profiled_turns = time_in_turn(
            [plain, lambda: session.run(None, inputs)], runs, math.inf, warm_seconds=0
        )
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ops = op_times(events, skip=1)  # the first is the warm-up
    products = sum(op.share for op in ops if op.op in PRODUCTS)
    run, profiled = (Summary.of(turns.warm.clock(threads)).median for turns in (plain_turns, profiled_turns))
    return Profile(ops, products, run, profiled)


def op_times(events: Iterable[Mapping[str, Any]], skip: int) -> tuple[OpTime, ...]:
    """Adds up the events of a profile by op.

    Args:
        events: Content of the profiler's file, which has one event for each node and run.
        skip: Leave out so many runs from the first on.
    """
    durations: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            durations[event["args"]["op_name"], event["name"]].append(event["dur"])
    nodes = Counter(op for op, _ in durations)
    microseconds: Counter[str] = Counter()
    for (op, _), times in durations.items():
        microseconds[op] += statistics.median(times[skip:])  # type: ignore[assignment]
    total = sum(microseconds.values()) or 1
    return tuple(OpTime(op, nodes[op], float(time), time / total) for op, time in microseconds.most_common())
