# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge sensitivity`: which linears lose most when they become binary, and which to keep."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from functools import partial
from typing import Annotated

import typer

from bebert_edge.cli._sensitivity import bits_of, check, parse_size, print_report, progress_bar, read_examples, sizes
from bebert_edge.cli._shared import OutputFormat, note
from bebert_edge.cli._training import Device, prepare_training
from bebert_edge.cli.train import Problem
from bebert_edge.errors import TrainingError


class Method(str, Enum):
    """How sensitivity is found."""

    loss = "loss"
    hessian = "hessian"


class Against(str, Enum):
    """What the loss is taken by."""

    labels = "labels"
    answers = "answers"


class By(str, Enum):
    """What is ranked."""

    linear = "linear"
    layer = "layer"


def sensitivity(
    model: Annotated[
        str,
        typer.Argument(
            help="A fine-tuned Hugging Face model (e.g. OUT/teacher), or a latent member that keeps linears."
        ),
    ],
    data: Annotated[str, typer.Argument(help="Labelled examples: .tsv, .csv or .jsonl; or a GLUE task.")],
    bits: Annotated[
        int | None, typer.Option(help="Bits of the codes that a linear takes.", show_default="4; a member's own")
    ] = None,
    by: Annotated[By, typer.Option(help="What to rank.")] = By.linear,
    method: Annotated[
        Method, typer.Option(help="Binarize each alone and measure the loss; or estimate that by Hessian traces.")
    ] = Method.loss,
    against: Annotated[
        Against, typer.Option(help="The loss by the labels, or by what the model as it is answers, which only rises.")
    ] = Against.labels,
    draws: Annotated[int, typer.Option(min=1, help="Random vectors of each batch for Hessian traces.")] = 8,
    size: Annotated[
        str | None, typer.Option(help="Propose what to keep in int8 so that the .onnx file has this size, e.g. 20MB.")
    ] = None,
    members: Annotated[int, typer.Option(min=1, help="Members that the .onnx file of --size holds.")] = 2,
    limit: Annotated[int, typer.Option(min=1, help="Only so many examples, drawn at random.")] = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples at a time.")] = 32,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens of the longest input, as for train.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the examples and of the random vectors.")] = 0,
    device: Annotated[Device, typer.Option(help="A GPU where there is one, or the CPU.")] = Device.auto,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default torch decides.")] = None,
    problem: Annotated[Problem, typer.Option(help="What labels are; by default the file tells.")] = Problem.auto,
    text_column: Annotated[str | None, typer.Option(help="Column of the text; by default text or sentence.")] = None,
    text_pair_column: Annotated[
        str | None, typer.Option("--text-pair-column", "--pair-column", help="Column of a second text.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label; by default label or labels.")] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.table,
) -> None:
    """Rank a model's linears by what the loss gains when they keep int8 weights, and propose what to keep.

    docs/mixed_precision.md says what is measured.
    """
    budget = None if size is None else parse_size(size)
    prepare_training(threads)
    import torch

    from bebert_edge.checkpoints import ENSEMBLE_FILE
    from bebert_edge.checkpoints.files import CONFIG_FILE, read_json
    from bebert_edge.training.latent import load_model, load_tokenizer, locate
    from bebert_edge.training.quantization import BITS
    from bebert_edge.training.sensitivity import by_hessian, by_loss, propose, to_json
    from bebert_edge.training.tasks import of

    if bits is not None and bits not in BITS:
        raise TrainingError(f"--bits is {bits}, expected one of {', '.join(map(str, BITS))}")
    directory = locate(model)
    if (directory / ENSEMBLE_FILE).is_file():
        raise TrainingError(
            f"{model} is an ensemble, expected one model: pass {directory / 'teacher'} or a member of it"
        )
    config = read_json(directory / CONFIG_FILE)
    used_bits = bits_of(model, config, bits)
    columns = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
    examples = read_examples(data, columns, problem.value, config)
    loaded = load_model(model, examples.label_names, examples.problem)
    check(model, loaded, examples, max_length)
    tokenizer = load_tokenizer(model)
    task = of(examples)
    encoded = task.encode(examples, tokenizer, max_length)
    chosen = torch.randperm(len(encoded), generator=torch.Generator().manual_seed(seed))[:limit]
    encoded = encoded.take(chosen)
    loaded.to("cuda" if device is Device.auto and torch.cuda.is_available() else "cpu")

    by_traces = partial(by_hessian, draws=draws, seed=seed)
    measure = partial(by_loss, bits=used_bits) if method is Method.loss else by_traces
    with progress_bar() as progress:
        loss, found = measure(
            loaded,
            encoded,
            task,
            by_layer=by is By.layer,
            own_answers=against is Against.answers,
            batch_size=batch_size,
            progress=progress,
        )
    mix = None
    if budget is not None:
        note("exporting a model of random weights for its size")
        mix = propose(found, budget, members, sizes(loaded, tokenizer, used_bits, members, max_length))

    report = {
        "model": model,
        "data": data,
        "examples": len(encoded),
        "method": method.value,
        "by": by.value,
        "against": against.value,
        "bits": used_bits,
        "loss": loss,
        f"{by.value}s": to_json(found),
        "proposal": None if mix is None else {"budget": budget, "members": members, **asdict(mix)},
    }
    if output_format is OutputFormat.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print_report(report, found)
