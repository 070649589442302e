# SPDX-License-Identifier: Apache-2.0
"""Training: binarize a BERT, distil it, boost an ensemble. Needs torch and transformers, but for reading examples."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bebert_edge.training.files import Examples, read_examples

if TYPE_CHECKING:
    from bebert_edge.training.binarize import binarize
    from bebert_edge.training.ensemble import train
    from bebert_edge.training.latent import load_member
    from bebert_edge.training.options import METHODS, TrainingOptions
    from bebert_edge.training.result import TrainingResult

__all__ = [
    "METHODS",
    "Examples",
    "TrainingOptions",
    "TrainingResult",
    "binarize",
    "load_member",
    "read_examples",
    "train",
]

_NEED_TORCH = {
    "METHODS": "options",
    "TrainingOptions": "options",
    "TrainingResult": "result",
    "binarize": "binarize",
    "load_member": "latent",
    "train": "ensemble",
}
"""Names that are imported on first use, and the modules that define them: evaluation reads examples without torch."""


def __getattr__(name: str) -> Any:
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # Importing the module `binarize` would otherwise hide the function of that name.
        if not (name in _NEED_TORCH and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
