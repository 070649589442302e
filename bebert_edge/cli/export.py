# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge export`: a packed ensemble or checkpoints to one .onnx file."""

from __future__ import annotations

import json
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
from bebert_edge.cli._shared import OutputFormat

if TYPE_CHECKING:
    from bebert_edge.exporters import ExportReport


def export(
    source: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="A packed ensemble, or checkpoints as `pack` reads them."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("model.onnx"),
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare the model with its source; fail if they differ.")
    ] = True,
    family: Family = "auto",
    alpha: Alpha = None,
    combination: Combine = None,
    labels: Labels = None,
    text_pair: TextPair = None,
    max_length: MaxLength = None,
    tokenizer: Tokenizer = None,
    embeddings: Embeddings = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.table,
) -> None:
    """Write one self-contained ONNX file, and verify it."""
    from rich.console import Console

    from bebert_edge.exporters import export

    options = checkpoint_options(family, alpha, combination, labels, text_pair, max_length, tokenizer, embeddings)
    with Console(stderr=True).status("starting") as status:
        report = export(source, output, options=options, verify=verify, overwrite=overwrite, progress=status.update)
    print_notes(report.notes)
    if output_format is OutputFormat.json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print_table(report)


def _print_table(report: ExportReport) -> None:
    members = "1 member" if report.members == 1 else f"{report.members} members"
    print(f"{report.path}: {members}, {report.nodes} nodes")
    print(f"\n{'bytes':>12}  share  part")
    for part, size in sorted(report.parts.items(), key=lambda item: -item[1]):
        print(f"{size:12,}  {size / report.size:5.1%}  {part}")
    print(f"{report.size:12,}         total\n")
    for check in report.checks:
        print(check)
    if not report.checks:
        print("not verified")
