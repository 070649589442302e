# SPDX-License-Identifier: Apache-2.0
"""Members with linears that keep int8 or float16 weights: trained, written, read, packed, exported."""

import json
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner

from bebert_edge.checkpoints import load
from bebert_edge.cli.main import app
from bebert_edge.errors import CheckpointError, TrainingError
from bebert_edge.exporters import export
from bebert_edge.kept_weights import int8_rows
from bebert_edge.training import TrainingOptions, binarize, load_member
from bebert_edge.training.kept import keep, kept_rows, kept_weights, linears
from bebert_edge.training.latent import save_member
from bebert_edge.training.splitting import split
from latent import binary_model, float_model, tokenizer, write_backbone
from support import linear_names

KEPT = {"layers.0.qkv": "int8", "layers.0.ffn_out": "float16", "layers.1.ffn_out": "int8", "pooler": "int8"}
SETTINGS = dict(labels=["negative", "positive"], text_pair=False, max_length=24)


def write_kept(directory, bits=4, weights=KEPT, seed=0):
    model = binary_model(bits, seed)
    keep(model, weights)
    save_member(model, tokenizer(), directory, bits=bits, **SETTINGS)
    return directory


def test_names_are_those_of_the_format():
    assert [name for name, _ in linears(float_model())] == linear_names(2)


def test_weights_are_those_that_packing_makes():
    latent = torch.randn(50, 30) * torch.logspace(-42, 2, 50)[:, None]
    latent[7] = 0
    codes, scale = kept_rows(latent, "int8")
    expected_codes, expected_scale = int8_rows(latent.numpy())
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(scale, expected_scale)
    assert codes.abs().max() == 127


def test_the_product_approaches_the_float_one():
    """8-bit weights are close to the latent ones; binary ones are not."""
    model = binary_model(8)
    dense = model.bert.pooler.dense
    x = torch.randn(20, 32)
    exact = torch.nn.functional.linear(dense.quantizer(x) * dense.quantizer.positive_step, dense.weight, dense.bias)
    errors = {"binary": (dense(x) - exact).norm() / exact.norm()}
    for kind in ("int8", "float16"):
        keep(model, {"pooler": kind})
        errors[kind] = (dense(x) - exact).norm() / exact.norm()
    assert errors["float16"] < 1e-3 < errors["int8"] < 0.02 < 0.2 < errors["binary"]


def test_members_are_written_and_read(tmp_path):
    write_kept(tmp_path / "member")
    section = json.loads((tmp_path / "member" / "config.json").read_text())["bebert_edge"]
    assert section["weights"] == KEPT
    assert kept_weights(load_member(tmp_path / "member")) == KEPT
    write_kept(tmp_path / "plain", weights={})
    assert "weights" not in json.loads((tmp_path / "plain" / "config.json").read_text())["bebert_edge"]


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_exports_agree_with_pytorch(tmp_path, bits):
    members = [write_kept(tmp_path / f"member-{i}", bits, seed=i) for i in range(2)]
    ensemble = load(members)
    assert ensemble.config.quantization.weights == KEPT
    report = export(members, tmp_path / "model.onnx")
    assert {check.name: check.passed for check in report.checks}["PyTorch"] is True


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (["pooler"], "bebert_edge.weights is ['pooler'], expected an object"),
        ({"pooler": "int4"}, "bebert_edge.weights['pooler'] is 'int4', expected one of int8, float16"),
        ({"layers.7.qkv": "int8"}, "bebert_edge.weights has 'layers.7.qkv', expected names of layers.0.qkv"),
    ],
)
def test_wrong_checkpoints_are_refused(tmp_path, weights, expected):
    directory = write_kept(tmp_path / "member")
    content = json.loads((directory / "config.json").read_text())
    content["bebert_edge"]["weights"] = weights
    (directory / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=re.escape(expected)):
        load(directory)
    with pytest.raises(CheckpointError, match="does not fit its config"):
        load_member(directory)


def test_members_with_other_kept_linears_are_no_ensemble(tmp_path):
    members = [write_kept(tmp_path / "a"), write_kept(tmp_path / "b", weights={"pooler": "int8"})]
    with pytest.raises(CheckpointError, match=r"differ in quantization\.weights"):
        load(members)


def test_halves_of_a_ternary_model_keep_what_it_kept():
    model = binarize(float_model(), 4, ternary=True).train()
    keep(model, KEPT)
    first, second = split(model)
    for name, parts in linears(model):
        weight = next(n for n, m in model.named_modules() if m is parts[0]) + ".weight"
        assert torch.equal(first[weight], second[weight]) == (name in KEPT)


def test_a_float_model_keeps_nothing():
    with pytest.raises(TrainingError, match=r"call binarize\(model, bits\) first"):
        keep(float_model(), {})


def test_options_are_checked_at_once():
    with pytest.raises(TrainingError, match="--keep is 'pooler=int3'"):
        TrainingOptions(keep=("pooler=int3",))


def test_train_keeps_what_patterns_name(tmp_path):
    backbone = write_backbone(tmp_path / "backbone", initializer_range=0.1)
    rows = [f"{word} movie {'very ' * i}\t{label}" for i in range(12) for word, label in (("good", 1), ("bad", 0))]
    (tmp_path / "data.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    arguments = ["train", tmp_path / "data.tsv", "--backbone", backbone, "--max-length", 16, "--members", 2]
    arguments += ["--batch-size", 8, "--steps", 12, "--start", "ternary", "--teacher-epochs", 1]
    arguments += ["--learning-rate", 2e-3, "--keep", "layers.0.*=int8", "--keep", "pooler=float16"]
    result = CliRunner().invoke(app, [*map(str, arguments), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    kept = dict.fromkeys(linear_names(1)[:-1], "int8") | {"pooler": "float16"}
    assert load(tmp_path / "out").config.quantization.weights == kept
    before, after = (load_member(tmp_path / "out" / name) for name in ("half-0", "member-0"))
    assert not torch.equal(before.bert.pooler.dense.weight, after.bert.pooler.dense.weight)
    assert "layers.0.*=int8" in (tmp_path / "out" / "README.md").read_text()
    refused = CliRunner().invoke(app, [*map(str, arguments[:-1]), "poler=int8", "-o", str(tmp_path / "other")])
    assert refused.exit_code == 1
    assert "--keep 'poler' matches no linear" in refused.output
