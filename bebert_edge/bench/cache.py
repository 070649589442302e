# SPDX-License-Identifier: Apache-2.0
"""Where the models of baselines are kept between runs: exporting them takes minutes and gigabytes."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

from bebert_edge.bench.architecture import Architecture

RECIPES_VERSION = 1
"""Raised when a recipe makes another model than before."""


def default_cache() -> Path:
    """Where this platform keeps what can be made again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bebert-edge" / "bench"


def baseline_directory(cache: Path, architecture: Architecture) -> Path:
    """The folder of the baselines of one architecture, made by the versions installed now."""
    e = architecture.encoder
    shape = (
        f"{e.layers}x{e.hidden_size}-{e.heads}-{e.intermediate_size}-{e.activation}-"
        f"{e.vocab_size}-{e.positions}-{e.token_types}-{architecture.labels}"
    )
    packages = "-".join(f"{package}-{version(package)}" for package in ("torch", "transformers", "onnxruntime"))
    return cache / shape / f"recipes-{RECIPES_VERSION}-{packages}"
