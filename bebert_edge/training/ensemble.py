# SPDX-License-Identifier: Apache-2.0
"""Trains an ensemble: a teacher, its binary members one after the other, and the latent checkpoint that holds them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bebert_edge.checkpoints import ENSEMBLE_FILE
from bebert_edge.config import TaskConfig
from bebert_edge.errors import TrainingError
from bebert_edge.kept_weights import choose
from bebert_edge.training.boosting import adaboost_r2, bootstrap, member_weights, resample, samme
from bebert_edge.training.calibration import combine, fit_member_weights, fit_temperature
from bebert_edge.training.card import write_card
from bebert_edge.training.data import EncodedExamples
from bebert_edge.training.distillation import Objective
from bebert_edge.training.kept import linears
from bebert_edge.training.latent import check_head, load_float, load_member, load_model, load_tokenizer, save_member
from bebert_edge.training.onto import Encoders, freeze_encoder
from bebert_edge.training.options import TrainingOptions
from bebert_edge.training.result import TrainingResult
from bebert_edge.training.splitting import split
from bebert_edge.training.state import RunState, is_main_process, save_directory, wait
from bebert_edge.training.students import make_student
from bebert_edge.training.tasks import LabelledExamples, of
from bebert_edge.training.trainer import Progress, Schedule, fit, predict

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def train(
    examples: LabelledExamples,
    output: str | Path,
    options: TrainingOptions,
    *,
    backbone: str | Path | None = None,
    teacher: str | Path | None = None,
    initial: str | Path | None = None,
    onto: str | Path | None = None,
    dev: LabelledExamples | None = None,
    metadata: dict[str, str] | None = None,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Trains an ensemble and writes it as a latent checkpoint (docs/latent.md).

    The last step's weights are kept: `dev` is only measured, never used to choose. If `output` holds an interrupted run
    with the same arguments, it goes on from its newest checkpoint, and gives what it would have given without the
    interruption.

    Args:
        examples: What to train on; they say what the task is.
        output: Directory of the latent checkpoint. A member is written as soon as it is finished.
        options: How to train.
        backbone: A BERT to fine-tune into the teacher, which is written to `output`/teacher: a directory
            (config.json, model.safetensors, tokenizer.json) or a name on the Hugging Face hub.
        teacher: A fine-tuned BERT, or a latent member with more bits; replaces `backbone`.
        initial: What the first member starts from, a float BERT or a latent member; by default the teacher.
        onto: A trained ensemble whose members' encoders are kept: only heads are trained, for a further task of that
            ensemble (`bebert_edge.joining`). It decides members, bits and lengths, whatever `options` say.
        dev: What to measure scores on.
        metadata: Entries for the ensemble's metadata.
        progress: Called after every step.
        report: Called with each result as it is known, a line of text.

    Returns:
        Weights and scores.

    Raises:
        TrainingError: Options or examples cannot be used, or `output` holds a run with other arguments.
        CheckpointError: A directory cannot be loaded.
    """
    encoders = None if onto is None else Encoders.of(Path(onto))
    if encoders is not None:
        if initial is not None:
            raise TrainingError("--initial and --onto were given: members start from the encoders of --onto")
        options = encoders.adopt(options)
    sources = {"backbone": backbone, "teacher": teacher, "initial": initial, "onto": onto}
    state = RunState.open(Path(output), options, examples, {k: str(v) for k, v in sources.items() if v is not None})
    run = _Run(examples, state, options, dev, progress, report or (lambda line: None), encoders)
    run.prepare(backbone, teacher)
    run.train_members(run.start(initial))
    return run.finish(metadata or {})


class _Run:
    def __init__(
        self,
        examples: LabelledExamples,
        state: RunState,
        options: TrainingOptions,
        dev: LabelledExamples | None,
        progress: Progress | None,
        report: Callable[[str], None],
        encoders: Encoders | None,
    ) -> None:
        self.encoders = encoders
        self.examples, self.state, self.options = examples, state, options
        self.dev_examples, self.progress = dev, progress
        self.report = report if is_main_process() else (lambda line: None)
        self.task, self.problem, self.labels = of(examples), examples.problem, examples.label_names
        self.result = TrainingResult(state.directory, metric=self.task.metric)
        self.dev_logits: list[Tensor] = []
        self.held_out_logits: list[Tensor] = []

    def prepare(self, backbone: str | Path | None, teacher: str | Path | None) -> None:
        """Tokenizes the data; loads or fine-tunes the teacher."""
        self.check_options()
        source = teacher or backbone
        if source is None:
            raise TrainingError("neither a backbone nor a teacher was given: pass --backbone DIR or --teacher DIR")
        options = self.options
        self.tokenizer = load_tokenizer(self.encoders.members[0] if self.encoders else source)
        training, held_out = self.examples, None
        if self.holds_out:
            training, held_out = self.examples.split(options.calibration_share, options.seed)
        self.data = self.encode(training)
        self.held_out = None if held_out is None else self.encode(held_out)
        self.dev = None if self.dev_examples is None else self.encode(self.dev_examples)
        torch.manual_seed(options.seed)
        if teacher:
            check_head(source, self.task.name)
            self.teacher = self.load(source)
        elif self.state.done("teacher"):
            self.teacher = self.load(self.state.path("teacher"))
        else:
            self.teacher = load_float(source, self.labels, self.problem, new_head=options.new_head, task=self.task.name)
        if options.pooling is not None:
            self.teacher.config.pooling = options.pooling
        positions = self.teacher.config.max_position_embeddings
        if positions < options.max_length:
            raise TrainingError(f"--max-length is {options.max_length}, but {source} has {positions} positions")
        self.weights = choose(options.keep, [name for name, _ in linears(self.teacher)])
        if self.teacher.config.num_labels != len(self.labels):
            found = self.teacher.config.num_labels
            raise TrainingError(f"{source} has {found} labels, the data {len(self.labels)}: pass another --teacher")
        if not teacher and not self.state.done("teacher"):
            self.fit(
                self.teacher,
                options.teacher_schedule(len(self.data)),
                Objective(self.task, precision=options.precision),
                "teacher",
            )
            describe = partial(self.task.describe, self.teacher)
            writers = (self.teacher.save_pretrained, self.tokenizer.save_pretrained, describe)
            save_directory(self.state.path("teacher"), *writers)
        if self.dev is not None:
            self.result.teacher_score = self.task.score(self.predict(self.teacher, self.dev), self.dev)
            self.report(f"teacher: dev {self.result.metric} {self.result.teacher_score:.4f}")

    @property
    def holds_out(self) -> bool:
        """Whether some examples are kept back for the temperature."""
        return bool(self.options.calibration_share) and self.task.calibrates and self.problem != "regression"

    def check_options(self) -> None:
        options, kind = self.options, self.task.name
        if options.method == "boost" and not self.task.boosts:
            raise TrainingError(
                f"--method is 'boost', but an example of {kind} is not right or wrong: pass --method independent"
            )
        if options.pooling is not None and "pooling" not in self.task.settings:
            raise TrainingError(f"--pooling is {options.pooling!r}, but {kind} pools nothing: leave it out")
        if options.weigh_by == "fitted" and not self.holds_out:
            raise TrainingError(
                f"--weigh-by is 'fitted', but no examples are held out for {kind} with {self.problem} labels: pass "
                "--weigh-by equal"
            )
        mask_id = self.task.mask_id
        if mask_id is not None and options.embeddings != "binary":
            raise TrainingError(
                f"--embeddings is {options.embeddings!r}, expected 'binary' for {kind}: the bits of words guess them"
            )
        combinations = TaskConfig(kind, self.problem, self.examples.text_pair, mask_id=mask_id).combinations
        if options.combination not in combinations:
            expected = " or ".join(combinations)
            raise TrainingError(f"--combination is {options.combination!r}, expected {expected} for {kind}")

    def load(self, source: str | Path) -> PreTrainedModel:
        return load_model(source, self.labels, self.problem, task=self.task.name)

    def predict(self, model: PreTrainedModel, data: EncodedExamples, exact: bool = True) -> Tensor:
        return predict(model, data, self.task, exact=exact)

    def encode(self, examples: LabelledExamples) -> EncodedExamples:
        return self.task.encode(examples, self.tokenizer, self.options.max_length)

    def fit(
        self,
        model: PreTrainedModel,
        schedule: Schedule,
        objective: Objective,
        name: str,
        data: EncodedExamples | None = None,
        weights: Tensor | None = None,
    ) -> None:
        fit(
            model,
            self.data if data is None else data,
            schedule,
            objective,
            weights=weights,
            device=self.options.device,
            checkpoints=self.state.checkpoints(name),
            progress=self.progress,
            name=name,
        )

    def objective(self, distill: str, teacher: PreTrainedModel) -> Objective:
        options = self.options
        return Objective(
            self.task,
            distill,
            teacher,
            label_weight=options.label_weight,
            replaced=options.replaced,
            replace_by=options.replace_by,
            precision=options.precision,
        )

    def save(self, model: PreTrainedModel, name: str, bits: int) -> None:
        if is_main_process():
            save_member(
                model,
                self.tokenizer,
                self.state.path(name),
                bits=bits,
                labels=self.labels,
                text_pair=self.examples.text_pair,
                max_length=self.options.max_length,
                problem=self.problem,
                task=self.task.name,
            )
        wait()

    def student(self, bits: int, start: PreTrainedModel, seed: int = 0, ternary: bool = False) -> PreTrainedModel:
        return make_student(
            self.teacher,
            bits,
            initial=start,
            seed=self.options.seed + seed,
            precision=self.options.precision,
            ternary=ternary,
            weights=self.weights,
            embeddings=self.options.embeddings,
        )

    def start(self, initial: str | Path | None) -> list[PreTrainedModel]:
        """What members start from in turn: `initial` or the teacher, the last stage, halves of a ternary model."""
        if self.encoders is not None:
            return [self.load(member) for member in self.encoders.members]
        start = self.teacher if initial is None else self.load(initial)
        for number, bits in enumerate(self.options.stages):
            name = f"stage-{number}-{bits}bit"
            if self.state.done(name):
                start = load_member(self.state.path(name))
            else:
                student = self.student(bits, start)
                schedule = self.options.schedule(len(self.data), 0)
                self.fit(student, schedule, self.objective("layers", self.teacher), name)
                self.save(student, name, bits)
                start = student
            self.teacher = start
        return [start] if self.options.start == "none" else self.halves(start)

    def halves(self, start: PreTrainedModel) -> list[PreTrainedModel]:
        """Two binary models whose mean is a ternary one, which is trained for it."""
        names = ("half-0", "half-1")
        if all(self.state.done(name) for name in names):
            return [load_member(self.state.path(name)) for name in names]
        options = self.options
        model = self.student(options.bits, start, ternary=True)
        self.fit(
            model, options.schedule(len(self.data), 0), self.objective(options.distill_of(0), self.teacher), "ternary"
        )
        halves = []
        for name, state in zip(names, split(model), strict=True):
            half = self.student(options.bits, start)
            half.load_state_dict(state)
            self.save(half, name, options.bits)
            halves.append(half)
        return halves

    def train_members(self, starts: list[PreTrainedModel]) -> None:
        """Trains every member that is not there yet."""
        (self.state.directory / ENSEMBLE_FILE).unlink(missing_ok=True)  # it would name members that are replaced
        options = self.options
        weights, alphas = torch.ones(len(self.data)), []
        model = starts[0]
        for i in range(options.members):
            name = f"member-{i}"
            if self.state.done(name):
                model = load_member(self.state.path(name))
            else:
                before = model if i > 0 and options.continues else starts[i % len(starts)]
                model = self.student(options.bits, before, seed=i)
                if self.encoders is not None:
                    freeze_encoder(model)
                self.train_member(model, i, weights)
                self.save(model, name, options.bits)
            alpha = 1.0
            if options.method == "boost":
                answers = self.state.logits(name, partial(self.predict, model, self.data, exact=False))
                weights, alpha = self.boost(name, weights, answers)
            alphas.append(alpha)
            self.measure(name, model)
        self.result.member_weights = list(self.encoders.weights) if self.encoders else member_weights(alphas)

    def train_member(self, model: PreTrainedModel, i: int, weights: Tensor) -> None:
        options = self.options
        data, example_weights = self.data, None
        if options.method == "bag":
            data = self.data.take(bootstrap(len(self.data), options.seed + i))
        elif options.method == "boost" and options.boost_by == "resampling" and i > 0:
            data = self.data.take(resample(weights, options.seed + i))
        elif options.method == "boost":
            example_weights = weights
        objective = self.objective(options.distill_of(i), self.teacher)
        self.fit(model, options.schedule(len(data), i), objective, f"member-{i}", data, example_weights)

    def boost(self, name: str, weights: Tensor, answers: Tensor) -> tuple[Tensor, float]:
        """Weights for the next round and the member's alpha, by its answers on the training examples."""
        mistakes, rate = self.task.mistakes(answers, self.data), self.options.boost_rate
        if self.problem == "regression":
            self.report(f"{name}: off by {float(mistakes.mean()):.4f} on the training examples")
            return adaboost_r2(weights, mistakes, rate=rate)
        self.report(f"{name}: wrong on {float(mistakes.float().mean()):.2%} of the training examples")
        return samme(weights, mistakes, 2 if mistakes.is_floating_point() else len(self.labels), rate)

    def measure(self, name: str, model: PreTrainedModel) -> None:
        if self.held_out is not None:
            self.held_out_logits.append(self.predict(model, self.held_out))
        if self.dev is not None:
            self.dev_logits.append(self.predict(model, self.dev))
            self.result.member_scores.append(self.task.score(self.dev_logits[-1], self.dev))
            self.report(f"{name}: dev {self.result.metric} {self.result.member_scores[-1]:.4f}")

    def weigh(self) -> list[float]:
        """Weights of the members whatever the method: equal, or fitted to the examples held out."""
        if self.options.weigh_by == "equal" or self.held_out is None:
            return [1 / self.options.members] * self.options.members
        logits = torch.stack(self.held_out_logits)
        weights = fit_member_weights(logits, self.task.truth(self.held_out), self.options.combination, self.problem)
        self.report(f"ensemble: weights {', '.join(f'{weight:.4f}' for weight in weights)}")
        return weights

    def finish(self, metadata: dict[str, str]) -> TrainingResult:
        """Fits the temperature, measures the ensemble, writes what names its members."""
        result, options = self.result, self.options
        if options.weigh_by != "method":
            result.member_weights = self.weigh()
        weights = torch.tensor(result.member_weights, dtype=torch.float64)

        def combined(logits: list[Tensor]) -> Tensor:
            return combine(torch.stack(logits), weights, options.combination, self.problem)

        if self.held_out is not None:
            truth = self.task.truth(self.held_out)
            result.temperature = fit_temperature(combined(self.held_out_logits), truth, self.problem)
            self.report(f"ensemble: temperature {result.temperature:.4f}")
        if self.dev is not None:
            result.score = self.task.score(combined(self.dev_logits), self.dev)
            self.report(f"ensemble: dev {result.metric} {result.score:.4f}")
        if is_main_process():
            content = {
                "members": [f"member-{i}" for i in range(options.members)],
                "member_weights": result.member_weights,
                "combination": options.combination,
                "temperature": result.temperature,
                "metadata": metadata | result.metadata(),
            }
            write_card(self.state.directory, options, result, self.examples, metadata)
            self.state.finish(content)
        wait()
        return result
