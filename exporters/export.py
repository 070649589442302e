# SPDX-License-Identifier: Apache-2.0
"""PackedEnsemble or checkpoints -> a verified .onnx file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bebert_edge import checkpoints
from bebert_edge.checkpoints import Checkpoints, Options
from bebert_edge.ensemble import TENSOR_FILE, PackedEnsemble
from bebert_edge.errors import ExportError, VerificationError
from bebert_edge.exporters.graph import build_model
from bebert_edge.exporters.samples import Sample
from bebert_edge.exporters.samples import samples as default_samples
from bebert_edge.exporters.verify import Check, TorchMembers
from bebert_edge.exporters.verify import verify as run_checks

SUFFIX = ".onnx"
PROTOBUF_LIMIT = 2**31 - 1

PathLike = str | os.PathLike[str]
Source = PackedEnsemble | PathLike | Sequence[PathLike]


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: The .onnx file.
        size: Its bytes.
        parts: Its bytes by part; their sum is `size`.
        nodes: Nodes of the graph, whatever the number of members.
        members: Members of the ensemble.
        checks: The verification's lines; empty if there was none.
        notes: What there is to know about the checkpoints (`checkpoints.Checkpoints`).
    """

    path: Path
    size: int
    parts: dict[str, int]
    nodes: int
    members: int
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {**asdict(self), "path": str(self.path), "checks": [asdict(check) for check in self.checks]}


def export(
    source: Source,
    output: PathLike,
    *,
    options: Options | None = None,
    verify: bool = True,
    overwrite: bool = False,
    samples: Sequence[Sample] | None = None,
    torch_members: Sequence[Callable[..., Any]] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> ExportReport:
    """Writes one self-contained .onnx file, and proves that it computes what its source computes.

    The file appears under its name only when it is complete and verified; until then, whatever was there stays.

    Args:
        source: A packed ensemble, its directory, or checkpoints as `bebert_edge.checkpoints.read` takes them.
        output: The file to write, ending in `.onnx`; its directory is created.
        options: What checkpoints do not say themselves.
        verify: Run the checks of `bebert_edge.exporters.verify`.
        overwrite: Replace a file that exists.
        samples: Texts (or pairs, if the task is on pairs) to verify on, instead of those that ship.
        torch_members: One torch model per member to compare with. Our own latent checkpoints bring theirs.
        progress: Called with the name of each step as it begins.

    Raises:
        ExportError: The output cannot be written, or there are options for an ensemble that is packed already.
        VerificationError: A check failed; nothing was written.
        FormatError: A packed ensemble is not valid.
        CheckpointError: A checkpoint cannot be packed.
    """
    target = Path(output)
    _check_output(target, overwrite)
    progress("reading the source")
    ensemble, found = _read(source, options or Options())
    with _replacing(target) as temporary:
        progress("building the graph")
        model, parts = build_model(ensemble)
        if model.ByteSize() > PROTOBUF_LIMIT:
            raise ExportError(
                f"{target} would have {model.ByteSize()} bytes, an ONNX file at most {PROTOBUF_LIMIT}: "
                "export fewer members"
            )
        nodes = len(model.graph.node)
        temporary.write_bytes(model.SerializeToString())
        del model
        checks = []
        if verify:
            progress("verifying")
            texts = default_samples(ensemble) if samples is None else samples
            members = _load_torch(found) if torch_members is None else TorchMembers(torch_members)
            for check in run_checks(temporary, ensemble, texts, members):
                checks.append(check)
                progress(f"verifying, {len(checks)} checks done")
            _raise_failures(target, checks)
        size = temporary.stat().st_size
    parts["graph"] = size - sum(bytes_ for part, bytes_ in parts.items() if part != "graph")
    notes = found.notes if found else ()
    return ExportReport(target, size, parts, nodes, ensemble.config.members, tuple(checks), notes)


def _check_output(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise ExportError(f"{target} is a directory: expected the name of a file to write; pass -o {target}/model.onnx")
    if target.suffix != SUFFIX:
        raise ExportError(f"{target} does not end in {SUFFIX}: pass -o {target.with_suffix(SUFFIX)}")
    if target.exists() and not overwrite:
        raise ExportError(f"{target} exists: choose another name with -o, or pass --overwrite")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Gives a temporary file beside the target, which takes its place if the body succeeds and disappears if not."""
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=SUFFIX, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written: {error.strerror or error}; choose another name with -o"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _raise_failures(target: Path, checks: list[Check]) -> None:
    failed = [f"{check.name}: {check.detail}" for check in checks if check.passed is False]
    if failed:
        raise VerificationError(
            f"{target} was not written, the model does not compute what its source computes. {' | '.join(failed)}. "
            "To look at the model nevertheless, export it with --no-verify"
        )


def _read(source: Source, options: Options) -> tuple[PackedEnsemble, Checkpoints | None]:
    """Returns the ensemble, and the checkpoints if it comes from some."""
    if isinstance(source, PackedEnsemble):
        checkpoints.refuse_options("the source", options, ExportError)
        source.validate()
        return source, None
    return checkpoints.read_any(source, options, ExportError)


def _load_torch(found: Checkpoints | None) -> TorchMembers:
    """The torch models of the members, where they are ours."""
    if found is None:
        return TorchMembers(reason="a packed ensemble has no PyTorch model")
    ours = (checkpoints.bert.NAME, checkpoints.modernbert.NAME)
    if found.family not in ours or any(file.name != TENSOR_FILE for file in found.files):
        return TorchMembers(reason=f"there is no PyTorch model of {found.family} checkpoints to compare with")
    missing = [package for package in ("torch", "transformers") if find_spec(package) is None]
    if missing:
        return TorchMembers(reason=f"{missing[0]} is not installed; run: pip install 'bebert-edge[train]'")
    from bebert_edge.training import load_member
    from bebert_edge.training.words import store_words

    members = [load_member(file.parent) for file in found.files]
    for member in members:
        store_words(member, found.ensemble.config.quantization.embeddings)  # options may say another than the member
    return TorchMembers(members)
