# SPDX-License-Identifier: Apache-2.0
"""What a member learns from: labels, the teacher's logits, the teacher's layers.

The losses inside the rounds are the structures of BEBERT's figure 1: `none` is its A (labels alone), `logits` its B
(the prediction layer), `layers` its C, with the transformer layers and the prediction layer in one stage.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bebert_edge.training.augmentation import nearest_tokens, replace_tokens
from bebert_edge.training.data import MODEL_INPUTS, Batch
from bebert_edge.training.quantization import code_dtype
from bebert_edge.training.students import is_binary
from bebert_edge.training.tasks import Task, TextClassification

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DISTILL = ("none", "logits", "layers")


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of losses by weights of the same shape."""
    return (losses * weights).sum() / weights.sum()


@dataclass
class Objective:
    """The loss of one training.

    Attributes:
        task: What logits and labels are.
        distill: What is learnt from the teacher; `none` needs none.
        teacher: A float model, or a binarized one with more bits.
        label_weight: Weight of the labels' loss beside the teacher's.
        replaced: Share of tokens that are replaced: the teacher labels what comes out, so varied text costs nothing.
        replace_by: What tokens are replaced by: `neighbours` or `batch` (`augmentation`).
        neighbours: Candidates of each token [V, count]; None to find them by the teacher's embeddings.
        logits: Whether the prediction layer counts at all; without it only the layers are distilled, and the data
            need no labels.
        precision: Of a float model's products, as for `binarize`.
    """

    task: Task = field(default_factory=TextClassification)
    distill: str = "none"
    teacher: PreTrainedModel | None = None
    label_weight: float = 0.0
    replaced: float = 0.0
    replace_by: str = "neighbours"
    neighbours: Tensor | None = field(default=None, repr=False)
    logits: bool = True
    precision: str = "auto"
    _fast: nn.Module | None = field(default=None, repr=False)

    def _augment(self, batch: Batch) -> Batch:
        if self.replace_by == "neighbours" and self.neighbours is None:
            assert self.teacher is not None
            table = self.teacher.get_input_embeddings().weight.detach()
            self.neighbours = nearest_tokens(table.to(batch["input_ids"].device))
        if self.replace_by != "neighbours":
            return replace_tokens(batch, self.replaced)
        assert self.neighbours is not None
        self.neighbours = self.neighbours.to(batch["input_ids"].device)
        return replace_tokens(batch, self.replaced, self.neighbours)

    def _teach(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The teacher's logits and hidden states, fast: a binary teacher is so in training mode."""
        assert self.teacher is not None
        if self._fast is None:
            self._fast = copy.deepcopy(self.teacher).to(batch["input_ids"].device).requires_grad_(False)
            if not is_binary(self.teacher):
                self._fast.to(code_dtype(self.precision, batch["input_ids"].device))
            self._fast.train(is_binary(self.teacher))
        with torch.no_grad():
            output = self._fast(**{name: batch[name] for name in MODEL_INPUTS}, output_hidden_states=True)
        return self.task.logits(output).float(), output.hidden_states

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch; `batch["weights"]` [B] are the weights of its examples."""
        weights = batch["weights"]
        learns = self.distill != "none"
        if learns and self.replaced:
            batch = self._augment(batch)
        layers = self.distill == "layers"
        dtype = code_dtype(self.precision, weights.device)
        narrow = dtype != torch.float32 and not is_binary(model)
        with torch.autocast(weights.device.type, dtype, enabled=narrow):
            found = model(**{name: batch[name] for name in MODEL_INPUTS}, output_hidden_states=layers)
        logits = self.task.logits(found).float()
        if not learns:
            return weighted_mean(self.task.label_losses(logits, batch), weights)
        expected, states = self._teach(batch)
        loss: Tensor = logits.new_zeros(())
        if self.logits:
            loss = weighted_mean(self.task.teacher_losses(logits, expected, batch), weights)
        if self.label_weight:
            labelled = self.task.label_losses(logits, batch)
            loss = loss + self.label_weight * weighted_mean(labelled, weights)
        if layers:
            token_weights = batch["attention_mask"] * weights[:, None]
            for a, b in zip(found.hidden_states, states, strict=True):
                loss += weighted_mean((a - b.float()).square().mean(-1), token_weights)
        return loss
