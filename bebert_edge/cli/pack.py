# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge pack`: latent checkpoints to one packed ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bebert_edge.cli._shared import note


def pack(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="A directory that `train` wrote, or the directories of the members.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the packed ensemble.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
) -> None:
    """Pack latent checkpoints: one bit a weight, all members in one directory."""
    from bebert_edge.checkpoints import load

    ensemble = load(list(checkpoints))
    ensemble.save(output, overwrite=overwrite)
    size = ensemble.size()
    width = max(map(len, size))
    for part, count in size.items():
        print(f"{part:{width}}  {count:>12,} bytes")
    print(f"{'total':{width}}  {sum(size.values()):>12,} bytes")
    note(f"wrote {output}; next: bebert-edge export {output} -o model.onnx")
