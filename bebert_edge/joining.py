# SPDX-License-Identifier: Apache-2.0
"""Several ensembles with the same encoders become one with several tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bebert_edge.config import EnsembleConfig, HeadConfig
from bebert_edge.ensemble import PackedEnsemble, head_prefix
from bebert_edge.errors import FormatError

_SHARED = ("members", "member_weights", "encoder", "quantization", "max_length", "family")
_HEADS = ("pooler.", "classifier.", "transform.", "decoder.", "heads.")
"""What the names of tensors begin with that are not the encoder's."""


def join(main: PackedEnsemble, others: Mapping[str, PackedEnsemble]) -> PackedEnsemble:
    """Gives an ensemble the tasks of others whose members have the same encoders.

    Args:
        main: The ensemble whose task stays the main one.
        others: Ensembles by the names that their tasks get.

    Raises:
        FormatError: An encoder, tokenizer or setting is not the same, a task is there already, or an ensemble has
            several tasks of its own.
    """
    tensors, heads, weights = dict(main.tensors), list(main.config.heads), dict(main.config.quantization.weights)
    for name, other in others.items():
        _check_shared(main, name, other)
        config = other.config
        heads.append(HeadConfig(name, config.task, config.labels, config.combination, config.temperature))
        own = (tensor for tensor in other.tensors if tensor.startswith(_HEADS))
        tensors |= {head_prefix(name) + tensor: other.tensors[tensor] for tensor in own}
        kept = config.quantization.weights.items()
        weights |= {head_prefix(name) + linear: kind for linear, kind in kept if _is_of_head(linear)}
    quantization = replace(main.config.quantization, weights=weights)
    joined = PackedEnsemble(
        replace(main.config, heads=tuple(heads), quantization=quantization), tensors, main.tokenizer
    )
    joined.validate()
    return joined


def _is_of_head(linear: str) -> bool:
    return f"{linear}.".startswith(_HEADS)


def _encoders(config: EnsembleConfig) -> EnsembleConfig:
    """A configuration that says nothing of the weights that heads keep."""
    weights = {linear: kind for linear, kind in config.quantization.weights.items() if not _is_of_head(linear)}
    return replace(config, quantization=replace(config.quantization, weights=weights))


def _check_shared(main: PackedEnsemble, name: str, other: PackedEnsemble) -> None:
    if other.config.heads:
        raise FormatError(f"task {name}: its ensemble has several tasks, expected one; join their ensembles one by one")
    for key in _SHARED:
        found, expected = getattr(_encoders(other.config), key), getattr(_encoders(main.config), key)
        if found != expected:
            raise FormatError(f"task {name}: {key} is {found}, expected {expected} as in the ensemble that it joins")
    if other.tokenizer != main.tokenizer:
        raise FormatError(f"task {name}: its tokenizer is not that of the ensemble that it joins")
    for tensor, expected in main.tensors.items():
        if not tensor.startswith(_HEADS) and not np.array_equal(other.tensors[tensor], expected):
            raise FormatError(
                f"task {name}: tensor {tensor} is not that of the ensemble that it joins, expected the same encoders; "
                "train the task with: bebert-edge train ... --onto ENSEMBLE"
            )
