# SPDX-License-Identifier: Apache-2.0
"""More varied text to distil on: tokens replaced by others. The teacher says what the new text means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bebert_edge.training.data import Batch

REPLACE_BY = ("neighbours", "batch")
NEIGHBOURS = 15  # as many candidates for a word as TinyBERT's augmentation has (Jiao et al., 2020)
_ROWS = 1024


@torch.no_grad()
def nearest_tokens(table: Tensor, count: int = NEIGHBOURS) -> Tensor:
    """The tokens whose embeddings are most similar to each token's, by cosine.

    Args:
        table: Word embeddings [V, H], float.
        count: How many; fewer where the vocabulary is small.

    Returns:
        int64 [V, count], the token itself not among them.
    """
    directions = F.normalize(table.float(), dim=1)
    nearest = []
    for begin in range(0, len(directions), _ROWS):
        similarity = directions[begin : begin + _ROWS] @ directions.T
        rows = torch.arange(len(similarity), device=table.device)
        similarity[rows, begin + rows] = -torch.inf
        nearest.append(similarity.topk(min(count, len(table) - 1), dim=1).indices)
    return torch.cat(nearest)


def replace_tokens(batch: Batch, share: float, neighbours: Tensor | None = None) -> Batch:
    """A batch with a share of its tokens replaced; the first and all separators stay.

    Args:
        batch: As `EncodedExamples.batch` gives it.
        share: Probability that a token is replaced.
        neighbours: Candidates of each token [V, count]; None to draw from the tokens of the batch.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"]
    separator = ids.gather(1, mask.sum(1, keepdim=True) - 1)
    inner = (mask != 0) & (torch.arange(ids.shape[1], device=ids.device) > 0) & (ids != separator)
    if neighbours is None:
        pool = ids[inner]
        if len(pool) == 0:
            return batch
        drawn = pool[torch.randint(len(pool), ids.shape, device=ids.device)]
    else:
        drawn = neighbours[ids, torch.randint(neighbours.shape[1], ids.shape, device=ids.device)]
    replaced = inner & (torch.rand(ids.shape, device=ids.device) < share)
    return batch | {"input_ids": torch.where(replaced, drawn, ids)}
