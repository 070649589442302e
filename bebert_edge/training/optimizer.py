# SPDX-License-Identifier: Apache-2.0
"""The optimizer of binarized models: AdamW, and lazy Adam for embedding tables with sparse gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bebert_edge.training.modules import BinaryEmbedding
from bebert_edge.training.quantization import Quantizer


def _touched_rows(gradient: Tensor) -> Tensor:
    """A dense gradient (several processes can only reduce those) as a sparse one of the rows that are not zero."""
    rows = gradient.abs().amax(1).nonzero()[:, 0]
    return torch.sparse_coo_tensor(rows[None], gradient[rows], gradient.shape, is_coalesced=True)


class MemberOptimizer(torch.optim.Optimizer):
    """AdamW for dense parameters and lazy Adam for binary embedding tables, of which a batch touches 1 % of the rows.

    Dense gradients are clipped together to norm 1 before the step.

    Args:
        model: The model to train, float or binarized.
        rate: Learning rate.
        weight_decay: Of matrices; vectors and scalars decay not at all.
        step_rate: Rate of quantizer steps relative to `rate`: they are small numbers, and Adam moves every parameter
            by about the rate.
        embedding_rate: Rate of binary embedding tables relative to `rate`: most words are rare, and what a row knew
            of its word before is soon lost.
    """

    def __init__(
        self,
        model: nn.Module,
        rate: float,
        *,
        weight_decay: float = 0.01,
        step_rate: float = 0.5,
        embedding_rate: float = 0.25,
    ) -> None:
        tables = [m.weight for m in model.modules() if isinstance(m, BinaryEmbedding)]
        steps = [m.step for m in model.modules() if isinstance(m, Quantizer)]
        special = {id(p) for p in tables + steps}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in special]
        self.tables = [table for table in tables if table.requires_grad]
        steps = [step for step in steps if step.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.dim() > 1], "weight_decay": weight_decay},
            {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
            {"params": steps, "weight_decay": 0.0, "lr": rate * step_rate},
        ]
        self.dense = torch.optim.AdamW([g for g in groups if g["params"]], lr=rate, fused=True)
        self.parts: list[torch.optim.Optimizer] = [self.dense]
        if self.tables:
            self.parts.append(torch.optim.SparseAdam(self.tables, lr=rate * embedding_rate))
        super().__init__([{"params": g["params"]} for part in self.parts for g in part.param_groups], {"lr": rate})
        # The very dictionaries of the parts, so that a scheduler sets the rates that the parts read.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every part."""
        loss = None if closure is None else closure()
        for table in self.tables:
            if table.grad is not None and not table.grad.is_sparse:
                table.grad = _touched_rows(table.grad)
        nn.utils.clip_grad_norm_([p for group in self.dense.param_groups for p in group["params"]], 1.0)
        for part in self.parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The state of every part."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
