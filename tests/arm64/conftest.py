# SPDX-License-Identifier: Apache-2.0
"""What the tests under emulation need: a cross compiler, QEMU, and onnxruntime for 64-bit Arm.

Where something is missing the tests are skipped, or fail if the environment sets BEBERT_EDGE_REQUIRE_ARM64.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NoReturn

import onnxruntime
import pytest

from emulation import CPUS, TOOLS, Arm64
from programs import REPOSITORY


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("BEBERT_EDGE_REQUIRE_ARM64"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Arm64:
    if platform.machine() in ("aarch64", "arm64"):
        pytest.skip("this machine runs the arm64 paths itself")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        unavailable(f"{', '.join(missing)} not installed: apt install g++-aarch64-linux-gnu qemu-user")
    return Arm64.make(tmp_path_factory.mktemp("arm64"), tmp_path_factory.mktemp("root"))


@pytest.fixture(params=CPUS)
def cpu(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def arm64_onnxruntime() -> Path:
    """The library of the installed version of onnxruntime, from its wheel for 64-bit Arm."""
    version = onnxruntime.__version__
    folder = REPOSITORY / "build" / f"onnxruntime-{version}-aarch64"
    name = f"onnxruntime/capi/libonnxruntime.so.{version}"
    if not (folder / name).exists():
        platforms = [f"--platform=manylinux_{glibc}_aarch64" for glibc in ("2_28", "2_27", "2_17")]
        options = ["--no-deps", "--only-binary=:all:", f"--python-version={sys.version_info[0]}.{sys.version_info[1]}"]
        download = [sys.executable, "-m", "pip", "download", *platforms, *options, f"--dest={folder}"]
        finished = subprocess.run(
            [*download, f"onnxruntime=={version}"], capture_output=True, text=True, cwd=REPOSITORY
        )
        if finished.returncode != 0:
            unavailable(f"no wheel of onnxruntime {version} for aarch64: {finished.stderr.strip()[-300:]}")
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            if name not in wheel.namelist():
                unavailable(f"the wheel of onnxruntime {version} for aarch64 has no {name}")
            wheel.extract(name, folder)
    return folder / name
