# SPDX-License-Identifier: Apache-2.0
"""Every CPU path of this machine against scalar, bit for bit: fixed shapes (kernel_tests) and random ones (fuzz)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from programs import build, run

BUILDS = {
    "release": ["-DCMAKE_BUILD_TYPE=Release"],
    "sanitized": [
        "-DCMAKE_BUILD_TYPE=None",
        "-DCMAKE_CXX_FLAGS=-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all",
    ],
}
FUZZ_CASES = {"release": 12000, "sanitized": 8000}

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake and a C++ compiler")


@pytest.fixture(scope="module", params=BUILDS)
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    build(folder, ["kernel_tests", "fuzz"], *BUILDS[request.param])
    return folder / "tests" / "kernels"


def test_fixed_shapes(programs: Path, request: pytest.FixtureRequest) -> None:
    rounds = "3" if request.node.callspec.params["programs"] == "release" else "1"
    output = run(programs / "kernel_tests", "1", rounds)
    assert output.splitlines()[0].startswith("paths: ")
    assert output.splitlines()[-1] == "all the same"


def test_fuzz(programs: Path, request: pytest.FixtureRequest) -> None:
    cases = FUZZ_CASES[request.node.callspec.params["programs"]]
    output = run(programs / "fuzz", "--cases", str(cases))
    assert output.splitlines()[-1] == f"{cases} cases, all the same"


def test_fuzz_takes_only_known_paths(programs: Path) -> None:
    with pytest.raises(AssertionError, match="usage: fuzz"):
        run(programs / "fuzz", "--cases", "1", "--path", "x86_avx1024")
