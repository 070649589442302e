# SPDX-License-Identifier: Apache-2.0
"""Training of sentence embeddings and rerankers, from a file to the answers of the exported model."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch.nn.functional as F
from transformers import BertModel
from typer.testing import CliRunner

from bebert_edge.checkpoints import load
from bebert_edge.cli.main import app
from bebert_edge.errors import TrainingError
from bebert_edge.evaluation import open_model
from bebert_edge.exporters import export
from bebert_edge.runtime import EdgeModel
from bebert_edge.training.latent import load_float
from bebert_edge.training.tasks import find
from bebert_edge.training.tasks.sentence_embedding import SCALE, SentenceExamples
from tiny_families import batch, tiny_tokenizer, write_tiny

TEXTS = ["a good movie", "the film is bad", "it was very good", "not a movie", "a", "is it good", "a bad film"]
FAST = ["--steps", "25", "--batch-size", "6", "--max-length", "16", "--learning-rate", "2e-3", "--precision", "fp32"]
FAST += ["--device", "cpu", "--teacher-epochs", "1"]


def command(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.stderr
    return done


def pooled(model, inputs, pooling):
    """By hand, as sentence-transformers does it."""
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    if pooling == "first":
        return F.normalize(hidden[:, 0], dim=-1)
    mask = inputs["attention_mask"][..., None]
    return F.normalize((hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9), dim=-1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    directory = tmp_path_factory.mktemp("teacher")
    write_tiny(directory, "bert", head=False)
    find("sentence-embedding").describe(load_float(directory, [], "embedding", task="sentence-embedding"), directory)
    return directory


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_teacher_answers_as_by_hand(tmp_path, pooling):
    write_tiny(tmp_path, "bert", head=False)
    model = load_float(tmp_path, [], "embedding", task="sentence-embedding")
    model.config.pooling = pooling
    find("sentence-embedding").describe(model, tmp_path)
    inputs = batch("bert", TEXTS)
    with torch.no_grad():
        found = model.eval()(**inputs).logits
    expected = pooled(BertModel.from_pretrained(tmp_path).eval(), inputs, pooling)
    torch.testing.assert_close(found, expected)
    np.testing.assert_allclose(open_model(tmp_path).predict(TEXTS).answer, expected, atol=1e-6)
    sentence_transformers = pytest.importorskip("sentence_transformers")
    with torch.no_grad():
        theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(theirs, expected, atol=1e-5)


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra small", "mpnet"])
def test_teachers_of_other_families_are_loaded(tmp_path, family):
    write_tiny(tmp_path, family, head=False)
    model = load_float(tmp_path, [], "embedding", task="sentence-embedding").eval()
    inputs = batch(family, TEXTS)
    with torch.no_grad():
        found = model(**inputs).logits
    from transformers import AutoModel

    own = AutoModel.from_pretrained(tmp_path).eval()
    if family != "electra small":
        inputs = {name: tensor for name, tensor in inputs.items() if name != "token_type_ids"}
    torch.testing.assert_close(found, pooled(own, inputs, "mean"), atol=1e-5, rtol=1e-5)


def test_losses_are_those_of_their_papers():
    task, examples = find("sentence-embedding")(), SentenceExamples(TEXTS[:3], TEXTS[3:6])
    data = task.encode(examples, tiny_tokenizer("bert"), 16)
    found = data.batch([2, 0])
    assert found["index"].tolist() == [2, 0, 5, 3]
    assert found["input_ids"].shape[0] == 4
    vectors = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    cosines = SCALE * vectors[:2] @ vectors[2:].T
    expected = [-F.log_softmax(x, -1)[i, i] for x in (cosines, cosines.T) for i in range(2)]
    torch.testing.assert_close(task.label_losses(vectors, found), torch.stack(expected))
    scored = task.encode(SentenceExamples(TEXTS[:2], TEXTS[2:4], [0.25, 1.0]), tiny_tokenizer("bert"), 16)
    losses = task.label_losses(vectors, scored.batch([0, 1]))
    torch.testing.assert_close(losses[0], ((vectors[0] @ vectors[2]) - 0.25) ** 2)
    single = task.encode(SentenceExamples(TEXTS), tiny_tokenizer("bert"), 16)
    with pytest.raises(TrainingError, match="pass --teacher, or pairs"):
        task.label_losses(vectors, single.batch([0, 1, 2, 3]))
    other = F.normalize(torch.randn(4, 8), dim=-1)
    torch.testing.assert_close(task.teacher_losses(vectors, other, found), 2 - 2 * (vectors * other).sum(-1))


def test_students_learn_the_vectors_of_their_teacher(tmp_path, teacher):
    rows = [(a, b, (len(a) * 7 + len(b)) % 5) for a in TEXTS for b in TEXTS if a < b]
    data = tmp_path / "sts.tsv"
    data.write_text("sentence1\tsentence2\tlabel\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in rows))
    task = ["--task", "sentence-embedding"]
    done = command(
        "train", data, "-o", tmp_path / "out", *task, "--teacher", teacher, "--dev", data, *FAST, "--steps", 150
    )
    assert "ensemble: dev Spearman correlation" in done.stdout
    ensemble = load(tmp_path / "out")
    config = ensemble.config
    assert (config.task.type, config.task.pooling, config.combination) == ("sentence-embedding", "mean", "embeddings")
    assert config.labels == ()
    export(tmp_path / "out", tmp_path / "model.onnx")  # verified against torch, native and portable
    found = EdgeModel(tmp_path / "model.onnx").embed(TEXTS)
    expected = pooled(BertModel.from_pretrained(teacher).eval(), batch("bert", TEXTS), "mean").numpy()
    agreement = np.corrcoef((found - found.mean(0)).ravel(), (expected - expected.mean(0)).ravel())[0, 1]
    assert agreement > 0.4
    latent = open_model(tmp_path / "out").predict(TEXTS)
    np.testing.assert_allclose(latent.answer, found, atol=2e-2)
    evaluated = command("evaluate", tmp_path / "out", tmp_path / "model.onnx", "--data", data, "--format", "json")
    values = [model["scores"]["spearman"]["value"] for model in json.loads(evaluated.stdout)["models"]]
    assert values[0] == pytest.approx(values[1], abs=0.05)


def test_pairs_that_belong_together_are_enough(tmp_path):
    write_tiny(tmp_path / "backbone", "bert", head=False)
    data = tmp_path / "pairs.tsv"
    data.write_text("question\tsentence\n" + "".join(f"{a}\tthe {a}\n" for a in TEXTS * 4))
    options = ["--task", "sentence-embedding", "--backbone", tmp_path / "backbone", "--members", 1]
    options += ["--pooling", "first", "--combination", "concatenation", "--label-weight", 1]
    options += [*FAST, "--steps", 150, "--teacher-epochs", 20, "--teacher-learning-rate", 2e-3]
    command("train", data, "-o", tmp_path / "out", *options)
    config = load(tmp_path / "out").config
    assert (config.task.pooling, config.combination) == ("first", "concatenation")
    assert open_model(tmp_path / "out" / "teacher").kind == "sentence-transformers"
    vectors = open_model(tmp_path / "out").predict([*TEXTS, *(f"the {a}" for a in TEXTS)]).answer
    nearest = (vectors[:7] @ vectors[7:].T).argmax(1)
    assert (nearest == np.arange(7)).sum() >= 5


@pytest.mark.parametrize("binary", [True, False])
def test_rerankers_give_one_score(tmp_path, binary):
    write_tiny(tmp_path / "backbone", "bert", head=False)
    rows = [(a, b, int(a[0] == b[0]) if binary else len(b) / 4) for a in TEXTS for b in TEXTS]
    data = tmp_path / "data.tsv"
    data.write_text("query\tdocument\tlabel\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in rows))
    options = ["--task", "reranking", "--backbone", tmp_path / "backbone", "--members", 1]
    command("train", data, "-o", tmp_path / "out", *options, *FAST, "--dev", data)
    config = load(tmp_path / "out").config
    problem = "multi_label" if binary else "regression"
    assert (config.task.type, config.task.problem, config.task.text_pair) == ("reranking", problem, True)
    assert len(config.labels) == 1
    export(tmp_path / "out", tmp_path / "model.onnx")
    ranked = EdgeModel(tmp_path / "model.onnx").rank(TEXTS[0], TEXTS)
    assert [x.rank for x in ranked] == list(range(1, 8))
    done = command("evaluate", tmp_path / "out", "--data", data, "--format", "json")
    assert json.loads(done.stdout)["task"] == "reranking"


def test_data_that_cannot_be_used_are_refused(tmp_path, teacher):
    data = tmp_path / "nli.tsv"
    data.write_text("premise\thypothesis\tlabel\na\tb\tneutral\nb\ta\tentailment\n")
    with pytest.raises(TrainingError, match="has the score 'neutral'"):
        find("sentence-embedding").read(data, split="train", classes=None)
    done = CliRunner().invoke(
        app, ["train", str(data), "-o", str(tmp_path / "out"), "--task", "reranking", "--backbone", str(teacher)]
    )
    assert "expected a finite number" in done.stderr
