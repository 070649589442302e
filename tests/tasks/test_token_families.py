# SPDX-License-Identifier: Apache-2.0
"""Heads on tokens of every family of BERTs: the float model becomes a BERT of the same logits, which packs and runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import AutoModelForQuestionAnswering, AutoModelForTokenClassification

from bebert_edge.checkpoints import load
from bebert_edge.errors import CheckpointError
from bebert_edge.training import binarize, load_member
from bebert_edge.training.families import FAMILIES
from bebert_edge.training.latent import load_float, load_tokenizer, save_member
from bebert_edge.training.tasks import TASKS
from checkpoints.every_path import answers
from tiny_families import PAIRS, POSITIONS, SETTINGS, TEXTS, batch, tiny_config, tiny_tokenizer, type_of, write_tiny

BERTS = [
    name for name in SETTINGS if any(type_of(name) in f.model_types and f.architecture == "bert" for f in FAMILIES)
]
CASES = {
    "token-classification": (AutoModelForTokenClassification, ["O", "B-PER", "I-PER"], TEXTS, 4),
    "question-answering": (AutoModelForQuestionAnswering, ["start", "end"], PAIRS, 1),
}


def write(directory: Path, name: str, task: str):
    torch.manual_seed(0)
    auto, labels, _, _ = CASES[task]
    model = auto.from_config(tiny_config(name, id2label=dict(enumerate(labels)))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory)
    tiny_tokenizer(name).save_pretrained(directory)
    return model


def logits_of(model, task: str, inputs) -> np.ndarray:
    if getattr(model.config, "type_vocab_size", 0) < 2:
        inputs = {name: tensor for name, tensor in inputs.items() if name != "token_type_ids"}
    with torch.no_grad():
        logits = TASKS[task]().logits(model(**inputs)).float()
    return (logits * inputs["attention_mask"][..., None]).numpy()


@pytest.mark.parametrize("task", CASES)
@pytest.mark.parametrize("name", BERTS)
def test_a_head_on_tokens_answers_the_same_everywhere(name: str, task: str, tmp_path: Path) -> None:
    original = write(tmp_path / "model", name, task)
    _, labels, items, bits = CASES[task]
    items = [item for item in items if "<pad>" not in str(item)]  # RoBERTas skip a position there
    inputs = batch(name, items, POSITIONS)
    model = load_float(tmp_path / "model", labels, task=task)
    assert model.bert.pooler is None
    expected = logits_of(original, task, inputs)
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits_of(model.eval(), task, inputs), expected, atol=2e-5, rtol=1e-5)

    member = binarize(model, bits).train()
    with torch.no_grad():
        member(**inputs)  # sets the steps
    settings = dict(bits=bits, labels=labels, text_pair=task == "question-answering", max_length=POSITIONS, task=task)
    save_member(member, load_tokenizer(tmp_path / "model"), tmp_path / "member", **settings)
    twin, packed = load_member(tmp_path / "member"), load(tmp_path / "member")
    assert packed.config.task.type == task
    expected = logits_of(twin, task, inputs)
    for path, logits, _ in answers(packed, {name: tensor.numpy() for name, tensor in inputs.items()}):
        np.testing.assert_allclose(logits, expected, atol=5e-5, err_msg=path)


def test_a_classifier_of_texts_is_no_classifier_of_words(tmp_path: Path) -> None:
    """Its last layer has the same name and may have the same shape; it starts new."""
    directory = write_tiny(tmp_path / "model", "bert", num_labels=3)
    model = load_float(directory, CASES["token-classification"][1], task="token-classification")
    whole = load_float(directory, ["a", "b", "c"])
    assert not torch.equal(model.classifier.weight, whole.classifier.weight)
    assert not model.classifier.bias.any()


def test_other_architectures_say_what_they_can_be_trained_for(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", "modernbert")
    with pytest.raises(CheckpointError, match="for text-classification only, not for question-answering"):
        load_float(directory, ["start", "end"], task="question-answering")
