# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge evaluate`: how good models are, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebert_edge.cli._shared import OutputFormat, note
from bebert_edge.errors import EvaluationError

if TYPE_CHECKING:
    from bebert_edge.evaluation import Report
    from bebert_edge.evaluation.evaluate import Progress
    from bebert_edge.evaluation.tasks import TaskReport

AUTO = "auto"


class Problem(str, Enum):
    """What a label is."""

    single_label = "single_label"
    multi_label = "multi_label"
    regression = "regression"


def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="An .onnx file, a packed ensemble, a latent ensemble or member, or a Hugging Face directory.",
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Labelled examples: .tsv, .csv or .jsonl, optionally with .gz; or a GLUE task's name; or, for "
            "retrieval, the directory of a corpus."
        ),
    ],
    split: Annotated[str, typer.Option(help="Split of a GLUE task or a corpus.")] = "dev",
    task: Annotated[
        str | None,
        typer.Option(
            help="reranking: rank each query's documents, by a model whose only label is a score.",
            show_default="what the models say",
        ),
    ] = None,
    compare_to: Annotated[
        Path | None, typer.Option(help="Compare every MODEL to this one.", metavar="MODEL", show_default=False)
    ] = None,
    metrics: Annotated[str, typer.Option(help="Metrics, comma-separated; auto is all of the task.")] = AUTO,
    metric: Annotated[
        str | None,
        typer.Option(
            help="The main metric, of which members, differences and robustness are told.",
            show_default="the first of --metrics; accuracy, f1_micro or pearson by task",
        ),
    ] = None,
    perturbations: Annotated[
        str,
        typer.Option(
            "--perturb",
            help="Try robustness: typos, drop-words, embedding-noise, each at several strengths or at one: typos=0.1.",
            show_default="none",
        ),
    ] = "",
    draws: Annotated[int, typer.Option(min=1, help="Draws of each perturbation, to be averaged.")] = 1,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for 95 % intervals; 0 for none.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of resamples and perturbations.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of one call.", show_default="one per core")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts per call.")] = 32,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many examples.", show_default=False)
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column of the text.", show_default="text, sentence, ...")
    ] = None,
    text_pair_column: Annotated[
        str | None,
        typer.Option("--text-pair-column", "--pair-column", help="Column of a second text.", show_default="by task"),
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label.", show_default="label, labels")] = None,
    label_names: Annotated[
        str | None,
        typer.Option(help="The model's labels for the file's classes in their order, e.g. negative,positive."),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(min=2, help="Tokens of the longest input of Hugging Face models.", show_default="theirs"),
    ] = None,
    problem: Annotated[
        Problem | None,
        typer.Option(help="What a Hugging Face model's labels are, where it does not say.", show_default=False),
    ] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.table,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write JSON to this file too.", show_default=False)
    ] = None,
) -> None:
    """Evaluate models on labelled text: metrics with intervals, calibration, members, robustness, comparison.

    Labels of the file are names of the model's labels, or their numbers. docs/evaluating.md defines every number.
    """
    from bebert_edge.evaluation import Settings, open_model, read_data
    from bebert_edge.evaluation import evaluate as evaluate_models
    from bebert_edge.evaluation.data import best_named
    from bebert_edge.evaluation.perturbation import parse
    from bebert_edge.evaluation.tasks import CLASSIFICATION, evaluate_task, open_task, task_of

    settings = Settings(
        metrics=[] if metrics == AUTO else _names(metrics),
        metric=metric,
        perturbations=parse(perturbations),
        draws=draws,
        resamples=bootstrap,
        seed=seed,
        batch_size=batch_size,
    )
    if any(path.suffix != ".onnx" for path in [*models, *filter(None, [compare_to])]):
        _silence_transformers()
    open_one = partial(
        open_model, threads=threads, max_length=max_length, problem=None if problem is None else problem.value
    )
    opened = [open_one(path) for path in models]
    second = None if compare_to is None else open_one(compare_to)
    everything = [*opened, *([] if second is None else [second])]
    name = task or task_of(everything)
    report: Report | TaskReport
    if name != CLASSIFICATION:
        if settings.perturbations:
            raise EvaluationError(f"--perturb tells of labels of texts, not of {name}: leave it out")
        if label_names is not None:
            raise EvaluationError(f"--label-names are of classes of texts, not of {name}: leave them out")
        evaluation = open_task(
            name,
            data,
            split=split,
            text_column=text_column,
            text_pair_column=text_pair_column,
            label_column=label_column,
            limit=limit,
            resamples=bootstrap,
            seed=seed,
        )
        with _progress() as progress:
            report = evaluate_task(
                opened,
                evaluation,
                name=str(data),
                metrics=settings.metrics,
                metric=metric,
                compare_to=second,
                batch_size=batch_size,
                progress=progress,
            )
        _print(report, output_format, output)
        return
    examples = read_data(
        data,
        best_named(everything),
        split=split,
        text_column=text_column,
        text_pair_column=text_pair_column,
        label_column=label_column,
        label_names=None if label_names is None else _names(label_names),
        limit=limit,
    )
    with _progress() as progress:
        report = evaluate_models(opened, examples, settings, name=str(data), compare_to=second, progress=progress)
    _print(report, output_format, output)


def _print(report: Report | TaskReport, output_format: OutputFormat, output: Path | None) -> None:
    from bebert_edge.evaluation import Report

    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
        note(f"wrote {output}")
    if output_format is OutputFormat.json:
        print(text)
        return
    from bebert_edge.cli._evaluation_tables import print_report, print_task_report

    if isinstance(report, Report):
        print_report(report)
    else:
        print_task_report(report)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _silence_transformers() -> None:
    """Keeps transformers from drawing bars and warning."""
    from importlib.util import find_spec

    if find_spec("transformers") is not None:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr for what is answered now; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda step, done, examples: bar.update(task, description=step, completed=done, total=examples)
