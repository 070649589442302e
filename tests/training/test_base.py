# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner

from bebert_edge.checkpoints import load
from bebert_edge.cli.main import app
from bebert_edge.training import Examples, TrainingOptions, load_member, train
from bebert_edge.training.base import train_base
from bebert_edge.training.students import make_student
from bebert_edge.training.trainer import Schedule
from latent import float_model, write_backbone

TEXTS = [(f"{'very ' * (i % 5)}{'good' if i % 2 else 'bad'} movie", "a film" if i % 3 else None) for i in range(40)]
EXAMPLES = Examples([text for text, _ in TEXTS], None, [i % 2 for i in range(40)], ["negative", "positive"])
OPTIONS = TrainingOptions(
    steps=8, batch_size=8, max_length=16, teacher_epochs=1.0, calibration_share=0.0, learning_rate=2e-3
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return write_backbone(tmp_path_factory.mktemp("backbone"), initializer_range=0.1)


def test_a_base_learns_the_layers_of_its_backbone_without_labels(tmp_path, backbone):
    losses = []
    train_base(
        TEXTS,
        tmp_path / "base",
        Schedule(120, 8, 2e-3, 0),
        backbone=backbone,
        max_length=16,
        progress=lambda name, done, steps, loss: losses.append(loss),
    )
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


class KilledError(Exception):
    """Stands in for a kill."""


def test_an_interrupted_base_goes_on_and_another_run_does_not(tmp_path, backbone):
    schedule = Schedule(8, 8, 2e-3, 0, checkpoint_steps=2)
    steps = []

    def die(name, done, total, loss):
        if done == 5:
            raise KilledError

    def pretrain(name, bits, progress=lambda name, done, *_: steps.append(done)):
        train_base(TEXTS, tmp_path / name, schedule, backbone=backbone, bits=bits, max_length=16, progress=progress)

    with pytest.raises(KilledError):
        pretrain("base", 4, die)
    pretrain("base", 2)
    assert steps == list(range(1, 9))
    pretrain("base", 4)
    assert steps[8:] == [5, 6, 7, 8]
    pretrain("whole", 4)
    a, b = (load_member(tmp_path / name).state_dict() for name in ("base", "whole"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_members_take_the_encoder_of_a_base_and_the_head_of_their_teacher(tmp_path, backbone):
    train_base(TEXTS, tmp_path / "base", Schedule(3, 8, 2e-3, 0), backbone=backbone, max_length=16)
    base, teacher = load_member(tmp_path / "base"), float_model(seed=3)
    student = make_student(teacher, 4, initial=base)
    ours, theirs = student.bert.encoder.state_dict(), base.bert.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(student.classifier.weight, teacher.classifier.weight)
    assert torch.equal(student.bert.pooler.dense.weight, teacher.bert.pooler.dense.weight)
    train(EXAMPLES, tmp_path / "out", replace(OPTIONS, bits=1), backbone=backbone, initial=tmp_path / "base")
    assert load(tmp_path / "out").config.members == 2


def test_the_command_pretrains_from_files_of_several_kinds(tmp_path, backbone):
    lines = tmp_path / "lines.txt"
    lines.write_text("a good movie\n\na bad film\n")
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("sentence1\tsentence2\ngood movie\tbad movie\n")
    arguments = ["pretrain", str(lines), str(pairs), "--backbone", str(backbone), "-o", str(tmp_path / "base")]
    arguments += ["--steps", "2", "--max-length", "16", "--bits", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert load_member(tmp_path / "base").config.num_labels == 1
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0


def test_members_start_from_the_halves_of_a_ternary_model(tmp_path, backbone):
    seen = []

    def watch(name, done, steps, loss):
        if name not in seen:
            seen.append(name)

    options = replace(OPTIONS, start="ternary", method="independent")
    train(EXAMPLES, tmp_path, options, backbone=backbone, progress=watch)
    assert seen == ["teacher", "ternary", "member-0", "member-1"]
    halves = [load_member(tmp_path / name).bert.pooler.dense.weight for name in ("half-0", "half-1")]
    signs = [torch.where(half >= half.mean(1, keepdim=True), 1, -1) for half in halves]
    assert 0.1 < (signs[0] != signs[1]).float().mean() < 0.6  # they differ where the ternary weight is 0


def test_two_processes_train_together(tmp_path, backbone):
    """What `accelerate launch` starts on several GPUs, here on the CPU: gradients are averaged, one process writes."""
    data = tmp_path / "data.tsv"
    rows = zip(EXAMPLES.texts, EXAMPLES.labels, strict=True)
    data.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--master_port=29531",
        "--no-python",
    ]
    command = [sys.executable, "-c", "from bebert_edge.cli import main; main()", "train", str(data)]
    command += ["--backbone", str(backbone), "-o", str(tmp_path / "out"), "--steps", "3", "--batch-size", "4"]
    command += ["--max-length", "16", "--teacher-epochs", "0.5", "--device", "cpu", "--threads", "1"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *command], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "out").config.members == 2
    assert done.stdout.count("ensemble: temperature") == 1
