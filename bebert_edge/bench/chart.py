# SPDX-License-Identifier: Apache-2.0
"""The times of a report as bars. Needs matplotlib."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bebert_edge.bench.report import Comparison, Report, Result, Timing
from bebert_edge.errors import BenchError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENSEMBLE, BASELINE, TEXT, FAINT = "#1f6f8b", "#b9c0c6", "#22272b", "#6b747b"
BAR_INCHES, HEAD_INCHES, FOOT_INCHES, WIDTH_INCHES = 0.27, 0.55, 0.4, 9.0
AXIS_PER_BAR = 2.1
"""Length of the axis by that of the longest bar: what is written beside it needs room too."""


def check_installed() -> None:
    """Raises BenchError if matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise BenchError("a chart needs the package 'matplotlib', which is not installed. "
                         "Run: pip install 'bebert-edge[bench]'")  # fmt: skip


def draw(report: Report, path: Path) -> None:
    """Draws a report into a file whose suffix says the format.

    Raises:
        BenchError: matplotlib is missing.
        OSError: The file cannot be written.
    """
    check_installed()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = [(comparison, timing) for comparison in report.comparisons for timing in comparison.timings]
    heights = [HEAD_INCHES + BAR_INCHES * len(timing.results) for _, timing in panels]
    with rc_context({"font.size": 9, "svg.fonttype": "none", "text.color": TEXT, "svg.hashsalt": "bebert-edge"}):
        figure = Figure((WIDTH_INCHES, sum(heights) + FOOT_INCHES))
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for (comparison, timing), axis in zip(panels, axes, strict=True):
            _draw_timing(axis, comparison, timing)
        environment = report.environment
        note = (
            "Medians. Each baseline is one single model; 2.0\u00d7 means that it takes twice the time.\n"
            f"{environment.cpu}, CPU path {environment.cpu_path}, onnxruntime {environment.versions['onnxruntime']}, "
            f"bebert-edge {environment.versions['bebert-edge']}, {environment.date[:10]}"
        )
        foot = FOOT_INCHES / figure.get_figheight()
        figure.text(0.012, foot / 4, note, fontsize=7, color=FAINT)
        figure.set_layout_engine("constrained", rect=(0, foot, 1, 1 - foot))
        figure.savefig(path, dpi=160)


def _draw_timing(axis: Axes, comparison: Comparison, timing: Timing) -> None:
    results = timing.results
    times = [result.time.median for result in results]
    rows = range(len(results))
    axis.barh(rows, times, height=0.66, color=[BASELINE if result.baseline else ENSEMBLE for result in results])
    axis.set_yticks(rows, [_name(result) for result in results], color=TEXT)
    axis.invert_yaxis()
    axis.set_xlim(0, max(times) * AXIS_PER_BAR)
    axis.set_xticks([])
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    for row, result in zip(rows, results, strict=True):
        _write(axis, row, result)
    threads = f"{timing.threads} thread{'s' if timing.threads > 1 else ''}"
    title = f"{comparison.architecture.name}, {timing.shape} tokens, {threads}"
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")


def _name(result: Result) -> str:
    own = result.variant and not result.baseline
    return f"{result.model}, {result.variant}" if own else result.model


def _write(axis: Axes, row: int, result: Result) -> None:
    """Writes beside a bar its time, and what it is compared with or how it was made."""
    time = result.time.median
    times = "   ".join(f"{ratio.median:.1f}\u00d7 {name}" for name, ratio in result.ratios.items())
    place: dict[str, Any] = {
        "xycoords": "data",
        "textcoords": "offset points",
        "va": "center_baseline",
        "annotation_clip": False,
    }
    text = f"{time:.{2 if time < 10 else 1 if time < 100 else 0}f} ms"
    axis.annotate(text, (time, row), (5, 0), fontweight="bold", **place)
    faint: dict[str, Any] = {"color": TEXT, "fontsize": 8.5} if times else {"color": FAINT, "fontsize": 7.5}
    axis.annotate(times or (result.variant if result.baseline else ""), (time, row), (56, 0), **place, **faint)
