# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from bebert_edge.runtime.tags import chunk_counts, chunk_f1, chunks


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", []),
        ("B-PER I-PER O B-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),
        ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
        ("I-PER I-PER O I-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),  # IOB1: entities begin with I
        ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),
        ("S-PER S-PER B-LOC I-LOC E-LOC", [(0, 1, "PER"), (1, 2, "PER"), (2, 5, "LOC")]),  # IOBES
        ("B-LOC E-LOC I-LOC", [(0, 2, "LOC"), (2, 3, "LOC")]),
        ("U-PER B-LOC L-LOC O", [(0, 1, "PER"), (1, 3, "LOC")]),  # BILOU
        ("B-creative-work I-creative-work", [(0, 2, "creative-work")]),
        ("PER PER O LOC", [(0, 2, "PER"), (3, 4, "LOC")]),
        ("", []),
    ],
)
def test_spans_of_every_scheme(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert chunks(tags.split()) == expected


def test_f1_of_whole_entities() -> None:
    """By hand, as seqeval and `conlleval` count: 2 right (PER, MISC) of 4 found and 3 true."""
    truth = [["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"], ["O", "B-MISC", "O"]]
    found = [["B-PER", "I-PER", "O", "B-LOC", "O", "O"], ["O", "B-MISC", "B-PER"]]
    counts = [chunk_counts(a, b) for a, b in zip(truth, found, strict=True)]
    assert counts == [(1, 2, 2), (1, 2, 1)]
    assert chunk_f1(truth, found) == pytest.approx(2 * 2 / (4 + 3))
    assert chunk_f1(truth, truth) == 1
    assert chunk_f1([["O"]], [["O"]]) == 0
    wrong_type = (["B-LOC", "I-LOC"], ["B-PER", "I-PER"])
    assert chunk_counts(*wrong_type) == (0, 1, 1)
