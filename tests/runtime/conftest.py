# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from model_files import write_model


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the native library."""
    monkeypatch.setenv("BEBERT_EDGE_OPS_LIBRARY", "/nowhere/bebert_edge_ops.so")
    monkeypatch.delenv("BEBERT_EDGE_KERNEL", raising=False)
