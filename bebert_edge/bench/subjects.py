# SPDX-License-Identifier: Apache-2.0
"""The ensembles that are timed: exported models, packed ensembles, or random ones of an architecture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bebert_edge.bench.architecture import Architecture, random_ensemble, read_architecture
from bebert_edge.config import EnsembleConfig
from bebert_edge.errors import BenchError, ModelError
from bebert_edge.metadata import read_metadata
from bebert_edge.runtime.onnx_file import read_outline

PACKED_FILE = "model.safetensors"


@dataclass(frozen=True)
class Subject:
    """An ensemble to be timed.

    Attributes:
        name: For people.
        path: Its .onnx file.
        source: The file or directory that the user named; None for random weights.
        architecture: What it is compared with.
        members: Members of the ensemble.
        bits: Bits of the hidden activations of every layer, e.g. `(4, 4, 1)`.
    """

    name: str
    path: Path
    source: str | None
    architecture: Architecture
    members: int
    bits: tuple[int, ...]


def find_subjects(
    names: Sequence[str], *, bits: Sequence[int], members: Sequence[int], scratch: Path, seed: int = 0
) -> list[Subject]:
    """Finds or makes what the user named.

    Args:
        names: Exported models, packed ensembles, or architectures (see `read_architecture`).
        bits: Bits of the ensembles of an architecture.
        members: Members of the ensembles of an architecture.
        scratch: Directory for the .onnx files of those that are not exported yet.
        seed: Seed of random weights.

    Raises:
        BenchError: A name is neither.
        ModelError: An .onnx file is missing, damaged, or not made by bebert-edge.
        FormatError: A packed ensemble is not valid, or no code type has so many bits.
    """
    subjects: list[Subject] = []
    file_names = Counter(Path(name).name for name in names)
    for i, name in enumerate(names):
        label = Path(name).name if file_names[Path(name).name] == 1 else name
        if name.endswith(".onnx"):
            subjects.append(_from_model(name, label))
        elif Path(name, PACKED_FILE).is_file() and "encoder" in _config_text(name):
            subjects.append(_from_packed(name, label, scratch / f"{i}.onnx"))
        else:
            architecture = read_architecture(name)
            subjects += [
                _random(architecture, b, m, scratch / f"{i}-{m}-{b}.onnx", seed) for m in members for b in bits
            ]
    seen = Counter((s.name, s.architecture.encoder, s.architecture.labels) for s in subjects)
    repeated = [name for (name, *_), count in seen.items() if count > 1]
    if repeated:
        raise BenchError(f"{', '.join(repeated)} would be timed twice: name each model, bits and members once")
    return subjects


def _config_text(directory: str) -> str:
    try:
        return Path(directory, "config.json").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _from_model(name: str, label: str) -> Subject:
    try:
        config = read_metadata(read_outline(name).metadata).config
    except ModelError as error:
        if name in str(error):
            raise
        raise ModelError(f"{name}: {error}") from error
    return _trained(name, label, Path(name), config)


def _from_packed(name: str, label: str, path: Path) -> Subject:
    from bebert_edge.ensemble import PackedEnsemble
    from bebert_edge.exporters import export

    ensemble = PackedEnsemble.load(name)
    export(ensemble, path, verify=False)
    return _trained(name, label, path, ensemble.config)


def _trained(name: str, label: str, path: Path, config: EnsembleConfig) -> Subject:
    codes = (layer.code("hidden") for layer in config.quantization.layers)
    bits = tuple(1 if code.width == 1 else (code.high - code.low).bit_length() for code in codes)
    architecture = Architecture(label, config.encoder, len(config.labels))
    return Subject(f"{label}, {describe(config.members, bits)}", path, name, architecture, config.members, bits)


def _random(architecture: Architecture, bits: int, members: int, path: Path, seed: int) -> Subject:
    from bebert_edge.exporters import export

    export(random_ensemble(architecture, bits=bits, members=members, seed=seed), path, verify=False)
    layers = (bits,) * architecture.encoder.layers
    return Subject(describe(members, layers), path, None, architecture, members, layers)


def describe(members: int, bits: Sequence[int]) -> str:
    """E.g. "2 members, 4-bit", or "1 member, 1- to 4-bit"."""
    widths = f"{min(bits)}-bit" if len(set(bits)) == 1 else f"{min(bits)}- to {max(bits)}-bit"
    return f"{members} member{'s' if members > 1 else ''}, {widths}"
