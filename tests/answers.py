# SPDX-License-Identifier: Apache-2.0
"""The answer of an ensemble as docs/format.md defines it, in 60 decimal digits: nothing underflows or cancels."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray


def defined_answer(
    member_logits: NDArray[np.float32],
    weights: Sequence[float],
    combination: str = "logits",
    problem: str = "single_label",
    temperature: float = 1.0,
) -> NDArray[np.float64]:
    """`member_logits [E, labels]` -> logits `[labels]`, for logits of up to about 1e5."""
    with localcontext() as context:
        context.prec = 60
        z = [[Decimal(float(value)) for value in row] for row in member_logits]
        w = [Decimal(float(np.float32(weight))) for weight in weights]

        def mean(rows: list[list[Decimal]]) -> list[Decimal]:
            return [
                sum((a * b for a, b in zip(w, column, strict=True)), Decimal(0)) for column in zip(*rows, strict=True)
            ]

        def softmax(row: list[Decimal]) -> list[Decimal]:
            exponentials = [value.exp() for value in row]
            return [value / sum(exponentials) for value in exponentials]

        if combination == "logits":
            combined = mean(z)
        elif problem == "multi_label":
            yes = mean([[softmax([value, Decimal(0)])[0] for value in row] for row in z])
            no = mean([[softmax([value, Decimal(0)])[1] for value in row] for row in z])
            combined = [a.ln() - b.ln() for a, b in zip(yes, no, strict=True)]
        else:
            combined = [value.ln() for value in mean([softmax(row) for row in z])]
        return np.array([float(value / Decimal(float(np.float32(temperature)))) for value in combined])


@st.composite
def cases(draw: st.DrawFn) -> dict[str, object]:
    """Arguments of `defined_answer`: one label and many, huge logits and equal ones, members of weight 0."""
    problem = draw(st.sampled_from(["single_label", "multi_label", "regression"]))
    members = draw(st.integers(1, 4))
    labels = 1 if problem == "regression" else draw(st.integers(1, 4))
    scale = draw(st.sampled_from([0.0, 1.0, 10.0, 1e3, 1e5]))
    values = st.lists(st.floats(-1, 1, width=32), min_size=members * labels, max_size=members * labels)
    shares = draw(st.lists(st.sampled_from([0, 1, 2, 5]), min_size=members, max_size=members).filter(any))
    logits = np.array(draw(values), np.float32).reshape(members, labels) * np.float32(scale)
    regression = problem == "regression"
    return {
        "member_logits": logits,
        "weights": tuple(share / sum(shares) for share in shares),
        "combination": "logits" if regression else draw(st.sampled_from(["logits", "probabilities"])),
        "problem": problem,
        "temperature": 1.0 if regression else draw(st.sampled_from([1.0, 0.05, 0.7, 1.3, 20.0])),
    }
