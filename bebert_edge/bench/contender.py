# SPDX-License-Identifier: Apache-2.0
"""A model file and how it is run: onnxruntime with or without the native library, or OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bebert_edge.bench.shape import Feed, Shape

if TYPE_CHECKING:
    import onnxruntime

Run = Callable[[], object]
Bind = Callable[[Feed], Run]


class Engine(str, Enum):
    """What runs a model file."""

    native = "onnxruntime with the native library"
    onnxruntime = "onnxruntime"
    openvino = "openvino"


@dataclass(frozen=True)
class Contender:
    """A model to be timed; a plain value, so that a fresh process can be told to open it.

    Attributes:
        path: The model file.
        engine: What runs it.
        one_by_one: Whether the texts of a batch are run one at a time, without padding.
        static: Batch size and sequence length that OpenVINO is told before it compiles the model.
    """

    path: Path
    engine: Engine
    one_by_one: bool = False
    static: tuple[int, int] | None = None

    @property
    def files(self) -> list[Path]:
        """All files of the model: OpenVINO keeps the weights in a second one."""
        weights = self.path.with_suffix(".bin")
        return [self.path, weights] if self.engine is Engine.openvino else [self.path]

    @property
    def size(self) -> int:
        """Bytes of the model's files."""
        return sum(file.stat().st_size for file in self.files)

    def open(self, threads: int) -> Bind:
        """Loads the model, and returns what binds it to an input.

        Raises:
            NativeLibraryError: The engine needs the native library, which is missing or does not load.
        """
        if self.engine is Engine.openvino:
            return _open_openvino(self.path, threads, self.static)
        return _open_onnxruntime(self, threads)

    def bind(self, bind: Bind, shape: Shape, feed: Feed) -> Run:
        """What one turn of this contender runs."""
        if not self.one_by_one:
            return bind(feed)
        runs = [bind(row) for row in shape.rows(feed)]
        return lambda: [run() for run in runs]


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options that every session of onnxruntime has here: its defaults, but for the number of threads."""
    from bebert_edge.runtime.session import quiet_options

    options = quiet_options()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return options


def start_session(contender: Contender, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Creates a session of onnxruntime."""
    from bebert_edge import ops
    from bebert_edge.runtime.session import create_session

    if contender.engine is Engine.native:
        ops.register(options)
    return create_session(str(contender.path), options)


def _open_onnxruntime(contender: Contender, threads: int) -> Bind:
    session = start_session(contender, session_options(threads))
    names = [i.name for i in session.get_inputs()]

    def bind(feed: Feed) -> Run:
        inputs = {name: feed[name] for name in names}
        return lambda: session.run(None, inputs)

    return bind


def _open_openvino(path: Path, threads: int, static: tuple[int, int] | None) -> Bind:
    import openvino

    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # pinned to cores of its choice it would meet others there
    }
    core = openvino.Core()
    model = core.read_model(str(path))
    if static is not None:
        model.reshape({i.any_name: list(static) for i in model.inputs})
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def bind(feed: Feed) -> Run:
        inputs = [feed[i.any_name] for i in request.model_inputs]
        return lambda: request.infer(inputs, share_inputs=True, share_outputs=True)

    return bind
