# SPDX-License-Identifier: Apache-2.0
"""How much the loss rises when one linear of a model becomes binary, and what keeping it in int8 would save.

Nothing is trained: weights are binarized row by row as `binarize` does, steps are calibrated on a few batches. What
training recovers is not in these numbers; they rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bebert_edge.errors import TrainingError
from bebert_edge.training.data import MODEL_INPUTS, Batch, EncodedExamples
from bebert_edge.training.kept import kept_rows, linears
from bebert_edge.training.modules import BinaryLinear, binarize_rows
from bebert_edge.training.quantization import Quantizer
from bebert_edge.training.students import is_binary
from bebert_edge.training.tasks import Task

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification

Progress = Callable[[str, int, int], None]
"""Called with what is measured, and how many measurements are done, of how many."""

CALIBRATION_BATCHES = 4
_CALIBRATION_ROWS = 512
"""Tokens of a batch by which a step is calibrated."""
_LAYER = "layers."
_NODES = 4096
"""More bytes than the nodes of a kept linear take."""


@dataclass(frozen=True)
class Sensitivity:
    """What a linear, or a layer, costs.

    Attributes:
        name: A linear's, or `layers.i` for all of a layer.
        weights: How many it has.
        binary: Rise of the loss with binary weights.
        int8: Rise of the loss with int8 weights behind the same codes.
        trace: Mean of the trace of the Hessian of the loss by these weights, where that was estimated.
        linears: How many linears it is.
    """

    name: str
    weights: int
    binary: float
    int8: float
    trace: float | None = None
    linears: int = 1

    @property
    def gain(self) -> float:
        """What keeping it in int8 saves."""
        return self.binary - self.int8

    @property
    def keep(self) -> str:
        """The value of `--keep` for it."""
        layer = self.name.startswith(_LAYER) and self.name.count(".") == 1
        return f"{self.name}.*=int8" if layer else f"{self.name}=int8"


Unit = list[tuple[str, tuple[nn.Linear, ...]]]
"""Linears that are measured together: names, and modules."""


def units(model: BertForSequenceClassification, by_layer: bool) -> dict[str, Unit]:
    """The linears of a model by their names, or those of each layer by `layers.i`; of a binarized one, the kept ones.

    Raises:
        TrainingError: The model is binarized and keeps none.
    """
    found: dict[str, Unit] = {}
    for name, modules in linears(model):
        if not isinstance(modules[0], BinaryLinear) or modules[0].kept:
            unit = ".".join(name.split(".")[:2]) if by_layer and name.startswith(_LAYER) else name
            found.setdefault(unit, []).append((name, modules))
    if not found:
        raise TrainingError(
            "every linear of the model is binary already: pass its float teacher, or a member that was trained with "
            "--keep '*=int8'"
        )
    return found


def by_loss(
    model: BertForSequenceClassification,
    data: EncodedExamples,
    task: Task,
    *,
    bits: int,
    by_layer: bool = False,
    own_answers: bool = False,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> tuple[float, list[Sensitivity]]:
    """Measures the loss with each linear (or layer) alone binarized.

    Args:
        model: A float model, whose linear then takes codes; or a binarized one that keeps linears.
        data: Examples with labels.
        task: What the labels are.
        bits: Of the codes that a linear of a float model then takes.
        by_layer: Measure layers, not linears.
        own_answers: Take the loss by what the model as it is answers, not by the labels: it can only rise.
        batch_size: Examples at a time.
        progress: Called before every measurement.

    Returns:
        The loss of the model as it is, and sensitivities, the largest gain first.

    Raises:
        TrainingError: The model is binarized and keeps no linear, or the loss is not finite.
    """
    model.eval()
    parts = units(model, by_layer)
    tell = progress or (lambda name, done, total: None)
    binary = is_binary(model)
    total = 1 + len(parts) * (1 if binary else 2)

    tell("as it is", 0, total)
    expected = _answers(model, data, task, batch_size) if own_answers else None
    base = _loss(model, data, task, batch_size, expected)
    quantizers = {} if binary else calibrate(model, data, bits, batch_size)
    found: list[Sensitivity] = []
    for name, unit in parts.items():
        weights = sum(module.weight.numel() for _, modules in unit for module in modules)
        losses: dict[str, float] = {}
        for kind in ("binary",) if binary else ("binary", "int8"):
            tell(f"{name} {kind}", 1 + len(found) * (1 if binary else 2) + len(losses), total)
            with ExitStack() as stack:
                for linear, modules in unit:
                    stack.enter_context(_replaced(modules, kind, quantizers.get(linear)))
                losses[kind] = _loss(model, data, task, batch_size, expected) - base
        found.append(Sensitivity(name, weights, losses["binary"], losses.get("int8", 0.0), linears=len(unit)))
    tell("done", total, total)
    return base, sorted(found, key=lambda each: -each.gain)


def by_hessian(
    model: BertForSequenceClassification,
    data: EncodedExamples,
    task: Task,
    *,
    by_layer: bool = False,
    own_answers: bool = False,
    draws: int = 8,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[float, list[Sensitivity]]:
    """Estimates the same by the curvature of the loss: `trace(H) / n * |change of the weights|^2 / 2` (HAWQ-V2).

    The trace is Hutchinson's estimate, the mean of `v H v` for random signs `v` (Dong et al., 2020, arXiv 1911.03852).
    Activations stay floats, so only the weights count.

    Args:
        model: A float model.
        data: Examples with labels.
        task: What the labels are.
        by_layer: Sum the linears of each layer.
        own_answers: As for `by_loss`: the model is then at a minimum, and no trace is negative but by chance.
        draws: Random vectors for each batch.
        batch_size: Examples at a time.
        seed: Of the random signs.
        progress: Called before every batch.

    Returns:
        As `by_loss`.

    Raises:
        TrainingError: The model is binarized: its straight-through gradients have no curvature.
    """
    if is_binary(model):
        raise TrainingError("a binarized model has no Hessian: pass its float teacher, or --method loss")
    model.eval()
    model.config._attn_implementation = "eager"  # fused attention has no second derivative
    parts = list(linears(model))
    modules = [module for _, group in parts for module in group]
    parameters = [module.weight for module in modules]
    generator = torch.Generator(device=parameters[0].device).manual_seed(seed)
    traces, total_loss = torch.zeros(len(parameters), dtype=torch.float64), 0.0
    batches = -(-len(data) // batch_size)
    for number, batch in enumerate(data.sequential(batch_size)):
        if progress is not None:
            progress("Hessian", number, batches)
        share = len(batch["labels"]) / len(data)
        with torch.no_grad():
            expected = task.logits(_run(model, batch)).float() if own_answers else None
        loss = _losses(model, batch, task, expected).mean()
        total_loss += share * float(loss.detach())
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        for _ in range(draws):
            signs = [torch.randint(0, 2, p.shape, generator=generator, device=p.device).mul_(2).sub_(1).to(p.dtype)
                     for p in parameters]  # fmt: skip
            products = torch.autograd.grad(gradients, parameters, signs, retain_graph=True)
            traces += torch.stack([(v * hv).sum() for v, hv in zip(signs, products, strict=True)]).cpu() * share / draws
    if progress is not None:
        progress("done", batches, batches)
    _require_finite(total_loss)
    single, place = [], 0
    for name, group in parts:
        trace = float(traces[place : place + len(group)].sum())
        place += len(group)
        count = sum(module.weight.numel() for module in group)
        rises = {
            kind: trace / count / 2 * sum(float(_changed(m.weight, kind).square().sum()) for m in group)
            for kind in ("binary", "int8")
        }
        single.append(Sensitivity(name, count, rises["binary"], rises["int8"], trace / count))
    found = _of_layers(single) if by_layer else single
    return total_loss, sorted(found, key=lambda each: -each.gain)


def _of_layers(found: Sequence[Sensitivity]) -> list[Sensitivity]:
    """Sums over the linears of each layer; second-order estimates without cross terms add up."""
    merged: dict[str, Sensitivity] = {}
    for each in found:
        name = ".".join(each.name.split(".")[:2]) if each.name.startswith(_LAYER) else each.name
        before = merged.get(name)
        if before is None:
            merged[name] = replace(each, name=name)
            continue
        weights = before.weights + each.weights
        trace = sum((one.trace or 0.0) * one.weights for one in (before, each)) / weights
        merged[name] = Sensitivity(
            name, weights, before.binary + each.binary, before.int8 + each.int8, trace, before.linears + 1
        )
    return list(merged.values())


@torch.no_grad()
def calibrate(
    model: BertForSequenceClassification, data: EncodedExamples, bits: int, batch_size: int
) -> dict[str, Quantizer]:
    """Quantizers for the input of each linear of a float model: the mean of the best steps of a few batches.

    What enters the second feed-forward product is unsigned, as in members, whose activation is ReLU.
    """
    device = next(model.parameters()).device
    quantizers = {
        name: Quantizer(bits, signed=not name.endswith(".ffn_out")).to(device).eval() for name in _names(model)
    }
    steps: dict[str, list[Tensor]] = {name: [] for name in quantizers}
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data), generator=generator).tolist()[: CALIBRATION_BATCHES * batch_size]
    real: Tensor

    def observe(name: str, x: Tensor) -> None:
        rows = x[real] if x.dim() == 3 else x  # the pooler's input is one token of each text
        rows = rows[torch.randperm(len(rows), generator=generator)[:_CALIBRATION_ROWS].to(device)]
        quantizers[name].initialise(rows)
        steps[name].append(quantizers[name].step.clone())

    with ExitStack() as stack:
        for name, modules in linears(model):
            hook = modules[0].register_forward_pre_hook(lambda _module, inputs, name=name: observe(name, inputs[0]))
            stack.callback(hook.remove)
        for begin in range(0, len(order), batch_size):
            batch = data.batch(order[begin : begin + batch_size])
            real = batch["attention_mask"].bool().to(device)
            _run(model, batch)
    for name, quantizer in quantizers.items():
        quantizer.step.copy_(torch.stack(steps[name]).mean())
    return quantizers


def _names(model: BertForSequenceClassification) -> list[str]:
    return [name for name, _ in linears(model)]


@contextmanager
def _replaced(modules: Sequence[nn.Linear], kind: str, quantizer: Quantizer | None) -> Iterator[None]:
    """A linear with weights of a kind; of a float model, behind the codes of a quantizer."""
    with ExitStack() as stack:
        for module in modules:
            if isinstance(module, BinaryLinear):
                stack.callback(setattr, module, "kept", module.kept)
                module.kept = None if kind == "binary" else kind
                continue
            assert quantizer is not None
            stack.callback(setattr, module.weight, "data", module.weight.data)
            module.weight.data = module.weight.data + _changed(module.weight.data, kind)
            hook = module.register_forward_pre_hook(lambda _module, inputs: (quantizer.value(quantizer(inputs[0])),))
            stack.callback(hook.remove)
        yield


@torch.no_grad()
def _changed(weight: Tensor, kind: str) -> Tensor:
    """What weights of a kind are more than the float ones."""
    codes, scale = binarize_rows(weight) if kind == "binary" else kept_rows(weight, kind)
    return codes * scale[:, None] - weight


def _losses(model: nn.Module, batch: Batch, task: Task, expected: Tensor | None) -> Tensor:
    """Loss of each example, by its label or by expected logits."""
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    logits = task.logits(_run(model, batch)).float()
    return task.label_losses(logits, batch) if expected is None else task.teacher_losses(logits, expected, batch)


@torch.inference_mode()
def _answers(model: nn.Module, data: EncodedExamples, task: Task, batch_size: int) -> list[Tensor]:
    """The logits of each batch."""
    return [task.logits(_run(model, batch)).float() for batch in data.sequential(batch_size)]


def _run(model: nn.Module, batch: Batch) -> Any:
    device = next(model.parameters()).device
    return model(**{name: batch[name].to(device) for name in MODEL_INPUTS})


@torch.inference_mode()
def _loss(
    model: nn.Module, data: EncodedExamples, task: Task, batch_size: int, expected: Sequence[Tensor] | None
) -> float:
    total = 0.0
    for number, batch in enumerate(data.sequential(batch_size)):
        losses = _losses(model, batch, task, None if expected is None else expected[number])
        total += float(losses.double().sum())
    return _require_finite(total / len(data))


def _require_finite(loss: float) -> float:
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise TrainingError("the loss of the model is not finite: its weights are damaged, or its labels do not fit")
    return loss


@dataclass(frozen=True)
class Mix:
    """A proposal.

    Attributes:
        keep: Values of `--keep`, what saves most for its bytes first.
        size: Bytes of the model with them.
        binary_size: Bytes with no kept linear.
        gain: Sum of what they save, each alone.
    """

    keep: tuple[str, ...]
    size: int
    binary_size: int
    gain: float


def propose(found: Sequence[Sensitivity], budget: int, members: int, size: Callable[[Sequence[str]], int]) -> Mix:
    """Chooses what to keep in int8 for a budget: greedily what saves most loss for its bytes, and still fits.

    Args:
        found: What there is to keep.
        budget: Bytes.
        members: Members that each keep it.
        size: The bytes of a model that keeps what values of `--keep` say; asked twice.

    Raises:
        TrainingError: The budget is too small even for a model with binary weights only.
    """
    binary_size = size(())
    if binary_size > budget:
        raise TrainingError(
            f"--size is {budget:,} bytes, but with every linear binary the model has {binary_size:,}: pass a larger "
            "--size, fewer --members, or a shorter --max-length"
        )
    chosen: list[Sensitivity] = []
    left = budget - binary_size
    for each in sorted(found, key=lambda each: -each.gain / each.weights):
        bytes_ = members * each.weights * 7 // 8 + each.linears * _NODES
        if each.gain > 0 and bytes_ <= left:
            chosen.append(each)
            left -= bytes_
    keep = tuple(each.keep for each in chosen)
    return Mix(keep, size(keep), binary_size, sum(each.gain for each in chosen))


def to_json(found: Sequence[Sensitivity]) -> list[dict[str, Any]]:
    """Sensitivities as JSON values."""
    return [
        {"name": each.name, "weights": each.weights, "binary": each.binary, "int8": each.int8, "gain": each.gain}
        | ({} if each.trace is None else {"trace": each.trace})
        for each in found
    ]
