# SPDX-License-Identifier: Apache-2.0
"""What a training directory knows of the run inside, so that a killed run can go on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from bebert_edge.checkpoints import ENSEMBLE_FILE
from bebert_edge.checkpoints.bert import FORMAT_VERSION
from bebert_edge.checkpoints.files import CONFIG_FILE
from bebert_edge.errors import TrainingError
from bebert_edge.training.latent import recover
from bebert_edge.training.options import TrainingOptions
from bebert_edge.training.tasks import LabelledExamples

RUN_FILE = "training.json"
"""Options and fingerprint of the data of the run that a directory holds."""
_WORK = "unfinished"  # checkpoints and logits; gone when the run is complete


def is_main_process() -> bool:
    """Whether this process writes files: the first of those that `accelerate launch` or torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def wait() -> None:
    """Waits for the other processes, if there are any."""
    from accelerate.state import PartialState

    PartialState().wait_for_everyone()


def write_text(path: Path, text: str) -> None:
    """Writes a file under a temporary name, then renames it."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def save_directory(path: Path, *writers: Callable[[Path], Any]) -> None:
    """Lets every writer write into a directory that appears only when all are done."""
    if is_main_process():
        scratch = path.with_name(f".{path.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        for write in writers:
            write(scratch)
        shutil.rmtree(path, ignore_errors=True)
        scratch.rename(path)
    wait()


def _fingerprint(examples: LabelledExamples) -> str:
    return hashlib.sha256(json.dumps(examples.content()).encode()).hexdigest()


@dataclass
class RunState:
    """A training directory.

    Attributes:
        directory: The directory.
        parts: The directories of models in it that were complete when the run was opened.
    """

    directory: Path
    parts: frozenset[str]

    @classmethod
    def open(
        cls, directory: Path, options: TrainingOptions, examples: LabelledExamples, sources: dict[str, str]
    ) -> RunState:
        """Begins a run, or opens the interrupted one that the directory holds.

        Raises:
            TrainingError: The directory holds a run with other options, data or sources.
        """
        run = {"options": asdict(options), "data": _fingerprint(examples), "sources": sources}
        run = json.loads(json.dumps(run))
        path = directory / RUN_FILE
        if path.is_file() and _holds_work(directory):
            _check_same(path, json.loads(path.read_text(encoding="utf-8")), run)
        elif is_main_process():
            directory.mkdir(parents=True, exist_ok=True)
            for pattern in ("teacher", "member-*", "stage-*", "half-*", _WORK):
                for part in directory.glob(pattern):
                    shutil.rmtree(part)
            write_text(path, json.dumps(run, indent=2) + "\n")
        wait()
        for path in directory.glob(".*.new"):
            recover(directory / path.name[1 : -len(".new")])
        return cls(directory, frozenset(p.parent.name for p in directory.glob(f"*/{CONFIG_FILE}")))

    def done(self, part: str) -> bool:
        """Whether a model was complete when the run was opened."""
        return part in self.parts

    def path(self, part: str) -> Path:
        """The directory of a model."""
        return self.directory / part

    def checkpoints(self, part: str) -> Path:
        """Where the checkpoints of a model go while it is trained."""
        return self.directory / _WORK / f"{part}-checkpoints"

    def logits(self, part: str, compute: Callable[[], Tensor]) -> Tensor:
        """A member's logits on the training examples, computed once."""
        path = self.directory / _WORK / f"{part}-logits.safetensors"
        if path.is_file():
            logits: Tensor = load_file(path)["logits"]
            return logits
        logits = compute()
        if is_main_process():
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(".new")
            save_file({"logits": logits}, scratch)
            scratch.replace(path)
        return logits

    def finish(self, ensemble: dict[str, Any]) -> None:
        """Writes `ensemble.json`, which makes the directory a latent checkpoint, and drops what only resuming needs."""
        content = {"format_version": FORMAT_VERSION} | ensemble
        write_text(self.directory / ENSEMBLE_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        shutil.rmtree(self.directory / _WORK, ignore_errors=True)


def _holds_work(directory: Path) -> bool:
    """Whether anything would be lost by starting again: a complete model, or a checkpoint."""
    return any(directory.glob(f"*/{CONFIG_FILE}")) or any(directory.glob(f"{_WORK}/*/checkpoint-*"))


def _check_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    advice = "repeat the command of that run to go on, or pass --overwrite to start again"
    for part in ("options", "sources"):
        for key in sorted({*found[part], *wanted[part]}):
            a, b = found[part].get(key), wanted[part].get(key)
            if a != b:
                raise TrainingError(f"{path} is of a run with {key} {a!r}, this one has {b!r}: {advice}")
    if found["data"] != wanted["data"]:
        raise TrainingError(f"{path} is of a run on other examples: {advice}")
