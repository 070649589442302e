# SPDX-License-Identifier: Apache-2.0
"""What an .onnx file holds, read from its bytes: no session, no `onnx` package, weights left on the disk."""

from __future__ import annotations

import mmap
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bebert_edge.errors import ModelError
from bebert_edge.runtime.protobuf import fields

DOMAIN = "bebert"

# (offset, bytes there, what such a file is, what to do): common things that carry the name of a model by accident.
_OTHER_FILES = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the model itself", "run: git lfs pull"),
    (0, b"<", "an HTML or XML page, not a model", "download the file itself, not the page that shows it"),
    (0, b"PK\x03\x04", "a zip archive (or a PyTorch checkpoint)", "unpack it, or run: bebert-edge export --help"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (4, b"ORTM", "an .ort file, which cannot be checked", "use the .onnx file that it was made from"),
    (0, b"{", "JSON, not a model", "name the .onnx file beside it"),
    (8, b'{"', "a safetensors file", "run: bebert-edge export --help"),
)


@dataclass
class OnnxOutline:
    """Everything about an ONNX file but its weights.

    Attributes:
        size: Bytes of the file.
        ir_version: Version of the ONNX file format.
        opsets: Version by domain.
        metadata: `metadata_props`.
        ops: Number of graph nodes by `domain::type` (only the type in the standard domain).
        functions: Names of the functions that the file carries, as `domain::name`.
    """

    size: int
    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    ops: Counter[str] = field(default_factory=Counter)
    functions: list[str] = field(default_factory=list)

    @property
    def packed_ops(self) -> int:
        """Nodes that the native library can run."""
        return sum(count for op, count in self.ops.items() if op.startswith(f"{DOMAIN}::"))


def read_outline(path: str | os.PathLike[str]) -> OnnxOutline:
    """Reads the outline of an ONNX file.

    Raises:
        ModelError: The file is missing, unreadable, truncated, or something else than an ONNX model.
    """
    path = Path(path)
    if path.is_dir():
        raise ModelError(
            f"{path} is a directory, expected an .onnx file. A packed ensemble becomes one with: "
            f"bebert-edge export {path} -o model.onnx"
        )
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if not head:
                raise ModelError(f"{path} is empty, expected an ONNX model. Copy or download it again")
            # Closed by its last reference: closing it here would fail while an exception still refers to its bytes.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return _parse(path, head, memoryview(data))
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist. Make a model with: bebert-edge export DIR -o {path}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error


def _parse(path: Path, head: bytes, view: memoryview) -> OnnxOutline:
    for offset, magic, what, advice in _OTHER_FILES:
        if head[offset:].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(magic):
            raise ModelError(f"{path} is {what}; {advice}")
    outline = OnnxOutline(size=len(view))
    try:
        _read_model(view, outline)
    except ValueError as error:
        raise ModelError(
            f"{path} is not a whole ONNX model ({error}): truncated, damaged or of another kind; "
            f"found {len(view)} bytes beginning {head[:8].hex(' ')}. Copy or download it again"
        ) from error
    if not outline.ir_version or not outline.opsets:
        raise ModelError(
            f"{path} is not an ONNX model: found {len(view)} bytes beginning {head[:8].hex(' ')}. "
            "Copy or download it again"
        )
    return outline


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message is expected")
    return value


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("a message stands where a number is expected")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode()


def _strings(message: memoryview, *numbers: int) -> list[str]:
    """Returns the named string fields of a message, "" for those that are missing."""
    found = {number: _text(value) for number, value in fields(message) if number in numbers}
    return [found.get(number, "") for number in numbers]


def _qualified(domain: str, name: str) -> str:
    return f"{domain}::{name}" if domain not in ("", "ai.onnx") else name


def _read_model(view: memoryview, outline: OnnxOutline) -> None:
    for number, value in fields(view):
        if number == 1:
            outline.ir_version = _number(value)
        elif number == 7:
            _read_graph(_message(value), outline)
        elif number == 8:
            versions = dict(fields(_message(value)))
            outline.opsets[_text(versions[1]) if 1 in versions else ""] = _number(versions.get(2, 0))
        elif number == 14:
            key, text = _strings(_message(value), 1, 2)
            outline.metadata[key] = text
        elif number == 25:
            name, domain = _strings(_message(value), 1, 10)
            outline.functions.append(_qualified(domain, name))


def _read_graph(graph: memoryview, outline: OnnxOutline) -> None:
    for number, value in fields(graph):
        if number == 1:
            op, domain = _strings(_message(value), 4, 7)
            outline.ops[_qualified(domain, op)] += 1
