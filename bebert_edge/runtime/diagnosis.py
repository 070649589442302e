# SPDX-License-Identifier: Apache-2.0
"""The state of this installation: versions, CPU, native library, self-test."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bebert_edge import __version__, ops
from bebert_edge.errors import NativeLibraryError
from bebert_edge.runtime.selftest import SelfTest, self_test

REQUIRED = ("numpy", "onnxruntime", "tokenizers", "typer", "rich")
OPTIONAL = ("onnx", "onnxscript", "safetensors", "torch", "transformers")

_INTERESTING_FEATURES = ("avx", "fma", "popcnt", "bmi", "neon", "asimd", "sve", "i8mm", "vnni")


@dataclass(frozen=True)
class Diagnosis:
    """What `bebert-edge doctor` reports.

    Attributes:
        versions: Version by package; "not installed" for optional ones that are absent.
        machine: Architecture and operating system.
        cpu_features: Instruction sets that the operating system names; empty where it names none.
        library: Path of the native library; None if it cannot be used.
        library_version: Version of the native library.
        live_path: The CPU path that runs models here; None on the portable path.
        supported_paths: CPU paths that this machine can run.
        problem: Why the native library cannot be used.
        tests: The outcome of every self-test.
    """

    versions: dict[str, str]
    machine: str
    cpu_features: list[str]
    library: str | None
    library_version: str | None
    live_path: str | None
    supported_paths: list[str]
    problem: str | None
    tests: list[SelfTest]

    @property
    def failures(self) -> list[SelfTest]:
        """Self-tests that failed."""
        return [test for test in self.tests if test.error is not None]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def diagnose() -> Diagnosis:
    """Examines this installation and runs the self-test. Raises nothing: problems are part of the result."""
    common: dict[str, Any] = {
        "versions": _versions(),
        "machine": f"{platform.machine()} {platform.system()} {platform.release()}",
        "cpu_features": _cpu_features(),
    }
    try:
        library, info = str(ops.library_path()), ops.info()
        tests = self_test()
    except NativeLibraryError as error:
        return Diagnosis(**common, library=None, library_version=None, live_path=None, supported_paths=[],
                         problem=str(error), tests=[])  # fmt: skip
    return Diagnosis(
        **common,
        library=library,
        library_version=str(info.version),
        live_path=info.live,
        supported_paths=list(info.supported),
        problem=None,
        tests=tests,
    )


def _versions() -> dict[str, str]:
    versions = {"bebert-edge": __version__, "python": platform.python_version()}
    for package in REQUIRED + OPTIONAL:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _cpu_features() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return [flag for flag in value.split() if any(name in flag for name in _INTERESTING_FEATURES)]
    return []
