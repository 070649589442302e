# SPDX-License-Identifier: Apache-2.0
"""Every CPU path of 64-bit Arm against scalar, bit for bit, under emulation."""

from __future__ import annotations

from emulation import Arm64

FUZZ_CASES = 1500


def test_fixed_shapes(arm64: Arm64, cpu: str) -> None:
    assert arm64.run(cpu, "tests/kernels/kernel_tests").splitlines()[-1] == "all the same"


def test_fuzz(arm64: Arm64, cpu: str) -> None:
    output = arm64.run(cpu, "tests/kernels/fuzz", "--cases", str(FUZZ_CASES))
    assert output.splitlines()[-1] == f"{FUZZ_CASES} cases, all the same"
