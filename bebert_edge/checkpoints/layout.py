# SPDX-License-Identifier: Apache-2.0
"""Where the members of an ensemble lie: in directories and files as each published code base leaves them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bebert_edge.checkpoints.files import CONFIG_FILE, INDEX_FILE, PICKLE_SUFFIXES, TENSOR_FILE
from bebert_edge.errors import CheckpointError

SINGLE_FILES = (TENSOR_FILE, INDEX_FILE, "pytorch_model.bin")
"""Names of the tensors of a directory with one member, best first."""

_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)
_NUMBERED = re.compile(r"\d+", re.ASCII)
_PREFIXED = re.compile(r"(.*\D)\d+", re.ASCII)


@dataclass(frozen=True)
class MemberFiles:
    """The files of one member; the tokenizer lies beside one of them."""

    tensors: Path
    config: Path


def find_members(path: Path) -> list[MemberFiles]:
    """The members that a path stands for.

    Args:
        path: A directory of one member (`SINGLE_FILES`), one of BEBERT's (`0.bin`, `1.bin`, ...), or a file of tensors.

    Raises:
        CheckpointError: There are none, or a number is missing.
    """
    if path.is_dir():
        numbered = _numbered(path)
        files = numbered or [path / name for name in SINGLE_FILES if (path / name).is_file()][:1]
        if not files:
            raise CheckpointError(f"{path / TENSOR_FILE} is missing: {_expected(path)}")
        return [MemberFiles(file, path / CONFIG_FILE) for file in files]
    if not path.is_file():
        raise CheckpointError(
            f"{path} is not a directory or file: expected a checkpoint; 'bebert-edge pack --help' says which"
        )
    if path.suffix not in _SUFFIXES:
        raise CheckpointError(
            f"{path} is no file of tensors by its name: expected a directory, or a file {' '.join(_SUFFIXES)}"
        )
    return [MemberFiles(path, _config_of(path))]


def _numbered(directory: Path) -> list[Path]:
    """BEBERT's `0.bin`, `1.bin`, ... in numeric order.

    Source: https://github.com/TTTTTTris/BEBERT at 7595cb3e7a, whose training saves round `i` as `i.bin`.
    """
    found = {
        int(file.stem): file
        for file in sorted(directory.iterdir())
        if file.suffix in _SUFFIXES and _NUMBERED.fullmatch(file.stem)
    }
    missing = [i for i in range(len(found)) if i not in found]
    if missing:
        names = ", ".join(found[i].name for i in sorted(found))
        raise CheckpointError(
            f"{directory} holds the members {names} but no number {missing[0]}: the ensemble is incomplete; "
            f"copy it again, or name the files that you want, as in 'bebert-edge pack {found[max(found)]}'"
        )
    return [found[i] for i in sorted(found)]


def _config_of(file: Path) -> Path:
    """The configuration of a file: beside it, or in the directory whose name the file's begins with.

    BEBERT joins the name of its output directory and `0.bin` without a slash: members of `out` may be `out0.bin`.
    """
    prefixed = _PREFIXED.fullmatch(file.stem)
    if prefixed:
        inside = file.parent / prefixed[1] / CONFIG_FILE
        if inside.is_file():
            return inside
    return file.parent / CONFIG_FILE


def _expected(directory: Path) -> str:
    beside = sorted(directory.parent.glob(f"{directory.name}[0-9].bin"))
    if beside:
        return f"are its members beside it? Pass the files: bebert-edge pack {' '.join(map(str, beside))}"
    below = sorted({file.parent for name in SINGLE_FILES for file in directory.glob(f"*/{name}")})
    if below:
        return f"expected one checkpoint; there are some in {', '.join(map(str, below[:4]))}: pass those that you want"
    return f"expected it, {', '.join(SINGLE_FILES[1:])}, or members 0.bin, 1.bin, ...; see docs/checkpoints.md"
