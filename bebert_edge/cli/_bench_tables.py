# SPDX-License-Identifier: Apache-2.0
"""The report of `bebert-edge bench` for people."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bebert_edge.bench.report import Comparison, Model, OpProfile, Report, Timing

WIDTH = 100
MIN_LABEL_WIDTH, MAX_LABEL_WIDTH = 20, 50
PADDING = 3
MANY = 5
"""Baselines, beside which there is no room for the cold time."""
NOISY = 1.5
"""Between the 95th and the 5th percentile of a ratio; 1.1 is usual on an idle machine."""
OPS_SHOWN = 12


def print_report(report: Report) -> None:
    """Prints a report to stdout, at least `WIDTH` columns wide also where that is no terminal."""
    console = Console(highlight=False, soft_wrap=False)
    console = console if console.is_terminal and console.width >= WIDTH else Console(width=WIDTH, highlight=False)
    environment = report.environment
    versions = ", ".join(f"{package} {version}" for package, version in environment.versions.items())
    cores = f"{environment.cores} core{'s' if environment.cores > 1 else ''}"
    console.print(
        f"{environment.cpu}, {cores}, CPU path {environment.cpu_path or 'none'}, {environment.date}", markup=False
    )
    console.print(versions, markup=False)
    for comparison in report.comparisons:
        _print_comparison(console, comparison)


def _print_comparison(console: Console, comparison: Comparison) -> None:
    random = any(model.random_weights and model.baseline is None for model in comparison.models)
    baselines = any(model.baseline is not None for model in comparison.models)
    weights = " Random weights, which take the time of trained ones." if random else ""
    single = " Each baseline is one single model." if baselines else ""
    console.print(f"\n[bold]{escape(comparison.architecture.name)}[/].{weights}{single}")
    for timing in comparison.timings:
        console.print(_timing_table(timing))
        if any(r.p95 > NOISY * r.p5 for result in timing.results for r in result.ratios.values()):
            console.print("Rounds differ widely: something else used the machine. Repeat this when it is idle.\n")
    console.print(_model_table(comparison.models))
    for profile in comparison.profiles:
        console.print(_profile_table(profile))
    for baseline, failed in comparison.failed.items():
        for variant, reason in failed.items():
            console.print(f"{baseline} by {variant} was left out: {reason}", markup=False)


def _table(title: str, labels: str, *columns: tuple[str, int]) -> Table:
    """A table of `WIDTH` at most: the numbers get columns of the given widths, the labels what is left."""
    room = WIDTH - sum(width + PADDING for _, width in columns) - PADDING
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="", pad_edge=False)
    table.add_column(labels, width=max(MIN_LABEL_WIDTH, min(MAX_LABEL_WIDTH, room)), overflow="fold")
    for column, width in columns:
        table.add_column(column, justify="right", no_wrap=True, width=width)
    return table


def _timing_table(timing: Timing) -> Table:
    baselines = list(dict.fromkeys(result.baseline for result in timing.results if result.baseline))
    title = f"{timing.shape} tokens, {threads_text(timing.threads)}, {timing.rounds} rounds, {timing.clock}"
    ratio_columns = ((f"{name}\n/ this", max(9, len(name))) for name in baselines)
    names = ("ms", "p95", "cold") if len(baselines) < MANY else ("ms", "p95")
    table = _table(title, "", *((name, 5) for name in names), *ratio_columns)
    for result in timing.results:
        ratios = (result.ratios.get(name) for name in baselines)
        cells = (f"{_short(r.median)}\n{_short(r.p5)}–{_short(r.p95)}" if r else "" for r in ratios)
        times = [_short(time) for time in (result.time.median, result.time.p95, result.cold.median)]
        table.add_row(_label(result.model, result.variant), *times[: len(names)], *cells)
    return table


def threads_text(threads: int) -> str:
    """E.g. "2 threads"."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _short(number: float) -> str:
    """Three digits, as more would not come out again."""
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f}"


def _label(name: str, variant: str) -> str:
    return f"{name}\n[dim]{escape(variant)}[/]" if variant else escape(name)


def _model_table(models: tuple[Model, ...]) -> Table:
    table = _table(
        "load time, and memory that loading and running add; MB are millions of bytes",
        "",
        *(
            (heading, 7)
            for heading in ("file\nMB", "load\nms", "empty\nmodel", "loaded\nMB", "after a\nrun MB", "peak\nMB")
        ),
    )
    for model in models:
        footprint = model.footprint
        memory = (_megabytes(m) for m in (footprint.loaded_bytes, footprint.run_bytes, footprint.peak_bytes))
        table.add_row(
            _label(model.name, model.variant),
            _megabytes(model.file_bytes),
            f"{footprint.load_ms:.1f}",
            f"{footprint.empty_load_ms:.1f}",
            *memory,
        )
    return table


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f}"


def _profile_table(op_profile: OpProfile) -> Table:
    profile = op_profile.profile
    where = f"{op_profile.model}, {op_profile.shape} tokens, {threads_text(op_profile.threads)}"
    times = f"{_short(profile.run_ms)} ms, with the profiler {_short(profile.profiled_run_ms)} ms"
    shares = f"matrix products {profile.products_share:.0%}, everything else {1 - profile.products_share:.0%}"
    table = _table(f"{where}: {times};\n{shares}", "op", ("nodes", 5), ("microseconds", 12), ("share", 6))
    for op in profile.ops[:OPS_SHOWN]:
        table.add_row(op.op, str(op.nodes), f"{op.microseconds:.0f}", f"{op.share:.1%}")
    rest = profile.ops[OPS_SHOWN:]
    if rest:
        table.add_row(
            f"{len(rest)} more",
            str(sum(op.nodes for op in rest)),
            f"{sum(op.microseconds for op in rest):.0f}",
            f"{sum(op.share for op in rest):.1%}",
        )
    return table
