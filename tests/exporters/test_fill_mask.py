# SPDX-License-Identifier: Apache-2.0
"""Fill-mask: the graph against the oracle, the decoder against the embeddings, and the answers of the runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from bebert_edge import ops, reference
from bebert_edge.bits import unpack_bits
from bebert_edge.cli.main import app
from bebert_edge.config import EnsembleConfig, HeadConfig, TaskConfig
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import FormatError, RuntimeInputError
from bebert_edge.exporters import build_model, export
from bebert_edge.runtime import EdgeModel
from bebert_edge.shrinking import trim_vocabulary
from support import VOCABULARY, random_batch, random_ensemble

MASK = VOCABULARY.index("[MASK]")
TASK = TaskConfig("fill-mask", mask_id=MASK)
CASES: list[dict[str, Any]] = [
    {},
    {"combination": "probabilities", "member_weights": (0.25, 0.75), "temperature": 1.5},
    {"shared_embeddings": True},
    {"bits": 1, "activation": "gelu"},
    {"terms": 2, "activation": "gelu", "shared_embeddings": True},
    {"embedding_size": 16},
]


def run(ensemble: PackedEnsemble, feed: dict[str, Any], native: bool, outputs: tuple[str, ...] = ()) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if native:
        ops.register(options)
    model = build_model(ensemble)[0]
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(outputs or ensemble.config.task.outputs, feed)


def masked(ensemble: Any, lengths: list[int], places: list[tuple[int, int]]) -> dict[str, Any]:
    feed = random_batch(ensemble, lengths, sequence=17)
    for place in places:
        feed["input_ids"][place] = MASK
    return feed


PLACES = [(0, 2), (2, 1), (2, 13), (3, 4)]


@pytest.mark.parametrize("native", [False, True], ids=["portable", "native"])
@pytest.mark.parametrize("arguments", CASES)
def test_the_graph_answers_as_the_reference(arguments: dict[str, Any], native: bool) -> None:
    ensemble = random_ensemble(task=TASK, **arguments)
    feed = masked(ensemble, [5, 1, 14, 9], PLACES)
    feed["input_ids"][0, 10] = MASK  # padding
    found, expected = run(ensemble, feed, native), reference.forward(ensemble, **feed)
    assert found[0].shape == (4, len(VOCABULARY))
    assert found[1].shape == (2, 4, len(VOCABULARY))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    nothing = masked(ensemble, [5, 3], [])
    assert [x.shape for x in run(ensemble, nothing, native)] == [(0, len(VOCABULARY)), (2, 0, len(VOCABULARY))]


def test_company_changes_nothing() -> None:
    ensemble = random_ensemble(task=TASK)
    feed = masked(ensemble, [5, 1, 14, 9], PLACES)
    together, _ = run(ensemble, feed, True)
    alone, _ = run(ensemble, {name: array[2:3, :14] for name, array in feed.items()}, True)
    np.testing.assert_allclose(together[1:3], alone, rtol=1e-6, atol=1e-6)


def test_logits_are_products_with_the_words_themselves() -> None:
    ensemble = random_ensemble(task=TASK, members=1)
    feed = masked(ensemble, [9], [(0, 4)])
    _, (logits,) = reference.forward(ensemble, **feed)
    tensors = ensemble.tensors
    signs = np.where(unpack_bits(tensors["embeddings.word.bits"][0], 24), 1.0, -1.0)
    rows = tensors["decoder.step"][0] * tensors["embeddings.word.scale"][0][:, None] * signs
    codes, *_ = np.linalg.lstsq(rows, logits[0] - tensors["decoder.bias"][0], rcond=None)
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)  # int4 codes, and nothing else, make all logits
    assert (np.abs(codes) <= 8).all()
    assert len(np.unique(np.round(codes))) > 3


def test_the_words_are_stored_once() -> None:
    model, parts = build_model(random_ensemble(task=TASK))
    plain_parts = build_model(random_ensemble())[1]
    assert parts["word embedding bits"] == plain_parts["word embedding bits"]
    large = [x.name for x in model.graph.initializer if x.dims[-1:] and len(VOCABULARY) in x.dims]
    assert sorted(large) == ["decoder.bias", "embeddings.word.scale", "embeddings.word.weight"]


def test_masks_are_one_task_of_several() -> None:
    ensemble = random_ensemble(heads_of_tasks=(HeadConfig("words", TASK, ()),))
    feed = masked(ensemble, [5, 1, 14, 9], PLACES)
    expected = reference.forward_tasks(ensemble, **feed)
    found = run(ensemble, feed, True, ("logits", "heads.words.logits"))
    np.testing.assert_allclose(found[0], expected[""][0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[1], expected["words"][0], rtol=1e-5, atol=1e-5)


def test_run_fills_texts(tmp_path: Path) -> None:
    ensemble = random_ensemble(task=TASK, combination="probabilities")
    export(ensemble, tmp_path / "model.onnx")  # verifies on texts with masks
    model = EdgeModel(tmp_path / "model.onnx")
    texts = ["the [MASK] is good", "it was [MASK] [MASK].", "[MASK]"]
    found = model.fill(texts, batch_size=2)
    assert [len(x.masks) for x in found] == [1, 2, 1]
    assert [x.masks for x in found] == [model.fill([text])[0].masks for text in texts]
    ids = np.array([[2, *(VOCABULARY.index(word) for word in ("the", "[MASK]", "is", "good")), 3]])
    logits, members = reference.forward(ensemble, ids, np.ones_like(ids))
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert [x.id for x in found[0].masks[0]] == np.argsort(-logits[0])[:5].tolist()
    for guess in found[0].masks[0]:
        assert guess.token == VOCABULARY[guess.id]
        assert guess.probability == pytest.approx(probabilities[guess.id], abs=1e-4)
        assert guess.members_agree == (members[:, 0].argmax(-1) == guess.id).sum()
    assert "[MASK]" not in found[1].filled
    with pytest.raises(RuntimeInputError, match="'no mask' has no mask to fill: write \\[MASK\\]"):
        model.fill(["no mask"])
    done = CliRunner().invoke(app, ["run", str(tmp_path / "model.onnx"), *texts, "--format", "json"])
    assert [len(json.loads(line)["masks"]) for line in done.stdout.splitlines()] == [1, 2, 1]
    table = CliRunner().invoke(app, ["run", str(tmp_path / "model.onnx"), texts[0]]).stdout.splitlines()
    assert table[0] == found[0].filled
    assert table[1].split()[:3] == ["mask", "1", found[0].masks[0][0].token]
    rows = CliRunner().invoke(app, ["run", str(tmp_path / "model.onnx"), *texts, "--format", "csv"]).stdout
    assert len(rows.splitlines()) == 1 + 4 * 5


def test_a_trimmed_vocabulary_guesses_what_is_left() -> None:
    ensemble = random_ensemble(task=TASK)
    trimmed = trim_vocabulary(ensemble, ["the movie is good"])
    assert len(VOCABULARY) > trimmed.config.encoder.vocab_size == trimmed.tensors["decoder.bias"].shape[1]
    whole, kept = (json.loads(e.tokenizer)["model"]["vocab"] for e in (ensemble, trimmed))
    words = ("[CLS]", "the", "[MASK]", "good", "[SEP]")
    old, new = np.array([[whole[w] for w in words]]), np.array([[kept[w] for w in words]])
    before, after = (reference.forward(e, x, np.ones_like(x))[0] for e, x in ((ensemble, old), (trimmed, new)))
    np.testing.assert_allclose(after[0], before[0][[whole[word] for word in kept]], rtol=1e-5, atol=1e-6)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(FormatError, match=r"task\.mask_id is None, expected a token's number"):
        TaskConfig("fill-mask")
    with pytest.raises(FormatError, match=r"task\.mask_id is 3, expected a token's number for the type 'fill-mask'"):
        TaskConfig(mask_id=3)
    with pytest.raises(FormatError, match=r"task\.mask_id is 9999, expected less than"):
        random_ensemble(task=TaskConfig("fill-mask", mask_id=9999))
    config = random_ensemble(task=TASK).config
    assert EnsembleConfig.from_json(config.to_json()) == config
