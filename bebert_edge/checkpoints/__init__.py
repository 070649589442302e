# SPDX-License-Identifier: Apache-2.0
"""Checkpoints -> PackedEnsemble: our own latent ones and published ones, one file per family (docs/checkpoints.md)."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bebert_edge.checkpoints import bert, bibert, binarybert, bit, modernbert
from bebert_edge.checkpoints.agreement import check_members, check_states, shapes
from bebert_edge.checkpoints.files import CONFIG_FILE, Floats, read_json, read_state
from bebert_edge.checkpoints.latent import ENSEMBLE_FILE, EnsembleFile, read_ensemble_file
from bebert_edge.checkpoints.layout import MemberFiles, find_members
from bebert_edge.checkpoints.member import Member
from bebert_edge.checkpoints.options import AUTO, Options
from bebert_edge.checkpoints.source import Source
from bebert_edge.checkpoints.tokenizer import check_vocabulary, find_tokenizer, read_tokenizer
from bebert_edge.config import EnsembleConfig
from bebert_edge.ensemble import PackedEnsemble, is_packed, tensor_specs
from bebert_edge.errors import BebertEdgeError, CheckpointError, FormatError

__all__ = ["ENSEMBLE_FILE", "FAMILIES", "Checkpoints", "Options", "load", "read", "read_any", "refuse_options"]

PathLike = str | os.PathLike[str]


class Family(Protocol):
    """What the module of a family offers.

    It may also have `unify(members: Sequence[Member]) -> list[Member]`, which gives members of one shape the same code
    types where it had to choose them by what it found in the tensors.
    """

    NAME: str

    def detect(self, config: Mapping[str, Any], names: Collection[str]) -> bool:
        """Whether a checkpoint with this configuration and tensors of these names is of this family and no other."""

    def read(self, source: Source) -> Member:
        """Reads one member.

        Raises:
            CheckpointError: It is not as the family's checkpoints are.
            FormatError: It is of a shape or code type that a packed ensemble cannot have.
        """


FAMILIES: tuple[Family, ...] = (
    bert,
    modernbert,
    bibert,
    binarybert,
    bit,
)


@dataclass(frozen=True)
class Checkpoints:
    """What was read.

    Attributes:
        ensemble: The packed members.
        family: Name of their family.
        files: The file of the tensors of each member.
        notes: Lines for the user: where an answer can differ from that of the checkpoint's own code.
    """

    ensemble: PackedEnsemble
    family: str
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def load(paths: PathLike | Sequence[PathLike], options: Options | None = None) -> PackedEnsemble:
    """Packs checkpoints: `read(paths, options).ensemble`."""
    return read(paths, options).ensemble


def read(paths: PathLike | Sequence[PathLike], options: Options | None = None) -> Checkpoints:
    """Reads and packs checkpoints of one ensemble. No code that a file may hold is run.

    Args:
        paths: A directory with an `ensemble.json`, or directories and files of members (`layout.find_members`), which
            weigh the same unless `options` say otherwise.
        options: What the checkpoints do not say themselves.

    Raises:
        CheckpointError: A checkpoint is damaged, incomplete, of no known family, or members do not fit together. The
            message names the file and the tensor or key, what was found and what was expected.
    """
    options = options or Options()
    given = [Path(p) for p in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    if not given:
        raise CheckpointError("no checkpoint was given: expected directories or files; run 'bebert-edge pack --help'")
    settings = _ensemble_file(given)
    files = [member for path in (settings.directories if settings else given) for member in find_members(path)]
    family, members = _read_members(files, options)
    config, notes = _config(members, settings, options, given[0])
    try:
        ensemble = PackedEnsemble(config, {}, members[0].tokenizer)
        ensemble.tensors = {
            name: _stack([member.tensors[name] for member in members], spec.shareable)
            for name, spec in tensor_specs(config).items()
        }
        ensemble.validate()
    except FormatError as error:
        raise CheckpointError(f"{given[0]} cannot be packed: {error}") from error
    notes = [note for member in members for note in member.notes] + notes
    return Checkpoints(ensemble, family.NAME, tuple(f.tensors for f in files), tuple(dict.fromkeys(notes)))


def read_any(
    paths: PathLike | Sequence[PathLike], options: Options, error: type[BebertEdgeError] = CheckpointError
) -> tuple[PackedEnsemble, Checkpoints | None]:
    """An ensemble that is packed already, or checkpoints as `read` takes them, which then come with it.

    Args:
        paths: The directory of a packed ensemble, alone; or checkpoints.
        options: What checkpoints do not say themselves; none for a packed ensemble.
        error: What is raised where a packed ensemble comes with others or with options.

    Raises:
        CheckpointError: A checkpoint cannot be packed.
        FormatError: A packed ensemble is not valid.
    """
    given = [Path(p) for p in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    packed = [path for path in given if is_packed(path)]
    if packed and len(given) > 1:
        raise error(f"{packed[0]} is a packed ensemble: expected it alone, or checkpoints only")
    if packed:
        refuse_options(packed[0], options, error)
        return PackedEnsemble.load(packed[0]), None
    found = read(given, options)
    return found.ensemble, found


def refuse_options(source: object, options: Options, error: type[BebertEdgeError] = CheckpointError) -> None:
    """Raises an error if there are options for what is packed already."""
    if options != Options():
        raise error(
            f"{source} is a packed ensemble: its weights, labels and the like were decided when it was packed; "
            "run 'bebert-edge pack' again with these options"
        )


def _ensemble_file(paths: list[Path]) -> EnsembleFile | None:
    found = [path for path in paths if (path / ENSEMBLE_FILE).is_file()]
    if found and len(paths) > 1:
        raise CheckpointError(f"{found[0]} is a whole ensemble ({ENSEMBLE_FILE}): expected it alone, or members only")
    return read_ensemble_file(found[0]) if found else None


def _read_members(files: list[MemberFiles], options: Options) -> tuple[Family, list[Member]]:
    members: list[Member] = []
    for number, file in enumerate(files):
        config = _read_config(file)
        state = read_state(file.tensors)
        found = _family(file, config, state, options.family)
        if number == 0:
            family, expected = found, shapes(state)
        elif found is not family:
            raise CheckpointError(
                f"{file.tensors} is of family {found.NAME!r}, {files[0].tensors} of {family.NAME!r}: "
                "expected members of one family; name those of one ensemble"
            )
        check_states(files[0].tensors, expected, file.tensors, shapes(state))
        members.append(_read_member(family, file, config, state, options))
        del state  # 440 MB for a BERT-base, before the next member is read
    unify = getattr(family, "unify", None)
    if unify is not None:
        members = unify(members)
    for file, member in zip(files, members, strict=True):
        check_members(files[0].tensors, members[0], file.tensors, member)
    return family, members


def _read_config(file: MemberFiles) -> dict[str, Any]:
    config = read_json(file.config)
    if "family" in config and "member_weights" in config:
        directory = file.config.parent
        raise CheckpointError(f"{directory} is packed already: continue with 'bebert-edge export {directory}'")
    return config


def _family(file: MemberFiles, config: dict[str, Any], names: Collection[str], name: str) -> Family:
    known = [family.NAME for family in FAMILIES]
    if name not in (AUTO, *known):
        raise CheckpointError(f"family is {name!r}, expected {AUTO} or one of {', '.join(known)} (--family)")
    for family in FAMILIES:
        if name == family.NAME or (name == AUTO and family.detect(config, names)):
            return family
    kind = config.get("model_type", "unknown")
    raise CheckpointError(
        f"{file.tensors} is of no family that is known ({', '.join(known)}): model type {kind!r}, no section "
        f"{bert.SECTION!r} in {CONFIG_FILE}, and not the tensors of docs/checkpoints.md. Binarize a float model with "
        f"'bebert-edge train FILE --backbone {file.config.parent} -o OUT'"
    )


def _read_member(
    family: Family, file: MemberFiles, config: dict[str, Any], state: dict[str, Floats], options: Options
) -> Member:
    chosen = None if options.tokenizer is None else Path(options.tokenizer)
    tokenizer = find_tokenizer(chosen, (file.config.parent, file.tensors.parent))
    source = Source(
        path=file.tensors,
        config_path=file.config,
        config=config,
        state=state,
        tokenizer=read_tokenizer(tokenizer),
        labels=None if options.labels is None else tuple(options.labels),
        text_pair=_is_on_pairs(config) if options.text_pair is None else options.text_pair,
        max_length=options.max_length,
        embeddings=options.embeddings,
    )
    try:
        member = family.read(source)
    except FormatError as error:
        raise CheckpointError(f"{file.config} cannot be packed: {error}") from error
    if options.embeddings not in (None, member.quantization.embeddings):
        raise CheckpointError(
            f"{file.tensors} has {member.quantization.embeddings} word embeddings, not {options.embeddings}: "
            "leave out --embeddings, or pass it to 'bebert-edge train'"
        )
    check_vocabulary(tokenizer, member.tokenizer, member.encoder.vocab_size)
    if options.text_pair not in (None, member.task.text_pair):
        trained = "pairs of texts" if member.task.text_pair else "single texts"
        raise CheckpointError(
            f"{file.config} says that the model was trained on {trained}: leave out --text-pair and --single-text"
        )
    return member


_PAIR_TASKS = ("mrpc", "qqp", "stsb", "mnli", "mnlimm", "qnli", "rte", "wnli", "ax")
"""GLUE's tasks on pairs of texts (Wang et al. 2019), without punctuation."""


def _is_on_pairs(config: dict[str, Any]) -> bool:
    task = str(config.get("finetuning_task", ""))
    return "".join(filter(str.isalnum, task.lower())) in _PAIR_TASKS


def _config(
    members: list[Member], settings: EnsembleFile | None, options: Options, path: Path
) -> tuple[EnsembleConfig, list[str]]:
    """The configuration of the ensemble, and what there is to say about it."""
    weights = options.alpha or (settings.weights if settings else (1.0,) * len(members))
    if len(weights) != len(members):
        raise CheckpointError(
            f"{path} has {len(members)} members, but {len(weights)} weights were given: pass one for each with --alpha"
        )
    first = members[0]
    combination = options.combination or (settings.combination if settings else first.task.combinations[0])
    temperature, notes = settings.temperature if settings else 1.0, []
    if temperature != 1 and (options.alpha or options.combination):
        notes.append(
            f"left out the temperature {temperature:g}: {ENSEMBLE_FILE} gives it for its own weights and combination"
        )
        temperature = 1.0
    try:
        config = EnsembleConfig(
            members=len(members),
            member_weights=tuple(weight / sum(weights) for weight in weights),
            encoder=first.encoder,
            quantization=first.quantization,
            task=first.task,
            labels=first.labels,
            max_length=first.max_length,
            combination=combination,
            temperature=temperature,
            metadata=settings.metadata if settings else {},
        )
    except FormatError as error:
        raise CheckpointError(f"{path} cannot be packed: {error}") from error
    return config, notes


def _stack(arrays: list[NDArray[Any]], shareable: bool) -> NDArray[Any]:
    if shareable and all(np.array_equal(arrays[0], array) for array in arrays[1:]):
        arrays = arrays[:1]
    return np.stack(arrays)
