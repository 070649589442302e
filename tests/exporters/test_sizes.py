# SPDX-License-Identifier: Apache-2.0
"""Sizes of whole files of BERT-base, everything but the tokenizer counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bebert_edge.config import EncoderConfig, EnsembleConfig, LayerQuantization, QuantizationConfig, TaskConfig
from bebert_edge.ensemble import PackedEnsemble, tensor_specs
from bebert_edge.exporters import build_model
from bebert_edge.shrinking import halve_tables

BIBERT = LayerQuantization("sign", "sign", "bool", "ternary", "sign", "ternary", "boolean")
BINARYBERT = LayerQuantization("int4", "int4", "uint4", "int4", "int4", "uint4")
MIB = 2**20


def base(members: int, layer: LayerQuantization, terms: int = 1) -> PackedEnsemble:
    """BERT-base of random bits and row scales, with one step for all channels; members share the tables.

    Two terms have half the heads and channels, and one scale for a matrix, as BinaryBERT's halves have.
    """
    encoder = EncoderConfig(30522, 768, 12, 12 // terms, 3072 // terms, 512, 2, 1e-12, "gelu", head_size=64)
    config = EnsembleConfig(
        members=members,
        member_weights=(1 / members,) * members,
        encoder=encoder,
        quantization=QuantizationConfig((layer,) * 12, layer.hidden, terms, fused_qkv=terms == 1),
        task=TaskConfig(),
        labels=("a", "b"),
        max_length=512,
    )
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {}
    for name, spec in tensor_specs(config).items():
        shape = (1, *spec.shape[1:]) if spec.shareable else spec.shape
        if spec.kind == "bits":
            tensors[name] = rng.integers(0, 256, shape, dtype=np.uint8)
        elif spec.kind == "step" or name.endswith("shift") or (terms == 2 and spec.uniform):
            tensors[name] = np.full(shape, not name.endswith("shift"), np.float32)
        else:
            tensors[name] = rng.uniform(0.1, 1, shape).astype(np.float32)
    return halve_tables(PackedEnsemble(config, tensors, '{"model":{"vocab":{}}}'))


@pytest.mark.parametrize(
    ("members", "layer", "terms", "limit"),
    [
        pytest.param(1, BIBERT, 1, 14.8, id="1-1-1"),
        pytest.param(2, BIBERT, 1, 26.6, id="1-1-1, 2 members"),
        pytest.param(1, BINARYBERT, 2, 17.6, id="1-1-4, two halves"),
    ],
)
def test_bert_base_is_small(members: int, layer: LayerQuantization, terms: int, limit: float) -> None:
    ensemble = base(members, layer, terms)
    ensemble.validate()
    model, parts = build_model(ensemble)
    assert (model.ByteSize() - parts["tokenizer"]) / MIB <= limit
    size = ensemble.size()
    assert (sum(size.values()) - size["tokenizer"]) / MIB <= limit
