# SPDX-License-Identifier: Apache-2.0
"""ModernBERT beside what every family is tested for: its twins, what is refused, and the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from bebert_edge import reference
from bebert_edge.checkpoints import Options, load
from bebert_edge.errors import CheckpointError, TrainingError
from bebert_edge.lowering.rotary import Rotary
from bebert_edge.training import binarize, load_member
from bebert_edge.training.kept import keep
from bebert_edge.training.latent import load_float, load_tokenizer, save_member
from bebert_edge.training.modernbert import ExactGELU
from bebert_edge.training.modules import BinaryLinear
from bebert_edge.training.quantization import Quantizer
from bebert_edge.training.students import make_student
from checkpoints.every_path import answers
from tiny_families import TEXTS, batch, tiny_model, write_tiny

LABELS = ["a", "b"]


def test_gelu_is_the_reference_s():
    x = torch.linspace(-9, 9, 10001)
    found = ExactGELU().eval()(x)
    np.testing.assert_array_equal(found.numpy(), reference.gelu(x.numpy()))
    torch.testing.assert_close(found, torch.nn.functional.gelu(x), atol=2e-6, rtol=2e-6)


def test_rotation_is_transformers():
    from transformers.models.modernbert.modeling_modernbert import ModernBertRotaryEmbedding, apply_rotary_pos_emb

    config = tiny_model("modernbert").config
    x = torch.randn(2, 3, 40, 8, generator=torch.Generator().manual_seed(0))  # [B, heads, S, D]
    positions = torch.arange(40)
    for layer_type, base in (("full_attention", 160_000.0), ("sliding_attention", 10_000.0)):
        cos, sin = ModernBertRotaryEmbedding(config)(x, positions[None], layer_type)
        expected, _ = apply_rotary_pos_emb(x, x, cos, sin)
        flat = x.transpose(1, 2).flatten(2).numpy()
        found = Rotary.of(base, 40, 8).rotate(flat, positions.numpy())
        np.testing.assert_allclose(found, expected.transpose(1, 2).flatten(2).numpy(), atol=1e-5)


def test_gradients_reach_every_parameter():
    model = binarize(tiny_model("modernbert"), 4).train()
    inputs = batch("modernbert", TEXTS)
    with torch.no_grad():
        model(**inputs)
    model(**inputs).logits.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    linears = [name for name, module in model.named_modules() if isinstance(module, BinaryLinear)]
    assert len(linears) == 3 * 4 + 1
    assert len([module for module in model.modules() if isinstance(module, Quantizer)]) == 3 * 8 + 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_activation": "silu"}, "its hidden_activation is 'silu', expected one of gelu, relu"),
        ({"classifier_activation": "silu"}, "its classifier_activation is 'silu'"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, r"its rotary positions are scaled \(yarn\)"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, r"its rotary positions are scaled \(linear\)"),
    ],
)
def test_what_computes_something_else_is_refused(settings, message, tmp_path):
    path = write_tiny(tmp_path / "model", "modernbert") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(CheckpointError, match=message):
        load_float(path.parent, LABELS)


def test_a_student_of_one_architecture_cannot_start_from_another():
    with pytest.raises(TrainingError, match="a 'modernbert' student cannot start from a 'bert'"):
        make_student(tiny_model("modernbert"), 4, initial=tiny_model("bert"))


def test_linears_that_keep_more_bits_are_the_reference_s(tmp_path):
    backbone = write_tiny(tmp_path / "backbone", "modernbert")
    member = binarize(load_float(backbone, LABELS), 4).train()
    keep(member, {"layers.0.qkv": "int8", "layers.1.ffn_in": "float16", "layers.2.ffn_out": "int8", "pooler": "int8"})
    inputs = batch("modernbert", TEXTS, 16)
    with torch.no_grad():
        member(**inputs)
    settings = dict(bits=4, labels=LABELS, text_pair=False, max_length=16)
    save_member(member, load_tokenizer(backbone), tmp_path / "member", **settings)
    with torch.no_grad():
        expected = load_member(tmp_path / "member")(**inputs).logits.numpy()
    for path, found, _ in answers(load(tmp_path / "member"), {name: x.numpy() for name, x in inputs.items()}):
        np.testing.assert_allclose(found, expected, atol=5e-5, err_msg=path)


@pytest.mark.parametrize("bits", [1, 4])
def test_local_attention_is_the_reference_s(bits, tmp_path):
    """Windows that reach 1 and 4 tokens to either side, in inputs of up to 24 tokens and their padding."""
    logits = []
    for window in (2, 8):
        backbone = write_tiny(tmp_path / f"backbone {window}", "modernbert", local_attention=window)
        member = binarize(load_float(backbone, LABELS), bits).train()
        inputs = batch("modernbert", TEXTS, 24)
        with torch.no_grad():
            member(**inputs)
        settings = dict(bits=bits, labels=LABELS, text_pair=False, max_length=24)
        save_member(member, load_tokenizer(backbone), tmp_path / f"member {window}", **settings)
        packed = load(tmp_path / f"member {window}")
        assert packed.config.encoder.distance_biases == (0, window // 2 + 1, 0)
        with torch.no_grad():
            expected = load_member(tmp_path / f"member {window}")(**inputs).logits.numpy()
        for path, found, _ in answers(packed, {name: x.numpy() for name, x in inputs.items()}):
            np.testing.assert_allclose(found, expected, atol=5e-5, err_msg=path)
        logits.append(expected)
    assert abs(logits[0] - logits[1]).max() > 1e-3


def test_a_window_that_no_input_shows_is_no_longer_than_inputs(tmp_path):
    backbone = write_tiny(tmp_path / "backbone", "modernbert")
    member = binarize(load_float(backbone, LABELS), 4).train()
    with torch.no_grad():
        member(**batch("modernbert", TEXTS, 9))
    settings = dict(bits=4, labels=LABELS, text_pair=False, max_length=9)
    save_member(member, load_tokenizer(backbone), tmp_path / "member", **settings)
    packed = load(tmp_path / "member")
    assert packed.config.encoder.distance_biases == (0, 8, 0)
    assert not packed.tensors["layers.1.attention.distance_bias"].any()
    with pytest.raises(CheckpointError, match=r"max_length is 33, but it has 32 positions"):
        load(tmp_path / "member", Options(max_length=33))
