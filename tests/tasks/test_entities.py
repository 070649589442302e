# SPDX-License-Identifier: Apache-2.0
"""Token classification: from logits to entities, against transformers' pipeline; from training to evaluation."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner

from bebert_edge.checkpoints import load
from bebert_edge.cli.main import app
from bebert_edge.config import TaskConfig
from bebert_edge.errors import TrainingError
from bebert_edge.evaluation import open_model
from bebert_edge.evaluation.tasks import evaluate_task, open_task
from bebert_edge.exporters import build_model, export
from bebert_edge.runtime import EdgeModel
from bebert_edge.runtime.entities import find_entities, first_tokens
from bebert_edge.runtime.windows import WindowEncoder
from bebert_edge.training import TrainingOptions, load_member, train
from bebert_edge.training.token_files import TokenExamples, read_tokens
from latent import tokenizer, write_backbone
from support import random_ensemble, tokenizer_json

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TEXTS = [
    "the movie is good",
    "it was not-good, very  goodly!",
    "A bad film. And it is good 4.5/5",
    "naïve cafe\u0301 日本 goodings",
    "",
]
OPTIONS = TrainingOptions(
    members=2,
    steps=60,
    batch_size=8,
    max_length=16,
    learning_rate=2e-3,
    label_weight=1.0,
    teacher_epochs=20,
    teacher_learning_rate=2e-3,
    calibration_share=0.1,
)


def sentences(count: int = 40) -> TokenExamples:
    """Every "good" film is a person, every "bad" one a place, and the word after is part of it."""
    rows = []
    for i in range(count):
        kind, name = (("PER", "good"), ("LOC", "bad"))[i % 2]
        before = ["the", "very", "it"][: i % 3]
        rows.append((["it", *before, name, "film", "is"], ["O"] * (1 + len(before)) + [f"B-{kind}", f"I-{kind}", "O"]))
    names = sorted(LABELS)
    return TokenExamples([w for w, _ in rows], [[names.index(t) for t in tags] for _, tags in rows], names)


def test_entities_are_those_of_the_pipeline_of_transformers() -> None:
    """The same logits: words by their first piece are its strategy "first"."""
    from transformers import BertConfig, BertForTokenClassification, pipeline

    model = BertForTokenClassification(BertConfig(vocab_size=200, hidden_size=8, num_attention_heads=1,
        num_hidden_layers=1, intermediate_size=8, id2label=dict(enumerate(LABELS))))  # fmt: skip
    config = random_ensemble(task=TaskConfig("token-classification"), labels=LABELS, members=1).config
    encoder = WindowEncoder(tokenizer_json(), 512, False)
    generator = np.random.default_rng(0)
    logits = iter([])

    def forward(input_ids: Any, **kwargs: Any) -> dict[str, Any]:
        from transformers.modeling_outputs import TokenClassifierOutput

        return TokenClassifierOutput(logits=torch.from_numpy(next(logits))[None])

    model.forward = forward
    tagger = pipeline("token-classification", model=model, tokenizer=tokenizer(), aggregation_strategy="first")
    seen = 0
    for _ in range(20):
        for text in TEXTS[:-1]:
            (encoded,) = encoder.encode([text])
            (window,) = encoded.windows
            drawn = generator.normal(0, 3, (len(window.ids), len(LABELS))).astype(np.float32)
            logits = iter([drawn])
            own = drawn[1:-1]
            found = find_entities(encoded, own, own[None], config).entities
            expected = tagger(text)
            assert [(e.label, e.start, e.end) for e in found] == [
                (e["entity_group"], e["start"], e["end"]) for e in expected
            ]
            np.testing.assert_allclose([e.score for e in found], [e["score"] for e in expected], atol=1e-5)
            assert all(e.text == text[e.start : e.end] for e in found)
            seen += len(found)
    assert seen > 100


def test_members_vote_for_entities() -> None:
    config = random_ensemble(task=TaskConfig("token-classification"), labels=LABELS, members=3).config
    (encoded,) = WindowEncoder(tokenizer_json(), 32, False).encode(["the good movie"])
    one = np.eye(5, dtype=np.float32) * 9
    members = np.stack([one[[0, 1, 2]], one[[0, 3, 4]], one[[0, 1, 0]]])
    (entity,) = find_entities(encoded, members[0], members, config).entities
    assert (entity.text, entity.label, entity.start, entity.end) == ("good movie", "PER", 4, 14)
    assert entity.member_labels == ("PER", "LOC", "O")
    assert entity.members_agree == 1


def test_first_tokens_of_words() -> None:
    words = ["goodly", ",", "x\u0000", "4.5", "日本"]
    (encoded,) = WindowEncoder(tokenizer_json(), 64, False).encode([" ".join(words)])
    found = first_tokens(encoded.spans, words)
    text = encoded.text
    assert [text[encoded.spans[token][0]] for token in found.values()] == ["g", ",", "x", "4", "日"]
    assert list(found) == [0, 1, 2, 3, 4]
    assert first_tokens([(1, 3)], ["\u0000", "ab"][1:]) == {0: 0}


def test_a_long_text_has_the_entities_of_its_parts(tmp_path: Path) -> None:
    """All of a text is read, whatever the longest input: the members answer every word alike, by its bias."""
    ensemble = random_ensemble(task=TaskConfig("token-classification"), labels=LABELS, max_length=16)
    path = tmp_path / "model.onnx"
    path.write_bytes(build_model(ensemble)[0].SerializeToString())
    model = EdgeModel(path, threads=1)
    text = "good movie and bad film " * 20
    alone, (answer,) = model.predict(["good movie"], batch_size=4), model.predict([text], batch_size=4)
    assert alone[0].windows == 1
    assert answer.windows > 5
    assert answer.tokens == 100
    assert not answer.truncated
    assert all(e.text == text[e.start : e.end] for e in answer.entities)
    assert model.predict([text, "good", text], batch_size=1) == model.predict([text, "good", text])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokens")
    backbone = write_backbone(directory / "backbone", initializer_range=0.1)
    result = train(sentences(), directory / "out", OPTIONS, backbone=backbone, dev=sentences())
    assert result.metric == "entity F1"
    assert result.score is not None
    assert result.score > 0.9
    assert load(directory / "out").config.task.type == "token-classification"
    assert load_member(directory / "out" / "member-0").bert.pooler is None
    export(directory / "out", directory / "model.onnx")
    return directory


def test_the_whole_way(trained: Path) -> None:
    text = "it is  a bad film, is"
    (answer,) = EdgeModel(trained / "model.onnx", threads=1).predict([text])
    assert [(e.label, e.text, e.start, e.end) for e in answer.entities] == [("LOC", "bad film", 9, 17)]


def test_evaluation_of_every_kind_of_model(trained: Path) -> None:
    data = trained / "dev.jsonl"
    examples = sentences()
    rows = [
        {"tokens": tokens, "ner_tags": [examples.label_names[t] for t in tags]}
        for tokens, tags in zip(examples.tokens, examples.tags, strict=True)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = open_task("token-classification", data, resamples=100)
    paths = [trained / "model.onnx", trained / "out", trained / "out" / "member-0", trained / "out" / "teacher"]
    models = [open_model(path, threads=1) for path in paths]
    report = evaluate_task(models, evaluation)
    onnx, latent, member, _ = report.models
    assert report.counts == {"sentences": 40, "words": sum(map(len, examples.tokens)), "entities": 40}
    assert onnx.scores == latent.scores
    assert onnx.scores["f1"].value > 0.9
    assert onnx.scores["accuracy"].value > 0.9
    assert member.scores["f1"].value == onnx.members[0].value
    run = ["evaluate", str(paths[0]), "--data", str(data), "--bootstrap", "0", "--threads", "1"]
    rows = [row | {"ner_tags": [examples.label_names.index(tag) for tag in row["ner_tags"]]} for row in rows]
    (trained / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    numbers = evaluate_task(models[:1], open_task("token-classification", trained / "numbers.jsonl", resamples=100))
    assert numbers.models[0].scores == onnx.scores
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 0, done.output
    assert f"{100 * onnx.scores['f1'].value:.2f}" in done.stdout
    assert "token-classification, 40 sentences" in done.stdout


def test_run_prints_entities(trained: Path) -> None:
    texts = ["it is a good film is", "it is"]

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["run", str(trained / "model.onnx"), *texts, "--threads", "1", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    header, first, second = run().splitlines()
    assert header.split() == ["text", "characters", "label", "probability", "members", "entity"]
    assert first.split()[:3] == ["0", "8-17", "PER"]
    assert first.endswith("good film")
    assert second.split() == ["1", "(none)"]
    records = [json.loads(line) for line in run("--format", "json").splitlines()]
    assert records[0]["entities"][0]["text"] == "good film"
    assert records[1]["entities"] == []
    (row,) = csv.DictReader(io.StringIO(run("--format", "csv")))
    assert (row["text"], row["start"], row["end"], row["label"], row["entity"]) == ("0", "8", "17", "PER", "good film")
    assert row["member_0"] in ("PER", "O")


def test_the_command_reads_conll_and_trains(trained: Path) -> None:
    data = trained / "train.conll"
    lines = ["-DOCSTART- -X- O O", "", "# id 1", "it\tPRP\tO", "good\tJJ\tB-PER", "", "bad\tJJ\tB-PER", "film\tNN\tO"]
    data.write_text("\n".join(lines * 2))
    arguments = ["train", str(data), "--task", "token-classification", "--backbone", str(trained / "backbone")]
    arguments += ["-o", str(trained / "short"), "--steps", "2", "--max-length", "16", "--members", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert load(trained / "short").config.labels == ("O", "B-PER", "I-PER")
    assert "token classification, 3 labels" in (trained / "short" / "README.md").read_text()


def test_files_of_words_and_tags(tmp_path: Path) -> None:
    names = ["O", "B-PER", "I-PER"]
    (tmp_path / "a.jsonl").write_text('{"tokens": ["a", "b"], "ner_tags": [1, 0]}\n')
    assert read_tokens(tmp_path / "a.jsonl").label_names == ["0", "1"]
    info = {"features": {"ner_tags": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    found = read_tokens(tmp_path / "a.jsonl")
    assert ([found.label_names[t] for t in found.tags[0]], found.label_names) == (["B-PER", "O"], names)
    with gzip.open(tmp_path / "b.tsv.gz", "wt") as file:
        file.write("New York\tB-LOC\r\nis\tO\r\n\r\nbig\tO")
    found = read_tokens(tmp_path / "b.tsv.gz")
    assert found.tokens == [["New York", "is"], ["big"]]
    assert found.label_names == ["O", "B-LOC", "I-LOC"]
    with pytest.raises(TrainingError, match="line 3 has the tag 'B-LOC', expected one of O"):
        read_tokens(tmp_path / "b.tsv.gz", classes=["O"])
    for row, message in [
        ({"tokens": ["a"], "tags": ["O", "O"]}, r"expected a list of 1 tags"),
        ({"tokens": "a", "tags": ["O"]}, r"expected a list of words"),
        ({"words": ["a"]}, r"expected ner_tags or tags"),
    ]:
        (tmp_path / "c.jsonl").write_text(json.dumps(row))
        with pytest.raises(TrainingError, match=message):
            read_tokens(tmp_path / "c.jsonl")
    (tmp_path / "d.tsv").write_text("word\n")
    with pytest.raises(TrainingError, match="expected a word, a tab and its tag"):
        read_tokens(tmp_path / "d.tsv")


@pytest.mark.parametrize("boost_by", ["weights", "resampling"])
def test_boosting_weighs_sentences_by_their_wrong_words(trained: Path, tmp_path: Path, boost_by: str) -> None:
    options = replace(OPTIONS, steps=3, boost_by=boost_by, calibration_share=0.0, combination="probabilities")
    result = train(sentences(), tmp_path, options, teacher=trained / "out" / "teacher")
    assert sum(result.member_weights) == pytest.approx(1)
    assert load(tmp_path).config.combination == "probabilities"


DATASETS = Path(os.environ.get("BEBERT_EDGE_DATASETS", "/nowhere"))


@pytest.mark.skipif(not (DATASETS / "wnut17").is_dir(), reason="BEBERT_EDGE_DATASETS names no folder with wnut17")
def test_real_sentences_are_read_whole(tmp_path: Path) -> None:
    from bebert_edge.training.tasks import TokenClassification

    examples = read_tokens(DATASETS / "wnut17" / "dev.jsonl.gz")
    assert len(examples) == 1009
    assert len(examples.label_names) == 13
    encoded = TokenClassification().encode(examples, tokenizer(), 64)
    labelled = [[] for _ in range(len(examples))]
    for sentence, words in zip(encoded.sentences, encoded.words, strict=True):
        labelled[sentence] += words
    missing = [
        (sentence, word) for sentence, tokens in enumerate(examples.tokens) for word in range(len(tokens))
        if word not in labelled[sentence]
    ]  # fmt: skip
    assert len(missing) < 50  # characters that the tokenizer drops
    assert all(sorted(words) == words for words in labelled)
    right = torch.nn.functional.one_hot(TokenClassification().truth(encoded), 13).float()
    assert TokenClassification().score(right, encoded) > 0.99
