# SPDX-License-Identifier: Apache-2.0
"""Question answering: from logits to answers; from training to evaluation."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner

from bebert_edge.checkpoints import load
from bebert_edge.cli.main import app
from bebert_edge.errors import TrainingError
from bebert_edge.evaluation import open_model
from bebert_edge.evaluation.tasks import evaluate_task, open_task
from bebert_edge.exporters import export
from bebert_edge.runtime import EdgeModel
from bebert_edge.runtime.answers import LONGEST_ANSWER, best_span
from bebert_edge.runtime.windows import WindowEncoder
from bebert_edge.training import TrainingOptions, load_member, train
from bebert_edge.training.question_files import QuestionExamples, read_questions
from bebert_edge.training.squad import best_scores, exact_match, normalized, word_f1
from bebert_edge.training.tasks import QuestionAnswering
from latent import tokenizer, write_backbone
from support import tokenizer_json

OPTIONS = TrainingOptions(
    members=2,
    method="independent",
    steps=80,
    batch_size=8,
    max_length=24,
    learning_rate=2e-3,
    label_weight=1.0,
    teacher_epochs=30,
    teacher_learning_rate=2e-3,
    calibration_share=0.1,
    replaced=0.0,
)


def questions(count: int = 40, unanswerable: bool = False) -> QuestionExamples:
    """Which film: the one after "good" or "bad", whatever is asked."""
    examples = QuestionExamples([], [], [], ["start", "end"])
    for i in range(count):
        name = "xyz"[i % 3]
        context = f"{'it is a ' * (i % 4)}film , the movie {name} was {'very ' * (i % 2)}good"
        nothing = unanswerable and i % 4 == 0
        examples.questions.append("which movie ?")
        examples.contexts.append(context.replace("movie", "film") if nothing else context)
        examples.answers.append([] if nothing else [(name, context.index(f"{name} was"))])
    return examples


def test_the_best_span_is_the_best_of_all_spans() -> None:
    """Against a search of every pair of tokens of every window."""
    context = " ".join(f"movie {i} is good ," for i in range(14))
    (text,) = WindowEncoder(tokenizer_json(), 48, True).encode([("is it good ?", context)])
    assert len(text.windows) > 2
    generator = np.random.default_rng(0)
    for _ in range(5):
        logits = [generator.normal(0, 3, (len(window.ids), 2)) for window in text.windows]
        best, nothing = best_span(text, logits)
        expected, empties = (-1.0, 0, 0), []
        for window, found in zip(text.windows, logits, strict=True):
            first, end = window.tokens
            places = [0, *range(window.place, window.place + end - first)]
            p = np.exp(found[places]) / np.exp(found[places]).sum(0)
            empties.append(p[0, 0] * p[0, 1])
            for a in range(1, len(places)):
                for b in range(a, min(a + LONGEST_ANSWER, len(places))):
                    span = text.spans[first + a - 1][0], text.spans[first + b - 1][1]
                    expected = max(expected, (p[a, 0] * p[b, 1], *span))
        assert (best.start, best.end) == expected[1:]
        assert best.score == pytest.approx(expected[0])
        assert nothing == pytest.approx(min(empties))


def test_an_empty_text_has_no_answer() -> None:
    (text,) = WindowEncoder(tokenizer_json(), 48, True).encode([("is it good ?", "")])
    best, nothing = best_span(text, [np.zeros((len(text.windows[0].ids), 2))])
    assert (best.start, best.end, best.score) == (0, 0, 0)
    assert nothing == 1


def test_answers_are_compared_as_in_squad() -> None:
    assert normalized(" The U.S.  Army's\ta-b ") == "us armys ab"
    assert exact_match("the Army", "army.") == 1
    assert word_f1("a red big car", "the big red bus") == pytest.approx(2 / 3)
    assert word_f1("very very good", "very good good") == pytest.approx(2 / 3)
    assert best_scores("Paris", ["London", "in Paris"]) == (0, pytest.approx(2 / 3))
    assert best_scores("", []) == (1, 1)
    assert best_scores("Paris", []) == best_scores("", ["Paris"]) == (0, 0)
    assert best_scores("the", ["an"]) == (1, 1)  # nothing is left of either


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("questions")
    backbone = write_backbone(directory / "backbone", initializer_range=0.1)
    result = train(questions(), directory / "out", OPTIONS, backbone=backbone, dev=questions())
    assert result.metric == "F1"
    assert result.score is not None
    assert result.score > 0.8
    config = load(directory / "out").config
    assert (config.task.type, config.labels, config.task.text_pair) == ("question-answering", ("start", "end"), True)
    assert "qa_outputs.weight" in load_member(directory / "out" / "member-0").state_dict()
    export(directory / "out", directory / "model.onnx")
    return directory


def test_the_whole_way(trained: Path) -> None:
    examples = questions()
    model = EdgeModel(trained / "model.onnx", threads=1)
    answers = model.predict(list(zip(examples.questions, examples.contexts, strict=True)))
    right = [(found.answer, found.start) == truth[0] for found, truth in zip(answers, examples.answers, strict=True)]
    assert np.mean(right) > 0.8
    for found in answers:
        assert found.answer == found.text[found.start : found.end]
        assert len(found.member_answers) == 2
        assert found.members_agree == sum(answer == found.answer for answer in found.member_answers)
        assert 0 < found.score <= 1
    long = "it is very bad , " * 30 + examples.contexts[0]
    (found,) = model.predict([("which movie ?", long)])
    assert found.windows > 5
    assert found.text[found.start : found.end] == found.answer


def write(path: Path, examples: QuestionExamples) -> Path:
    rows = zip(examples.questions, examples.contexts, examples.answers, strict=True)
    with path.open("w") as file:
        for question, context, answers in rows:
            listed = [{"text": text, "answer_start": start} for text, start in answers]
            file.write(json.dumps({"question": question, "context": context, "answers": listed}) + "\n")
    return path


def test_evaluation_of_every_kind_of_model(trained: Path) -> None:
    data = write(trained / "dev.jsonl", questions())
    evaluation = open_task("question-answering", data, resamples=100)
    paths = [trained / "model.onnx", trained / "out", trained / "out" / "member-0", trained / "out" / "teacher"]
    report = evaluate_task([open_model(path, threads=1) for path in paths], evaluation)
    onnx, latent, member, teacher = report.models
    assert report.counts == {"questions": 40, "without an answer": 0}
    assert onnx.scores == latent.scores
    assert onnx.scores["f1"].value > 0.8
    assert teacher.scores["f1"].value > 0.8
    assert member.scores["f1"].value == onnx.members[0].value
    done = CliRunner().invoke(app, ["evaluate", str(paths[0]), "--data", str(data), "--bootstrap", "0"])
    assert done.exit_code == 0, done.output
    assert "question-answering, 40 questions" in done.stdout
    assert f"{100 * onnx.scores['exact_match'].value:.2f}" in done.stdout


def test_run_prints_answers(trained: Path) -> None:
    context = questions().contexts[1]

    def run(*arguments: str) -> str:
        command = ["run", str(trained / "model.onnx"), "which movie ?", "--pair", context, "--threads", "1"]
        done = CliRunner().invoke(app, [*command, *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    record = json.loads(run("--format", "json"))
    assert record["answer"] == context[record["start"] : record["end"]] == "y"
    header, line = run().splitlines()
    assert header.split() == ["question", "characters", "probability", "members", "answer"]
    assert f"{record['start']}-{record['end']}" in line
    assert line.endswith("y")
    (row,) = csv.DictReader(io.StringIO(run("--format", "csv")))
    assert (row["answer"], row["start"]) == ("y", str(record["start"]))


def test_the_command_trains_without_boosting(trained: Path) -> None:
    data = write(trained / "train.jsonl", questions(8, unanswerable=True))
    command = ["train", str(data), "--task", "question-answering", "--backbone", str(trained / "backbone")]
    command += ["-o", str(trained / "short"), "--steps", "2", "--max-length", "20", "--members", "1"]
    done = CliRunner().invoke(app, [*command, "--dev", str(data)])
    assert done.exit_code == 0, done.output
    assert "ensemble: dev F1" in done.stdout
    done = CliRunner().invoke(app, [*command, "--method", "boost", "--overwrite"])
    assert done.exit_code == 1
    assert "pass --method independent" in done.output


def test_what_does_not_fit_is_refused(trained: Path, tmp_path: Path) -> None:
    teacher = trained / "out" / "teacher"
    with pytest.raises(TrainingError, match="--method is 'boost'"):
        train(questions(), tmp_path, replace(OPTIONS, method="boost"), teacher=teacher)
    with pytest.raises(TrainingError, match="--combination is 'probabilities', expected logits"):
        train(questions(), tmp_path, replace(OPTIONS, combination="probabilities"), teacher=teacher)


def test_windows_are_examples_and_hold_the_answer_or_not() -> None:
    long = "it was very bad , " * 10
    one = questions(2)
    examples = replace(one, contexts=[one.contexts[0] + " " + long, long + one.contexts[1]],
        answers=[one.answers[0], [("y", len(long) + one.answers[1][0][1])]])  # fmt: skip
    encoded = QuestionAnswering().encode(examples, tokenizer(), 24)
    assert len(encoded) > 6
    held = 0
    for ids, (begin, end), places in zip(encoded.ids, encoded.labels.tolist(), encoded.eligible, strict=True):
        assert places[begin]
        assert begin == end
        held += begin > 0
        assert tokenizer().convert_ids_to_tokens(ids[begin]) in (("x", "y") if begin else ("[CLS]",))
    assert 2 <= held < len(encoded)
    perfect = torch.full((2 * len(encoded), max(map(len, encoded.ids))), -1e30)
    perfect[torch.arange(2 * len(encoded)), QuestionAnswering().truth(encoded)] = 9.0
    assert QuestionAnswering().score(perfect, encoded) == 1


def test_held_out_texts_are_not_trained_on() -> None:
    examples = questions()
    training, held_out = examples.split(0.2, 0)
    assert not set(training.contexts) & set(held_out.contexts)
    assert len(training) + len(held_out) == len(examples)


def test_files_of_questions(tmp_path: Path) -> None:
    squad = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "a good movie", "qas": [
        {"id": "1", "question": "what ? ", "answers": [{"text": "good", "answer_start": 2}], "is_impossible": False},
        {"id": "2", "question": "who", "answers": [], "plausible_answers": [], "is_impossible": True},
    ]}]}]}  # fmt: skip
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    found = read_questions(tmp_path / "squad.json")
    assert found.questions == ["what ?", "who"]
    assert found.answers == [[("good", 2)], []]
    assert not found.answerable
    row = {"question": "q", "context": "a good movie", "answers": {"text": ["good"], "answer_start": [2]}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert read_questions(tmp_path / "a.jsonl").answers == [[("good", 2)]]
    for answers, message in [
        ([{"text": "good", "answer_start": 3}], "at character 3, where the text has 'ood '"),
        ("bad", "'bad' at character -1"),
        ([{"answer_start": 1}], "expected characters of the text"),
        (7, "has the answers 7, expected a list"),
    ]:
        (tmp_path / "b.jsonl").write_text(json.dumps(row | {"answers": answers}))
        with pytest.raises(TrainingError, match=message):
            read_questions(tmp_path / "b.jsonl")
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(TrainingError, match="is no file of SQuAD"):
        read_questions(tmp_path / "c.json")


DATASETS = Path(os.environ.get("BEBERT_EDGE_DATASETS", "/nowhere"))


@pytest.mark.skipif(not (DATASETS / "squad").is_dir(), reason="BEBERT_EDGE_DATASETS names no folder with squad")
def test_real_questions_have_their_answers_in_windows() -> None:
    examples = read_questions(DATASETS / "squad" / "dev.jsonl.gz").select(range(0, 1190, 60))
    assert examples.answerable
    encoded = QuestionAnswering().encode(examples, tokenizer(), 128)
    perfect = torch.full((2 * len(encoded), 128), -1e30)
    perfect[torch.arange(2 * len(encoded)), QuestionAnswering().truth(encoded)] = 9.0
    assert QuestionAnswering().score(perfect, encoded) > 0.9  # a few answers are longer than the longest


def test_long_questions_say_that_they_are_cut(trained: Path) -> None:
    arguments = ["run", str(trained / "model.onnx"), "very " * 50, "--pair", "a good movie", "--threads", "1"]
    done = CliRunner().invoke(app, arguments)
    assert "1 truncated: questions of more than 64 tokens" in done.stderr
    assert done.stdout.rstrip().endswith("truncated")
