# SPDX-License-Identifier: Apache-2.0
"""The binary model that a training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bebert_edge.training.binarize import binarize
from bebert_edge.training.latent import load_model

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_HEAD = ("bert.pooler.", "classifier.")


def make_student(
    teacher: PreTrainedModel, bits: int, *, initial: str | Path | PreTrainedModel | None = None, seed: int = 0
) -> PreTrainedModel:
    """A binarized copy of a model, ready to be trained.

    Args:
        teacher: Gives the shape and the labels; its weights are the first latent weights where nothing else is said.
        bits: Bits of the activations.
        initial: What to start from instead: a model, or the directory of one, float or binarized, of the same shape.
            Its head (pooler and classifier) is taken only if it has the teacher's labels. Quantizers of as many bits
            are taken too; of others only the shifts, because the first batch sets the steps.
        seed: Of new parameters.

    Raises:
        CheckpointError: The directory cannot be loaded.
    """
    torch.manual_seed(seed)
    source: PreTrainedModel = teacher
    if isinstance(initial, (str, Path)):
        source = load_model(initial, list(teacher.config.id2label.values()))
    elif initial is not None:
        source = initial
    state = {name: tensor.detach().cpu() for name, tensor in source.state_dict().items()}
    if source is not teacher and source.config.id2label != teacher.config.id2label:
        head = {name: tensor.detach().cpu() for name, tensor in teacher.state_dict().items() if name.startswith(_HEAD)}
        state = {name: tensor for name, tensor in state.items() if not name.startswith(_HEAD)} | head
    model = binarize(type(teacher)(teacher.config.__class__.from_dict(teacher.config.to_dict())), bits)
    fresh = model.state_dict()
    model.load_state_dict(fresh | _fitting(state, source, model, bits))
    return model


def _fitting(state: dict[str, Tensor], source: PreTrainedModel, model: PreTrainedModel, bits: int) -> dict[str, Tensor]:
    """What of a state the student takes over: everything but the steps of quantizers with other bits."""
    same_bits = bits_of(source) == bits
    return {
        name: tensor
        for name, tensor in state.items()
        if name in model.state_dict() and (same_bits or not name.endswith("quantizer.step"))
    }


def bits_of(model: PreTrainedModel) -> int | None:
    """Bits of a binarized model's activations, None for a float model."""
    from bebert_edge.training.quantization import Quantizer

    return next((module.bits for module in model.modules() if isinstance(module, Quantizer)), None)
