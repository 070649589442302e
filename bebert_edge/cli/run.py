# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge run`: texts in, answers out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from bebert_edge.cli._shared import note

if TYPE_CHECKING:
    from bebert_edge.runtime import EdgeModel, Text

STDIN = "-"


class RunFormat(str, Enum):
    """Formats of a stream of answers."""

    table = "table"
    json = "json"
    csv = "csv"
    npy = "npy"


def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] TEXT",
            help="The first one is MODEL if it ends in .onnx or is a path that exists; else all are texts, "
            "answered by the model that ships with bebert-edge.",
            show_default=False,
        ),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(help="Second text, for tasks on pairs; once for each TEXT.", metavar="TEXT", show_default=False),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            help="For reranking: every TEXT is a document, to be sorted by how well it answers this.",
            show_default=False,
        ),
    ] = None,
    input_file: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="Read texts from .txt (one a line), .tsv, .csv or .jsonl; - is stdin, one text a line.",
            show_default=False,
        ),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column of the text.", show_default="text, sentence, ...")
    ] = None,
    pair_column: Annotated[
        str | None, typer.Option(help="Column of the pair.", show_default="pair, sentence2, ...")
    ] = None,
    output_format: Annotated[
        RunFormat, typer.Option("--format", help="json: one object a line; npy: embeddings as one array.")
    ] = RunFormat.table,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the answers to this file.", show_default="stdout"),
    ] = None,
    task: Annotated[
        str, typer.Option(help="Name of the task, for models that have several.", show_default="the main one")
    ] = "",
    device: Annotated[str, typer.Option(help="Where to run: cpu.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of one call.", show_default="one per core")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts per call; answers do not depend on it.")] = 32,
    require_native: Annotated[
        bool, typer.Option("--require-native", help="Fail instead of running without the native library.")
    ] = False,
) -> None:
    """Answer texts: by the model's task with labels and probabilities, embeddings, or documents in order.

    Texts come from TEXT, from --input, or from stdin if it is piped. Answers appear in the order of the texts, with
    no limit on their number. An empty text is answered too; of a text longer than the model's longest input the end is
    not read, and the answer says so.
    """
    path, texts = _split(arguments or [])
    if texts and input_file:
        raise typer.BadParameter("give TEXT or --input, not both", param_hint="--input")
    for column, option in ((text_column, "--text-column"), (pair_column, "--pair-column")):
        if column is not None and input_file in (None, STDIN):
            raise typer.BadParameter("for files with columns: give --input FILE too", param_hint=option)
    if query is not None and pair:
        raise typer.BadParameter("give --query or --pair, not both", param_hint="--query")
    if pair and len(pair) != len(texts):
        raise typer.BadParameter(f"{len(pair)} for {len(texts)} TEXT, expected one for each", param_hint="--pair")
    if not texts and not input_file:
        if sys.stdin.isatty():
            raise typer.BadParameter("nothing to answer: give TEXT, --input FILE, or pipe texts in", param_hint="TEXT")
        input_file = STDIN
    if output_format is RunFormat.npy and output is None and sys.stdout.isatty():
        raise typer.BadParameter("npy is binary: pass --output FILE, or > FILE", param_hint="--format")

    model = _load(path, device=device, threads=threads, require_native=require_native).of(task)
    note(str(model.backend))
    with ExitStack() as stack:
        if output is not None:
            stack.enter_context(_written(output))
        if input_file:
            texts_in = _from_file(
                _open(input_file, stack),
                input_file,
                text_pair=model.config.task.text_pair and query is None,
                text_column=text_column,
                pair_column=pair_column,
                documents=query is not None,
            )
        else:
            texts_in = iter(list(zip(texts, pair, strict=True)) if pair else texts)
        answers = _answers(model, texts_in, query, output_format.value, batch_size)
        truncated = sum(answer.truncated for answer in answers)
    if truncated:
        long = f"longer than {model.max_length} tokens"
        if model.config.task.answers_tokens:
            long = "questions of more than 64 tokens, or of half of what the model reads"
        note(f"{truncated} truncated: {long}, their end was not read")


def _answers(model: EdgeModel, texts: Iterator[Any], query: str | None, format_: str, batch_size: int) -> Iterator[Any]:
    """Writes the answers of the model's task, and passes them on."""
    from bebert_edge.cli import _answers, _embeddings, _entities, _filling, _question_answers, _ranking
    from bebert_edge.errors import RuntimeInputError

    task = model.config.task
    writers: dict[str, Any] = _embeddings.WRITERS if task.embeds else _answers.WRITERS
    if task.answers_tokens:
        writers = _entities.WRITERS if task.type == "token-classification" else _question_answers.WRITERS
    if task.fills:
        writers = _filling.WRITERS
    if query is not None:
        writers = _ranking.WRITERS
    if format_ not in writers:
        raise RuntimeInputError(
            f"--format {format_} is for embeddings, this is a model for {task.type}: expected {', '.join(writers)}"
        )
    answers: Iterable[Any]
    if query is not None:
        answers = model.rank(query, texts, batch_size=batch_size)
    elif task.embeds:
        answers = model.stream_embeddings(texts, batch_size=batch_size)
    elif task.fills:
        answers = model.stream_filled(texts, batch_size=batch_size)
    else:
        answers = model.stream(texts, batch_size=batch_size)
    written: Iterator[Any] = writers[format_](model, answers)
    return written


@contextmanager
def _written(output: Path) -> Iterator[None]:
    """Sends stdout to a file that appears under its name when it is complete."""
    from bebert_edge.errors import RuntimeInputError

    if output.is_dir() or not output.parent.is_dir():
        found = "a directory" if output.is_dir() else "in a directory that does not exist"
        raise RuntimeInputError(f"--output {output} is {found}: expected a file to write, choose another name")
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file, redirect_stdout(file):
            yield
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def _split(arguments: list[str]) -> tuple[Path | None, list[str]]:
    if arguments and (arguments[0].endswith(".onnx") or _exists(arguments[0])):
        return Path(arguments[0]), arguments[1:]
    return None, arguments


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a path, or holding a NUL: a text
        return False


def _load(path: Path | None, *, device: str, threads: int | None, require_native: bool) -> EdgeModel:
    from bebert_edge.errors import ModelError
    from bebert_edge.runtime import EdgeModel, default_model_path

    # The line that names the backend says what the library's warning would say.
    logging.getLogger("bebert_edge").addHandler(logging.NullHandler())
    if path is None:
        path = default_model_path()
        if not path.is_file():
            raise ModelError(
                f"no MODEL given, and this package ships none ({path}). Run: bebert-edge run MODEL.onnx ..."
            )
    return EdgeModel(path, device=device, threads=threads, require_native=require_native)


def _open(name: str, stack: ExitStack) -> BinaryIO:
    """Opens a file of texts, with a progress bar if people are watching and the answers go elsewhere."""
    from bebert_edge.errors import RuntimeInputError

    if name == STDIN:
        return sys.stdin.buffer
    try:
        file = stack.enter_context(Path(name).open("rb"))  # noqa: SIM115 - the stack closes it
    except OSError as error:
        reason = error.strerror or error
        raise RuntimeInputError(f"{name} cannot be read: {reason}. Expected a file of texts, or - for stdin") from error
    if not sys.stderr.isatty() or sys.stdout.isatty():
        return file
    from rich.console import Console
    from rich.progress import Progress

    # By default rich would carry stdout, where the answers go, to the console of the bar.
    progress = stack.enter_context(Progress(console=Console(stderr=True), redirect_stdout=False))
    return progress.wrap_file(file, Path(name).stat().st_size, description=name)


def _from_file(file: Iterable[bytes], name: str, *, documents: bool, **columns: Any) -> Iterator[Text]:
    from bebert_edge.runtime.inputs import DOCUMENT_COLUMNS, TEXT_COLUMNS, read_texts

    known = DOCUMENT_COLUMNS if documents else TEXT_COLUMNS
    return read_texts(file, "stdin" if name == STDIN else name, known=known, **columns)
