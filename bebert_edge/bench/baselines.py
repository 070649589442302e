# SPDX-License-Identifier: Apache-2.0
"""Baselines: the single models that an ensemble is compared with, made once and kept in a cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

from bebert_edge.bench.architecture import Architecture
from bebert_edge.bench.cache import baseline_directory
from bebert_edge.bench.contender import Contender, Engine
from bebert_edge.bench.recipes import RECIPES, Recipe
from bebert_edge.bench.shape import Shape
from bebert_edge.errors import BenchError

PORTABLE = "portable"
"""The ensemble itself, without the native library."""

BASELINES = (*RECIPES, PORTABLE)

_BENCH_EXTRA = "pip install 'bebert-edge[bench]'"
_NEEDED = {
    **dict.fromkeys(("torch", "transformers", "onnx", "onnxscript"), _BENCH_EXTRA),
    **dict.fromkeys(("openvino", "nncf"), "pip install openvino nncf"),
}

Progress = Callable[[str, int, int], None]


def check_installed(baseline: str) -> None:
    """Raises BenchError if a package that makes or runs a baseline is missing."""
    if baseline == PORTABLE:
        return
    packages = [package for package in _NEEDED if baseline == "openvino" or not _NEEDED[package].endswith("nncf")]
    for package in packages:
        if find_spec(package) is None:
            raise BenchError(
                f"the baseline {baseline} needs the package {package!r}, which is not installed. "
                f"Run: {_NEEDED[package]}, or leave the baseline out with --against"
            )


def make_baseline(
    baseline: str, architecture: Architecture, cache: Path, progress: Progress = lambda recipe, done, recipes: None
) -> tuple[dict[str, Path], dict[str, str]]:
    """Makes what the cache lacks of a baseline's model files, in a process of its own.

    Returns:
        Files by recipe, and the reasons of those that failed: which ones do differs between versions of torch.

    Raises:
        BenchError: A package is missing, or no recipe succeeded.
        OSError: The cache cannot be written.
    """
    check_installed(baseline)
    directory = baseline_directory(cache, architecture)
    recipes = RECIPES[baseline]
    files = {str(recipe): directory / recipe.file for recipe in recipes}
    failed: dict[str, str] = {}
    missing = [recipe for recipe in recipes if not files[str(recipe)].is_file()]
    if missing:
        directory.mkdir(parents=True, exist_ok=True)
        for done, (recipe, reason) in enumerate(_make(missing, architecture, directory, progress)):
            progress(str(recipe), done + 1, len(missing))
            if reason:
                failed[str(recipe)] = reason
    made = {name: file for name, file in files.items() if name not in failed}
    if not made:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise BenchError(
            f"no model of the baseline {baseline} could be made ({reasons:.1000}). Leave it out: --against"
        )
    return made, failed


def _make(
    recipes: Sequence[Recipe], architecture: Architecture, directory: Path, progress: Progress
) -> Iterator[tuple[Recipe, str]]:
    """Makes files one after another; yields each recipe, and why it failed or ""."""
    # Another process: torch and all it allocates are gone before the first time is taken, and so is what it prints.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_silence) as pool:
        for done, recipe in enumerate(recipes):
            progress(str(recipe), done, len(recipes))
            try:
                reason = pool.submit(_make_file, recipe, architecture, directory).result()
            except BrokenProcessPool as error:
                raise BenchError(
                    f"making {recipe} ended the process that does it, perhaps for want of memory. "
                    "Leave the baseline out with --against, or take a smaller architecture"
                ) from error
            yield recipe, reason


def _silence() -> None:
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _make_file(recipe: Recipe, architecture: Architecture, directory: Path) -> str:
    """Makes the file of a recipe, and that of its source before; the reason if that fails, else ""."""
    target = directory / recipe.file
    if target.is_file():
        return ""
    source = recipe.source
    if source is not None and (reason := _make_file(source, architecture, directory)):
        return reason
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=directory) as scratch:
            path = None if source is None else directory / source.file
            recipe.write(architecture, path, Path(scratch, recipe.file))
            for file in sorted(
                Path(scratch).iterdir()
            ):  # weights in a .bin come before the .xml that says all is there
                shutil.move(file, directory / file.name)
    except Exception as error:  # noqa: BLE001 - of torch, onnxruntime, NNCF: anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return ""


def variants(baseline: str, files: dict[str, Path], shape: Shape) -> dict[str, Contender]:
    """Every way to run a baseline on a shape, by description; the fastest one is to be compared with.

    Texts of mixed lengths may also be run one at a time, without padding, and OpenVINO may know the shape beforehand.
    """
    engine = Engine.openvino if baseline == "openvino" else Engine.onnxruntime
    found: dict[str, Contender] = {}
    for recipe, path in files.items():
        found[recipe] = Contender(path, engine)
        if shape.mixed:
            found[f"{recipe}, one text at a time"] = Contender(path, engine, one_by_one=True)
        if engine is Engine.openvino:
            found[f"{recipe}, static shape"] = Contender(path, engine, static=(len(shape.lengths), shape.longest))
    return found
