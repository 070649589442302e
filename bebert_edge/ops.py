# SPDX-License-Identifier: Apache-2.0
"""The native library: where it is, how to register it, and which CPU path it takes."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from bebert_edge.errors import NativeLibraryError

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

LIBRARY_VARIABLE = "BEBERT_EDGE_OPS_LIBRARY"
PATH_VARIABLE = "BEBERT_EDGE_KERNEL"


@dataclass(frozen=True)
class NativeInfo:
    """What the native library does on this machine.

    Attributes:
        live: The CPU path in use, for instance `x86_avx512`.
        supported: The paths that `BEBERT_EDGE_KERNEL` may force here, best first.
        version: Version of the library.
    """

    live: str
    supported: tuple[str, ...]
    version: str


def library_path() -> Path:
    """Finds the native library: the file that `BEBERT_EDGE_OPS_LIBRARY` names, else the one in the package.

    Raises:
        NativeLibraryError: There is no such file.
    """
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file():
            raise NativeLibraryError(
                f"{LIBRARY_VARIABLE} is {named}: expected a file; unset it to use the package's own"
            )
        return path
    name = "bebert_edge_ops" + (".dll" if sys.platform == "win32" else ".so")
    # Not __file__: in an editable install the library is in another folder than the modules.
    path = Path(str(resources.files("bebert_edge").joinpath(name)))
    if not path.is_file():
        raise NativeLibraryError(
            f"the native library {path} does not exist: install bebert-edge with `pip install .`, or build the library "
            f"with `cmake -S . -B build/native && cmake --build build/native` and set {LIBRARY_VARIABLE} to it"
        )
    return path


def register(session_options: SessionOptions) -> None:
    """Registers the ops with the options of a session. Registering again with the same options changes nothing.

    The CPU path is the best one of the machine, or the one that `BEBERT_EDGE_KERNEL` names now.

    Args:
        session_options: Options of a session still to be created.

    Raises:
        NativeLibraryError: There is no library, onnxruntime cannot load it, or `BEBERT_EDGE_KERNEL` asks for a path
            that does not exist or does not run here.
    """
    path = library_path()
    try:
        session_options.register_custom_ops_library(str(path.resolve()))
    except Exception as error:
        raise NativeLibraryError(f"{path}: {error}") from error


def info() -> NativeInfo:
    """Asks the native library which CPU path is live, as sessions created now would have it.

    Raises:
        NativeLibraryError: As in `register`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    register(options)
    try:
        session = onnxruntime.InferenceSession(_cpu_path_model(), options, providers=["CPUExecutionProvider"])
        (characters,) = session.run(None, {})
    except Exception as error:
        raise NativeLibraryError(f"{library_path()} cannot tell its CPU path: {error}") from error
    live, supported, version = characters.tobytes().decode("ascii").split(";")
    return NativeInfo(live, tuple(supported.split(",")), version)


def _field(number: int, value: int | str | bytes) -> bytes:
    """One protobuf field, integer or of known length, of at most 127."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(data)]) + data


def _cpu_path_model() -> bytes:
    """The model `y = bebert::CpuPath()`, without the package onnx. Field numbers are those of onnx.proto3."""
    node = _field(2, "y") + _field(4, "CpuPath") + _field(7, "bebert")
    uint8_vector = _field(1, _field(1, 2) + _field(2, _field(1, _field(2, "n"))))
    output = _field(1, "y") + _field(2, uint8_vector)
    graph = _field(1, node) + _field(2, "cpu_path") + _field(12, output)
    imports = _field(8, _field(1, "") + _field(2, 18)) + _field(8, _field(1, "bebert") + _field(2, 1))
    return _field(1, 8) + _field(7, graph) + imports
