# SPDX-License-Identifier: Apache-2.0
"""The answers of a packed ensemble on every path that computes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bebert_edge import ops, reference
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import NativeLibraryError
from bebert_edge.exporters import build_model

Feed = dict[str, NDArray[np.int64]]
Floats = NDArray[np.float32]


def answers(ensemble: PackedEnsemble, feed: Feed) -> Iterator[tuple[str, Floats, Floats]]:
    """Name, logits `[B, labels]` and members' logits `[E, B, labels]` of the reference and of the exported model.

    The exported model runs by its own functions and, where the native library is built, by its kernels.
    """
    yield "reference", *reference.forward(ensemble, **{name: array.copy() for name, array in feed.items()})
    model = build_model(ensemble)[0].SerializeToString()
    for path in ("portable", "native"):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        if path == "native":
            try:
                ops.register(options)
            except NativeLibraryError:
                return
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        yield path, *session.run(["logits", "member_logits"], feed)
