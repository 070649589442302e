# SPDX-License-Identifier: Apache-2.0
"""What `bebert-edge sensitivity` reads and prints."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bebert_edge.errors import TrainingError

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification, PreTrainedTokenizerBase

    from bebert_edge.config import EncoderConfig
    from bebert_edge.training.files import Examples
    from bebert_edge.training.sensitivity import Progress, Sensitivity

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_CLASSIFIER = "ForSequenceClassification"


def parse_size(text: str) -> int:
    """Bytes: a number with B, kB, MB, GB (powers of 1000), KiB, MiB or GiB (of 1024), or none.

    Raises:
        TrainingError: It is no such text.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower(), re.ASCII)
    if match is None or match[2] not in _UNITS or float(match[1]) <= 0:
        raise TrainingError(f"--size is {text!r}, expected a number of bytes with a unit, e.g. 20MB, 800kB or 16MiB")
    return int(float(match[1]) * _UNITS[match[2]])


def bits_of(model: str, config: dict[str, Any], asked: int | None) -> int:
    """The bits of the codes; those of a latent member are what it was trained with.

    Raises:
        TrainingError: Others were asked for, or a float model has no classification head.
    """
    from bebert_edge.checkpoints.bert import SECTION, detect

    if not detect(config):
        architecture = (config.get("architectures") or [""])[0]
        if not str(architecture).endswith(_CLASSIFIER):
            raise TrainingError(
                f"{model} is a {architecture or 'model of no known head'}, expected one with a trained classification "
                f"head: fine-tune it first ('bebert-edge train' writes OUT/teacher)"
            )
        return 4 if asked is None else asked
    own = config[SECTION].get("bits")
    if asked not in (None, own):
        raise TrainingError(f"--bits is {asked}, but {model} was trained with {own}: leave it out")
    return int(own)


def read_examples(data: str, columns: dict[str, str | None], problem: str, config: dict[str, Any]) -> Examples:
    """The examples; classes have the numbers of the model's labels where they have their names."""
    from bebert_edge.training.glue import resolve

    names = [str(name) for _, name in sorted((config.get("id2label") or {}).items(), key=lambda item: int(item[0]))]
    examples = resolve(data, "dev", **columns, problem=problem)
    if examples.problem != "regression" and set(examples.label_names) < set(names):
        return resolve(data, "dev", **columns, problem=examples.problem, classes=names)
    if sorted(examples.label_names) == sorted(names):
        return resolve(data, "dev", **columns, problem=examples.problem, classes=names)
    return examples


def check(model: str, loaded: BertForSequenceClassification, examples: Examples, max_length: int) -> None:
    """Refuses examples of other labels, and inputs longer than the model takes.

    Raises:
        TrainingError: They are.
    """
    if loaded.config.num_labels != len(examples.label_names):
        found = loaded.config.num_labels
        raise TrainingError(
            f"{model} has {found} labels, the data {len(examples.label_names)}: pass data of its labels"
        )
    positions = loaded.config.max_position_embeddings
    if positions < max_length:
        raise TrainingError(f"--max-length is {max_length}, but {model} has {positions} positions")


def sizes(
    model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase, bits: int, members: int, max_length: int
) -> Callable[[Sequence[str]], int]:
    """The bytes of the exported file of members of this shape, by values of `--keep`."""
    from bebert_edge.bench.architecture import Architecture
    from bebert_edge.bench.file_size import exported_size
    from bebert_edge.kept_weights import choose
    from bebert_edge.training.kept import linears

    encoder = _member_encoder(model, tokenizer, bits, max_length)
    names = [name for name, _ in linears(model)]
    architecture, text = Architecture("model", encoder, model.config.num_labels), tokenizer.backend_tokenizer.to_str()

    def size(keep: Sequence[str]) -> int:
        weights = choose(keep, names)
        return exported_size(architecture, bits=bits, members=members, tokenizer=text, weights=weights)

    return size


def _member_encoder(
    model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase, bits: int, max_length: int
) -> EncoderConfig:
    """The encoder of a packed member of a model, whatever its architecture: as the reader of such a member finds it."""
    import torch

    from bebert_edge.checkpoints import load
    from bebert_edge.training.binarize import binarize
    from bebert_edge.training.latent import save_member
    from bebert_edge.training.quantization import Quantizer

    member = copy.deepcopy(model).cpu()
    if not any(isinstance(module, Quantizer) for module in member.modules()):
        binarize(member, bits)
    with torch.no_grad():
        for module in member.modules():
            if isinstance(module, Quantizer):
                module.step.fill_(1.0)  # any that is a number: it has not seen a batch
    labels = [str(i) for i in range(member.config.num_labels)]
    problem = "regression" if len(labels) == 1 else "single_label"
    with TemporaryDirectory() as directory:
        save_member(
            member,
            tokenizer,
            Path(directory) / "member",
            bits=bits,
            labels=labels,
            text_pair=False,
            max_length=max_length,
            problem=problem,
        )
        return load(Path(directory) / "member").config.encoder


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)


def print_report(report: dict[str, Any], found: Sequence[Sensitivity]) -> None:
    """Prints the table of sensitivities, and the proposal, to stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    how = f"binarized alone, {report['bits']}-bit codes" if report["method"] == "loss" else "by Hessian traces"
    print(f"{report['model']} on {report['data']}: {report['examples']} examples, loss {report['loss']:.4f}; {how}")
    table = Table(box=box.SIMPLE_HEAD)
    traced = report["method"] == "hessian"
    for column in ("", report["by"], "binary", "int8", "gain", "weights", *(["mean trace"] if traced else [])):
        table.add_column(column, justify="left" if column == report["by"] else "right", no_wrap=True)
    for rank, each in enumerate(found, start=1):
        losses = (f"{loss:+.5f}" for loss in (each.binary, each.int8, each.gain))
        trace = [] if each.trace is None else [f"{each.trace:.3g}"]
        table.add_row(str(rank), each.name, *losses, f"{each.weights:,}", *trace)
    console.print(table)
    print("binary, int8: what the loss gains with such weights; gain: what keeping int8 saves")
    mix = report["proposal"]
    if mix is not None:
        print(
            f"\nFor {mix['budget']:,} bytes and {mix['members']} members: {mix['size']:,} bytes, "
            f"{mix['binary_size']:,} with nothing kept. Add to 'bebert-edge train':"
        )
        print(" ".join(f"--keep '{keep}'" for keep in mix["keep"]) or "(nothing fits, or nothing is gained)")
