# SPDX-License-Identifier: Apache-2.0
"""Small .onnx files for the tests of the runtime and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bebert_edge.exporters import build_model
from support import random_ensemble


def write_model(path: Path, **arguments: Any) -> Path:
    """Writes the model of `random_ensemble(**arguments)`."""
    path.write_bytes(build_model(random_ensemble(**arguments))[0].SerializeToString())
    return path
