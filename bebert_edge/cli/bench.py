# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge bench`: what an ensemble costs, against what one would run instead."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebert_edge.cli._shared import OutputFormat, note

if TYPE_CHECKING:
    from bebert_edge.bench import Report, Shape
    from bebert_edge.bench.compare import Progress

NONE = "none"
CHART_SUFFIXES = (".svg", ".png", ".pdf")


def bench(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL|ARCHITECTURE",
            help="An exported .onnx file, a packed ensemble, or for random weights an architecture: bert-base, "
            "minilm-l6, or the config.json of a BERT.",
        ),
    ],
    bits: Annotated[str, typer.Option(help="Bits of activations for architectures: of 1, 2, 4, 8.")] = "1,4",
    members: Annotated[str, typer.Option(help="Members of the ensemble, for architectures.")] = "1",
    threads: Annotated[str, typer.Option(help="Threads of a session.")] = "1",
    sequence_length: Annotated[
        str, typer.Option(help="Tokens of a text; 16..128 spreads the lengths of a batch from 16 to 128.")
    ] = "128",
    batch_size: Annotated[str, typer.Option(help="Texts of a batch.")] = "1",
    against: Annotated[
        str, typer.Option(help="Baselines: fp32, int8, matmulnbits, openvino, portable; or none.")
    ] = "fp32,int8",
    rounds: Annotated[int, typer.Option(min=10, help="The most rounds of a timing.")] = 50,
    seconds: Annotated[float, typer.Option(min=0, help="No more than 10 rounds after this time.")] = 20,
    profile: Annotated[bool, typer.Option("--profile", help="Also tell the time by op of the ensembles.")] = False,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.table,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write JSON to this file too.", show_default=False)
    ] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw a chart: .svg, .png or .pdf.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random weights and token ids.")] = 0,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where baselines are kept.", show_default="the platform's cache")
    ] = None,
) -> None:
    """Measure what ensembles cost: time, load time, memory, file size, each against single models.

    Options that are lists take comma-separated values, and every combination is measured. Each baseline is one model,
    also where the ensemble has several members, and the fastest of several ways to make it. docs/benchmarking.md tells
    how all is measured.
    """
    wanted = _names(against, "--against")
    shapes = _shapes(sequence_length, batch_size)
    bits_list, members_list = _numbers(bits, "--bits"), _numbers(members, "--members")
    threads_list = _numbers(threads, "--threads")
    if wrong := [b for b in bits_list if b not in (1, 2, 4, 8)]:
        raise typer.BadParameter(f"{wrong[0]}: expected some of 1, 2, 4, 8", param_hint="--bits")
    if chart is not None and chart.suffix not in CHART_SUFFIXES:
        raise typer.BadParameter(
            f"{chart}: expected a name that ends in {', '.join(CHART_SUFFIXES)}", param_hint="--chart"
        )

    from bebert_edge.bench import BASELINES, Settings, benchmark, find_subjects
    from bebert_edge.bench.cache import default_cache

    if unknown := [name for name in wanted if name not in BASELINES]:
        raise typer.BadParameter(f"{unknown[0]!r}: expected some of {', '.join(BASELINES)}", param_hint="--against")
    if chart is not None:
        from bebert_edge.bench.chart import check_installed

        check_installed()
    settings = Settings(
        against=wanted,
        threads=threads_list,
        shapes=shapes,
        rounds=rounds,
        seconds=seconds,
        profile=profile,
        seed=seed,
        cache=cache_dir or default_cache(),
    )
    with tempfile.TemporaryDirectory(prefix="bebert-edge-") as scratch, _progress() as progress:
        progress("preparing the ensembles", 0, 1)
        subjects = find_subjects(names, bits=bits_list, members=members_list, scratch=Path(scratch), seed=seed)
        report = benchmark(subjects, settings, command=_command(), progress=progress)
    _answer(report, output_format, output, chart)


def _answer(report: Report, output_format: OutputFormat, output: Path | None, chart: Path | None) -> None:
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
        note(f"wrote {output}")
    if chart is not None:
        from bebert_edge.bench.chart import draw

        draw(report, chart)
        note(f"wrote {chart}")
    if output_format is OutputFormat.json:
        print(text)
    else:
        from bebert_edge.cli._bench_tables import print_report

        print_report(report)


def _command() -> str:
    return shlex.join(["bebert-edge", *sys.argv[1:]])


def _names(text: str, option: str) -> tuple[str, ...]:
    """The items of a list, each once."""
    names = tuple(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))
    if not names:
        raise typer.BadParameter("the list is empty", param_hint=option)
    if NONE in names and len(names) > 1:
        raise typer.BadParameter(f"{NONE!r} stands alone", param_hint=option)
    return () if names == (NONE,) else names


def _numbers(text: str, option: str) -> tuple[int, ...]:
    return tuple(_number(item, option) for item in _names(text, option))


def _number(text: str, option: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is no integer >= 1; write a list as 1,2,4", param_hint=option)
    return int(text)


def _shapes(sequence_length: str, batch_size: str) -> tuple[Shape, ...]:
    from bebert_edge.bench.shape import Shape

    shapes = []
    for batch in _numbers(batch_size, "--batch-size"):
        for item in _names(sequence_length, "--sequence-length"):
            shortest, _, longest = item.partition("..")
            low = _number(shortest, "--sequence-length")
            high = _number(longest, "--sequence-length") if longest else low
            if high < low:
                raise typer.BadParameter(f"{item}: expected SHORTEST..LONGEST", param_hint="--sequence-length")
            if high > low and batch < 2:
                raise typer.BadParameter(f"{item} needs --batch-size 2 or more", param_hint="--sequence-length")
            shapes.append(Shape.spread(batch, low, high))
    return tuple(shapes)


@contextmanager
def _progress() -> Iterator[Progress]:
    """One bar on stderr that tells the step; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    step_column = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    columns = (TimeElapsedColumn(), BarColumn(16), MofNCompleteColumn(), step_column)
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
        task = bar.add_task("", total=1)
        yield lambda step, done, steps: bar.update(task, description=step, completed=done, total=steps)
