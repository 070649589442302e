# SPDX-License-Identifier: Apache-2.0
"""Bit order and padding of packed rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bebert_edge.bits import pack_bits, padding_is_zero, row_bytes, unpack_bits

CHANNELS = [1, 7, 8, 9, 63, 64, 65, 127, 128, 767, 768]


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_single_bit_lands_at_its_index(channels: int) -> None:
    packed = pack_bits(np.eye(channels, dtype=bool))
    assert packed.shape == (channels, row_bytes(channels))
    for c in range(channels):
        expected = np.zeros(row_bytes(channels), np.uint8)
        expected[c // 8] = 1 << (c % 8)
        np.testing.assert_array_equal(packed[c], expected)


@given(st.integers(0, 5), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_packing_can_be_undone(rows: int, channels: int, seed: int) -> None:
    bits = np.random.default_rng(seed).random((rows, channels)) < 0.5
    packed = pack_bits(bits)
    np.testing.assert_array_equal(unpack_bits(packed, channels), bits)
    assert packed.shape[-1] % 8 == 0
    assert padding_is_zero(packed, channels)


@pytest.mark.parametrize("channels", [c for c in CHANNELS if c % 64])
def test_every_padding_bit_is_looked_at(channels: int) -> None:
    for bit in range(channels, 8 * row_bytes(channels)):
        packed = pack_bits(np.ones((2, channels), bool))
        packed[1, bit // 8] |= np.uint8(1 << (bit % 8))
        assert not padding_is_zero(packed, channels)
