# SPDX-License-Identifier: Apache-2.0
"""Whole exported models in onnxruntime for 64-bit Arm against the same models here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from emulation import Arm64
from native_op import Array
from whole_models import MODELS, differing, run_native, whole_model

LOGITS = ("logits", "member_logits")


class Runtime:
    """onnxruntime on one emulated CPU."""

    def __init__(self, arm64: Arm64, onnxruntime: Path, cpu: str) -> None:
        self.arm64, self.onnxruntime, self.cpu = arm64, onnxruntime, cpu

    def run(self, folders: list[Path], path: str = "") -> None:
        """Runs the models of the folders; see run_models.cc."""
        ops = self.arm64.folder / "bebert_edge_ops.so"
        self.arm64.run(self.cpu, "tests/arm64/run_models", self.onnxruntime, ops, *folders, path=path)

    def paths(self, folder: Path) -> list[str]:
        """The CPU paths, best first."""
        node = helper.make_node("CpuPath", [], ["y"], domain="bebert")
        output = helper.make_tensor_value_info("y", TensorProto.UINT8, ["n"])
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("bebert", 1)]
        model = helper.make_model(
            helper.make_graph([node], "cpu_path", [], [output]), opset_imports=imports, ir_version=8
        )
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        self.run([folder])
        return np.load(folder / "y.npy").tobytes().decode().split(";")[1].split(",")


@pytest.fixture
def runtime(arm64: Arm64, arm64_onnxruntime: Path, cpu: str) -> Runtime:
    return Runtime(arm64, arm64_onnxruntime, cpu)


def outputs(folder: Path, names: list[str]) -> dict[str, Array]:
    return {name: np.load(folder / f"{name}.npy") for name in names}


def test_whole_models_give_the_bits_of_this_machine(runtime: Runtime, tmp_path: Path) -> None:
    expected = {name: run_native(name) for name in MODELS}
    (tmp_path / "paths").mkdir()
    for path in runtime.paths(tmp_path / "paths"):
        folders = {name: tmp_path / path / name for name in MODELS}
        for name, folder in folders.items():
            folder.mkdir(parents=True)
            model, inputs = whole_model(name)
            (folder / "model.onnx").write_bytes(model)
            for key, array in inputs.items():
                np.save(folder / f"{key}.npy", array)
        runtime.run(list(folders.values()), path)
        for name, folder in folders.items():
            found = outputs(folder, list(expected[name]))
            different = [output for output in differing(found, expected[name]) if output not in LOGITS]
            assert different == [], (path, name)
            # Behind our last op come two of onnxruntime's, tanh and a product of floats, whose rounding is its own.
            for output in LOGITS:
                np.testing.assert_allclose(found[output], expected[name][output], rtol=0, atol=1e-6)
