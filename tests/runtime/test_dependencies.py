# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BLOCKED = ("torch", "transformers", "onnx", "onnxscript", "safetensors", "rich", "typer")
SCRIPT = f"""
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Block())
from bebert_edge.runtime import EdgeModel
from bebert_edge.runtime.diagnosis import diagnose
from bebert_edge.runtime.inspection import inspect

print(len(EdgeModel(sys.argv[1]).predict(["a good movie", ""])), inspect(sys.argv[1])["members"], diagnose().failures)
"""


def test_the_runtime_needs_neither_torch_nor_onnx(model_path: Path, tmp_path: Path) -> None:
    # From another folder: -c puts the current one, and there the uninstalled sources, first on the path.
    command = [sys.executable, "-c", SCRIPT, model_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("2 2 []\n", 0), done.stderr
