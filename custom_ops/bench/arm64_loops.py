# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions of the innermost loops of the Arm kernels, and what a Cortex-A76 would need for them.

    python custom_ops/bench/arm64_loops.py build/arm64/CMakeFiles/bebert_edge_kernels.dir/custom_ops/kernels

Disassembles the objects arm64_*.o below the folder with aarch64-linux-gnu-objdump. Where llvm-mca is 17 or newer
(--llvm-mca), it simulates each loop on Neoverse N1, the same core as Cortex-A76, of which LLVM has no model of its own,
or on another (--cpu cortex-a55). The bound is the number of vector operations over the two pipes of Cortex-A76.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

# Products of one instruction.
PRODUCTS = {"cnt": 128, "tbl": 64, "sdot": 16, "mla": 8, "smlal": 4, "smlal2": 4}
NOT_VECTOR = re.compile(r"(ld|st)[rpu1-4]")  # loads and stores, which have pipes of their own


def disassemble(path: Path) -> dict[str, list[tuple[int, str]]]:
    """Address and text of each instruction, for each function."""
    command = ["aarch64-linux-gnu-objdump", "-dC", "--no-show-raw-insn", str(path)]
    functions: dict[str, list[tuple[int, str]]] = {}
    name = ""
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        if header := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            name = header[1]
            functions[name] = []
        elif instruction := re.match(r"\s+([0-9a-f]+):\s+(.*)$", line):
            functions[name].append((int(instruction[1], 16), re.sub(r"\s*//.*", "", instruction[2])))
    return functions


def innermost_loops(instructions: list[tuple[int, str]]) -> list[list[str]]:
    """The bodies of loops without a branch between their start and the branch back."""
    index = {address: i for i, (address, _) in enumerate(instructions)}
    loops = []
    for i, (_, text) in enumerate(instructions):
        branch = re.match(r"(b|b\.\w+|cbn?z|tbn?z)\s.*?([0-9a-f]+) <", text)
        start = index.get(int(branch[2], 16)) if branch else None
        if start is None or start > i:
            continue
        body = [text for _, text in instructions[start:i]]
        if not any(re.match(r"(b|b\.\w+|cbn?z|tbn?z|ret|bl)\s", text) for text in body):
            loops.append(body)
    return loops


def simulate(llvm_mca: str, cpu: str, body: list[str]) -> float:
    """Cycles of one iteration."""
    rounds = 100
    command = [llvm_mca, "-mtriple=aarch64", f"-mcpu={cpu}", "-mattr=+dotprod", f"-iterations={rounds}"]
    finished = subprocess.run(command, input="\n".join(body), check=True, capture_output=True, text=True)
    cycles = re.search(r"Total Cycles:\s+(\d+)", finished.stdout)
    assert cycles
    return int(cycles[1]) / rounds


def main() -> None:
    """Prints one line for each loop of many products."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=Path, help="folder with the kernels' objects")
    parser.add_argument("--llvm-mca", default=shutil.which("llvm-mca-19"), help="version 17 or newer")
    parser.add_argument("--cpu", default="neoverse-n1", help="processor to simulate, by LLVM's name")
    arguments = parser.parse_args()
    print(f"of 128 products: instructions, vector operations, bound of Cortex-A76, simulated cycles of {arguments.cpu}")
    for path in sorted(arguments.objects.rglob("arm64_*.o")):
        for function, instructions in disassemble(path).items():
            for body in innermost_loops(instructions):
                products = sum(PRODUCTS.get(text.split()[0], 0) for text in body)
                vector = sum(bool(re.search(r"\bv\d+\.", text)) and not NOT_VECTOR.match(text) for text in body)
                if products < 512:  # table building, rests of a few tokens
                    continue
                scale = 128 / products
                name = re.sub(r"\(anonymous namespace\)::|bebert::|\(.*", "", function)
                cycles = (
                    simulate(arguments.llvm_mca, arguments.cpu, body) * scale if arguments.llvm_mca else float("nan")
                )
                print(
                    f"{path.parent.name}/{path.name.split('.')[0]} {name}: {products} products, "
                    f"{(len(body) + 1) * scale:.2f}, {vector * scale:.2f}, {vector * scale / 2:.2f}, {cycles:.2f}"
                )


if __name__ == "__main__":
    main()
