# SPDX-License-Identifier: Apache-2.0
"""What the commands that train share: choices, and the progress on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bebert_edge.training.trainer import Progress


class Precision(str, Enum):
    """Of products in training."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


class Device(str, Enum):
    """What trains."""

    auto = "auto"
    cpu = "cpu"


class Embeddings(str, Enum):
    """How word embeddings are stored."""

    binary = "binary"
    int8 = "int8"
    int4 = "int4"


def prepare_training(threads: int | None) -> None:
    """Sets the CPU threads, and leaves stderr to our own messages."""
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)


@contextmanager
def training_progress() -> Iterator[Progress]:
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
