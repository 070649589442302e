# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from bebert_edge import reference
from bebert_edge.codes import CODE_TYPES, CodeType
from native_op import SIZES, assert_same, random_floats, random_quantizer, run_op

pytestmark = pytest.mark.usefixtures("cpu_path")


def check(inputs: dict[str, np.ndarray], code: CodeType, case: object, epsilon: float = 1e-12) -> None:
    attributes = {"epsilon": epsilon, "output_code": code.triple}
    found = run_op("AddLayerNormQuantize", inputs, attributes)
    assert_same(found, reference.add_layer_norm_quantize(**inputs, **attributes), case)


def arguments(
    rng: np.random.Generator,
    x_members: int,
    residual_members: int,
    members: int,
    tokens: int,
    channels: int,
    code: CodeType,
) -> dict[str, np.ndarray]:
    return {
        "x": random_floats(rng, (x_members, tokens, channels)),
        "residual": random_floats(rng, (residual_members, tokens, channels)),
        "gamma": 1 + random_floats(rng, (members, channels), 0.1),
        "beta": random_floats(rng, (members, channels), 0.1),
        **random_quantizer(rng, members, channels, 1.0, code),
    }


@pytest.mark.parametrize("code", CODE_TYPES.values(), ids=CODE_TYPES)
def test_equals_reference_at_every_size(code: CodeType) -> None:
    rng = np.random.default_rng(0)
    for i, channels in enumerate(SIZES):
        e = 1 + i % 8
        for members, x_members, residual_members, tokens in (
            (e, e, e, 44),
            (e, 1, e, 3),
            (e, e, 1, 3),
            (3, 1, 1, 2),
            (2, 2, 2, 0),
        ):
            inputs = arguments(rng, x_members, residual_members, members, tokens, channels, code)
            check(inputs, code, (channels, members, x_members, residual_members, tokens))


def test_constant_rows_and_large_offsets() -> None:
    rng = np.random.default_rng(1)
    code = CODE_TYPES["int8"]
    inputs = arguments(rng, 1, 1, 1, 4, 65, code)
    inputs["residual"] = np.zeros_like(inputs["residual"])
    inputs["x"] = np.stack([np.full(65, 3), np.full(65, 1e5), 1e4 + inputs["x"][0, 2], np.zeros(65)])[None].astype(
        np.float32
    )
    for epsilon in (1e-12, 1e-5):
        check(inputs, code, epsilon, epsilon)
