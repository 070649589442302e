# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from bebert_edge import reference
from bebert_edge.codes import CODE_TYPES
from native_op import SIZES, assert_same, random_codes, random_floats, run_op

pytestmark = pytest.mark.usefixtures("cpu_path")


@pytest.mark.parametrize("channels", SIZES)
def test_equals_reference_at_every_size(channels: int) -> None:
    rng = np.random.default_rng(channels)
    for members, rows, tokens in ((1, 1, 1), (2, 30, 45), (8, 5, 7), (1, 3, 0), (0, 3, 2)):
        inputs = {
            "ids": rng.integers(0, rows, tokens),
            "weight": random_codes(rng, CODE_TYPES["sign"], (members, rows, channels)),
            "scale": random_floats(rng, (members, rows)),
        }
        found = run_op("PackedBinaryEmbedding", inputs, {"k": channels})
        assert_same(found, [reference.packed_binary_embedding(**inputs, k=channels)], (channels, members, rows, tokens))
