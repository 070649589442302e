# SPDX-License-Identifier: Apache-2.0
"""The training loop: fine-tunes a float teacher, distils binary members from it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForSequenceClassification, get_linear_schedule_with_warmup
from transformers.modeling_outputs import SequenceClassifierOutput

from bebert_edge.errors import TrainingError
from bebert_edge.training.data import Batch, EncodedExamples
from bebert_edge.training.modules import ATTENTION, BinaryEmbedding
from bebert_edge.training.quantization import Quantizer

Progress = Callable[[str, int, int, float], None]
"""Called after each step: what is trained, steps done, steps in all, loss."""


@dataclass(frozen=True)
class Schedule:
    """AdamW with linear warm-up and linear decay to zero."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    warmup: float = 0.06
    weight_decay: float = 0.01
    # Relative to learning_rate: steps are small numbers, and Adam moves every parameter by about the rate.
    step_rate: float = 0.5
    # Likewise: most words are rare, and what a row knew of its word before is soon lost.
    embedding_rate: float = 0.25
    label_weight: float = 0.0
    # Share of tokens replaced by others of the batch: the teacher labels what comes out, so more text costs nothing.
    replaced: float = 0.0


def _optimizers(model: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """AdamW for dense parameters; lazy Adam for a binary embedding table, of which a batch touches 1 % of the rows."""
    tables = [m.weight for m in model.modules() if isinstance(m, BinaryEmbedding)]
    steps = [m.step for m in model.modules() if isinstance(m, Quantizer)]
    special = {id(p) for p in tables + steps}
    rest = [p for p in model.parameters() if id(p) not in special]
    rate = schedule.learning_rate
    groups = [
        {"params": [p for p in rest if p.dim() > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
        {"params": steps, "weight_decay": 0.0, "lr": rate * schedule.step_rate},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, fused=True)]
    if tables:
        optimizers.append(torch.optim.SparseAdam(tables, lr=rate * schedule.embedding_rate))
    return optimizers


def _weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    return (losses * weights).sum() / weights.sum()


def _augment(batch: Batch, share: float) -> Batch:
    """The batch with a share of its tokens replaced by tokens drawn from it; the first and all separators stay."""
    ids = batch.input_ids
    separator = ids.gather(1, batch.attention_mask.sum(1, keepdim=True) - 1)
    inner = (batch.attention_mask != 0) & (torch.arange(ids.shape[1]) > 0) & (ids != separator)
    pool = ids[inner]
    if len(pool) == 0:
        return batch
    drawn = pool[torch.randint(len(pool), ids.shape)]
    return replace(batch, input_ids=torch.where(inner & (torch.rand(ids.shape) < share), drawn, ids))


@torch.no_grad()
def _teach(teacher: BertForSequenceClassification, batch: Batch) -> SequenceClassifierOutput:
    """The teacher's outputs in bfloat16, which a binary teacher computes by itself in training mode."""
    binary = teacher.config._attn_implementation == ATTENTION
    teacher.train(binary)
    with torch.autocast("cpu", torch.bfloat16, enabled=not binary):
        output: SequenceClassifierOutput = teacher(**batch.inputs, output_hidden_states=True)
    return output


def _loss(
    model: BertForSequenceClassification,
    teacher: BertForSequenceClassification | None,
    batch: Batch,
    weights: Tensor,
    schedule: Schedule,
) -> Tensor:
    if teacher is None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**batch.inputs).logits
        return _weighted_mean(F.cross_entropy(logits.float(), batch.labels, reduction="none"), weights)
    expected = _teach(teacher, batch)
    found = model(**batch.inputs, output_hidden_states=True)
    loss = _weighted_mean(F.cross_entropy(found.logits, expected.logits.float().softmax(-1), reduction="none"), weights)
    if schedule.label_weight:
        labelled = F.cross_entropy(found.logits, batch.labels, reduction="none")
        loss = loss + schedule.label_weight * _weighted_mean(labelled, weights)
    token_weights = batch.attention_mask * weights[:, None]
    for a, b in zip(found.hidden_states, expected.hidden_states, strict=True):
        loss = loss + _weighted_mean((a - b.float()).square().mean(-1), token_weights)
    return loss


def fit(
    model: BertForSequenceClassification,
    data: EncodedExamples,
    schedule: Schedule,
    *,
    teacher: BertForSequenceClassification | None = None,
    weights: Tensor | None = None,
    progress: Progress | None = None,
    name: str = "model",
) -> None:
    """Trains a model in place and leaves it in evaluation mode.

    Args:
        model: The model: float if `teacher` is None, otherwise binarized.
        data: What to train on.
        schedule: How long and how fast.
        teacher: Distils the logits and all hidden states of this model; without it the labels teach.
        weights: Loss weight of each example [len(data)], float32, mean 1; None for equal weights.
        progress: Called after every step.
        name: What to call the model in `progress`.

    Raises:
        TrainingError: The loss is not finite.
    """
    torch.manual_seed(schedule.seed)
    optimizers = _optimizers(model, schedule)
    schedulers = [
        get_linear_schedule_with_warmup(o, int(schedule.steps * schedule.warmup), schedule.steps) for o in optimizers
    ]
    dense = [p for group in optimizers[0].param_groups for p in group["params"]]
    model.train()
    batches = itertools.islice(data.shuffled(schedule.batch_size, schedule.seed), schedule.steps)
    for done, batch in enumerate(batches, 1):
        if teacher is not None and schedule.replaced:
            batch = _augment(batch, schedule.replaced)
        example_weights = torch.ones(len(batch.labels)) if weights is None else weights[batch.index]
        loss = _loss(model, teacher, batch, example_weights, schedule)
        if not bool(loss.isfinite()):
            raise TrainingError(f"training of {name} diverged at step {done}: pass a lower --learning-rate")
        loss.backward()
        nn.utils.clip_grad_norm_(dense, 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if progress is not None:
            progress(name, done, schedule.steps, loss.item())
    model.eval()


@torch.no_grad()
def predict(
    model: BertForSequenceClassification, data: EncodedExamples, *, exact: bool = True, batch_size: int = 64
) -> Tensor:
    """Logits [len(data), labels], float32, in the order of the data.

    Args:
        model: A float or a binarized model; it is left in evaluation mode.
        data: The examples.
        exact: Whether to compute what the exported graph computes, or (a binarized model only) faster in bfloat16.
        batch_size: Examples at a time.
    """
    model.train(not exact)
    logits = torch.zeros(len(data), model.config.num_labels)
    for batch in data.sequential(batch_size):
        logits[batch.index] = model(**batch.inputs).logits.float()
    model.eval()
    return logits
