# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bebert_edge.cli.main import app
from model_files import write_model


@dataclass(frozen=True)
class Done:
    """What a command printed and its exit code."""

    out: str
    err: str
    code: int


Command = Callable[..., Done]


@pytest.fixture
def command() -> Command:
    """Runs a command in this process: `command("run", "a.onnx", input=b"text")`."""

    def run(*arguments: object, input: bytes | None = None) -> Done:  # noqa: A002 - named as CliRunner names it
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.stdout, result.stderr, result.exit_code)

    return run


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="session")
def pair_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "pair.onnx", text_pair=True)
