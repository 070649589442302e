# SPDX-License-Identifier: Apache-2.0
"""The plots of docs/accuracy.md. Need matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from evidence import FULL, Evidence, What
from matplotlib import rc_context
from matplotlib.figure import Figure
from tables import METHODS, PERTURBATIONS, ROBUST, lost

COLOURS = {"independent": "#1f6f8b", "boost": "#c8553d", "bag": "#7a9e4f", "snapshot": "#8d6a9f", "control": "#6b747b"}
STYLE = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "bebert-edge"}


def _save(figure: Figure, path: Path) -> None:
    figure.set_layout_engine("constrained")
    figure.savefig(path, metadata={"Date": None})


def draw_members(evidence: Evidence, path: Path) -> None:
    """Mean distance to full precision by what was trained, 4 and 1 bit."""
    with rc_context(STYLE):
        figure = Figure((9, 3.4))
        for axis, bits in zip(figure.subplots(1, 2), (4, 1), strict=True):
            for method in ("control", *METHODS):
                _draw_method(axis, evidence, method, bits)
            axis.axhline(0, color="#22272b", linewidth=0.8)
            axis.set_title(f"{bits}-bit activations")
            axis.set_xlabel("steps, in those of one member")
            axis.set_xticks([1, 2, 4])
            axis.spines[["top", "right"]].set_visible(False)
        figure.axes[0].set_ylabel("points from full precision, mean")
        handles, names = figure.axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, names, loc="outside lower center", ncols=len(handles), frameon=False)
        _save(figure, path)


def _draw_method(axis: object, evidence: Evidence, method: str, bits: int) -> None:
    """Points at 1, 2 and 4 members (or times the steps), over the tasks that have the first two."""
    sizes = [What("one", 1, bits), What(method, 2, bits), What(method, 4, bits)]
    tasks = evidence.with_all([FULL, *sizes]) or evidence.with_all([FULL, *sizes[:2]])
    estimates = [evidence.mean_difference(what, FULL, tasks) for what in sizes]
    points = [(n, e) for n, e in zip((1, 2, 4), estimates, strict=True) if e is not None and e.tasks == len(tasks)]
    if len(points) < 2:
        return
    name = "one member, more steps" if method == "control" else method
    x, y = [n for n, _ in points], [e.value for _, e in points]
    style = "--" if method == "control" else "-"
    axis.plot(x, y, style, marker="o", color=COLOURS[method], label=f"{name} ({len(tasks)} tasks)")  # type: ignore[attr-defined]


def draw_robustness(evidence: Evidence, path: Path) -> None:
    """Mean points lost under each perturbation, over the tasks that have all models shown."""
    shown = [(name, what) for name, what in ROBUST if any(evidence.seeds(task, what) for task in evidence.results)]
    tasks = evidence.with_all(what for _, what in shown)
    with rc_context(STYLE):
        figure = Figure((9, 3))
        axis = figure.subplots()
        colours = ["#22272b", "#b9c0c6", "#6b747b", "#1f6f8b", "#c8553d", "#0d3b4c"]
        for i, (name, what) in enumerate(shown if tasks else []):
            losses = [np.mean([lost(evidence, task, what, p) or 0.0 for task in tasks]) for p in PERTURBATIONS]
            at = np.arange(len(PERTURBATIONS)) + (i - (len(shown) - 1) / 2) * 0.8 / len(shown)
            axis.bar(at, losses, 0.75 / len(shown), label=name, color=colours[i])
        axis.set_xticks(range(len(PERTURBATIONS)), PERTURBATIONS)
        axis.set_ylabel(f"points lost, mean of {len(tasks)} tasks")
        axis.spines[["top", "right"]].set_visible(False)
        if tasks:
            axis.legend(frameon=False, ncols=3)
        _save(figure, path)
