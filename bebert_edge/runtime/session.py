# SPDX-License-Identifier: Apache-2.0
"""From an .onnx file to a checked onnxruntime session."""

from __future__ import annotations

import os
from dataclasses import dataclass

import onnxruntime

from bebert_edge.ensemble import head_prefix
from bebert_edge.errors import ModelError, NativeLibraryError, RuntimeInputError
from bebert_edge.metadata import ModelMetadata, read_metadata
from bebert_edge.runtime import backend as backends
from bebert_edge.runtime.backend import Backend
from bebert_edge.runtime.onnx_file import DOMAIN, OnnxOutline, read_outline

_LOG_FATAL_ONLY = 4  # onnxruntime's own messages arrive as exceptions; its log would repeat them


@dataclass(frozen=True)
class OpenModel:
    """A loaded model: the session, what the file says about itself, and what runs it."""

    session: onnxruntime.InferenceSession
    metadata: ModelMetadata
    backend: Backend


def quiet_options() -> onnxruntime.SessionOptions:
    """Options of a session that writes nothing to the log."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_FATAL_ONLY
    return options


def create_session(model: str | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Creates a session on the CPU, or raises whatever onnxruntime raises."""
    # With its fallback onnxruntime prints to stdout, and tries the same provider once more.
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def open_model(
    path: str | os.PathLike[str], *, device: str = "cpu", threads: int | None = None, require_native: bool = False
) -> OpenModel:
    """Loads an exported model.

    Args:
        path: The .onnx file.
        device: One of `backend.DEVICES`.
        threads: Threads of the session; None for one per core.
        require_native: Raise instead of using the portable path.

    Raises:
        DeviceError: Unknown device.
        RuntimeInputError: `threads` is less than 1.
        ModelError: The file is missing, damaged, or not made by bebert-edge.
        NativeLibraryError: The native library is required but missing, unloadable or of no use to this model.
    """
    backends.check_device(device)
    if threads is not None and threads < 1:
        raise RuntimeInputError(f"threads is {threads}, expected an integer >= 1, or None for one per core")
    outline = read_outline(path)
    metadata = _metadata(path, outline)

    options = quiet_options()
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    backend = _attach(path, outline, options, threads, require_native)
    try:
        session = create_session(os.fspath(path), options)
    except Exception as error:  # the exceptions of onnxruntime have no public base class
        raise ModelError(_refusal(path, outline, metadata, backend, error)) from error
    config = metadata.config
    outputs = [head_prefix(name) + output for name in config.task_names for output in config.of(name).task.outputs]
    missing = [name for name in outputs if name not in {output.name for output in session.get_outputs()}]
    if missing:
        raise ModelError(f"{path} has no output {missing[0]!r}: another tool changed the graph. Export it again")
    return OpenModel(session, metadata, backend)


def _metadata(path: str | os.PathLike[str], outline: OnnxOutline) -> ModelMetadata:
    try:
        return read_metadata(outline.metadata)
    except ModelError as error:
        raise ModelError(f"{os.fspath(path)}: {error}") from error


def _attach(
    path: str | os.PathLike[str],
    outline: OnnxOutline,
    options: onnxruntime.SessionOptions,
    threads: int | None,
    require_native: bool,
) -> Backend:
    if outline.packed_ops:
        return backends.attach(options, threads=threads, require_native=require_native)
    reason = f"{os.fspath(path)} holds no op of domain {DOMAIN!r}: another tool replaced them. Export the model again"
    if require_native:
        raise NativeLibraryError(f"the native library cannot run this model: {reason}")
    return backends.portable(reason, threads)


def _refusal(
    path: str | os.PathLike[str], outline: OnnxOutline, metadata: ModelMetadata, backend: Backend, error: Exception
) -> str:
    """The message for a model that onnxruntime refuses, with the likely cause."""
    name = os.fspath(path)
    bodies = {function for function in outline.functions if function.startswith(f"{DOMAIN}::")}
    if not backend.native and not {op for op in outline.ops if op.startswith(f"{DOMAIN}::")} <= bodies:
        return (
            f"{name} carries no portable functions and the native library is not in use ({backend.reason}). "
            "Run: bebert-edge doctor, or export the model again with functions"
        )
    reason = " ".join(str(error).split())
    return (
        f"onnxruntime {onnxruntime.__version__} refuses {name}: {reason:.300}. The file needs onnxruntime >= "
        f"{metadata.minimum_onnxruntime}; if yours is newer the file is damaged: copy it again, or export it again"
    )
