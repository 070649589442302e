# SPDX-License-Identifier: Apache-2.0
"""Trains one model with transformers' Trainer: devices, processes, checkpoints and resuming are its."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, get_scheduler

from bebert_edge.checkpoints.files import TENSOR_FILE
from bebert_edge.errors import TrainingError
from bebert_edge.training.data import MODEL_INPUTS, Batch, EncodedExamples, LengthGroupedBatches
from bebert_edge.training.distillation import Objective
from bebert_edge.training.optimizer import MemberOptimizer
from bebert_edge.training.tasks import Task, TextClassification

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Progress = Callable[[str, int, int, float], None]
"""Called after each step: what is trained, steps done, steps in all, loss."""

_STATE_FILE = "trainer_state.json"  # what Trainer writes last: a checkpoint that has it is complete


@dataclass(frozen=True)
class Schedule:
    """AdamW with warm-up and decay to zero.

    Attributes:
        steps: Optimizer steps.
        batch_size: Examples of a step on each device.
        learning_rate: Peak rate.
        seed: Of the order of the data and of replaced tokens.
        decay: `linear` or `cosine`.
        warmup: Share of the steps.
        checkpoint_steps: Steps between checkpoints.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    decay: str = "linear"
    warmup: float = 0.06
    checkpoint_steps: int = 250


class _Watch(TrainerCallback):
    """Reports every step and stops at a loss that is not finite."""

    def __init__(self, name: str, progress: Progress | None) -> None:
        self.name, self.progress, self.loss = name, progress, torch.zeros(())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loss = float(self.loss)
        if loss != loss or loss in (float("inf"), -float("inf")):
            raise TrainingError(
                f"training of {self.name} diverged at step {state.global_step}: pass a lower --learning-rate"
            )
        if self.progress is not None and state.is_world_process_zero:
            self.progress(self.name, state.global_step, state.max_steps, loss)


class _Trainer(Trainer):
    """transformers' Trainer with our loss, our batches and our optimizer."""

    loss_is_scaled_for_ga = False  # our losses are means over a batch

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        data: EncodedExamples,
        schedule: Schedule,
        objective: Objective,
        weights: Tensor,
        watch: _Watch,
    ) -> None:
        super().__init__(model, args, train_dataset=range(len(data)), callbacks=[watch])
        self.remove_callback(PrinterCallback)
        self.data, self.schedule, self.objective, self.weights, self.watch = data, schedule, objective, weights, watch

    def _collate(self, index: list[int]) -> Batch:
        batch = self.data.batch(index)
        return batch | {"weights": self.weights[batch["index"] % len(self.data)]}

    def get_train_dataloader(self) -> DataLoader[Any]:
        batches = LengthGroupedBatches(
            [len(ids) for ids in self.data.ids],
            self.schedule.batch_size,
            self.schedule.steps * self.args.world_size,
            self.schedule.seed,
        )
        rows: Any = range(len(self.data))
        loader: DataLoader[Any] = DataLoader(rows, batch_sampler=batches, collate_fn=self._collate)
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        self.optimizer = MemberOptimizer(self.model, self.schedule.learning_rate)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        schedule = self.schedule
        self.lr_scheduler = get_scheduler(
            schedule.decay, self.optimizer, int(schedule.steps * schedule.warmup), schedule.steps
        )
        return self.lr_scheduler

    def compute_loss(self, model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any) -> Tensor:
        loss = self.objective(model, inputs)
        self.watch.loss = loss.detach()
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: float | None = None) -> None:
        """Nothing: the optimizer clips, and the norm of a sparse gradient is not implemented."""

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # nothing reads it, and counting parameters at every step takes time

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """A checkpoint's weights, as they are: save_pretrained knows nothing of quantizers."""
        directory = Path(output_dir or self.args.output_dir)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(tensors, directory / TENSOR_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint) / TENSOR_FILE))


def _last_checkpoint(directory: Path) -> Path | None:
    """The newest complete checkpoint; what a kill left half-written is removed."""
    complete = []
    for path in directory.glob("checkpoint-*"):
        try:
            complete.append((json.loads((path / _STATE_FILE).read_text())["global_step"], path))
        except (OSError, ValueError, KeyError):
            shutil.rmtree(path)
    return max(complete)[1] if complete else None


@contextmanager
def _checkpoints(directory: Path | None) -> Iterator[Path]:
    """Where checkpoints go while a model is trained, and no longer."""
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="bebert-edge-") as scratch:
            yield Path(scratch)
        return
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def fit(
    model: PreTrainedModel,
    data: EncodedExamples,
    schedule: Schedule,
    objective: Objective | None = None,
    *,
    weights: Tensor | None = None,
    device: str = "auto",
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    name: str = "model",
) -> None:
    """Trains a model in place and leaves it in evaluation mode.

    Args:
        model: The model, float or binarized.
        data: What to train on.
        schedule: How long and how fast.
        objective: What to learn; by default the classes of a single-label task.
        weights: Loss weight of each example [len(data)], float32, mean 1; None for equal weights.
        device: `cpu`, or `auto` for a GPU where there is one.
        checkpoints: Directory for checkpoints. Training goes on from the newest one in there, with the same result as
            without an interruption, and the directory is removed at the end. None writes none.
        progress: Called after every step.
        name: What to call the model in `progress`.

    Raises:
        TrainingError: The loss is not finite.
    """
    objective = objective or Objective()
    watch = _Watch(name, progress)
    with _checkpoints(checkpoints) as directory:
        args = TrainingArguments(
            output_dir=str(directory),
            num_train_epochs=1,
            per_device_train_batch_size=schedule.batch_size,
            max_grad_norm=0.0,  # the optimizer clips
            seed=schedule.seed,
            use_cpu=device == "cpu",
            save_strategy="no" if checkpoints is None else "steps",
            save_steps=schedule.checkpoint_steps,
            save_total_limit=2,  # the one before stays until a new one is complete
            logging_strategy="no",
            disable_tqdm=True,
            report_to="none",
            remove_unused_columns=False,
        )
        example_weights = torch.ones(len(data)) if weights is None else weights
        trainer = _Trainer(model, args, data, schedule, objective, example_weights, watch)
        last = None if checkpoints is None else _last_checkpoint(directory)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
        trainer.accelerator.wait_for_everyone()
    model.eval()


@torch.no_grad()
def predict(
    model: PreTrainedModel,
    data: EncodedExamples,
    task: Task | None = None,
    *,
    exact: bool = True,
    batch_size: int = 64,
) -> Tensor:
    """What a model answers: logits [choices, options], float32 on the CPU, in the order of the data (`Task.answers`).

    Args:
        model: A float or a binarized model; it is left in evaluation mode.
        data: The examples.
        task: Their task; by default a single-label one with as many choices as examples.
        exact: Whether to compute what the exported graph computes, or (a binarized model only) faster in bfloat16.
        batch_size: Examples at a time.
    """
    task = task or TextClassification()
    model.train(not exact)
    device = next(model.parameters()).device
    rows = [torch.empty(0)] * data.rows
    for batch in data.sequential(batch_size):
        inputs = {name: batch[name].to(device) for name in MODEL_INPUTS}
        logits = task.logits(model(**inputs)).float().cpu()
        for i, row in zip(batch["index"].tolist(), task.rows(logits, batch), strict=True):
            rows[i] = row
    model.eval()
    return task.answers(rows, data)
