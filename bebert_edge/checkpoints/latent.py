# SPDX-License-Identifier: Apache-2.0
"""The `ensemble.json` of our own training (docs/latent.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bebert_edge.checkpoints.bert import FORMAT_VERSION
from bebert_edge.checkpoints.files import read_json
from bebert_edge.config import ALL_COMBINATIONS, TEMPERATURES, is_temperature
from bebert_edge.errors import CheckpointError

ENSEMBLE_FILE = "ensemble.json"
"""Names the members of a latent ensemble, their weights, and how they are combined."""


@dataclass(frozen=True)
class EnsembleFile:
    """What an `ensemble.json` says; no weight is negative, and one is not 0."""

    directories: tuple[Path, ...]
    weights: tuple[float, ...]
    metadata: dict[str, str]
    combination: str
    temperature: float


def read_ensemble_file(directory: Path) -> EnsembleFile:
    """Reads the `ensemble.json` of a directory.

    Raises:
        CheckpointError: It does not follow docs/latent.md.
    """
    path = directory / ENSEMBLE_FILE
    content = read_json(path)
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version is {content.get('format_version')!r}, expected {FORMAT_VERSION}: "
            "update bebert-edge to the version that wrote the checkpoint"
        )
    names, weights, metadata = (content.get(key) for key in ("members", "member_weights", "metadata"))
    if not isinstance(names, list) or not names or not all(_is_inside(name) for name in names):
        raise CheckpointError(f"{path}: members is {names!r}, expected names of directories beside it")
    if (
        not isinstance(weights, list)
        or len(weights) != len(names)
        or not all(isinstance(w, (int, float)) and 0 <= w <= 1e30 for w in weights)
        or sum(weights) <= 0
    ):
        raise CheckpointError(
            f"{path}: member_weights is {weights!r}, expected {len(names)} numbers 0 .. 1e30, not all 0"
        )
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: metadata is {metadata!r}, expected an object of strings")
    combination, temperature = content.get("combination", "logits"), content.get("temperature", 1.0)
    if combination not in ALL_COMBINATIONS:
        raise CheckpointError(f"{path}: combination is {combination!r}, expected one of {', '.join(ALL_COMBINATIONS)}")
    if not is_temperature(temperature):
        low, high = TEMPERATURES
        raise CheckpointError(f"{path}: temperature is {temperature!r}, expected a number {low:g} .. {high:g}")
    directories = tuple(directory / name for name in names)
    return EnsembleFile(directories, tuple(weights), metadata, combination, float(temperature))


def _is_inside(name: object) -> bool:
    if not isinstance(name, str) or not name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
