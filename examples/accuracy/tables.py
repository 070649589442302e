# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/accuracy.md, each a function of the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from evidence import FULL, Estimate, Evidence, What, signed
from plan import SMALL, TASKS

MISSING = "\u2013"
HEADLINE = "independent"
"""The method of the verdicts, fixed before anything was measured."""
PERTURBATIONS = ("typos", "dropped words", "embedding noise")
METHODS = ("independent", "boost", "bag", "snapshot")
METRICS = {"accuracy": "accuracy", "matthews": "Matthews", "pearson": "Pearson", "micro_f1": "micro F1"}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def _estimate(estimate: Estimate | None) -> str:
    return MISSING if estimate is None else str(estimate)


def _of(count: int) -> str:
    return f"{count} task{'s' if count != 1 else ''}"


def _columns(bits: int) -> list[tuple[str, What]]:
    columns = [("full precision", FULL), ("one", What("one", 1, bits))]
    for n in (2, 4):
        columns.append((f"one, {n}\u00d7 steps", What("control", n, bits)))
        columns += [(f"{n} {method}", What(method, n, bits)) for method in METHODS]
    return columns


def _scores(bits: int) -> Callable[[Evidence], str]:
    def table(evidence: Evidence) -> str:
        columns = [
            (name, what)
            for name, what in _columns(bits)
            if any(evidence.seeds(task, what) for task in evidence.results)
        ]
        absent = [name for name, what in _columns(bits) if (name, what) not in columns]
        rows = [
            [
                f"{TASKS[task].title}, {METRICS[TASKS[task].metric]}",
                *(_number(evidence.score(task, w)) for _, w in columns),
            ]
            for task in TASKS
        ]
        gaps = [evidence.mean_difference(what, FULL) for _, what in columns]
        means = [MISSING if gap is None else f"{signed(gap.value)} ({gap.tasks})" for gap in gaps]
        rows.append(["mean against full precision (tasks)", *means])
        note = f"\n\nNot run within this budget: {'; '.join(absent)}." if absent else ""
        return _table(["", *(name for name, _ in columns)], rows) + note

    return table


def _seeds(evidence: Evidence) -> str:
    columns = [
        ("one", What("one")),
        ("one, 2\u00d7 steps", What("control", 2)),
        ("2 independent", What("independent", 2)),
    ]
    rows = []
    for task in SMALL:
        cells = []
        for _, what in columns:
            values = [value for value, _ in evidence.seeds(task, what).values()]
            spread = f" \u00b1 {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.1f}{spread} ({len(values)})" if values else MISSING)
        rows.append([TASKS[task].title, *cells])
    return _table(["", *(f"{name}, mean \u00b1 sd (seeds)" for name, _ in columns)], rows)


def _compared(pairs: Sequence[tuple[str, What, What]]) -> Callable[[Evidence], str]:
    def table(evidence: Evidence) -> str:
        rows = [
            [TASKS[task].title, *(_estimate(evidence.difference(task, a, b)) for _, a, b in pairs)] for task in TASKS
        ]
        means = [evidence.mean_difference(a, b) for _, a, b in pairs]
        rows.append(["**mean**", *(f"**{e}**, {_of(e.tasks)}" if e else MISSING for e in means)])
        return _table(["", *(name for name, _, _ in pairs)], rows)

    return table


def _distillation(evidence: Evidence) -> str:
    rows = []
    layers, logits, labels = What("boost", 2), What("logits", 2), What("labels", 2)
    for task in TASKS:
        seconds = [_seconds(evidence, task, what.method) for what in (layers, logits, labels)]
        ratio = seconds[2] / seconds[0] if seconds[0] and seconds[2] else None
        differences = [evidence.difference(task, what, layers) for what in (logits, labels)]
        row = [*(_number(value, 0) for value in seconds), _number(ratio, 2), *map(_estimate, differences)]
        rows.append([TASKS[task].title, *row])
    means = [evidence.mean_difference(what, layers) for what in (logits, labels)]
    rows.append(["**mean**", "", "", "", _number(_time_ratio(evidence), 2), *(f"**{_estimate(m)}**" for m in means)])
    head = [
        "", "layers (C), s", "logits (B), s", "labels (A), s", "A / C", "score, B \u2212 C", "score, A \u2212 C",
    ]  # fmt: skip
    return _table(head, rows)


def _seconds(evidence: Evidence, task: str, kind: str) -> float | None:
    units = evidence.units(task, kind, 1)
    return float(np.mean([unit["cpu_seconds"] for unit in units])) if units else None


def _time_ratio(evidence: Evidence) -> float | None:
    ratios = []
    for task in TASKS:
        taught, alone = (_seconds(evidence, task, kind) for kind in ("boost", "labels"))
        if taught and alone:
            ratios.append(alone / taught)
    return float(np.mean(ratios)) if ratios else None


ROBUST = (
    ("full precision", FULL),
    ("one", What("one")),
    ("one, 2\u00d7 steps", What("control", 2)),
    ("2 independent", What("independent", 2)),
    ("2 boost", What("boost", 2)),
    ("4 independent", What("independent", 4)),
)


def lost(evidence: Evidence, task: str, what: What, perturbation: str) -> float | None:
    """Points that a perturbation takes, on the examples that are perturbed."""
    reference, perturbed = (
        evidence.score(task, What(what.method, what.members, what.bits, name)) for name in ("reference", perturbation)
    )
    return None if reference is None or perturbed is None else reference - perturbed


def _robustness(evidence: Evidence) -> str:
    rows = []
    for perturbation in PERTURBATIONS:
        for task in TASKS:
            cells = [lost(evidence, task, what, perturbation) for _, what in ROBUST]
            if any(cell is not None for cell in cells):
                rows.append([f"{perturbation}, {TASKS[task].title}", *map(_number, cells)])
        means = [
            [x for task in TASKS if (x := lost(evidence, task, what, perturbation)) is not None] for _, what in ROBUST
        ]
        rows.append(
            [f"**{perturbation}, mean**", *(f"**{np.mean(m):.1f}** ({len(m)})" if m else MISSING for m in means)]
        )
    return _table(["points lost", *(name for name, _ in ROBUST)], rows)


def _calibration(evidence: Evidence) -> str:
    columns = [
        ("full precision", FULL), ("one", What("one")),
        ("2 independent", What("independent", 2)), ("4 independent", What("independent", 4)),
    ]  # fmt: skip
    rows = []
    for task in TASKS:
        if TASKS[task].problem != "single_label":
            continue
        cells = []
        for _, what in columns:
            found = [
                cell
                for cell in evidence.results.get(task, {}).get("cells", ())
                if What(cell["method"], cell["members"], cell["bits"], cell["input"]) == what
            ]
            errors = [np.mean([cell[name] for cell in found]) for name in ("ece", "ece_calibrated")] if found else []
            cells.append(" \u2192 ".join(f"{e:.1f}" for e in errors) or MISSING)
        rows.append([TASKS[task].title, *cells])
    return _table(["", *(name for name, _ in columns)], rows)


def _budget(evidence: Evidence) -> str:
    rows = []
    for task, result in evidence.results.items():
        recipe, units = result["recipe"], result["units"]
        teacher = evidence.units(task, "teacher", 0, bits=32)[0]
        members = [unit["train_examples"] for unit in units if unit["kind"] != "teacher"]
        train = members[0] if members else None
        seen = recipe["steps"] * recipe["batch"]
        rows.append([
            TASKS[task].title,
            f"{teacher['train_examples']:,}",
            f"{recipe['teacher_epochs']:g}",
            f"{train:,}" if train else MISSING,
            f"{recipe['steps']:,} \u00d7 {recipe['batch']}",
            f"{seen / train:.2f}" if train else MISSING,
            f"{result['labels']['clean']['examples']:,}",
            str(len(units)),
            f"{sum(unit['cpu_seconds'] for unit in units) / 60:.0f}",
        ])  # fmt: skip
    head = [
        "", "train, full precision", "its epochs", "train, members", "steps of a member", "its epochs", "dev",
        "trainings", "CPU minutes",
    ]  # fmt: skip
    return _table(head, rows) + "\n\n" + _ran(evidence)


def _ran(evidence: Evidence) -> str:
    units = [unit for result in evidence.results.values() for unit in result["units"]]
    if not units:
        return "Nothing has been run yet."
    budgets = sorted({result["budget"] for result in evidence.results.values()})
    versions = sorted(
        {f"torch {u['environment']['torch']}, transformers {u['environment']['transformers']}" for u in units}
    )
    minutes = sum(unit["cpu_seconds"] for unit in units) / 60
    return (
        f"{len(units)} trainings of the budget `{'`, `'.join(budgets)}`, {minutes:.0f} minutes of one core in all "
        f"(measurements not counted); {'; '.join(versions)}. Each result names its commit."
    )


def _verdict(reached: bool | None) -> str:
    return "not measured" if reached is None else "reached" if reached else "**not reached**"


def _verdicts(evidence: Evidence) -> str:
    two, four = What(HEADLINE, 2), What(HEADLINE, 4)
    sst2 = evidence.difference("sst2", two, FULL)
    average = evidence.mean_difference(two, FULL)
    equal = evidence.mean_difference(two, What("control", 2))
    more = evidence.mean_difference(four, two)
    closed, closed_tasks = _gap_closed(evidence)
    ratio, labels = _time_ratio(evidence), evidence.mean_difference(What("labels", 2), What("boost", 2))

    def found(estimate: Estimate | None) -> str:
        return MISSING if estimate is None else f"{estimate}, {_of(estimate.tasks)}"

    rows = [
        [
            "SST-2, 2 members, 4 bits: at most 0.7 below full precision",
            found(sst2),
            _verdict(sst2 and sst2.value >= -0.7),
        ],
        ["2 members, 4 bits, mean: at most 1.0 below", found(average), _verdict(average and average.value >= -1.0)],
        ["2 members above one of equal total steps, mean", found(equal), _certain(equal)],
        ["4 members above 2, mean", found(more), _certain(more)],
        [
            "1 bit, 4 members: at least half of the gap between one and full precision closed",
            MISSING if closed is None else f"{closed:.0%}, {_of(closed_tasks)}",
            _verdict(closed if closed is None else closed >= 0.5),
        ],
        *_robustness_verdicts(evidence),
        [
            "rounds without distillation: at most half the time",
            MISSING if ratio is None else f"{ratio:.2f} of it",
            _verdict(ratio and ratio <= 0.5),
        ],
        ["\u2026 at no more than 0.3 points", found(labels), _verdict(labels and labels.value >= -0.3)],
    ]
    return _table(["aim", "found", ""], rows).replace("| --- | ---: | ---: |", "| --- | --- | --- |")


def _certain(estimate: Estimate | None) -> str:
    """A gain counts as certain where the whole interval is above zero."""
    if estimate is None or estimate.value <= 0 or estimate.interval[0] > 0:
        return _verdict(estimate and estimate.value > 0)
    return "reached on average; the interval holds 0"


def _gap_closed(evidence: Evidence) -> tuple[float | None, int]:
    """How much of the mean distance from one 1-bit member to full precision four members make up."""
    one, four = What("one", 1, 1), What(HEADLINE, 4, 1)
    tasks = evidence.with_all([FULL, one, four])
    gap, gain = evidence.mean_difference(FULL, one, tasks), evidence.mean_difference(four, one, tasks)
    if gap is None or gain is None or gap.value <= 0:
        return None, len(tasks)
    return gain.value / gap.value, len(tasks)


def _robustness_verdicts(evidence: Evidence) -> list[list[str]]:
    rows = []
    for perturbation in PERTURBATIONS:
        pairs = []
        for task in TASKS:
            a, b = (lost(evidence, task, What(m, n), perturbation) for m, n in ((HEADLINE, 2), ("one", 1)))
            if a is not None and b is not None:
                pairs.append((task, a, b))
        aim = f"{perturbation}: 2 members lose less than one"
        if not pairs:
            rows.append([aim, MISSING, _verdict(None)])
            continue
        a, b = (float(np.mean([pair[i] for pair in pairs])) for i in (1, 2))
        less = sum(pair[1] < pair[2] for pair in pairs)
        found = f"{a:.1f} against {b:.1f} points, mean; less on {less} of {_of(len(pairs))}"
        verdict = _verdict(less == len(pairs)) if less == len(pairs) or a >= b else "reached on average, not on all"
        rows.append([aim, found, verdict])
    return rows


def _missing(evidence: Evidence) -> str:
    wanted = [
        (f"{name}, {bits}-bit", what) for bits in (4, 1) for name, what in _columns(bits) if what != FULL or bits == 4
    ]
    lines = []
    for name, what in wanted:
        tasks = [TASKS[task].title for task in TASKS if not evidence.seeds(task, what)]
        if tasks:
            lines.append(f"- {name}: {'all tasks' if len(tasks) == len(TASKS) else ', '.join(tasks)}")
    return "\n".join(lines) or "Nothing: every cell was measured."


_EQUAL = (
    ("2 independent \u2212 one of 2\u00d7 steps", What("independent", 2), What("control", 2)),
    ("2 independent \u2212 one", What("independent", 2), What("one")),
    ("4 independent \u2212 2", What("independent", 4), What("independent", 2)),
    ("4 independent \u2212 one of 4\u00d7 steps", What("independent", 4), What("control", 4)),
)
_METHODS = tuple((f"2 {m} \u2212 2 independent", What(m, 2), What("independent", 2)) for m in METHODS[1:])

_STARTS = (
    ("staged \u2212 one", What("staged"), What("one")),
    ("staged \u2212 one, 1 bit", What("staged", 1, 1), What("one", 1, 1)),
    ("ternary halves \u2212 2 independent", What("ternary", 2), What("independent", 2)),
)

TABLES: dict[str, Callable[[Evidence], str]] = {
    "verdicts": _verdicts,
    "budget": _budget,
    "scores-4bit": _scores(4),
    "scores-1bit": _scores(1),
    "seeds": _seeds,
    "equal-steps": _compared(_EQUAL),
    "methods": _compared(_METHODS),
    "distillation": _distillation,
    "starts": _compared(_STARTS),
    "robustness": _robustness,
    "calibration": _calibration,
    "missing": _missing,
}
