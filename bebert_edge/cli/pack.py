# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge pack`: checkpoints to one packed ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebert_edge.cli._checkpoints import (
    Alpha,
    Combine,
    Embeddings,
    Family,
    Labels,
    MaxLength,
    TextPair,
    Tokenizer,
    checkpoint_options,
    print_notes,
)
from bebert_edge.cli._shared import note
from bebert_edge.errors import RuntimeInputError

if TYPE_CHECKING:
    from bebert_edge.checkpoints import Options
    from bebert_edge.ensemble import PackedEnsemble

_SIZE = "Size"


def pack(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="A directory that `train` wrote, a published checkpoint, one path for each member, or what is packed.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the packed ensemble.")],
    family: Family = "auto",
    alpha: Alpha = None,
    combination: Combine = None,
    labels: Labels = None,
    text_pair: TextPair = None,
    max_length: MaxLength = None,
    tokenizer: Tokenizer = None,
    embeddings: Embeddings = None,
    trim_vocabulary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep only words that texts of this file use (read as by `run --input`), and single characters.",
            rich_help_panel=_SIZE,
        ),
    ] = None,
    half_tables: Annotated[
        bool,
        typer.Option("--half-tables", help="Round position and token type tables to float16.", rich_help_panel=_SIZE),
    ] = False,
    join: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="Add the task of another ensemble with the same encoders (`train --onto`), packed or not.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
) -> None:
    """Pack checkpoints: one bit a weight, all members in one directory."""
    from bebert_edge.shrinking import halve_tables

    options = checkpoint_options(family, alpha, combination, labels, text_pair, max_length, tokenizer, embeddings)
    ensemble, notes = _read(list(checkpoints), options)
    if join:
        ensemble, more = _joined(ensemble, join, options)
        notes += more
    if trim_vocabulary is not None:
        ensemble = _trimmed(ensemble, trim_vocabulary)
    if half_tables:
        ensemble = halve_tables(ensemble)
    ensemble.save(output, overwrite=overwrite)
    print_notes(notes)
    size = ensemble.size()
    width = max(map(len, size))
    for part, count in size.items():
        print(f"{part:{width}}  {count:>12,} bytes")
    print(f"{'total':{width}}  {sum(size.values()):>12,} bytes")
    note(f"wrote {output}; next: bebert-edge export {output} -o model.onnx")


def _joined(main: PackedEnsemble, tasks: list[str], options: Options) -> tuple[PackedEnsemble, list[str]]:
    """The ensemble with the tasks that `NAME=DIR` add, and what is to be said of those."""
    from bebert_edge.checkpoints import Options
    from bebert_edge.ensemble import is_packed
    from bebert_edge.joining import join

    notes: list[str] = []
    others, same = {}, Options(alpha=options.alpha, max_length=options.max_length)
    for task in tasks:
        name, _, directory = task.partition("=")
        if not name or not directory or name in others:
            raise typer.BadParameter(f"{task!r}, expected NAME=DIR and another name each time", param_hint="--join")
        path = Path(directory)
        others[name], more = _read([path], Options() if is_packed(path) else same)
        notes += more
    return join(main, others), notes


def _read(paths: list[Path], options: Options) -> tuple[PackedEnsemble, list[str]]:
    """An ensemble that is packed already, or checkpoints; and what is to be said of them."""
    from bebert_edge.checkpoints import read_any

    ensemble, found = read_any(paths, options)
    return ensemble, list(found.notes) if found else []


def _trimmed(ensemble: PackedEnsemble, corpus: Path) -> PackedEnsemble:
    from bebert_edge.runtime.inputs import read_texts
    from bebert_edge.shrinking import trim_vocabulary

    before, pairs = ensemble.config.encoder.vocab_size, ensemble.config.task.text_pair
    try:
        with corpus.open("rb") as lines:
            items = read_texts(lines, corpus.name, text_pair=pairs)
            parts = ((item,) if isinstance(item, str) else item for item in items)
            trimmed = trim_vocabulary(ensemble, (text for texts in parts for text in texts))
    except OSError as error:
        raise RuntimeInputError(f"{corpus} cannot be read: {error.strerror}; name a file of texts") from error
    note(f"kept {trimmed.config.encoder.vocab_size:,} of {before:,} words")
    return trimmed
