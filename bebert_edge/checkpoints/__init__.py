# SPDX-License-Identifier: Apache-2.0
"""Latent checkpoints -> PackedEnsemble, with numpy and safetensors alone; one file per family."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bebert_edge.checkpoints import bert, binarybert
from bebert_edge.checkpoints.files import (
    CONFIG_FILE,
    TENSOR_FILE,
    TOKENIZER_FILE,
    read_json,
    read_tensors,
    read_tokenizer,
)
from bebert_edge.checkpoints.member import Member
from bebert_edge.checkpoints.source import Floats, Source
from bebert_edge.config import COMBINATIONS, TEMPERATURES, EnsembleConfig, is_temperature
from bebert_edge.ensemble import PackedEnsemble, tensor_specs
from bebert_edge.errors import CheckpointError, FormatError

__all__ = ["ENSEMBLE_FILE", "load"]

ENSEMBLE_FILE = "ensemble.json"
"""Names the members of a latent ensemble, their weights, and how they are combined."""


class Family(Protocol):
    """What the module of a family offers."""

    NAME: str

    def detect(self, config: Mapping[str, Any], names: Collection[str]) -> bool:
        """Whether a checkpoint with this configuration and tensors of these names is of this family and no other."""

    def read(self, source: Source) -> Member:
        """Reads one member.

        Raises:
            CheckpointError: It is not as the family's checkpoints are.
        """


FAMILIES: tuple[Family, ...] = (
    bert,
    binarybert,
)  # fmt: skip


@dataclass(frozen=True)
class _Ensemble:
    """What an `ensemble.json` says; `weights` have sum 1."""

    directories: list[Path]
    weights: list[float]
    metadata: dict[str, str]
    combination: str = "logits"
    temperature: float = 1.0


def load(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> PackedEnsemble:
    """Packs latent checkpoints.

    Args:
        paths: A directory with an `ensemble.json`, or the directories of the members, which then weigh the same.

    Returns:
        A valid ensemble.

    Raises:
        CheckpointError: A checkpoint is damaged, incomplete, of no known family, or members do not fit together. The
            message names the file and the tensor or key, what was found and what was expected.
    """
    directories = [Path(p) for p in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    if not directories:
        raise CheckpointError("no checkpoint was given: expected directories; run 'bebert-edge pack --help'")
    for directory in directories:
        if not directory.is_dir():
            raise CheckpointError(f"{directory} is not a directory: expected a latent checkpoint; see docs/latent.md")
    if len(directories) == 1 and (directories[0] / ENSEMBLE_FILE).is_file():
        found = _read_ensemble(directories[0])
    else:
        found = _Ensemble(directories, [1 / len(directories)] * len(directories), {})
    members = [_load_member(directory) for directory in found.directories]
    for directory, member in zip(found.directories, members, strict=True):
        _check_agreement(found.directories[0], members[0], directory, member)
    first = members[0]
    try:
        ensemble = PackedEnsemble(
            EnsembleConfig(
                members=len(members),
                member_weights=tuple(found.weights),
                encoder=first.encoder,
                quantization=first.quantization,
                task=first.task,
                labels=first.labels,
                max_length=first.max_length,
                combination=found.combination,
                temperature=found.temperature,
                metadata=found.metadata,
            ),
            {},
            first.tokenizer,
        )
        ensemble.tensors = {
            name: _stack([member.tensors[name] for member in members], spec.shareable)
            for name, spec in tensor_specs(ensemble.config).items()
        }
        ensemble.validate()
    except FormatError as error:
        raise CheckpointError(f"{directories[0]} cannot be packed: {error}") from error
    return ensemble


def _stack(arrays: list[NDArray[Any]], shareable: bool) -> NDArray[Any]:
    if shareable and all(np.array_equal(arrays[0], array) for array in arrays[1:]):
        arrays = arrays[:1]
    return np.stack(arrays)


def _read_ensemble(directory: Path) -> _Ensemble:
    path = directory / ENSEMBLE_FILE
    content = read_json(path)
    if content.get("format_version") != bert.FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version is {content.get('format_version')!r}, expected {bert.FORMAT_VERSION}: "
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
    if combination not in COMBINATIONS:
        raise CheckpointError(f"{path}: combination is {combination!r}, expected one of {', '.join(COMBINATIONS)}")
    if not is_temperature(temperature):
        low, high = TEMPERATURES
        raise CheckpointError(f"{path}: temperature is {temperature!r}, expected a number {low:g} .. {high:g}")
    directories = [directory / name for name in names]
    return _Ensemble(directories, [w / sum(weights) for w in weights], metadata, combination, float(temperature))


def _is_inside(name: object) -> bool:
    if not isinstance(name, str) or not name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _load_member(directory: Path) -> Member:
    config_path = directory / CONFIG_FILE
    config = read_json(config_path)
    if "family" in config and "member_weights" in config:
        raise CheckpointError(f"{directory} is packed already: continue with 'bebert-edge export {directory}'")
    state = _rename(read_tensors(directory))
    family = _family(directory, config, state)
    source = Source(directory / TENSOR_FILE, config_path, config, state, read_tokenizer(directory))
    member = family.read(source)
    _check_vocabulary(directory, member)
    return member


def _rename(state: dict[str, Floats]) -> dict[str, Floats]:
    """Names of today, whatever version of PyTorch or transformers wrote them."""
    renamed = {}
    for name, tensor in state.items():
        new = name.removeprefix("module.")
        for old, today in ((".gamma", ".weight"), (".beta", ".bias")):
            if new.endswith(f"LayerNorm{old}"):
                new = new.removesuffix(old) + today
        if not new.endswith("embeddings.position_ids"):
            renamed[new] = tensor
    return renamed


def _family(directory: Path, config: dict[str, Any], names: Collection[str]) -> Family:
    for family in FAMILIES:
        if family.detect(config, names):
            return family
    kind = config.get("model_type", "unknown")
    raise CheckpointError(
        f"{directory} is a checkpoint of model type {kind!r} without a section {bert.SECTION!r} in {CONFIG_FILE}: "
        "expected one that 'bebert-edge train' wrote; binarize a float BERT with "
        f"'bebert-edge train FILE --backbone {directory} -o OUT'"
    )


def _check_vocabulary(directory: Path, member: Member) -> None:
    tokens, embedded = len(json.loads(member.tokenizer)["model"]["vocab"]), member.encoder.vocab_size
    if tokens > embedded:
        raise CheckpointError(
            f"{directory / TOKENIZER_FILE} has {tokens} tokens, but the model embeds {embedded}: "
            "the tokenizer is another model's"
        )


def _check_agreement(first_path: Path, first: Member, path: Path, member: Member) -> None:
    for name in ("encoder", "quantization", "task", "labels", "max_length", "tokenizer"):
        expected, found = getattr(first, name), getattr(member, name)
        if expected != found:
            detail = "" if name == "tokenizer" else f" ({found} and {expected})"
            raise CheckpointError(
                f"{path} and {first_path} differ in {name}{detail}: expected members of one ensemble to agree"
            )
