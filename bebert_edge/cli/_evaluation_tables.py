# SPDX-License-Identifier: Apache-2.0
"""The report of `bebert-edge evaluate` for people: metrics and errors of calibration in percent."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from bebert_edge.evaluation.calibration import Calibration, Errors
from bebert_edge.evaluation.diversity import Diversity
from bebert_edge.evaluation.report import Comparison, ModelReport, Report, Robustness, Score
from bebert_edge.evaluation.tasks import TaskReport

WIDTH = 120
MANY = 4
"""Members, beyond which only the range of their losses is told."""

_PERCENT = {"ece": "ECE", "adaptive_ece": "adaptive ECE"}
_PLAIN = {"nll": "NLL", "brier": "Brier", "rmse": "RMSE", "mae": "MAE"}


def print_report(report: Report) -> None:
    """Prints a report to stdout, at least `WIDTH` columns wide also where that is no terminal."""
    console = Console(highlight=False)
    console = console if console.is_terminal and console.width >= WIDTH else Console(width=WIDTH, highlight=False)
    labels = f"{len(report.labels)} label{'s' if len(report.labels) > 1 else ''}"
    intervals = f"95 % intervals of {report.resamples} resamples, " if report.resamples else ""
    _line(
        console, f"{report.data}: {report.examples} examples, {report.problem}, {labels}; {intervals}seed {report.seed}"
    )
    for model in report.models:
        _print_model(console, model, report.metric)
    if report.comparisons:
        _line(console, f"{report.metric} of each model less that of {report.comparisons[0].second}")
        console.print(_comparison_table(report.comparisons))


def print_task_report(report: TaskReport) -> None:
    """Prints the report of a task that has no labels of texts."""
    console = Console(highlight=False)
    console = console if console.is_terminal and console.width >= WIDTH else Console(width=WIDTH, highlight=False)
    counts = ", ".join(f"{count} {name}" for name, count in report.counts.items())
    intervals = f"; 95 % intervals of {report.resamples} resamples, seed {report.seed}" if report.resamples else ""
    _line(console, f"{report.data}: {report.task}, {counts}{intervals}")
    for model in report.models:
        several = len(model.members) > 1
        count = f"{len(model.members)} members, mean of {model.combination}" if several else "1 member"
        _line(console, f"\n{model.path}", style="bold")
        _line(console, f"{model.kind}, {count}; {model.backend}; {model.seconds:.1f} s")
        table = _table("", "value", "95 %")
        for name, score in model.scores.items():
            if name == "perplexity":
                found = score.interval
                table.add_row(name, f"{score.value:.2f}", f"{found.low:.2f} .. {found.high:.2f}" if found else "")
            else:
                table.add_row(f"{name}, %", _percent(score.value), _interval(score))
        if several:
            for i, score in enumerate(model.members):
                table.add_row(f"member {i}, {report.metric}, %", _percent(score.value), _interval(score))
        if model.gain is not None:
            gains = {"less mean member": model.gain.over_mean, f"less member {model.gain.best}": model.gain.over_best}
            for name, score in gains.items():
                table.add_row(f"ensemble {name}", _percent(score.value, "+"), _interval(score, "+"))
        console.print(table)
    if report.comparisons:
        _line(console, f"{report.metric} of each model less that of {report.comparisons[0].second}")
        table = _table("", "difference", "95 %")
        for row in report.comparisons:
            table.add_row(row.first, _percent(row.difference.value, "+"), _interval(row.difference, "+"))
        console.print(table)


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, markup=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=i > 0, overflow="fold")
    return table


def _percent(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f}"


def _interval(score: Score, sign: str = "") -> str:
    found = score.interval
    return f"{_percent(found.low, sign)} .. {_percent(found.high, sign)}" if found else ""


def _calibration(found: Calibration | Errors) -> dict[str, str]:
    plain = {title: f"{getattr(found, name):.4f}" for name, title in _PLAIN.items() if hasattr(found, name)}
    return plain | {title: _percent(getattr(found, name)) for name, title in _PERCENT.items() if hasattr(found, name)}


def _print_model(console: Console, model: ModelReport, metric: str) -> None:
    several = len(model.members) > 1
    count = f"{len(model.members)} member{'s' if several else ''}"
    combined = f", mean of {model.combination}" if several else ""
    temperature = f", temperature {model.temperature:.3g}" if model.temperature != 1 else ""
    _line(console, f"\n{model.path}", style="bold")
    _line(console, f"{model.kind}, {count}{combined}{temperature}; {model.backend}; {model.seconds:.1f} s")
    table = _table("", "value", "95 %")
    for name, score in model.scores.items():
        table.add_row(f"{name}, %", _percent(score.value), _interval(score))
    for name, value in _calibration(model.calibration).items():
        table.add_row(f"{name}, %" if name in _PERCENT.values() else name, value, "")
    console.print(table)
    if several:
        console.print(_member_table(model, metric))
        _line(console, _diversity(model))
    if model.robustness:
        console.print(_robustness_table(model.robustness, metric, several))
    if model.robustness and several:
        _line(console, _verdict(model.robustness))


def _member_table(model: ModelReport, metric: str) -> Table:
    titles = list(_calibration(model.calibration))
    table = _table("", "weight", metric, "95 %", *titles)
    for i, member in enumerate(model.members):
        calibration = _calibration(member.calibration).values()
        table.add_row(
            f"member {i}", f"{member.weight:.3f}", _percent(member.score.value), _interval(member.score), *calibration
        )
    gain = model.gain
    if gain is not None:
        rows = {
            "ensemble less mean member": gain.over_mean,
            f"ensemble less member {gain.best}, the best": gain.over_best,
        }
        for name, score in rows.items():
            table.add_row(name, "", _percent(score.value, "+"), _interval(score, "+"), *("" for _ in titles))
    return table


def _diversity(model: ModelReport) -> str:
    found = model.diversity
    if found is None:
        return ""
    if isinstance(found, Diversity):
        q = "none" if found.q_statistic is None else f"{found.q_statistic:.3f}"
        return (
            f"all agree {_percent(found.agreement)} %, two differ {_percent(found.disagreement)} %, "
            f"kappa {found.kappa:.3f}, Q {q}, oracle {_percent(found.oracle)} %, KL {found.kl:.4f} nats"
        )
    correlation = "none" if found.correlation is None else f"{found.correlation:.3f}"
    return f"correlation of errors {correlation}, ambiguity {found.ambiguity:.4f}"


def _robustness_table(rows: tuple[Robustness, ...], metric: str, several: bool) -> Table:
    columns = ("perturbation", metric, "loses", "95 %")
    table = _table(*columns, *(("each member", "their mean", "advantage", "95 %") if several else ()))
    for row in rows:
        cells = [_name(row), _percent(row.score.value), _percent(row.loss.value, "+"), _interval(row.loss, "+")]
        if several:
            cells += [
                _losses(row.member_losses),
                _percent(row.mean_member_loss.value, "+"),
                _percent(row.advantage.value, "+"),
                _interval(row.advantage, "+"),
            ]
        table.add_row(*cells)
    return table


def _name(row: Robustness) -> str:
    return f"{row.kind} {row.strength:g}"


def _losses(losses: tuple[float, ...]) -> str:
    shown = losses if len(losses) <= MANY else (min(losses), max(losses))
    return (" " if shown is losses else " .. ").join(_percent(loss, "+") for loss in shown)


def _verdict(rows: tuple[Robustness, ...]) -> str:
    more = [_name(row) for row in rows if row.advantage.value < 0]
    sure = {
        direction: sum(row.advantage.sure and (row.advantage.value < 0) == (direction == "more") for row in rows)
        for direction in ("less", "more")
    }
    return (
        f"The ensemble loses more than its members on average under {len(more)} of {len(rows)} perturbations"
        f"{' (' + ', '.join(more) + ')' if more else ''}. Beyond chance it loses less under {sure['less']}, "
        f"more under {sure['more']}."
    )


def _comparison_table(comparisons: tuple[Comparison, ...]) -> Table:
    titles = ("difference", "95 %", "only this right", "only that", "McNemar p", "same answer", "logits differ")
    table = _table("", *titles)
    for row in comparisons:
        test = row.mcnemar
        table.add_row(
            row.first,
            _percent(row.difference.value, "+"),
            _interval(row.difference, "+"),
            *(("", "", "") if test is None else (str(test.only_first), str(test.only_second), f"{test.p_value:.3g}")),
            "" if row.equal_answers is None else f"{_percent(row.equal_answers)} %",
            f"{row.largest_logit_difference:.3g}",
        )
    return table
