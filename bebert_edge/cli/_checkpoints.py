# SPDX-License-Identifier: Apache-2.0
"""The options of all commands that read checkpoints, and what they print about them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebert_edge.cli._shared import Combination, note

if TYPE_CHECKING:
    from bebert_edge.checkpoints import Options


class WordEmbeddings(str, Enum):
    """How word embeddings that are not binary are stored."""

    int8 = "int8"
    int4 = "int4"


_PANEL = "What the checkpoints do not say themselves"

Family = Annotated[
    str, typer.Option(help="Their family, as docs/checkpoints.md names it; auto: found.", rich_help_panel=_PANEL)
]
Alpha = Annotated[
    str | None,
    typer.Option(
        help="A weight > 0 for each member, as in 1.2,0.8; divided by their sum.",
        metavar="A,B,...",
        rich_help_panel=_PANEL,
    ),
]
Combine = Annotated[
    Combination | None,
    typer.Option(help="What the answer is the weighted mean of: logits, as a rule.", rich_help_panel=_PANEL),
]
Labels = Annotated[
    str | None,
    typer.Option(
        help="Names of the labels, in the order of the classifier's rows.", metavar="A,B,...", rich_help_panel=_PANEL
    ),
]
TextPair = Annotated[
    bool | None,
    typer.Option(
        "--text-pair/--single-text",
        help="Whether an input is two texts; by default as the GLUE task in config.json has it.",
        rich_help_panel=_PANEL,
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(min=2, help="Tokens of the longest input: as many as positions, at most 512.", rich_help_panel=_PANEL),
]
Embeddings = Annotated[
    WordEmbeddings | None,
    typer.Option(
        help="Bits of word embeddings that were trained in full precision (train --embeddings).", rich_help_panel=_PANEL
    ),
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(help="A tokenizer.json or vocab.txt, or a directory with one.", rich_help_panel=_PANEL),
]


def checkpoint_options(
    family: str,
    alpha: str | None,
    combination: Combination | None,
    labels: str | None,
    text_pair: bool | None,
    max_length: int | None,
    tokenizer: Path | None,
    embeddings: WordEmbeddings | None,
) -> Options:
    """What these options say.

    Raises:
        typer.BadParameter: `alpha` is no list of numbers.
    """
    from bebert_edge.checkpoints import Options

    return Options(
        family=family,
        alpha=None if alpha is None else tuple(map(_weight, alpha.split(","))),
        combination=None if combination is None else combination.value,
        labels=None if labels is None else tuple(label.strip() for label in labels.split(",")),
        text_pair=text_pair,
        max_length=max_length,
        tokenizer=tokenizer,
        embeddings=None if embeddings is None else embeddings.value,
    )


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise typer.BadParameter(f"{text!r} is not a number > 0: expected one for each member, as in --alpha 1.2,0.8")
    return weight


def print_notes(notes: Iterable[str]) -> None:
    """Prints what a reader of checkpoints has to say, to stderr."""
    for line in notes:
        note(f"note: {line}")
