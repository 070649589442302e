# SPDX-License-Identifier: Apache-2.0
"""The binary model that a training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from bebert_edge.errors import TrainingError
from bebert_edge.training.binarize import binarize
from bebert_edge.training.kept import keep
from bebert_edge.training.latent import load_model
from bebert_edge.training.modules import pooler_activation
from bebert_edge.training.quantization import Quantizer
from bebert_edge.training.splitting import continue_from
from bebert_edge.training.words import start_words, store_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def is_binary(model: nn.Module) -> bool:
    """Whether a model was binarized."""
    return any(isinstance(module, Quantizer) for module in model.modules())


def make_student(
    teacher: PreTrainedModel,
    bits: int,
    *,
    initial: str | Path | PreTrainedModel | None = None,
    seed: int = 0,
    precision: str = "auto",
    ternary: bool = False,
    weights: Mapping[str, str] | None = None,
    embeddings: str = "binary",
    task: str = "text-classification",
) -> PreTrainedModel:
    """A binarized copy of a model, ready to be trained.

    Args:
        teacher: Gives the shape and the labels; its weights are the first latent weights where nothing else is said.
        bits: Bits of the activations.
        initial: What to start from instead: a model, or the directory of one, float or binarized, of the same shape.
            Its head (pooler and last layer) is taken only if it has the teacher's task and labels; its quantizers as
            `continue_from` says.
        seed: Of new parameters.
        precision: As for `binarize`.
        ternary: As for `binarize`.
        weights: Types of the weights of linears that keep more than one bit, by name (`kept.keep`).
        embeddings: How word embeddings will be stored: `binary`, or `int8` or `int4` after training in full precision.
        task: Of the head that a float model gets where `initial` is a directory.

    Raises:
        CheckpointError: The directory cannot be loaded.
        TrainingError: `initial` has another shape.
    """
    torch.manual_seed(seed)
    source: PreTrainedModel = teacher
    if isinstance(initial, (str, Path)):
        source = load_model(initial, list(teacher.config.id2label.values()), task=task)
    elif initial is not None:
        source = initial
    if source.config.model_type != teacher.config.model_type:
        raise TrainingError(
            f"a {teacher.config.model_type!r} student cannot start from a {source.config.model_type!r}: pass an "
            "--initial of the architecture of the --backbone or --teacher"
        )
    same_class = isinstance(source, type(teacher)) or isinstance(teacher, type(source))  # a twin may have its own
    same_head = same_class and source.config.id2label == teacher.config.id2label
    head = source if same_head else teacher
    config = teacher.config.__class__.from_dict(teacher.config.to_dict())
    if config.model_type == "bert":
        config.pooler_activation = pooler_activation(head.config)
    model = binarize(type(teacher)(config), bits, precision, ternary=ternary)
    keep(model, weights or {})
    store_words(model, embeddings)
    for name, part in model.base_model.named_children():
        _take(part, getattr((head if name == "pooler" else source).base_model, name))
    for name, part in model.named_children():
        if name != model.base_model_prefix:
            _take(part, getattr(head, name))
    start_words(model, source)
    return model


def _take(student: nn.Module, source: nn.Module) -> None:
    """Copies what a part of a student has in common with a float or a binarized one."""
    if is_binary(source):
        continue_from(student, source)
    else:
        student.load_state_dict(source.state_dict() | _quantizers(student))


def _quantizers(model: nn.Module) -> dict[str, torch.Tensor]:
    names = {name for name, module in model.named_modules() if isinstance(module, Quantizer)}
    return {name: tensor for name, tensor in model.state_dict().items() if name.rpartition(".")[0] in names}
