# SPDX-License-Identifier: Apache-2.0
"""What all commands share: output formats, messages, and how errors end a command."""

from __future__ import annotations

import os
import sys
from enum import Enum
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from bebert_edge.errors import BebertEdgeError

OPTIONAL_PACKAGES = {
    **dict.fromkeys(("onnx", "onnx_ir", "onnxscript", "safetensors"), "export"),
    **dict.fromkeys(("torch", "transformers"), "train"),
    **dict.fromkeys(("scipy", "sklearn"), "evaluate"),
}
"""Extra that installs each optional package."""

DEBUG_VARIABLE = "BEBERT_EDGE_DEBUG"
INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell reports for a program ended by SIGPIPE


class OutputFormat(str, Enum):
    """Formats of commands that answer with one document."""

    table = "table"
    json = "json"


class Combination(str, Enum):
    """What the answer is the mean of."""

    logits = "logits"
    probabilities = "probabilities"
    embeddings = "embeddings"
    concatenation = "concatenation"


def note(message: str) -> None:
    """Prints a line for people: to stderr, so that stdout holds results only."""
    print(message, file=sys.stderr)


def prepare(stream: TextIO) -> None:
    """Makes a standard stream write UTF-8 whatever the locale, and each line at once, also into a pipe."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


class Commands(TyperGroup):
    """The group of all commands: turns what they raise into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command.

        Exit codes: 1 for errors, 2 for wrong usage (raised by typer itself), 130 after Ctrl-C, 141 when whoever reads
        the output has gone.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _abandon_stdout()
            raise typer.Exit(BROKEN_PIPE) from None
        except BebertEdgeError as error:
            raise _failed(str(error)) from error
        except ModuleNotFoundError as error:
            extra = OPTIONAL_PACKAGES.get((error.name or "").partition(".")[0])
            if extra is None or DEBUG_VARIABLE in os.environ:
                raise
            needed = f"this command needs the package {error.name!r}, which is not installed"
            raise _failed(f"{needed}. Run: pip install 'bebert-edge[{extra}]'") from error
        except (OSError, MemoryError) as error:
            if DEBUG_VARIABLE in os.environ:
                raise
            try:
                sys.stdout.flush()
            except OSError:
                _abandon_stdout()
            raise _failed(str(error) or "out of memory") from error


def _abandon_stdout() -> None:
    """Sends what is left in the buffer nowhere: Python flushes stdout once more at exit, which must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(message: str) -> typer.Exit:
    note(f"bebert-edge: error: {message}")
    return typer.Exit(1)
