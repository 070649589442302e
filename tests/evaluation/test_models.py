# SPDX-License-Identifier: Apache-2.0
"""Every kind of model behind one door."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from bebert_edge import checkpoints
from bebert_edge.errors import BebertEdgeError, EvaluationError, ModelError
from bebert_edge.evaluation import EmbeddingNoise, combine, open_model
from bebert_edge.evaluation.onnx_models import ReferenceModel
from bebert_edge.exporters import export
from bebert_edge.runtime import EdgeModel
from latent import SENTENCES, float_model, tokenizer, write_backbone, write_latent_ensemble, write_member
from support import random_ensemble

TEXTS = [*SENTENCES, "", "good " * 40]


@pytest.fixture(scope="module", params=[(1, "logits", 1.0), (4, "probabilities", 0.7)])
def kinds(request, tmp_path_factory) -> dict[str, Path]:
    """One random ensemble of two members as a latent checkpoint, packed and exported."""
    bits, combination, temperature = request.param
    directory = tmp_path_factory.mktemp("kinds")
    latent = write_latent_ensemble(directory / "latent", bits=bits)
    content = json.loads((latent / "ensemble.json").read_text())
    content |= {"member_weights": [0.75, 0.25], "combination": combination, "temperature": temperature}
    (latent / "ensemble.json").write_text(json.dumps(content))
    checkpoints.load(latent).save(directory / "packed")
    export(directory / "packed", directory / "model.onnx", verify=False)
    return {"latent ensemble": latent, "packed ensemble": directory / "packed", "onnx": directory / "model.onnx"}


@pytest.mark.parametrize("noise", [None, EmbeddingNoise(0.05, seed=3)])
def test_all_kinds_of_one_ensemble_agree(kinds, noise):
    found = {}
    for kind, path in kinds.items():
        model = open_model(path, threads=1)
        assert (model.kind, model.members, model.labels) == (kind, 2, ("negative", "positive"))
        assert model.weights == pytest.approx((0.75, 0.25))
        found[kind] = model.predict(TEXTS, noise=noise)
    expected = found["onnx"]
    assert expected.members.shape == (2, len(TEXTS), 2)
    for kind in ("latent ensemble", "packed ensemble"):
        np.testing.assert_allclose(found[kind].members, expected.members, atol=1e-5)
        np.testing.assert_allclose(found[kind].answer, expected.answer, atol=1e-5)


def test_answers_are_those_of_the_runtime(kinds):
    answer = open_model(kinds["onnx"]).predict(TEXTS).answer
    np.testing.assert_allclose(answer, EdgeModel(kinds["onnx"]).logits(TEXTS), atol=1e-5)


def test_the_reference_stands_in_for_the_exporter(kinds, monkeypatch):
    from bebert_edge.evaluation import onnx_models

    monkeypatch.setattr(onnx_models, "find_spec", lambda package: None)
    model = open_model(kinds["packed ensemble"])
    assert isinstance(model, ReferenceModel)
    answer = model.predict(SENTENCES).answer
    np.testing.assert_allclose(answer, open_model(kinds["onnx"]).predict(SENTENCES).answer, atol=1e-5)
    with pytest.raises(EvaluationError, match=r"bebert-edge\[export\]"):
        model.predict(SENTENCES, noise=EmbeddingNoise(0.1))


def test_a_member_alone_answers_as_in_its_ensemble(kinds):
    ensemble = open_model(kinds["latent ensemble"]).predict(TEXTS)
    member = open_model(kinds["latent ensemble"] / "member-1")
    assert (member.kind, member.weights) == ("latent member", (1.0,))
    np.testing.assert_array_equal(member.predict(TEXTS).answer, ensemble.members[1])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("float"), labels=3)


@pytest.mark.parametrize("pairs", [None, TEXTS[::-1]])
def test_a_transformers_model_answers_as_transformers_does(backbone, pairs):
    import torch

    model = open_model(backbone)
    assert (model.kind, model.problem, len(model.labels)) == ("transformers", "single_label", 3)
    found = model.predict(TEXTS, pairs, batch_size=3)
    inputs = tokenizer()(TEXTS, pairs, padding=True, truncation=True, max_length=32, return_tensors="pt")
    with torch.no_grad():
        expected = float_model(labels=3).eval()(**inputs).logits
    np.testing.assert_allclose(found.answer, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("kind", ["latent ensemble", "onnx"])
def test_noise_does_not_depend_on_batches_and_grows_with_its_size(kinds, kind):
    model = open_model(kinds[kind])
    clean = model.predict(TEXTS).members
    small, large = (model.predict(TEXTS, noise=EmbeddingNoise(std)).members for std in (0.01, 0.5))
    again = model.predict(TEXTS, noise=EmbeddingNoise(0.5), batch_size=3).members
    np.testing.assert_allclose(again, large, atol=1e-5)
    assert 0 < np.abs(small - clean).mean() < np.abs(large - clean).mean()
    other = model.predict(TEXTS, noise=EmbeddingNoise(0.5, seed=1)).members
    assert np.abs(other - large).max() > 1e-3
    np.testing.assert_array_equal(model.predict(TEXTS).members, clean)


def test_every_member_draws_noise_of_the_stated_size():
    noise = EmbeddingNoise(0.2, seed=5)
    first, second = (noise.draw(member, 7, 50, 300) for member in (0, 1))
    assert first.std() == pytest.approx(0.2, rel=0.02)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("combination", "problem"), [("logits", "single_label"), ("probabilities", "single_label")])
def test_members_combine_as_stated(combination, problem):
    members = np.array([[[2.0, 0.0, -1.0]], [[-1.0, 3.0, 0.5]]])
    weights = np.array([0.75, 0.25])
    if combination == "logits":
        expected = 0.75 * members[0] + 0.25 * members[1]
    else:
        p = np.exp(members) / np.exp(members).sum(-1, keepdims=True)
        expected = np.log(0.75 * p[0] + 0.25 * p[1])
    np.testing.assert_allclose(combine(members, weights, combination, problem), expected)


@pytest.mark.parametrize("combination", ["logits", "probabilities"])
@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_members_combine_as_in_training(combination, problem):
    import torch

    from bebert_edge.training import calibration

    members = np.random.default_rng(0).normal(0, 3, (3, 20, 4))
    weights = np.array([0.5, 0.0, 0.5])
    found = combine(members, weights, combination, problem)
    expected = calibration.combine(torch.from_numpy(members), torch.from_numpy(weights), combination, problem)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-9)


def test_pairs_where_there_should_be_none_and_the_other_way_round(kinds, tmp_path):
    with pytest.raises(EvaluationError, match="reads single texts"):
        open_model(kinds["onnx"]).predict(["a"], ["b"])
    random_ensemble(text_pair=True).save(tmp_path / "pairs")
    with pytest.raises(EvaluationError, match="--text-pair-column"):
        open_model(tmp_path / "pairs").predict(["a"])


def test_paths_that_are_no_models(tmp_path):
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name, reason in [
        ("no model", "missing"),
        ("text.txt", "a file"),
        ("empty", "config.json"),
        ("no.onnx", "not exist"),
    ]:
        with pytest.raises(BebertEdgeError, match=reason):
            open_model(tmp_path / name)


def test_a_float_model_without_a_head_is_refused(tmp_path):
    float_model().bert.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BebertEdgeError, match="expected a model for sequence classification"):
        open_model(tmp_path)


def test_a_float_model_that_lacks_tensors_is_not_filled_up_at_random(backbone, tmp_path):
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((backbone / name).read_bytes())
    tensors = load_file(backbone / "model.safetensors")
    del tensors["classifier.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BebertEdgeError, match=r"lacks the tensor classifier\.weight"):
        open_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(BebertEdgeError, match="cannot be loaded by transformers"):
        open_model(tmp_path)


def test_weights_that_are_not_finite(tmp_path):
    import torch

    model = float_model()
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="not finite"):
        open_model(tmp_path).predict(["good"])


def test_a_graph_without_the_expected_node(kinds, tmp_path):
    import onnx

    proto = onnx.load(kinds["onnx"])
    for node in proto.graph.node:
        node.name = ""
    onnx.save(proto, tmp_path / "changed.onnx")
    model = open_model(tmp_path / "changed.onnx")
    with pytest.raises(EvaluationError, match=r"changed\.onnx.*Export it again"):
        model.predict(["good"], noise=EmbeddingNoise(0.1))


def test_a_latent_member_that_is_damaged(tmp_path):
    write_member(tmp_path / "member")
    (tmp_path / "member" / "model.safetensors").write_bytes(b"\0" * 10)
    with pytest.raises(BebertEdgeError, match="safetensors"):
        open_model(tmp_path / "member")
