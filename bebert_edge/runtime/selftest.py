# SPDX-License-Identifier: Apache-2.0
"""Every op on every CPU path of this machine against the numpy reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge import ops, reference
from bebert_edge.bits import pack_bits
from bebert_edge.codes import CODE_TYPES, CodeType
from bebert_edge.runtime.onnx_bytes import Attribute, one_node_model
from bebert_edge.runtime.onnx_file import DOMAIN
from bebert_edge.runtime.session import create_session, quiet_options

Arrays = dict[str, NDArray[Any]]

MEMBERS, TOKENS, CHANNELS, HEADS = 2, 7, 65, 5
"""Sizes of the self-test: odd on purpose, so that every path also runs its remainder loops."""


@dataclass(frozen=True)
class SelfTest:
    """The outcome of one op on one CPU path.

    Attributes:
        path: CPU path.
        op: Name of the op, with the code type that it was tried on.
        error: None if the result equals the reference's, else what was wrong.
    """

    path: str
    op: str
    error: str | None


@dataclass(frozen=True)
class _Case:
    name: str
    inputs: Arrays
    constants: Arrays
    attributes: dict[str, Attribute]
    reference: Callable[..., Any]

    @property
    def op(self) -> str:
        return self.name.split()[0]


def self_test() -> list[SelfTest]:
    """Runs the self-test. Needs a native library that loads.

    Raises:
        NativeLibraryError: The library is missing or does not load.
    """
    cases = list(_cases(np.random.default_rng(0)))
    return [SelfTest(path, case.name, _try(case, path)) for path in ops.info().supported for case in cases]


def _try(case: _Case, path: str) -> str | None:
    arguments = {**case.inputs, **case.constants}
    expected = case.reference(*arguments.values(), **case.attributes)
    expected = expected if isinstance(expected, tuple) else (expected,)
    model = one_node_model(
        case.op,
        DOMAIN,
        inputs=case.inputs,
        initializers=case.constants,
        outputs={f"output{i}": (array.dtype, array.ndim) for i, array in enumerate(expected)},
        attributes=case.attributes,
    )
    try:
        with _forced(path):
            options = quiet_options()
            ops.register(options)
            session = create_session(model, options)
        results = session.run(None, case.inputs)
    except Exception as error:  # noqa: BLE001 - a self-test reports whatever goes wrong
        return " ".join(str(error).split())[:300]
    for found, wanted in zip(results, expected, strict=True):
        if found.shape != wanted.shape or not np.array_equal(found, wanted):
            return "the result differs from the reference"
    return None


@contextmanager
def _forced(path: str) -> Iterator[None]:
    before = os.environ.get(ops.PATH_VARIABLE)
    os.environ[ops.PATH_VARIABLE] = path
    try:
        yield
    finally:
        if before is None:
            del os.environ[ops.PATH_VARIABLE]
        else:
            os.environ[ops.PATH_VARIABLE] = before


def _cases(random: np.random.Generator) -> Iterator[_Case]:
    """Floats are multiples of 1/8: sums and means of them are exact, so that every order gives the same result."""

    def floats(*shape: int) -> NDArray[np.float32]:
        return (random.integers(-32, 33, shape) / 8).astype(np.float32)

    def positive(*shape: int) -> NDArray[np.float32]:
        return (random.integers(1, 9, shape) / 8).astype(np.float32)

    def bits(*shape: int) -> NDArray[np.uint8]:
        return pack_bits(random.integers(0, 2, shape).astype(bool))

    def codes(code: CodeType, *shape: int) -> NDArray[np.uint8]:
        if code.width == 1:
            return bits(*shape)
        return random.integers(0, code.high - code.low + 1, shape).astype(np.uint8)

    e, t, c = MEMBERS, TOKENS, CHANNELS
    yield _Case(
        "PackedBinaryEmbedding",
        {"ids": random.integers(0, 11, t, np.int64)},
        {"weight": bits(e, 11, c), "scale": positive(e, 11)},
        {"k": c},
        reference.packed_binary_embedding,
    )
    for name, code in CODE_TYPES.items():
        quantizer: Arrays = {"shift": floats(e, c), "inverse_step": positive(e, c)}
        linear: Arrays = {"weight": bits(e, c, c), "scale": positive(e, c), "bias": floats(e, c)}
        triple = code.triple
        attributes: dict[str, Attribute] = {"output_code": triple, "activation": 2}
        yield _Case(f"Quantize {name}", {"x": floats(e, t, c)}, quantizer, attributes, reference.quantize)
        halves = {"x": floats(e, t, 2 * c)}
        yield _Case(f"GatedQuantize {name}", halves, quantizer, attributes, reference.gated_quantize)
        yield _Case(
            f"PackedBinaryMatMul {name}",
            {"codes": codes(code, e, t, c)},
            linear,
            {"k": c, "input_code": triple},
            reference.packed_binary_matmul,
        )
        yield _Case(
            f"PackedBinaryMatMulQuantize {name}",
            {"codes": codes(code, e, t, c)},
            {**linear, **quantizer},
            {"k": c, "input_code": triple, "output_code": triple, "activation": 2},
            reference.packed_binary_matmul_quantize,
        )
        yield _Case(
            f"AddLayerNormQuantize {name}",
            {"x": floats(e, t, c), "residual": floats(1, t, c)},
            {"gamma": positive(e, c), "beta": floats(e, c), **quantizer},
            {"epsilon": 1e-12, "output_code": triple},
            reference.add_layer_norm_quantize,
        )
    for name, probability in (("sign", "bool"), ("int4", "uint4"), ("int8", "uint8")):
        for softmax in (0, 1) if probability == "bool" else (1,):
            yield _attention(name, probability, softmax, codes, floats, positive)
        yield _biased(_attention(name, probability, 1, codes, floats, positive), floats(MEMBERS, HEADS, 9))


def _attention(
    name: str,
    probability: str,
    softmax: int,
    codes: Callable[..., NDArray[np.uint8]],
    floats: Callable[..., NDArray[np.float32]],
    positive: Callable[..., NDArray[np.float32]],
) -> _Case:
    e, t, c = MEMBERS, TOKENS, CHANNELS
    code = CODE_TYPES[name]
    qkv = codes(code, e, t, 3 * c)
    offsets = np.array([0, 3, 3, t], np.int64)
    return _Case(
        f"BinaryAttention {name} {'softmax' if softmax else 'boolean'}",
        {"query": qkv, "key": qkv, "value": qkv, "query_offsets": offsets, "key_offsets": offsets},
        {
            "score_scale": positive(e, HEADS) / 16,
            "probability_inverse_step": positive(e, HEADS) * CODE_TYPES[probability].high,
            "context_scale": positive(e, HEADS),
            "shift": floats(e, c),
            "inverse_step": positive(e, c),
        },
        {
            "heads": HEADS,
            "head_size": c // HEADS,
            "channels": (0, c, 2 * c),
            "softmax": softmax,
            "input_code": code.triple,
            "probability_code": CODE_TYPES[probability].triple,
            "output_code": code.triple,
        },
        reference.binary_attention,
    )


def _biased(case: _Case, distance_bias: NDArray[np.float32]) -> _Case:
    """BiasedBinaryAttention with the arguments of a BinaryAttention with softmax."""
    return replace(
        case,
        name=f"Biased{case.name}",
        constants={**case.constants, "distance_bias": distance_bias},
        attributes={name: value for name, value in case.attributes.items() if name != "softmax"},
    )
