# SPDX-License-Identifier: Apache-2.0
"""Trains an ensemble: a teacher, its binary members one after the other, and the latent checkpoint that holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bebert_edge.checkpoints import ENSEMBLE_FILE
from bebert_edge.checkpoints.bert import FORMAT_VERSION
from bebert_edge.errors import TrainingError
from bebert_edge.training.binarize import binarize
from bebert_edge.training.boosting import member_weights, samme
from bebert_edge.training.data import EncodedExamples, encode
from bebert_edge.training.distillation import Progress, Schedule, fit, predict
from bebert_edge.training.files import Examples
from bebert_edge.training.latent import latent_weights, load_float, load_model, load_tokenizer, save_member
from bebert_edge.training.quantization import BITS

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification, PreTrainedTokenizerBase

METHODS = ("boost", "independent")


@dataclass(frozen=True)
class TrainingOptions:
    """How to train an ensemble.

    Attributes:
        members: Members of the ensemble.
        bits: Bits of every activation that enters a matrix product; weights always have one.
        method: `boost` (SAMME: each member sees more of the mistakes before it) or `independent`.
        epochs: Epochs of the first member.
        steps: Steps of the first member, instead of `epochs`.
        batch_size: Examples of a step.
        learning_rate: Peak rate of the binary members.
        max_length: Tokens of the longest input.
        seed: Seeds the order of the data and new parameters; the same seed gives the same members.
        warm_start: Whether a boosted member starts from the one before it; it then takes `warm_share` of the steps.
        warm_share: See `warm_start`.
        boost_rate: Shrinks SAMME's rounds; 1 is SAMME as published.
        label_weight: Weight of the labels' cross-entropy beside the teacher's.
        replaced: Share of tokens replaced by others of the batch, for more varied text.
        teacher_epochs: Epochs of fine-tuning, where no teacher is given.
        teacher_learning_rate: Its peak rate.
    """

    members: int = 2
    bits: int = 4
    method: str = "boost"
    epochs: float = 1.5
    steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 2.5e-4
    max_length: int = 128
    seed: int = 0
    warm_start: bool = True
    warm_share: float = 0.5
    boost_rate: float = 0.5
    label_weight: float = 0.0
    replaced: float = 0.1
    teacher_epochs: float = 2.0
    teacher_learning_rate: float = 8e-5

    def __post_init__(self) -> None:
        def require(condition: bool, name: str, expected: str) -> None:
            if not condition:
                raise TrainingError(f"--{name.replace('_', '-')} is {getattr(self, name)!r}, expected {expected}")

        require(self.members >= 1, "members", "1 or more")
        require(self.bits in BITS, "bits", f"one of {', '.join(map(str, BITS))}")
        require(self.method in METHODS, "method", f"one of {', '.join(METHODS)}")
        require(self.max_length >= 2, "max_length", "2 or more")
        require(self.batch_size >= 1, "batch_size", "1 or more")
        require(self.steps is None or self.steps >= 1, "steps", "1 or more")
        for name in ("epochs", "learning_rate", "teacher_epochs", "teacher_learning_rate", "boost_rate", "warm_share"):
            require(math.isfinite(getattr(self, name)) and getattr(self, name) > 0, name, "a number > 0")

    def schedule(self, examples: int, member: int) -> Schedule:
        """The schedule of one member on this many examples."""
        steps = self.steps or math.ceil(self.epochs * math.ceil(examples / self.batch_size))
        if member > 0 and self.method == "boost" and self.warm_start:
            steps = max(1, round(steps * self.warm_share))
        return Schedule(
            steps,
            self.batch_size,
            self.learning_rate,
            seed=self.seed + member,
            label_weight=self.label_weight,
            replaced=self.replaced,
        )


@dataclass
class TrainingResult:
    """What came out: accuracies are fractions on the examples given as `dev`, None without any."""

    directory: Path
    member_weights: list[float]
    teacher_accuracy: float | None = None
    member_accuracies: list[float] = field(default_factory=list)
    accuracy: float | None = None

    def metadata(self) -> dict[str, str]:
        """The accuracies as text, for a model's metadata."""
        if self.accuracy is None:
            return {}
        return {
            "dev_accuracy": f"{self.accuracy:.4f}",
            "dev_accuracy_members": " ".join(f"{a:.4f}" for a in self.member_accuracies),
            "dev_accuracy_full_precision": f"{self.teacher_accuracy:.4f}",
        }


def accuracy(logits: Tensor, data: EncodedExamples) -> float:
    """The share of examples whose largest logit is their label's."""
    return float((logits.argmax(-1) == torch.tensor(data.labels)).float().mean())


def train(
    examples: Examples,
    output: str | Path,
    options: TrainingOptions,
    *,
    backbone: str | Path | None = None,
    teacher: str | Path | None = None,
    initial: str | Path | None = None,
    dev: Examples | None = None,
    metadata: dict[str, str] | None = None,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Trains an ensemble and writes it as a latent checkpoint (docs/latent.md).

    The last step's weights are kept: `dev` is only measured, never used to choose.

    Args:
        examples: What to train on.
        output: Directory of the latent checkpoint. A member is written as soon as it is finished.
        options: How to train.
        backbone: Directory of a BERT (config.json, model.safetensors, tokenizer.json) to fine-tune into the teacher,
            which is written to `output`/teacher.
        teacher: Directory of a fine-tuned BERT, or of a latent member with more bits; replaces `backbone`.
        initial: Directory that the first member starts from, a float BERT or a latent member; by default the teacher's.
        dev: What to measure accuracies on.
        metadata: Entries for the ensemble's metadata.
        progress: Called after every step.
        report: Called with each result as it is known, a line of text.

    Returns:
        Weights and accuracies.

    Raises:
        TrainingError: Options or examples cannot be used.
        CheckpointError: A directory cannot be loaded.
    """
    run = _Run(examples, Path(output), options, dev, progress, report or (lambda line: None))
    run.prepare(backbone, teacher)
    return run.members(initial, metadata or {})


class _Run:
    def __init__(
        self,
        examples: Examples,
        output: Path,
        options: TrainingOptions,
        dev: Examples | None,
        progress: Progress | None,
        report: Callable[[str], None],
    ) -> None:
        self.examples, self.output, self.options = examples, output, options
        self.dev_examples, self.progress, self.report = dev, progress, report
        self.labels = examples.label_names
        self.result = TrainingResult(output, [])

    def prepare(self, backbone: str | Path | None, teacher: str | Path | None) -> None:
        """Loads or fine-tunes the teacher and tokenizes the data."""
        source = teacher or backbone
        if source is None:
            raise TrainingError("neither a backbone nor a teacher was given: pass --backbone DIR or --teacher DIR")
        torch.manual_seed(self.options.seed)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(source)
        self.data = encode(self.examples, self.tokenizer, self.options.max_length)
        self.dev: EncodedExamples | None = None
        if self.dev_examples is not None:
            self.dev = encode(self.dev_examples, self.tokenizer, self.options.max_length)
        self.teacher = load_model(source, self.labels) if teacher else load_float(source, self.labels)
        positions = self.teacher.config.max_position_embeddings
        if positions < self.options.max_length:
            raise TrainingError(f"--max-length is {self.options.max_length}, but {source} has {positions} positions")
        if self.teacher.config.num_labels != len(self.labels):
            found = self.teacher.config.num_labels
            raise TrainingError(f"{source} has {found} labels, the data {len(self.labels)}: pass another --teacher")
        if not teacher:
            self.fine_tune()
        if self.dev is not None:
            self.result.teacher_accuracy = accuracy(predict(self.teacher, self.dev), self.dev)
            self.report(f"teacher: dev accuracy {self.result.teacher_accuracy:.4f}")

    def fine_tune(self) -> None:
        options = self.options
        steps = math.ceil(options.teacher_epochs * math.ceil(len(self.data) / options.batch_size))
        schedule = Schedule(steps, options.batch_size, options.teacher_learning_rate, options.seed)
        fit(self.teacher, self.data, schedule, progress=self.progress, name="teacher")
        self.teacher.save_pretrained(self.output / "teacher")
        self.tokenizer.save_pretrained(self.output / "teacher")

    def student(self, initial: str | Path | None) -> BertForSequenceClassification:
        """A binarized model with the weights of `initial`, or the teacher's."""
        from transformers import BertForSequenceClassification

        torch.manual_seed(self.options.seed)
        source = self.teacher if initial is None else load_model(initial, self.labels)
        model = BertForSequenceClassification(source.config.__class__.from_dict(source.config.to_dict()))
        model.load_state_dict(latent_weights(source))
        return binarize(model, self.options.bits)

    def members(self, initial: str | Path | None, metadata: dict[str, str]) -> TrainingResult:
        options = self.options
        boost = options.method == "boost"
        (self.output / ENSEMBLE_FILE).unlink(missing_ok=True)  # it would name members that this run replaces
        model = self.student(initial)
        weights, alphas = torch.ones(len(self.data)), []
        dev_logits = []
        for i in range(options.members):
            if i > 0 and not (boost and options.warm_start):
                model = self.student(initial)
            name = f"member-{i}"
            fit(
                model,
                self.data,
                options.schedule(len(self.data), i),
                teacher=self.teacher,
                weights=weights,
                progress=self.progress,
                name=name,
            )
            save_member(
                model,
                self.tokenizer,
                self.output / name,
                bits=options.bits,
                labels=self.labels,
                text_pair=self.examples.pairs is not None,
                max_length=options.max_length,
            )
            alpha = 1.0
            if boost:
                mistakes = predict(model, self.data, exact=False).argmax(-1) != torch.tensor(self.data.labels)
                self.report(f"{name}: wrong on {float(mistakes.float().mean()):.2%} of the training examples")
                weights, alpha = samme(weights, mistakes, len(self.labels), options.boost_rate)
            alphas.append(alpha)
            if self.dev is not None:
                dev_logits.append(predict(model, self.dev))
                self.result.member_accuracies.append(accuracy(dev_logits[-1], self.dev))
                self.report(f"{name}: dev accuracy {self.result.member_accuracies[-1]:.4f}")
        self.finish(member_weights(alphas), dev_logits, metadata)
        return self.result

    def finish(self, weights: list[float], dev_logits: list[Tensor], metadata: dict[str, str]) -> None:
        self.result.member_weights = weights
        if self.dev is not None:
            logits = torch.stack([w * x for w, x in zip(weights, dev_logits, strict=True)]).sum(0)
            self.result.accuracy = accuracy(logits, self.dev)
            self.report(f"ensemble: dev accuracy {self.result.accuracy:.4f}")
        content = {
            "format_version": FORMAT_VERSION,
            "members": [f"member-{i}" for i in range(len(weights))],
            "member_weights": weights,
            "metadata": metadata | self.result.metadata(),
        }
        scratch = self.output / f".{ENSEMBLE_FILE}.new"
        scratch.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        scratch.rename(self.output / ENSEMBLE_FILE)
