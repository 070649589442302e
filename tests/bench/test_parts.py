# SPDX-License-Identifier: Apache-2.0
"""Statistics, shapes, rounds, profiles: everything that needs no model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bebert_edge.bench import timing
from bebert_edge.bench.profiling import op_times
from bebert_edge.bench.shape import Shape
from bebert_edge.bench.summary import Ratio, Summary
from bebert_edge.bench.timing import MIN_ROUNDS, Times, best_of, clock_name, time_in_turn


def test_a_summary_is_in_milliseconds() -> None:
    summary = Summary.of([i / 1000 for i in range(1, 102)])
    assert (summary.best, summary.median) == pytest.approx((1, 51))
    assert summary.p95 == pytest.approx(96)


def test_one_time_is_its_own_summary() -> None:
    assert Summary.of([0.5]) == Summary(500, 500, 500)


def test_ratios_are_taken_round_by_round() -> None:
    # A slow round slows both: the ratio of medians, 2.5, is not what any round saw.
    ratio = Ratio.of([2, 20, 5], [1, 10, 2])
    assert ratio.median == pytest.approx(2)
    assert ratio.p5 == pytest.approx(2)
    assert ratio.p95 == pytest.approx(2.45)


@pytest.mark.parametrize(
    ("shape", "text", "lengths"),
    [
        (Shape.spread(1, 128, 128), "1 x 128", (128,)),
        (Shape.spread(3, 7, 7), "3 x 7", (7, 7, 7)),
        (Shape.spread(8, 16, 128), "8 x 16..128", (16, 32, 48, 64, 80, 96, 112, 128)),
        (Shape.spread(2, 1, 2), "2 x 1..2", (1, 2)),
    ],
)
def test_shapes(shape: Shape, text: str, lengths: tuple[int, ...]) -> None:
    assert (str(shape), shape.lengths, shape.mixed) == (text, lengths, len(set(lengths)) > 1)


def test_a_feed_is_padded_on_the_right_and_its_rows_are_not() -> None:
    shape = Shape((2, 5, 3))
    feed = shape.feed(100, seed=1)
    assert feed["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert (feed["input_ids"] < 100).all()
    assert (feed["input_ids"][feed["attention_mask"] == 0] == 0).all()
    rows = shape.rows(feed)
    assert [row["input_ids"].shape for row in rows] == [(1, 2), (1, 5), (1, 3)]
    assert all(row["attention_mask"].all() for row in rows)
    assert np.array_equal(shape.feed(100, seed=1)["input_ids"], feed["input_ids"])
    assert not np.array_equal(shape.feed(100, seed=2)["input_ids"], feed["input_ids"])


def test_every_round_runs_every_contender_twice_and_begins_with_another() -> None:
    calls: list[str] = []
    runs = [lambda name=name: calls.append(name) for name in "abc"]
    turns = time_in_turn(runs, rounds=4, seconds=60, warm_seconds=0)
    assert calls == [*"abc", *"aabbcc", *"bbccaa", *"ccaabb", *"aabbcc"]
    assert {len(seconds) for t in turns for times in (t.cold, t.warm) for seconds in (times.cpu, times.wall)} == {4}


def test_rounds_end_when_the_time_is_over_but_there_are_some() -> None:
    seen: list[tuple[int, int]] = []
    (turns,) = time_in_turn([lambda: None], 10_000, 0, lambda done, rounds: seen.append((done, rounds)), 0)
    assert len(turns.warm.wall) == MIN_ROUNDS
    assert seen[-1] == (MIN_ROUNDS, 10_000)


def test_a_contender_runs_until_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0])
    monkeypatch.setattr(timing, "time", clock)
    lengths = iter([9, 4, 3, 2, 1])  # before all rounds, then a turn: cold, one more until 6 seconds are over, warm

    def run() -> None:
        now[0] += next(lengths)

    (turns,) = time_in_turn([run], rounds=1, seconds=60, warm_seconds=6)
    assert (turns.cold.wall, turns.warm.wall) == ([4], [2])
    assert (turns.cold.cpu, turns.warm.cpu) == ([4], [2])
    assert next(lengths) == 1


def test_one_thread_is_measured_by_cpu_time() -> None:
    times = Times([1.0], [2.0])
    assert (times.clock(1), times.clock(2)) == ([1.0], [2.0])
    assert (clock_name(1), clock_name(2)) == ("CPU time", "wall-clock time")


@pytest.mark.parametrize(("seconds", "calls"), [(60, 1 + 5), (0, 1 + 3)])
def test_the_best_of_some_runs(seconds: float, calls: int) -> None:
    done: list[int] = []
    assert best_of(lambda: done.append(0), 2, runs=5, seconds=seconds) >= 0
    assert len(done) == calls


def node(name: str, op: str, ts: int, dur: int) -> dict[str, object]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": op}}


def test_op_times_are_medians_over_runs_without_the_first() -> None:
    events: list[dict[str, object]] = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 5}]
    for run, slow in enumerate((9, 1, 2, 3)):
        start = 1000 * run
        events += [
            {"cat": "Session", "name": "model_run", "ts": start + 10, "dur": 500},  # written before its nodes
            node("a", "MatMul", start + 20, 10 * slow),
            node("b", "MatMul", start + 150, 10),
            node("c", "Add", start + 200, 5),
            {"cat": "Node", "name": "c_fence_before", "ts": start + 200, "dur": 5, "args": {"op_name": "Add"}},
        ]
    matmul, add = op_times(events, skip=1)
    assert (matmul.op, matmul.nodes, matmul.microseconds) == ("MatMul", 2, 30)
    assert (add.op, add.nodes, add.microseconds) == ("Add", 1, 5)
    assert matmul.share == pytest.approx(30 / 35)
