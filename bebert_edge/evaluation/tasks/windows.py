# SPDX-License-Identifier: Apache-2.0
"""Models of any kind on texts in windows: the logits of every token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bebert_edge.errors import ModelError
from bebert_edge.evaluation.models import Array, EvaluatedModel, Progress, combine
from bebert_edge.runtime.entities import joined
from bebert_edge.runtime.text import EncodedText, Text
from bebert_edge.runtime.windows import WindowedText


@dataclass(frozen=True)
class TokenLogits:
    """Logits of tokens: `answer [tokens, labels]`, with the temperature, and `members [E, tokens, labels]`, without."""

    answer: Array
    members: Array


def window_logits(
    model: EvaluatedModel, texts: Sequence[Text], batch_size: int, progress: Progress
) -> Iterator[tuple[WindowedText, list[TokenLogits]]]:
    """Every text in windows, with the logits of each window's tokens.

    Raises:
        ModelError: A logit is not finite.
    """
    encoded = model.windows().encode(texts)
    windows = [(i, window) for i, text in enumerate(encoded) for window in text.windows]
    order = sorted(range(len(windows)), key=lambda j: len(windows[j][1].ids))
    found: dict[int, TokenLogits] = {}
    weights = np.array(model.weights)
    for begin in range(0, len(order), batch_size):
        index = order[begin : begin + batch_size]
        batch = [EncodedText("", None, windows[j][1].ids, windows[j][1].type_ids, truncated=False) for j in index]
        logits = np.asarray(model.run(batch, index, None), np.float64)
        for row, j in enumerate(index):
            members = logits[:, row, : len(batch[row].ids)]
            if not np.isfinite(members).all():
                text = encoded[windows[j][0]].text
                raise ModelError(f"{model.path}: the answer for {text[:40]!r} is not finite: its weights are damaged")
            combined = combine(members, weights, model.combination, model.problem) / model.temperature
            found[j] = TokenLogits(combined, members)
        progress(begin + len(index), len(order))
    place = 0
    for one in encoded:
        yield one, [found.pop(j) for j in range(place, place + len(one.windows))]
        place += len(one.windows)


def read_windows(
    model: EvaluatedModel, texts: Sequence[Text], batch_size: int, progress: Progress
) -> Iterator[tuple[WindowedText, TokenLogits]]:
    """Every text with the logits of its tokens, each by the window in which it stands best."""
    for text, parts in window_logits(model, texts, batch_size, progress):
        yield (
            text,
            TokenLogits(joined(text, [part.answer for part in parts]), joined(text, [part.members for part in parts])),
        )
