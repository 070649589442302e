# SPDX-License-Identifier: Apache-2.0
"""The application `bebert-edge`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bebert_edge import __version__
from bebert_edge.cli._shared import Commands, prepare
from bebert_edge.cli.bench import bench
from bebert_edge.cli.doctor import doctor
from bebert_edge.cli.evaluate import evaluate
from bebert_edge.cli.export import export
from bebert_edge.cli.inspect import inspect
from bebert_edge.cli.pack import pack
from bebert_edge.cli.pretrain import pretrain
from bebert_edge.cli.run import run
from bebert_edge.cli.sensitivity import sensitivity
from bebert_edge.cli.train import train

app = typer.Typer(
    name="bebert-edge",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # Options are documented in kebab-case; people who type --batch_size get it too.
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"bebert-edge {__version__}")
        raise typer.Exit


@app.callback()
def bebert_edge(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Binary ensemble BERTs in one ONNX file: train, export and run them on edge devices.

    Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 error or failed check, 2 wrong usage.
    """


for command in (pretrain, train, sensitivity, evaluate, pack, export, run, bench, inspect, doctor):
    app.command()(command)


def main() -> None:
    """Runs the command line of this process and exits."""
    prepare(sys.stdout)
    prepare(sys.stderr)
    app(prog_name="bebert-edge")
