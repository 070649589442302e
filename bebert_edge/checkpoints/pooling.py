# SPDX-License-Identifier: Apache-2.0
"""How a sentence-transformers model makes one vector of its tokens' (https://www.sbert.net, `modules.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bebert_edge.errors import CheckpointError

MODULES_FILE = "modules.json"
_MODES = {"cls": "first", "cls_token": "first", "mean": "mean", "mean_tokens": "mean"}
_KNOWN = ("Transformer", "Pooling", "Normalize")


def read_pooling(directory: Path) -> str:
    """The pooling of a sentence-transformers directory: `first` or `mean`.

    Raises:
        CheckpointError: There is no `modules.json`, or it has other modules or another pooling.
    """
    path = directory / MODULES_FILE
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: expected a sentence-transformers directory, which says its pooling")
    modules = _read(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path} is no list of modules: copy the model again")
    kinds = {str(module.get("type", "")).rpartition(".")[2]: module for module in modules}
    unknown = [kind for kind in kinds if kind not in _KNOWN]
    if unknown or "Pooling" not in kinds:
        raise CheckpointError(f"{path} has the modules {', '.join(kinds)}, expected {', '.join(_KNOWN)}")
    config = _read(directory / str(kinds["Pooling"].get("path", "")) / "config.json")
    modes = [name.removeprefix("pooling_mode_") for name, on in config.items() if on is True and "mode_" in name]
    if isinstance(config.get("pooling_mode"), str):
        modes = [config["pooling_mode"]]
    if len(modes) != 1 or modes[0] not in _MODES:
        raise CheckpointError(f"{directory} pools by {', '.join(modes) or 'nothing'}, expected cls or mean")
    return _MODES[modes[0]]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; copy the model again") from error
