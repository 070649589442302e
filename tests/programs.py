# SPDX-License-Identifier: Apache-2.0
"""Builds the C++ programs of the tests with CMake."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    finished = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    shown = " ".join(map(str, command))
    assert finished.returncode == 0, f"{shown}\n{finished.stdout[-4000:]}\n{finished.stderr[-4000:]}"
    return finished.stdout


def build(folder: Path, targets: Sequence[str], *options: str) -> None:
    """Builds the targets in `folder`."""
    run("cmake", "-S", REPOSITORY, "-B", folder, "-DBEBERT_EDGE_TESTS=ON", "-DBEBERT_EDGE_WERROR=ON", *options)
    run("cmake", "--build", folder, "--target", *targets, "--parallel", "2")
