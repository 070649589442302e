# SPDX-License-Identifier: Apache-2.0
"""Scores of predictions, and how far they may be off.

Every score here is a function of sums over examples: of hits, of a confusion matrix, of products. A bootstrap over
examples is then one matrix product of how often each example was drawn with what it adds to the sums.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MULTI_LABEL_THRESHOLD = 0.3
"""Probability from which a label of a multi-label task counts as given: that of the data set's usual baselines."""


def predictions(logits: Array, problem: str) -> NDArray[np.generic]:
    """What is scored: classes uint8 [N], labels bool [N, C], or values float16 [N]."""
    if problem == "regression":
        return logits[:, 0].astype(np.float16)
    if problem == "multi_label":
        return logits > np.log(MULTI_LABEL_THRESHOLD / (1 - MULTI_LABEL_THRESHOLD))
    return logits.argmax(-1).astype(np.uint8)


def pack(found: NDArray[np.generic]) -> str:
    """Predictions as text."""
    raw = np.packbits(found) if found.dtype == bool else found
    return base64.b85encode(zlib.compress(raw.tobytes(), 9)).decode()


def unpack(text: str, problem: str, examples: int) -> NDArray[np.generic]:
    """What :func:`pack` was given."""
    raw = zlib.decompress(base64.b85decode(text))
    if problem == "regression":
        return np.frombuffer(raw, np.float16)
    codes = np.frombuffer(raw, np.uint8)
    if problem != "multi_label":
        return codes
    classes = len(codes) * 8 // examples
    return np.unpackbits(codes)[: examples * classes].reshape(examples, classes).astype(bool)


def statistics(found: NDArray[np.generic], labels: NDArray[np.generic], metric: str) -> Array:
    """What each example adds to the sums of a metric, float64 [N, K]."""
    if metric == "accuracy":
        return (found == labels)[:, None].astype(np.float64)
    if metric == "matthews":
        return np.stack([(labels == a) & (found == b) for a in (0, 1) for b in (0, 1)], 1).astype(np.float64)
    if metric == "micro_f1":
        return np.stack([(found & labels).sum(1), found.sum(1) + labels.sum(1)], 1).astype(np.float64)
    x, y = found.astype(np.float64), labels.astype(np.float64)
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], 1)


def score(sums: Array, metric: str, examples: int) -> Array:
    """The metric in percent by sums of statistics [..., K]; 0 where it is not defined."""
    if metric == "accuracy":
        return 100 * sums[..., 0] / examples
    if metric == "micro_f1":
        return 100 * 2 * sums[..., 0] / np.maximum(sums[..., 1], 1)
    if metric == "matthews":
        tn, fp, fn, tp = np.moveaxis(sums, -1, 0)
        product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return 100 * (tp * tn - fp * fn) / np.sqrt(np.where(product > 0, product, np.inf))
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    product = (n * xx - x * x) * (n * yy - y * y)
    return 100 * (n * xy - x * y) / np.sqrt(np.where(product > 0, product, np.inf))
