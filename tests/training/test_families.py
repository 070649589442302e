# SPDX-License-Identifier: Apache-2.0
"""Every family as a backbone: its float model, perhaps as a BERT, has the same logits; its members run everywhere."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("scipy")

from safetensors.torch import load_file
from transformers import BertForSequenceClassification

from bebert_edge.checkpoints import load
from bebert_edge.errors import CheckpointError
from bebert_edge.evaluation import EmbeddingNoise, open_model
from bebert_edge.exporters import export
from bebert_edge.runtime import EdgeModel
from bebert_edge.runtime.text import TextEncoder
from bebert_edge.training import Examples, TrainingOptions, binarize, load_member, train
from bebert_edge.training.base import train_base
from bebert_edge.training.families import FAMILIES, MODEL_TYPES
from bebert_edge.training.latent import load_float, load_tokenizer, save_member
from bebert_edge.training.trainer import Schedule
from checkpoints.every_path import answers
from tiny_families import (
    PAIRS,
    POSITIONS,
    SETTINGS,
    TEXTS,
    batch,
    logits_of,
    tiny_model,
    tiny_tokenizer,
    type_of,
    write_tiny,
)

BERTS = [name for name in SETTINGS for f in FAMILIES if f.architecture == "bert" and type_of(name) in f.model_types]
LABELS = ["a", "b", "c"]
MAX_LENGTH = 24
HEADS = {"distilbert": "relu", "electra": "gelu"}
"""Activations of trained heads, where they are not tanh."""
CASES = {  # bits, problem, whether inputs are pairs
    "1 bit": (1, "single_label", False),
    "2 bits, pairs": (2, "multi_label", True),
    "4 bits, pairs": (4, "single_label", True),
    "8 bits": (8, "regression", False),
}
WITHOUT_PADDING = [text for text in TEXTS if "<pad>" not in text]
"""RoBERTa skips a position where a text spells its padding token; nothing else here does."""


def change_config(directory, **settings):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def activation(model):
    return getattr(model.config, "pooler_activation", "tanh")


def test_every_family_is_tested():
    assert set(MODEL_TYPES) == {type_of(name) for name in SETTINGS}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_float_model_has_the_same_logits(name, tmp_path):
    directory = write_tiny(tmp_path / "model", name, num_labels=3)
    original, model = tiny_model(name, num_labels=3), load_float(directory, LABELS).eval()
    assert isinstance(model, BertForSequenceClassification if name in BERTS else type(original))
    assert model.config.max_position_embeddings == POSITIONS
    assert activation(model) == HEADS.get(type_of(name), "tanh")
    model.save_pretrained(tmp_path / "teacher")
    again = load_float(tmp_path / "teacher", LABELS).eval()
    pairs = list(zip(WITHOUT_PADDING, reversed(WITHOUT_PADDING), strict=True))
    for items in (WITHOUT_PADDING, pairs):
        inputs = batch(name, items)
        assert inputs["attention_mask"].min() == 0
        expected = logits_of(original, inputs)
        assert expected.std() > 0.1
        with torch.no_grad():
            torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(again(**inputs).logits, expected, atol=1e-5, rtol=1e-5)


def test_addends_of_scores_are_those_of_transformers_at_every_distance(tmp_path):
    """MPNet has one for a range of distances, the last for all further ones: here far beyond the tiny models' texts."""
    expected = tiny_model("mpnet").mpnet.encoder.compute_position_bias(torch.zeros(1, 300, 32))
    encoder = load_float(write_tiny(tmp_path, "mpnet"), ["a", "b"]).bert.encoder
    received = []
    encoder.layer = torch.nn.ModuleList([torch.nn.Identity()])
    encoder.layer[0].forward = lambda hidden, mask: received.append(mask) or hidden
    encoder(torch.zeros(1, 300, 32))
    assert torch.equal(received[0], expected)


@pytest.mark.parametrize("bits", [None, 1])
def test_addends_of_scores_are_learnt(bits, tmp_path):
    model = load_float(write_tiny(tmp_path, "mpnet"), ["a", "b"]).train()
    if bits:
        model = binarize(model, bits).train()
    inputs = batch("mpnet", TEXTS[:2])
    model(**inputs).logits[:, 0].sum().backward()
    gradient, longest = model.bert.encoder.distance_bias.grad, inputs["input_ids"].shape[1]
    reached = abs(torch.arange(gradient.shape[1]) - 128) < longest
    assert (gradient[:, reached] != 0).any(0).all()
    assert not gradient[:, ~reached].any()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_backbone_without_a_head_gets_a_new_one(name, tmp_path):
    directory = write_tiny(tmp_path / "model", name, head=False)
    torch.manual_seed(0)
    model = load_float(directory, LABELS).eval()
    torch.manual_seed(0)
    assert torch.equal(model.classifier.weight, load_float(directory, LABELS).classifier.weight)
    assert model.classifier.weight.shape == (3, 32)
    assert activation(model) == "tanh"
    inputs = batch(name, WITHOUT_PADDING[:2])
    with torch.no_grad():
        found = model.base_model(**inputs).last_hidden_state
        inputs.pop("token_type_ids")
        expected = tiny_model(name, head=False)(**inputs).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", HEADS)
def test_evaluating_a_teacher_uses_its_head(model_type, tmp_path):
    directory = write_tiny(tmp_path / "model", model_type)
    load_float(directory, ["a", "b"]).save_pretrained(tmp_path / "teacher")
    load_tokenizer(directory).save_pretrained(tmp_path / "teacher")
    found, expected = (open_model(path).predict(WITHOUT_PADDING).members for path in (tmp_path / "teacher", directory))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_new_last_layer_keeps_the_head_before_it(tmp_path):
    directory = write_tiny(tmp_path / "model", "electra", num_labels=2)
    with pytest.raises(CheckpointError, match="a head of 2 outputs, but the data 3 labels"):
        load_float(directory, LABELS)
    model = load_float(directory, LABELS, new_head=True)
    assert activation(model) == "gelu"
    assert torch.equal(model.bert.pooler.dense.weight, tiny_model("electra").classifier.dense.weight)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_member_answers_the_same_everywhere(name, case, tmp_path):
    bits, problem, text_pair = CASES[case]
    labels, items = LABELS[: 1 if problem == "regression" else 3], PAIRS if text_pair else TEXTS
    backbone = write_tiny(tmp_path / "backbone", name, num_labels=len(labels))
    member = binarize(load_float(backbone, labels, problem), bits).train()
    with torch.no_grad():
        member(**batch(name, items))  # sets the steps
    settings = dict(bits=bits, labels=labels, text_pair=text_pair, max_length=MAX_LENGTH, problem=problem)
    save_member(member, load_tokenizer(backbone), tmp_path / "member", **settings)
    twin, packed = load_member(tmp_path / "member"), load(tmp_path / "member")
    expected = activation(twin) if name in BERTS else twin.config.classifier_activation
    assert packed.config.encoder.pooler_activation == expected
    assert activation(twin) == HEADS.get(type_of(name), "tanh")

    inputs = batch(name, items, MAX_LENGTH)
    for row, found in enumerate(TextEncoder(packed.tokenizer, MAX_LENGTH, text_pair).encode(items)):
        length = len(found.ids)
        assert found.ids == inputs["input_ids"][row, :length].tolist(), items[row]
        assert found.type_ids == inputs["token_type_ids"][row, :length].tolist(), items[row]
        assert inputs["attention_mask"][row].sum() == length
    with torch.no_grad():
        expected = twin(**inputs).logits.numpy()
    assert expected.std() > 0.01
    for path, logits, _ in answers(packed, {name: tensor.numpy() for name, tensor in inputs.items()}):
        np.testing.assert_allclose(logits, expected, atol=5e-5, err_msg=path)


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta"])
def test_long_pairs_are_cut_as_transformers_cuts_them(model_type):
    """Where characters are several tokens, and tokens stand for spaces alone."""
    tokenizer, length = tiny_tokenizer(model_type), 13
    pairs = [(text, pair) for text in TEXTS for pair in TEXTS]
    encoder = TextEncoder(tokenizer.backend_tokenizer.to_str(), length, text_pair=True)
    for (text, pair), found in zip(pairs, encoder.encode(pairs), strict=True):
        wanted = tokenizer([text], [pair], truncation=True, max_length=length)["input_ids"][0]
        assert found.ids == wanted, (text, pair)


@pytest.mark.parametrize(
    ("model_type", "embeddings"),
    [
        ("roberta", "binary"),
        ("distilbert", "int8"),
        ("electra small", "int4"),
        ("albert", "binary"),
        ("mpnet", "binary"),
        ("modernbert", "int4"),
    ],
)
def test_training_from_another_family(model_type, embeddings, tmp_path):
    backbone = write_tiny(tmp_path / "backbone", model_type)
    texts = ["a good film", "a bad film", "it was very good", "it was bad"] * 4
    schedule = Schedule(steps=2, batch_size=8, learning_rate=1e-3, seed=0)
    train_base([(text, None) for text in texts], tmp_path / "base", schedule, backbone=backbone, max_length=16)
    options = TrainingOptions(
        method="bag",
        combination="logits",
        members=2,
        steps=2,
        batch_size=8,
        max_length=16,
        teacher_epochs=1,
        calibration_share=0.0,
        stages=(8,),
        embeddings=embeddings,
    )
    examples = Examples(texts, None, [1, 0] * 8, ["negative", "positive"])
    train(examples, tmp_path / "out", options, backbone=backbone, initial=tmp_path / "base")
    teacher = load_float(tmp_path / "out" / "teacher", ["negative", "positive"])
    twin = load_member(tmp_path / "out" / "member-0")
    assert activation(teacher) == activation(twin) == HEADS.get(type_of(model_type), "tanh")
    state = set(load_file(tmp_path / "out" / "member-0" / "model.safetensors"))
    second = (
        "model.layers.1.mlp.Wo.weight" if model_type == "modernbert" else "bert.encoder.layer.1.output.dense.weight"
    )
    assert (second in state) == (model_type != "albert")  # its layers are one
    assert load(tmp_path / "out").config.quantization.embeddings == embeddings
    report = export(tmp_path / "out", tmp_path / "model.onnx")
    assert not [check for check in report.checks if check.passed is False]
    with torch.no_grad():
        members = [load_member(tmp_path / "out" / f"member-{i}") for i in range(2)]
        expected = [member(**batch(model_type, texts[:4], 16)).logits.numpy() for member in members]
    found = EdgeModel(report.path, threads=1).logits(texts[:4])
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=5e-5)
    noisy = [open_model(path).predict(texts[:4], noise=EmbeddingNoise(0.2)) for path in (tmp_path / "out", report.path)]
    np.testing.assert_allclose(noisy[0].answer, noisy[1].answer, atol=5e-5)
    assert abs(noisy[0].answer - found).max() > 1e-3


@pytest.mark.parametrize(
    ("model_type", "settings", "message"),
    [
        ("albert", {"inner_group_num": 2}, "its groups have 2 layers"),
        ("albert", {"num_hidden_groups": 2}, "its 3 layers are of 2 groups"),
        ("albert", {"hidden_size": 20}, "its embeddings are projected from 20 channels to as many"),
        ("roberta", {"is_decoder": True}, "it is a decoder"),
        ("bert", {"position_embedding_type": "relative_key"}, "its positions are 'relative_key'"),
        ("mpnet", {"relative_attention_num_buckets": 64}, "its relative_attention_num_buckets is 64, expected 32"),
        ("camembert", {"model_type": "deberta"}, "expected one of the supported families: bert, roberta, .*models.md"),
    ],
)
def test_what_is_no_bert_is_refused(model_type, settings, message, tmp_path):
    directory = write_tiny(tmp_path / "model", model_type)
    change_config(directory, **settings)
    with pytest.raises(CheckpointError, match=message):
        load_float(directory, ["a", "b"])


def test_layers_that_compute_something_else_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = write_tiny(tmp_path / "model", "roberta") / "model.safetensors"
    adapter = {"roberta.encoder.layer.0.attention.self.query.lora_A.weight": torch.ones(2, 32)}
    save_file(load_file(path) | adapter, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"query\.lora_A\.weight is unknown \(1 are\).*merge adapters"):
        load_float(path.parent, ["a", "b"])


def test_a_tokenizer_in_python_is_refused(tmp_path):
    directory = write_tiny(tmp_path / "model", "roberta")
    (directory / "tokenizer.json").unlink()
    (directory / "vocab.txt").write_text("good 1\nbad 1\n", encoding="utf-8")
    (directory / "bpe.codes").write_text("g o 1\n", encoding="utf-8")
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "PhobertTokenizer"}')
    with pytest.raises(CheckpointError, match="has a PhobertTokenizer, which is Python code"):
        load_tokenizer(directory)
