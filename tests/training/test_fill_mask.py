# SPDX-License-Identifier: Apache-2.0
"""Training of masked language models, from transformers' model to the answers of the exported one."""

from __future__ import annotations

import json
import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch.nn.functional as F
from transformers import BertForMaskedLM
from typer.testing import CliRunner

from bebert_edge.checkpoints import load
from bebert_edge.cli.main import app
from bebert_edge.errors import CheckpointError, TrainingError
from bebert_edge.evaluation import open_model
from bebert_edge.evaluation.tasks.masks import Masks
from bebert_edge.exporters import export
from bebert_edge.runtime import EdgeModel
from bebert_edge.runtime.text import EncodedText
from bebert_edge.training.latent import load_float, load_member
from bebert_edge.training.tasks import find
from bebert_edge.training.tasks.fill_mask import MaskedTexts
from tiny_families import tiny_config, tiny_tokenizer, write_tiny

TEXTS = ["a good movie", "the film is bad", "it was very good", "not a movie", "is it good", "a bad film"]
FAST = ["--steps", "100", "--batch-size", "6", "--max-length", "16", "--learning-rate", "2e-3", "--precision", "fp32"]
FAST += ["--device", "cpu", "--replaced", "0"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("teacher")
    model = BertForMaskedLM(tiny_config("bert"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory)
    tiny_tokenizer("bert").save_pretrained(directory)
    return directory


def encoded():
    task = find("fill-mask")()
    return task, task.encode(MaskedTexts(TEXTS), tiny_tokenizer("bert"), 16)


def test_a_teacher_guesses_as_transformers_has_it(teacher):
    task, data = encoded()
    batch = data.batch(range(len(TEXTS)))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    masked = batch["input_ids"] == tiny_tokenizer("bert").mask_token_id
    assert masked.sum(1).tolist() == [1] * 6
    with torch.no_grad():
        found = load_float(teacher, [], task="fill-mask").eval()(**inputs).logits
        expected = BertForMaskedLM.from_pretrained(teacher).eval()(**inputs).logits[masked]
    torch.testing.assert_close(found, expected)
    assert batch["labels"][masked].tolist() == data.right.tolist()
    torch.testing.assert_close(
        task.label_losses(found, batch), F.cross_entropy(found, data.right, reduction="none"), rtol=1e-5, atol=1e-5
    )


def test_students_learn_the_guesses_of_their_teacher(tmp_path, teacher):
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(TEXTS))
    arguments = ["train", data, "-o", tmp_path / "out", "--task", "fill-mask", "--teacher", teacher, "--dev", data]
    done = CliRunner().invoke(app, [str(argument) for argument in [*arguments, *FAST]])
    assert done.exit_code == 0, done.stderr
    assert "ensemble: dev accuracy of masked tokens" in done.stdout
    ensemble = load(tmp_path / "out")
    assert ensemble.config.task.type == "fill-mask"
    assert ensemble.config.task.mask_id == tiny_tokenizer("bert").mask_token_id
    export(tmp_path / "out", tmp_path / "model.onnx")  # verified against torch, native and portable
    _, encoded_texts = encoded()
    batch = encoded_texts.batch(range(len(TEXTS)))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        wanted = load_float(teacher, [], task="fill-mask").eval()(**inputs).logits.argmax(-1)
        members = [load_member(tmp_path / "out" / f"member-{i}")(**inputs).logits.argmax(-1) for i in range(2)]
    assert all(int((found == wanted).sum()) >= 4 for found in members)
    command = ["evaluate", tmp_path / "model.onnx", teacher, tmp_path / "out", "--data", data, "--format", "json"]
    report = json.loads(CliRunner().invoke(app, [str(argument) for argument in command]).stdout)
    onnx, float_one, latent = (model["scores"] for model in report["models"])
    assert report["counts"] == {"texts": 6}
    for name in ("accuracy", "perplexity"):
        assert onnx[name]["value"] == pytest.approx(latent[name]["value"], rel=0.02)
    evaluation = Masks(TEXTS)
    own = BertForMaskedLM.from_pretrained(teacher).eval()
    losses = []
    for number, text in enumerate(TEXTS):
        whole = tiny_tokenizer("bert")(text)["input_ids"]
        (masked,) = [evaluation._mask(EncodedText(text, None, whole, [0] * len(whole), False), 4, number).ids]
        with torch.no_grad():
            logits = own(torch.tensor([masked])).logits[0]
        losses += [float(-F.log_softmax(logits[i], -1)[x]) for i, x in enumerate(whole) if masked[i] != x]
    assert float_one["perplexity"]["value"] == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)
    (found,) = EdgeModel(tmp_path / "model.onnx").fill(["a [MASK] movie"])
    assert len(found.masks[0]) == 5


def test_masks_of_the_text_itself_do_not_count(tmp_path, teacher):
    texts = ["a [MASK] movie is good", "[MASK]", "the film"]
    evaluation, model = Masks(texts, 0), open_model(teacher)
    answer, _ = evaluation.answers(model, 8, lambda done, of: None)
    assert answer[:, 0].tolist() == [1, 0, 1]
    alone, _ = evaluation.answers(model, 1, lambda done, of: None)
    assert answer == pytest.approx(alone, rel=1e-4)


def test_texts_without_a_token_to_mask_are_left_out():
    task, tokens = find("fill-mask")(), tiny_tokenizer("bert")
    assert len(task.encode(MaskedTexts(["", "a good movie", ""]), tokens, 16)) == 1
    with pytest.raises(TrainingError, match="no text has a token to mask"):
        task.encode(MaskedTexts(["a good movie"]), tokens, 2)


def test_words_of_more_bits_are_refused(tmp_path, teacher):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    arguments = ["train", tmp_path / "texts.txt", "-o", tmp_path / "out", "--task", "fill-mask", "--teacher", teacher]
    done = CliRunner().invoke(app, [str(argument) for argument in [*arguments, *FAST, "--embeddings", "int8"]])
    assert "--embeddings is 'int8', expected 'binary' for fill-mask" in done.stderr


def test_other_models_are_refused(tmp_path, teacher):
    with pytest.raises(CheckpointError, match="no masked language model of BERT's"):
        load_float(write_tiny(tmp_path / "roberta", "roberta"), [], task="fill-mask")
    with pytest.raises(CheckpointError, match=r"has no tensor"):
        load_float(write_tiny(tmp_path / "bert", "bert"), [], task="fill-mask")
