# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge train`: labelled text and a BERT to a binary ensemble."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebert_edge.cli._shared import note
from bebert_edge.errors import TrainingError

if TYPE_CHECKING:
    from bebert_edge.training.distillation import Progress


class Method(str, Enum):
    """How members come to differ."""

    boost = "boost"
    independent = "independent"


def train(
    data: Annotated[Path, typer.Argument(help="Training examples: .tsv, .csv or .jsonl, optionally with .gz.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for checkpoints; packed into OUTPUT/packed.")
    ],
    backbone: Annotated[Path | None, typer.Option(help="Directory of a BERT to fine-tune into the teacher.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Directory of a fine-tuned BERT to distil instead.")] = None,
    initial: Annotated[
        Path | None, typer.Option(help="Directory that members start from, e.g. a member with more bits.")
    ] = None,
    members: Annotated[int, typer.Option(min=1, help="Members of the ensemble.")] = 2,
    bits: Annotated[int, typer.Option(help="Bits of activations: 1, 2, 4 or 8. Weights have 1.")] = 4,
    method: Annotated[Method, typer.Option(help="How members come to differ.")] = Method.boost,
    epochs: Annotated[float, typer.Option(help="Epochs of the first member.")] = 1.5,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the first member, instead of --epochs.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples of a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of the members.")] = 2.5e-4,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens of the longest input.")] = 128,
    warm_start: Annotated[
        bool, typer.Option(help="Start each boosted member from the one before, with half the steps.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of data order and new parameters.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default torch decides.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text; by default text or sentence.")] = None,
    text_pair_column: Annotated[str | None, typer.Option(help="Column of a second text.")] = None,
    label_column: Annotated[str, typer.Option(help="Column of the class.")] = "label",
    label_names: Annotated[
        str | None, typer.Option(help="Names for the classes in the order of their numbers, e.g. negative,positive.")
    ] = None,
    dev: Annotated[Path | None, typer.Option(help="Examples to measure accuracies on; never used to choose.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model, for its metadata.")] = None,
    model_license: Annotated[
        str | None, typer.Option("--license", help="Licence of the weights, for the metadata.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what a run before left in the output.")
    ] = False,
) -> None:
    """Train a binary ensemble from labelled text and a BERT, and pack it."""
    import torch
    from transformers.utils import logging

    from bebert_edge.checkpoints import load
    from bebert_edge.training import TrainingOptions, read_examples
    from bebert_edge.training import train as train_ensemble

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)
    options = TrainingOptions(
        members=members,
        bits=bits,
        method=method.value,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_length=max_length,
        warm_start=warm_start,
        seed=seed,
    )
    if output.exists() and not overwrite and (not output.is_dir() or any(output.iterdir())):
        raise TrainingError(f"{output} exists: choose another --output or pass --overwrite")
    read = partial(read_examples, text_column=text_column, text_pair_column=text_pair_column, label_column=label_column)
    examples = read(data)
    held_out = None if dev is None else read(dev, classes=examples.label_names)
    if label_names is not None:
        examples = examples.renamed(label_names.split(","))
    metadata = {"name": name, "license": model_license, "source": data.name}
    with _progress() as progress:
        result = train_ensemble(
            examples,
            output,
            options,
            backbone=backbone,
            teacher=teacher,
            initial=initial,
            dev=held_out,
            metadata={key: value for key, value in metadata.items() if value is not None},
            progress=progress,
            report=print,
        )
    packed = output / "packed"
    load(result.directory).save(packed, overwrite=True)
    note(f"wrote {packed}; next: bebert-edge export {packed} -o model.onnx")


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr for each model that is trained; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    bars: dict[str, int] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def update(model: str, done: int, steps: int, loss: float) -> None:
            if model not in bars:
                bars[model] = progress.add_task(model, total=steps, loss=loss)
            progress.update(bars[model], completed=done, loss=loss)  # type: ignore[arg-type]

        yield update
