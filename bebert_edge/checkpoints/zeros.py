# SPDX-License-Identifier: Apache-2.0
"""sign(0) = 0: what a member becomes where the sign of an exact 0 is taken, for families that binarize by `sign`.

A family first writes weights in two terms (`two_terms`) and activations as `sign` codes. `with_zeros` then keeps
the second term only if a weight is 0, and makes `ternary` what can be the code of a 0. Members that differ in this are
brought together by `unify`. None of these changes what a member computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.bits import pack_bits
from bebert_edge.checkpoints.files import Floats
from bebert_edge.checkpoints.member import Member
from bebert_edge.ensemble import term_names

TERNARY_STEP: Floats = np.array(2.0**-64, np.float32)
"""Ternary codes of this step are signs: whatever exceeds 2^-65 saturates. A power of two, so row scales make up for it
exactly."""

TERNARY_GAIN = np.float32(2.0**56)
"""Query, key and value keep their steps, which also scale the scores. Instead the products before them are this much
larger, so that whatever exceeds 2^-57 steps saturates; the square of `1 / TERNARY_STEP` would leave the float range."""

Use = tuple[int, str]
"""A layer and what its codes are of; `(layers, "hidden")` is the input of the pooler."""

_QKV = ("query", "key", "value")
_LINEARS = {"hidden": "qkv", "context": "attention_output", "ffn": "ffn_in", "intermediate": "ffn_out"}


def two_terms(target: str, signs: NDArray[np.int8], scale: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Weights `scale * signs` as packed tensors: a 0 is +1 in the one term and -1 in the other.

    The scale that is written is that of both terms together; `with_zeros` divides it.

    Args:
        target: Name of the linear or table.
        signs: -1, 0 or 1, `[N, K]`.
        scale: `[N]`, >= 0.
    """
    silent = (scale == 0) | ~signs.any(-1)  # rows that are 0 as a whole are a scale of 0
    yield f"{target}.bits", pack_bits(signs >= 0)
    yield f"{target}.second.bits", pack_bits((signs > 0) | ((signs == 0) & silent[:, None]))
    yield f"{target}.scale", np.where(silent, 0, scale).astype(np.float32)


def with_zeros(member: Member, uses: Iterable[Use]) -> Member:
    """A member in as many terms as its weights need, with ternary codes for `uses`."""
    member = _in_terms(member, 2 if _needs_two_terms(member.tensors) else 1)
    for layer, use in uses:
        member = _widened(member, layer, use)
    return member


def unify(members: Sequence[Member]) -> list[Member]:
    """Gives members of one shape the same code types and terms: each the widest that one of them needs."""
    if any(member.encoder != members[0].encoder for member in members):
        return list(members)  # they cannot become one ensemble
    uses = sorted({use for member in members for use in _ternary_uses(member)})
    terms = max(member.quantization.terms for member in members)
    unified = []
    for member in members:
        member = _in_terms(member, terms)
        for layer, use in uses:
            member = _widened(member, layer, use)
        unified.append(member)
    return unified


def _tables(tensors: Mapping[str, Any]) -> list[str]:
    """What there are bits of: the linears and the word embedding, once each."""
    names = [name.removesuffix(".bits") for name in tensors if name.endswith(".bits")]
    return [name for name in names if not name.endswith(".second")]


def _needs_two_terms(tensors: Mapping[str, NDArray[Any]]) -> bool:
    return any(not np.array_equal(tensors[f"{name}.bits"], tensors[f"{name}.second.bits"]) for name in _tables(tensors))


def _in_terms(member: Member, terms: int) -> Member:
    """The same in one term, where the second is equal, or in two of half the scale."""
    tensors = dict(member.tensors)
    if terms == 1:
        tensors = {name: array for name, array in tensors.items() if ".second." not in name}
    elif member.quantization.terms == 1:
        for name in _tables(tensors):
            tensors.setdefault(f"{name}.second.bits", tensors[f"{name}.bits"])
            tensors[f"{name}.scale"] = tensors[f"{name}.scale"] / np.float32(2)
            for part in ("scale", "shift", "step"):
                if f"{name}.{part}" in tensors:
                    tensors[f"{name}.second.{part}"] = tensors[f"{name}.{part}"]
    return replace(member, quantization=replace(member.quantization, terms=terms), tensors=tensors)


def _ternary_uses(member: Member) -> Iterator[Use]:
    quantization = member.quantization
    for i, codes in enumerate(quantization.layers):
        for use in (*_LINEARS, "attention"):
            if getattr(codes, use) == "ternary":
                yield i, use
    if quantization.pooler == "ternary":
        yield member.encoder.layers, "hidden"


def _widened(member: Member, layer: int, use: str) -> Member:
    """The same with ternary codes instead of signs for one use."""
    if (layer, use) in _ternary_uses(member):
        return member
    quantization, tensors = member.quantization, dict(member.tensors)
    if layer == member.encoder.layers:
        quantization = replace(quantization, pooler="ternary")
    else:
        layers = list(quantization.layers)
        layers[layer] = replace(layers[layer], **{use: "ternary"})
        quantization = replace(quantization, layers=tuple(layers))
    linears = _linears(member, layer, use)
    for name in linears:
        for term in term_names(name, quantization.terms):
            if use == "attention":
                tensors[f"{term}.scale"] = tensors[f"{term}.scale"] * TERNARY_GAIN
            else:
                scale = tensors[f"{term}.step"] * tensors[f"{term}.scale"]
                tensors[f"{term}.scale"], tensors[f"{term}.step"] = scale / TERNARY_STEP, TERNARY_STEP
        if use == "attention":
            tensors[f"{name}.bias"] = tensors[f"{name}.bias"] * TERNARY_GAIN
    return replace(member, quantization=quantization, tensors=tensors)


def _linears(member: Member, layer: int, use: str) -> list[str]:
    """The linears that read the codes of a use, or, of query, key and value, that write them."""
    if layer == member.encoder.layers:
        return ["pooler"]
    if use in ("attention", "hidden") and not member.quantization.fused_qkv:
        return [f"layers.{layer}.{name}" for name in _QKV]
    return [f"layers.{layer}.{_LINEARS.get(use, 'qkv')}"]
