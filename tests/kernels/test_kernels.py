# SPDX-License-Identifier: Apache-2.0
"""Builds kernel_tests, which compares every CPU path of this machine with scalar bit for bit, and runs it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BUILDS = {
    "release": ["-DCMAKE_BUILD_TYPE=Release"],
    "sanitized": [
        "-DCMAKE_BUILD_TYPE=None",
        "-DCMAKE_CXX_FLAGS=-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all",
    ],
}


def run(*command: str) -> str:
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, f"{' '.join(command)}\n{finished.stdout[-4000:]}\n{finished.stderr[-4000:]}"
    return finished.stdout


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake and a C++ compiler")
@pytest.mark.parametrize("build", BUILDS)
def test_every_cpu_path_equals_scalar(build: str, tmp_path: Path) -> None:
    options = ["-DBEBERT_EDGE_TESTS=ON", "-DBEBERT_EDGE_WERROR=ON", *BUILDS[build]]
    run("cmake", "-S", str(REPOSITORY), "-B", str(tmp_path), *options)
    run("cmake", "--build", str(tmp_path), "--target", "kernel_tests", "--parallel", "2")
    output = run(str(tmp_path / "tests" / "kernels" / "kernel_tests"), "1", "3" if build == "release" else "1")
    assert output.splitlines()[0].startswith("paths: ")
    assert output.splitlines()[-1] == "all the same"
