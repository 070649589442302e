# SPDX-License-Identifier: Apache-2.0
"""The machine and the versions that a measurement was made with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bebert_edge import __version__, ops
from bebert_edge.errors import NativeLibraryError

PACKAGES = ("numpy", "onnxruntime", "onnx", "torch", "transformers", "openvino", "nncf")


@dataclass(frozen=True)
class Environment:
    """What decides a measurement besides the model.

    Attributes:
        date: When it began: UTC, ISO 8601.
        cpu: The processor's name.
        cores: Logical cores that this process may use.
        system: Architecture and operating system.
        cpu_path: CPU path of the native library; None without it.
        library_problem: Why the native library cannot be used.
        versions: By package, of those that are installed.
    """

    date: str
    cpu: str
    cores: int
    system: str
    cpu_path: str | None
    library_problem: str | None
    versions: dict[str, str]


def describe_environment() -> Environment:
    """Describes this machine and installation, now."""
    try:
        cpu_path, problem = ops.info().live, None
    except NativeLibraryError as error:
        cpu_path, problem = None, str(error)
    return Environment(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.machine()} {platform.system()} {platform.release()}",
        cpu_path=cpu_path,
        library_problem=problem,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    versions = {"bebert-edge": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _cpu() -> str:
    """The name that the system gives its processor; on Arm, where Linux gives none, the architecture."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or platform.machine()
    for path, key in (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", "")):
        try:
            text = Path(path).read_text(errors="replace")
        except OSError:
            continue
        names = [line.partition(":")[2] for line in text.splitlines() if line.startswith(key)] if key else [text]
        if names:
            return names[0].strip(" \0")
    return platform.processor() or platform.machine()
