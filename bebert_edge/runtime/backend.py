# SPDX-License-Identifier: Apache-2.0
"""Which code runs the packed ops: the native library, or the functions that the model file carries."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cache

import onnxruntime

from bebert_edge import ops
from bebert_edge.errors import DeviceError, NativeLibraryError

DEVICES = ("cpu",)
SCALAR = "scalar"
"""The CPU path without vector instructions."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """What runs a model.

    Attributes:
        path: CPU path of the native library, e.g. `x86_avx512`; None on the portable path.
        reason: Why the portable path is used; None on the native path.
        threads: Threads of one session; None for one per core.
    """

    path: str | None
    reason: str | None
    threads: int | None

    @property
    def native(self) -> bool:
        """Whether the native library runs the packed ops."""
        return self.path is not None

    def __str__(self) -> str:
        code = f"native ({self.path})" if self.native else f"portable ({self.reason})"
        threads = {None: "a thread per core", 1: "1 thread"}.get(self.threads, f"{self.threads} threads")
        return f"{code}, {threads}, onnxruntime {onnxruntime.__version__}"


def check_device(device: str) -> None:
    """Raises DeviceError unless `device` is one of `DEVICES`."""
    if device not in DEVICES:
        raise DeviceError(f"device {device!r} does not exist, expected one of: {', '.join(DEVICES)}")


def attach(options: onnxruntime.SessionOptions, *, threads: int | None, require_native: bool) -> Backend:
    """Registers the native library with a session, or says why the portable path is used.

    Where the library has nothing but its scalar path, onnxruntime's own kernels run the functions of the model faster:
    the portable path is used then, unless the library is required or a path is forced.

    Args:
        options: Options of the session to come.
        threads: For the returned description.
        require_native: Raise instead of using the portable path.

    Raises:
        NativeLibraryError: The library is required, or a CPU path is forced by `BEBERT_EDGE_KERNEL`, and the library
            is missing or does not load.
    """
    # A forced CPU path asks for the library by name: falling back silently would hide a typing error.
    required = require_native or bool(os.environ.get(ops.PATH_VARIABLE))
    try:
        live = ops.info().live
        if live == SCALAR and not required:
            return portable("of the native library this CPU can only use the scalar path, which is slower", threads)
        ops.register(options)
        return Backend(live, None, threads)
    except NativeLibraryError as error:
        if required:
            raise NativeLibraryError(f"the native library cannot be used: {error}. Run: bebert-edge doctor") from error
        return portable(str(error), threads)


def portable(reason: str, threads: int | None) -> Backend:
    """Describes the portable path, and warns once for each reason."""
    _warn_once(reason)
    return Backend(None, reason, threads)


@cache
def _warn_once(reason: str) -> None:
    _logger.warning(
        "running the model's functions, not the native library: same answers, unpacked weights in memory. Reason: %s",
        reason,
    )
