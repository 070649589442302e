# SPDX-License-Identifier: Apache-2.0
"""What an installed package must be, whatever it computes."""

import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

import bebert_edge
from bebert_edge import ops

EXPORT_AND_TRAINING = ("torch", "transformers", "onnx", "onnxscript", "safetensors")


def _modules_loaded_by(module: str, folder: Path) -> set[str]:
    code = f"import {module}, sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("module", ["bebert_edge", "bebert_edge.cli", "bebert_edge.runtime", "bebert_edge.ops"])
def test_importing_what_a_device_needs_loads_nothing_of_export_or_training(module: str, tmp_path: Path) -> None:
    assert _modules_loaded_by(module, tmp_path).isdisjoint(EXPORT_AND_TRAINING)


def test_exporting_needs_no_torch(tmp_path: Path) -> None:
    assert _modules_loaded_by("bebert_edge.exporters", tmp_path).isdisjoint({"torch", "transformers"})


def test_exporters_have_one_name(tmp_path: Path) -> None:
    assert "exporters" not in _modules_loaded_by("bebert_edge.exporters", tmp_path)
    files = [str(path) for path in metadata.files("bebert-edge") or []]
    assert any(path.startswith("bebert_edge/exporters/") for path in files)
    assert not any(path.startswith(("exporters/", "tests/", "examples/", "custom_ops/")) for path in files)


def test_version_is_that_of_the_distribution() -> None:
    assert bebert_edge.__version__ == metadata.version("bebert-edge")


def test_package_carries_types_and_the_native_library() -> None:
    package = resources.files("bebert_edge")
    assert (package / "py.typed").is_file()
    assert ops.library_path().is_file()
