# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge pretrain`: a BERT and texts without labels to a binary base."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from bebert_edge.cli._shared import note
from bebert_edge.cli._training import Device, Embeddings, Precision, prepare_training, training_progress
from bebert_edge.errors import TrainingError


def pretrain(
    data: Annotated[list[Path], typer.Argument(help="Texts: .txt, .tsv, .csv or .jsonl, optionally with .gz.")],
    backbone: Annotated[str, typer.Option(help="The BERT to distil: a directory or a name on the hub.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the base.")],
    bits: Annotated[int, typer.Option(help="Bits of activations: 1, 2, 4 or 8. Weights have 1.")] = 4,
    embeddings: Annotated[
        Embeddings, typer.Option(help="Word embeddings: binary, or of full precision until packed in 8 or 4 bits.")
    ] = Embeddings.binary,
    initial: Annotated[
        str | None, typer.Option(help="What to start from in place of the backbone, e.g. a base with more bits.")
    ] = None,
    epochs: Annotated[float, typer.Option(help="Epochs.")] = 1.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps, instead of --epochs.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts of a step on each device.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 6e-4,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens of the longest text.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the order of the texts.")] = 0,
    device: Annotated[Device, typer.Option(help="A GPU where there is one, or the CPU.")] = Device.auto,
    precision: Annotated[
        Precision, typer.Option(help="Of products in training; auto: bf16 where the device has instructions for it.")
    ] = Precision.auto,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default torch decides.")] = None,
    checkpoint_steps: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 250,
    text_column: Annotated[str | None, typer.Option(help="Column of the text; by default as for train.")] = None,
    text_pair_column: Annotated[
        str | None, typer.Option("--text-pair-column", "--pair-column", help="Column of a second text.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a base that is there.")] = False,
) -> None:
    """Distil a BERT into a binary base on texts without labels, for members of any task to start from.

    `bebert-edge train --initial BASE` then needs a fraction of the steps. An interrupted run goes on where it was when
    the same command is given again.
    """
    from bebert_edge.training.base import train_base
    from bebert_edge.training.files import read_texts
    from bebert_edge.training.trainer import Schedule

    prepare_training(threads)
    if output.exists() and not overwrite:
        raise TrainingError(f"{output} exists: choose another --output or pass --overwrite")
    texts = [
        pair for path in data for pair in read_texts(path, text_column=text_column, text_pair_column=text_pair_column)
    ]
    schedule = Schedule(
        steps or math.ceil(epochs * len(texts) / batch_size),
        batch_size,
        learning_rate,
        seed,
        checkpoint_steps=checkpoint_steps,
    )
    with training_progress() as progress:
        train_base(
            texts,
            output,
            schedule,
            backbone=backbone,
            bits=bits,
            initial=initial,
            max_length=max_length,
            precision=precision.value,
            embeddings=embeddings.value,
            device=device.value,
            progress=progress,
        )
    note(f"wrote {output}; next: bebert-edge train DATA --backbone {backbone} --initial {output} -o trained")
