# SPDX-License-Identifier: Apache-2.0
"""What a model costs apart from the time of a run: time to load, memory. Measured in a process of its own."""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bebert_edge.bench.contender import Contender, Engine, session_options
from bebert_edge.bench.shape import Shape

LOADS, LOAD_SECONDS = 7, 5.0


@dataclass(frozen=True)
class Footprint:
    """Memory is None where the system does not tell it (known on Linux; elsewhere only the peak, of the process).

    Attributes:
        load_ms: Median time to create a session, the file being in the page cache.
        empty_load_ms: The same for a model of one node: what the engine itself takes.
        loaded_bytes: Resident memory that the session added.
        run_bytes: Resident memory that the session and one run added.
        peak_bytes: The most resident memory that was ever added, while loading or running.
        process_bytes: Resident memory of the process before, the engine's library included.
    """

    load_ms: float
    empty_load_ms: float
    loaded_bytes: int | None
    run_bytes: int | None
    peak_bytes: int | None
    process_bytes: int | None


def measure(contender: Contender, threads: int, shape: Shape, vocab_size: int) -> Footprint:
    """Loads a model in a fresh process and runs it once on a shape."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, contender, threads, shape, vocab_size).result()


def _measure(contender: Contender, threads: int, shape: Shape, vocab_size: int) -> Footprint:
    feed = shape.feed(vocab_size, 0)
    _load_empty(contender.engine)  # from here on the engine's library and what it keeps for all sessions is there
    _reset_peak()
    before, peak_before = _resident(), _peak()
    bind = contender.open(threads)
    loaded = _resident()
    contender.bind(bind, shape, feed)()
    run, peak = _resident(), _peak()
    del bind

    return Footprint(
        load_ms=_median_ms(lambda: contender.open(threads)),
        empty_load_ms=_median_ms(lambda: _load_empty(contender.engine)),
        loaded_bytes=_minus(loaded, before),
        run_bytes=_minus(run, before),
        peak_bytes=_minus(peak, peak_before if before is None else before),
        process_bytes=before,
    )


def _median_ms(load: Any) -> float:
    """Median of some loads, each of which ends before the next begins; fewer if they take long, but at least three."""
    times: list[float] = []
    while len(times) < 3 or (len(times) < LOADS and sum(times) < LOAD_SECONDS):
        start = time.perf_counter()
        loaded = load()
        times.append(time.perf_counter() - start)
        del loaded
    return 1e3 * statistics.median(times)


def _load_empty(engine: Engine) -> object:
    """A session of the smallest model there is."""
    if engine is Engine.openvino:
        import openvino
        from openvino import opset13

        x = opset13.parameter([1], np.float32)
        return openvino.Core().compile_model(openvino.Model([opset13.relu(x)], [x]), "CPU").create_infer_request()
    from bebert_edge.runtime.onnx_bytes import one_node_model
    from bebert_edge.runtime.session import create_session

    x = np.zeros(1, np.float32)
    model = one_node_model(
        "Relu", "", inputs={"x": x}, initializers={}, outputs={"y": (x.dtype, 1)}, attributes={}
    )  # fmt: skip
    return create_session(model, session_options(1))


def _minus(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before


def _status(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return 1024 * int(values[0]) if values else None


def _resident() -> int | None:
    return _status("VmRSS")


def _peak() -> int | None:
    peak = _status("VmHWM")
    if peak is None and sys.platform != "win32":
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage if sys.platform == "darwin" else 1024 * usage
    return peak


def _reset_peak() -> None:
    """Forgets the peak of what was before, which importing libraries made."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return
