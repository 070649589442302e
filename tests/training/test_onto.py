# SPDX-License-Identifier: Apache-2.0
"""A further task for a trained ensemble: its encoders stay, its answers too, and the task is learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner

from bebert_edge import reference
from bebert_edge.checkpoints import load
from bebert_edge.cli.main import app
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import TrainingError
from bebert_edge.joining import join
from bebert_edge.runtime import EdgeModel
from bebert_edge.training import Examples, TrainingOptions, train
from latent import write_backbone
from support import random_batch

OPTIONS = TrainingOptions(
    steps=60,
    batch_size=8,
    max_length=16,
    learning_rate=2e-3,
    label_weight=1.0,
    teacher_epochs=12,
    teacher_learning_rate=2e-3,
    calibration_share=0.0,
    keep=("layers.0.qkv=int8",),
    embeddings="int8",
    new_head=True,
)
COUNT = 40


def tone() -> Examples:
    texts = [f"{'very ' * (i % 4)}{'good' if i < 20 else 'bad'} {'movie' if i % 2 else 'film'}" for i in range(COUNT)]
    return Examples(texts, None, [int(i < 20) for i in range(COUNT)], ["negative", "positive"])


def topic() -> Examples:
    """What the encoder of `tone` can tell apart, under other names and numbers."""
    return Examples(tone().texts, None, [2 * (1 - label) for label in tone().labels], ["praise", "neither", "blame"])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone"), initializer_range=0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    directory = tmp_path_factory.mktemp("trained")
    train(tone(), directory, OPTIONS, backbone=backbone)
    return directory


@pytest.mark.parametrize("distill", ["none", "layers"])
def test_heads_are_trained_and_encoders_are_not(tmp_path: Path, backbone: Path, trained: Path, distill: str) -> None:
    options = replace(OPTIONS, keep=(), embeddings="binary")  # which the ensemble decides, as the next ones
    options = replace(options, members=5, bits=1, max_length=9, distill=distill, steps=200, learning_rate=5e-3)
    result = train(topic(), tmp_path / "topic", options, backbone=backbone, onto=trained, dev=topic())
    assert result.score is not None
    assert result.score >= 0.9
    main, other = load(trained), load(tmp_path / "topic")
    joined = join(main, {"topic": other})  # which refuses encoders that differ in one bit
    feed = random_batch(main, [3, 7])
    answers = reference.forward_tasks(joined, **feed)
    for name, alone in {"": main, "topic": other}.items():
        np.testing.assert_array_equal(answers[name][0], reference.forward(alone, **feed)[0])


def test_from_training_to_answers_by_command(tmp_path: Path, backbone: Path, trained: Path) -> None:
    data = tmp_path / "topic.tsv"
    rows = zip(topic().texts, topic().labels, strict=True)
    data.write_text("text\tlabel\n" + "".join(f"{text}\t{topic().label_names[label]}\n" for text, label in rows))
    commands = [
        [
            "train",
            data,
            "-o",
            tmp_path / "topic",
            "--backbone",
            backbone,
            "--onto",
            trained,
            "--steps",
            5,
            "--new-head",
        ],
        ["pack", trained, "--join", f"topic={tmp_path / 'topic'}", "-o", tmp_path / "packed"],
        ["export", tmp_path / "packed", "-o", tmp_path / "model.onnx"],
        ["run", tmp_path / "model.onnx", "very good film", "--task", "topic"],
    ]
    for command in commands:
        result = CliRunner().invoke(app, [*map(str, command)])
        assert result.exit_code == 0, result.output
    assert PackedEnsemble.load(tmp_path / "packed").config.task_names == ("", "topic")
    assert set(EdgeModel(tmp_path / "model.onnx").of("topic").labels) == {"praise", "blame"}


def test_what_cannot_be_trained_onto_is_refused(tmp_path: Path, backbone: Path, trained: Path) -> None:
    with pytest.raises(TrainingError, match=r"--onto .*: ensemble.json is missing"):
        train(topic(), tmp_path, OPTIONS, backbone=backbone, onto=backbone)
    with pytest.raises(TrainingError, match="--initial and --onto"):
        train(topic(), tmp_path, OPTIONS, backbone=backbone, onto=trained, initial=backbone)
