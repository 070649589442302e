# SPDX-License-Identifier: Apache-2.0
"""A 64-bit Arm machine on any Linux one: cross-compiled programs under QEMU's user mode emulation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from programs import REPOSITORY, build, run

TOOLS = ("cmake", "aarch64-linux-gnu-g++", "qemu-aarch64")
CPUS = ("max", "cortex-a53")
"""All that this QEMU knows of, and a processor without the dot product."""

# onnxruntime reads it to tell cores apart, and crashes on that of another architecture.
CPUINFO = """\
processor\t: {}
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd03
CPU revision\t: 4

"""


@dataclass(frozen=True)
class Arm64:
    """A build for 64-bit Arm, and the root folder that its programs see."""

    folder: Path
    root: Path

    @classmethod
    def make(cls, folder: Path, root: Path) -> Arm64:
        """Builds the programs and the native library into `folder`."""
        toolchain = f"-DCMAKE_TOOLCHAIN_FILE={REPOSITORY / 'cmake' / 'aarch64-linux-gnu.cmake'}"
        build(folder, ["kernel_tests", "fuzz", "run_models", "bebert_edge_ops"], toolchain)
        (root / "lib").symlink_to("/usr/aarch64-linux-gnu/lib")
        (root / "proc").mkdir()
        (root / "proc" / "cpuinfo").write_text("".join(CPUINFO.format(i) for i in range(os.cpu_count() or 1)))
        return cls(folder, root)

    def run(self, cpu: str, program: str, *arguments: str | Path, path: str = "") -> str:
        """Standard output of a program of the build on one of `CPUS`, with a CPU path forced where one is given."""
        emulator = ("qemu-aarch64", "-L", self.root, "-cpu", cpu)
        return run(*emulator, self.folder / program, *arguments, environment={**os.environ, "BEBERT_EDGE_KERNEL": path})
