# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge train`: labelled text and a BERT to a binary ensemble."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from bebert_edge.cli._shared import Combination, note
from bebert_edge.cli._training import Device, Embeddings, Precision, prepare_training, training_progress
from bebert_edge.errors import TrainingError


class TaskName(str, Enum):
    """What the model answers."""

    text_classification = "text-classification"
    token_classification = "token-classification"
    question_answering = "question-answering"
    reranking = "reranking"
    sentence_embedding = "sentence-embedding"
    fill_mask = "fill-mask"


class Method(str, Enum):
    """How members come to differ."""

    boost = "boost"
    bag = "bag"
    snapshot = "snapshot"
    independent = "independent"


class Distill(str, Enum):
    """What members learn from the teacher."""

    none = "none"
    logits = "logits"
    layers = "layers"


class BoostBy(str, Enum):
    """How boosting shows a member the mistakes before it."""

    weights = "weights"
    resampling = "resampling"


class WeighBy(str, Enum):
    """What members weigh by."""

    method = "method"
    equal = "equal"
    fitted = "fitted"


class Problem(str, Enum):
    """What labels are."""

    auto = "auto"
    single_label = "single_label"
    multi_label = "multi_label"
    regression = "regression"


class Pooling(str, Enum):
    """What one vector is made of."""

    first = "first"
    mean = "mean"


class ReplaceBy(str, Enum):
    """What tokens are replaced by."""

    neighbours = "neighbours"
    batch = "batch"


class Start(str, Enum):
    """What binary members start from."""

    none = "none"
    ternary = "ternary"


def train(
    data: Annotated[
        str, typer.Argument(help="Training examples: a .tsv, .csv or .jsonl file, optionally with .gz; or a GLUE task.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for checkpoints; packed into OUTPUT/packed.")
    ],
    task: Annotated[
        TaskName, typer.Option(help="What the model answers (docs/tasks.md).")
    ] = TaskName.text_classification,
    backbone: Annotated[
        str | None,
        typer.Option(help="A BERT or a relative to fine-tune into the teacher: a directory or a name on the hub."),
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="A fine-tuned BERT to distil instead.")] = None,
    initial: Annotated[
        str | None, typer.Option(help="What members start from, e.g. a binary base or a member with more bits.")
    ] = None,
    onto: Annotated[
        Path | None,
        typer.Option(help="Train a further task of this trained ensemble: heads alone, for its members' encoders."),
    ] = None,
    members: Annotated[int, typer.Option(min=1, help="Members of the ensemble.")] = 2,
    bits: Annotated[int, typer.Option(help="Bits of activations: 1, 2, 4 or 8. Weights have 1.")] = 4,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Linears that keep more than one bit a weight, e.g. 'layers.0.*=int8'; may be repeated."),
    ] = None,
    embeddings: Annotated[
        Embeddings, typer.Option(help="Word embeddings: binary, or of full precision until packed in 8 or 4 bits.")
    ] = Embeddings.binary,
    method: Annotated[
        Method | None,
        typer.Option(help="How members come to differ.", show_default="boost, or independent by task"),
    ] = None,
    distill: Annotated[Distill, typer.Option(help="What members learn from the teacher.")] = Distill.layers,
    first_distill: Annotated[
        Distill | None, typer.Option(help="The same for the first member alone; by default no difference.")
    ] = None,
    boost_by: Annotated[
        BoostBy, typer.Option(help="Boost by weighing losses or by drawing examples.")
    ] = BoostBy.weights,
    weigh_by: Annotated[
        WeighBy, typer.Option(help="Weights of members: the method's, equal, or fitted to held-out data.")
    ] = WeighBy.method,
    combination: Annotated[
        Combination | None,
        typer.Option(help="What the answer is the mean of.", show_default="logits, or embeddings by task"),
    ] = None,
    pooling: Annotated[
        Pooling | None,
        typer.Option(
            help="What a sentence embedding is made of: the first token or the mean.", show_default="as the teacher"
        ),
    ] = None,
    stages: Annotated[
        str | None, typer.Option(help="Bits of students between teacher and members, e.g. 8,4 (multi-distillation).")
    ] = None,
    start: Annotated[
        Start, typer.Option(help="Whether members start from the halves of a model with ternary weights.")
    ] = Start.none,
    epochs: Annotated[float, typer.Option(help="Epochs of the first member.")] = 1.5,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the first member, instead of --epochs.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples of a step on each device.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of the members.")] = 5e-4,
    label_weight: Annotated[float, typer.Option(help="Weight of the labels' loss beside the teacher's.")] = 0.0,
    replaced: Annotated[float, typer.Option(help="Share of tokens replaced while the teacher labels them.")] = 0.2,
    replace_by: Annotated[
        ReplaceBy, typer.Option(help="Replace them by tokens with similar embeddings, or by others of the batch.")
    ] = ReplaceBy.neighbours,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens of the longest input.", show_default="by task, mostly 128")
    ] = None,
    warm_start: Annotated[
        bool, typer.Option(help="Start each boosted member from the one before, with half the steps.")
    ] = True,
    calibration_share: Annotated[
        float, typer.Option(help="Share of the examples kept back to fit the temperature; 0 for none.")
    ] = 0.02,
    teacher_epochs: Annotated[float, typer.Option(help="Epochs of fine-tuning the backbone.")] = 2.0,
    teacher_learning_rate: Annotated[float, typer.Option(help="Its peak learning rate.")] = 8e-5,
    new_head: Annotated[
        bool, typer.Option("--new-head", help="Replace the classification head that the backbone has.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of data order and new parameters.")] = 0,
    device: Annotated[Device, typer.Option(help="A GPU where there is one, or the CPU.")] = Device.auto,
    precision: Annotated[
        Precision, typer.Option(help="Of products in training; auto: bf16 where the device has instructions for it.")
    ] = Precision.auto,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default torch decides.")] = None,
    checkpoint_steps: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 250,
    problem: Annotated[Problem, typer.Option(help="What labels are; by default the file tells.")] = Problem.auto,
    text_column: Annotated[str | None, typer.Option(help="Column of the text; by default text or sentence.")] = None,
    text_pair_column: Annotated[
        str | None, typer.Option("--text-pair-column", "--pair-column", help="Column of a second text.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label; by default label or labels.")] = None,
    label_names: Annotated[
        str | None, typer.Option(help="Names for the classes in the order of their numbers, e.g. negative,positive.")
    ] = None,
    dev: Annotated[str | None, typer.Option(help="Examples to measure scores on; never used to choose.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model, for its metadata.")] = None,
    model_license: Annotated[
        str | None, typer.Option("--license", help="Licence of the weights, for the metadata.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what a run before left in the output.")
    ] = False,
) -> None:
    """Train a binary ensemble from labelled text and a BERT, and pack it.

    A run that was interrupted goes on where it was when the same command is given again. Several GPUs:
    `accelerate launch -m bebert_edge.cli train ...`.
    """
    from bebert_edge.checkpoints import load
    from bebert_edge.training import TrainingOptions
    from bebert_edge.training import train as train_ensemble
    from bebert_edge.training.state import RUN_FILE, is_main_process
    from bebert_edge.training.tasks import find

    prepare_training(threads)
    kind = find(task.value)
    if method is None:
        method = Method.boost if kind.boosts else Method.independent
    options = TrainingOptions(
        members=members,
        bits=bits,
        keep=tuple(keep or ()),
        embeddings=embeddings.value,
        method=method.value,
        distill=distill.value,
        first_distill=None if first_distill is None else first_distill.value,
        boost_by=boost_by.value,
        weigh_by=weigh_by.value,
        combination=kind.combinations[0] if combination is None else combination.value,
        pooling=None if pooling is None else pooling.value,
        stages=_numbers(stages),
        start=start.value,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        label_weight=label_weight,
        replaced=replaced,
        replace_by=replace_by.value,
        max_length=max_length or kind.max_length,
        warm_start=warm_start,
        calibration_share=calibration_share,
        teacher_epochs=teacher_epochs,
        teacher_learning_rate=teacher_learning_rate,
        new_head=new_head,
        seed=seed,
        precision=precision.value,
        device=device.value,
        checkpoint_steps=checkpoint_steps,
    )
    run_file = output / RUN_FILE
    if output.exists() and not run_file.is_file() and not overwrite and (not output.is_dir() or any(output.iterdir())):
        raise TrainingError(
            f"{output} exists and holds no run to go on with: choose another --output or pass --overwrite"
        )
    if problem is not Problem.auto and task not in (TaskName.text_classification, TaskName.reranking):
        raise TrainingError(f"--problem is {problem.value!r}, but {task.value} has no choice of labels: leave it out")
    columns: dict[str, Any] = {
        "text_column": text_column,
        "text_pair_column": text_pair_column,
        "label_column": label_column,
        "problem": problem.value,
    }
    examples = kind.read(data, split="train", classes=None, **columns)
    held_out = None
    if dev is not None:
        held_out = kind.read(dev, split="dev", classes=examples.label_names, **columns | {"problem": examples.problem})
    if label_names is not None:
        examples = examples.renamed(label_names.split(","))
        held_out = None if held_out is None else held_out.renamed(label_names.split(","))
    if overwrite and is_main_process():
        run_file.unlink(missing_ok=True)
    metadata = {"name": name, "license": model_license, "source": Path(data).name}
    with training_progress() as progress:
        result = train_ensemble(
            examples,
            output,
            options,
            backbone=backbone,
            teacher=teacher,
            initial=initial,
            onto=onto,
            dev=held_out,
            metadata={key: value for key, value in metadata.items() if value is not None},
            progress=progress,
            report=print,
        )
    if is_main_process():
        packed = output / "packed"
        load(result.directory).save(packed, overwrite=True)
        note(f"wrote {packed}; next: bebert-edge export {packed} -o model.onnx")


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return () if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise TrainingError(f"--stages is {text!r}, expected numbers of bits joined by commas, e.g. 8,4") from error
