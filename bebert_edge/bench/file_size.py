# SPDX-License-Identifier: Apache-2.0
"""How large the exported file of an ensemble would be, before there is one."""

from __future__ import annotations

from collections.abc import Mapping

from bebert_edge.bench.architecture import Architecture, random_ensemble


def exported_size(
    architecture: Architecture, *, bits: int, members: int, tokenizer: str, weights: Mapping[str, str] | None = None
) -> int:
    """Bytes of the .onnx file of an ensemble, by exporting one of random weights in memory.

    Args:
        architecture: Shape of a member; `positions` is its longest input.
        bits: Bits of activations.
        members: Members of the ensemble.
        tokenizer: Text of `tokenizer.json`.
        weights: Types of the weights of linears that keep more than one bit.
    """
    from bebert_edge.exporters import build_model

    ensemble = random_ensemble(architecture, bits=bits, members=members, tokenizer=tokenizer, weights=weights)
    for name in ensemble.tensors:
        if name.endswith("query_step"):  # not the key's and the value's, or all three were stored as one number
            ensemble.tensors[name] = ensemble.tensors[name] * 2
    size: int = build_model(ensemble)[0].ByteSize()
    return size
