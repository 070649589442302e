# SPDX-License-Identifier: Apache-2.0
"""Which tokens of a text are masked."""

from __future__ import annotations

import random
from collections.abc import Sequence

SHARE = 0.15
"""Share of the tokens of a text that are masked, as BERT was trained (Devlin et al., 2019)."""


def mask(ids: Sequence[int], allowed: Sequence[bool], mask_id: int, seed: int) -> list[int]:
    """Ids with `SHARE` of those that are allowed masked, one at least if there is one; the same seed masks the same."""
    places = [i for i, fits in enumerate(allowed) if fits]
    count = min(len(places), max(1, round(SHARE * len(places))))
    chosen = set(random.Random(seed).sample(places, count))
    return [mask_id if i in chosen else x for i, x in enumerate(ids)]
