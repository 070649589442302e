# SPDX-License-Identifier: Apache-2.0
"""Ensembles with the same encoders become one with several tasks: its answers are theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bebert_edge import reference
from bebert_edge.cli.main import app
from bebert_edge.config import TaskConfig
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import FormatError
from bebert_edge.joining import join
from bebert_edge.runtime import EdgeModel
from support import random_batch, random_ensemble

HEADS = ("pooler.", "classifier.", "transform.", "decoder.")
TASKS = {
    "topic": random_ensemble(labels=("sport", "politics", "art"), temperature=2.0, seed=1),
    "names": random_ensemble(task=TaskConfig("token-classification"), labels=("O", "B-LOC"), seed=2),
    "vector": random_ensemble(
        task=TaskConfig("sentence-embedding", "embedding", pooling="mean"), combination="concatenation"
    ),
    "guess": random_ensemble(task=TaskConfig("fill-mask", mask_id=4), seed=3),
}


def on_the_encoders_of(main: PackedEnsemble, other: PackedEnsemble) -> PackedEnsemble:
    shared = {name: main.tensors[name] for name in other.tensors if not name.startswith(HEADS)}
    return PackedEnsemble(other.config, {**other.tensors, **shared}, other.tokenizer)


MAIN = random_ensemble()
OTHERS = {name: on_the_encoders_of(MAIN, other) for name, other in TASKS.items()}


def test_the_joined_ensemble_answers_as_each_alone() -> None:
    joined = join(MAIN, OTHERS)
    feed = random_batch(MAIN, [4, 9, 1])
    answers = reference.forward_tasks(joined, **feed)
    for name, alone in {"": MAIN, **OTHERS}.items():
        for found, expected in zip(answers[name], reference.forward(alone, **feed), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_head_that_guesses_tokens_can_be_the_main_one() -> None:
    joined = join(OTHERS["guess"], {"topic": OTHERS["topic"]})
    feed = random_batch(MAIN, [4, 9, 1])
    answers = reference.forward_tasks(joined, **feed)
    for name, alone in {"": OTHERS["guess"], "topic": OTHERS["topic"]}.items():
        np.testing.assert_array_equal(answers[name][0], reference.forward(alone, **feed)[0])


def test_each_task_keeps_the_weights_of_its_pooler() -> None:
    kept = {"layers.0.qkv": "int8", "pooler": "int8"}
    main = random_ensemble(weights=kept)
    others = {
        "same": on_the_encoders_of(main, random_ensemble(weights=kept, seed=1)),
        "other": on_the_encoders_of(main, random_ensemble(weights={**kept, "pooler": "float16"}, seed=2)),
        "none": on_the_encoders_of(main, random_ensemble(weights={"layers.0.qkv": "int8"}, seed=3)),
    }
    joined = join(join(main, {"same": others["same"]}), {name: others[name] for name in ("other", "none")})
    assert joined.config.quantization.weights == {
        **kept,
        "heads.same.pooler": "int8",
        "heads.other.pooler": "float16",
    }
    feed = random_batch(main, [4, 9, 1])
    answers = reference.forward_tasks(joined, **feed)
    for name, alone in {"": main, **others}.items():
        for found, expected in zip(answers[name], reference.forward(alone, **feed), strict=True):
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(FormatError, match="quantization is"):
        join(main, {"binary": random_ensemble(weights={"pooler": "int8"})})


def test_tasks_can_be_joined_one_after_the_other() -> None:
    joined = MAIN
    for name, other in OTHERS.items():
        joined = join(joined, {name: other})
    assert joined.config == join(MAIN, OTHERS).config
    assert joined.tensors.keys() == join(MAIN, OTHERS).tensors.keys()


def test_what_does_not_share_the_encoders_is_refused() -> None:
    topic = OTHERS["topic"]
    for other, message in [
        (TASKS["topic"], r"tensor embeddings.word.bits is not that .* --onto"),
        (random_ensemble(members=3), "members is 3, expected 2"),
        (random_ensemble(member_weights=(0.25, 0.75)), "member_weights is"),
        (random_ensemble(bits=1), "quantization is"),
        (replace(topic, tokenizer=topic.tokenizer.replace("movie", "story")), "its tokenizer is not that"),
        (join(topic, {"more": topic}), "has several tasks"),
    ]:
        with pytest.raises(FormatError, match=f"task x: .*{message}|{message}"):
            join(MAIN, {"x": other})
    with pytest.raises(FormatError, match="a name of its own"):
        join(join(MAIN, {"topic": topic}), {"topic": topic})


def test_the_command_joins_packs_exports_and_answers(tmp_path: Path) -> None:
    for name, ensemble in {"main": MAIN, **OTHERS}.items():
        ensemble.save(tmp_path / name)
    tasks = [argument for name in OTHERS for argument in ("--join", f"{name}={tmp_path / name}")]
    result = CliRunner().invoke(app, ["pack", str(tmp_path / "main"), *tasks, "-o", str(tmp_path / "joined")])
    assert result.exit_code == 0, result.output
    assert PackedEnsemble.load(tmp_path / "joined").config == join(MAIN, OTHERS).config
    result = CliRunner().invoke(app, ["export", str(tmp_path / "joined"), "-o", str(tmp_path / "model.onnx")])
    assert result.exit_code == 0, result.output
    assert "with the native library, task names: labels agree" in result.stdout
    result = CliRunner().invoke(app, ["pack", str(tmp_path / "main"), "--join", "topic", "-o", str(tmp_path / "x")])
    assert "expected NAME=DIR" in result.stderr
    result = CliRunner().invoke(
        app, ["pack", str(tmp_path / "main"), "--labels", "a,b", "-o", str(tmp_path / "x")], catch_exceptions=True
    )
    assert result.exit_code == 1
    assert "were decided when it was packed" in result.stderr
    assert EdgeModel(tmp_path / "model.onnx").of("topic").labels == ("sport", "politics", "art")
