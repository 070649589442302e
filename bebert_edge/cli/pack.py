# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge pack`: checkpoints to one packed ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bebert_edge.cli._checkpoints import (
    Alpha,
    Combine,
    Family,
    Labels,
    MaxLength,
    TextPair,
    Tokenizer,
    checkpoint_options,
    print_notes,
)
from bebert_edge.cli._shared import note


def pack(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="A directory that `train` wrote, a published checkpoint, or one path for each member.",
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
) -> None:
    """Pack checkpoints: one bit a weight, all members in one directory."""
    from bebert_edge.checkpoints import read

    options = checkpoint_options(family, alpha, combination, labels, text_pair, max_length, tokenizer)
    found = read(list(checkpoints), options)
    found.ensemble.save(output, overwrite=overwrite)
    print_notes(found.notes)
    size = found.ensemble.size()
    width = max(map(len, size))
    for part, count in size.items():
        print(f"{part:{width}}  {count:>12,} bytes")
    print(f"{'total':{width}}  {sum(size.values()):>12,} bytes")
    note(f"wrote {output}; next: bebert-edge export {output} -o model.onnx")
