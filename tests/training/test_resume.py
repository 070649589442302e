# SPDX-License-Identifier: Apache-2.0
"""A training that is killed goes on as if nothing had happened."""

import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file

from bebert_edge.errors import TrainingError
from bebert_edge.training import Examples, TrainingOptions, train
from latent import write_backbone

OPTIONS = TrainingOptions(
    bits=2, steps=14, batch_size=4, max_length=16, teacher_epochs=1.0, calibration_share=0.1, checkpoint_steps=3
)
EXAMPLES = Examples(
    [f"{'very ' * (i % 5)}{'good' if i % 2 else 'bad'} movie" for i in range(40)],
    None,
    [i % 2 for i in range(40)],
    ["-", "+"],
)


class KilledError(Exception):
    """Stands in for a kill: raised between two steps."""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return write_backbone(tmp_path_factory.mktemp("backbone"), initializer_range=0.1)


def weights(directory):
    return {
        f"{path.parent.name}.{name}": tensor
        for path in sorted(directory.glob("*/model.safetensors"))
        for name, tensor in load_file(path).items()
    }


def assert_same(a, b):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", ["boost", "snapshot", "bag"])
def test_a_run_interrupted_in_every_part_ends_as_one_that_was_not(tmp_path, backbone, method):
    options = replace(OPTIONS, method=method)
    whole = train(EXAMPLES, tmp_path / "whole", options, backbone=backbone)
    for part, step in [("teacher", 5), ("member-0", 1), ("member-0", 10), ("member-1", 4)]:

        def die(name, done, steps, loss, part=part, step=step):
            if (name, done) == (part, step):
                raise KilledError

        with pytest.raises(KilledError):
            train(EXAMPLES, tmp_path / "parts", options, backbone=backbone, progress=die)
    steps = []
    resumed = train(
        EXAMPLES,
        tmp_path / "parts",
        options,
        backbone=backbone,
        progress=lambda name, done, *_: steps.append((name, done)),
    )
    assert steps[0] == ("member-1", 4)  # goes on after step 3, the newest checkpoint
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert resumed.member_weights == whole.member_weights
    assert resumed.temperature == whole.temperature
    assert (tmp_path / "whole" / "ensemble.json").read_text() == (tmp_path / "parts" / "ensemble.json").read_text()
    assert not (tmp_path / "parts" / "unfinished").exists()


def test_a_killed_process_can_be_started_again(tmp_path, backbone):
    data = tmp_path / "data.tsv"
    rows = zip(EXAMPLES.texts, EXAMPLES.labels, strict=True)
    data.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))

    def command(out):
        return [
            *(sys.executable, "-c", "from bebert_edge.cli import main; main()", "train", str(data), "-o", str(out)),
            *("--backbone", str(backbone), "--bits", "1", "--steps", "60", "--batch-size", "4", "--max-length", "16"),
            *("--teacher-epochs", "1", "--checkpoint-steps", "1", "--device", "cpu", "--threads", "1"),
        ]

    killed = tmp_path / "killed"
    process = subprocess.Popen(command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    # Checkpoints are written at every step, so the signal often comes in the middle of one.
    while len(list(killed.glob("unfinished/member-0-checkpoints/checkpoint-*"))) < 2:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "ensemble.json").exists()

    for out in (killed, tmp_path / "whole"):
        subprocess.run(command(out), check=True, stdout=subprocess.DEVNULL, timeout=240)
    assert_same(killed, tmp_path / "whole")
    assert_same(killed / "packed", tmp_path / "whole" / "packed")


def test_a_run_with_other_arguments_is_refused(tmp_path, backbone):
    def die(name, done, steps, loss):
        if done == 5:  # a checkpoint is there
            raise KilledError

    with pytest.raises(KilledError):
        train(EXAMPLES, tmp_path, OPTIONS, backbone=backbone, progress=die)
    for other in (
        lambda: train(EXAMPLES, tmp_path, replace(OPTIONS, seed=1), backbone=backbone),
        lambda: train(EXAMPLES, tmp_path, OPTIONS, teacher=backbone),
        lambda: train(replace(EXAMPLES, label_names=["no", "yes"]), tmp_path, OPTIONS, backbone=backbone),
    ):
        with pytest.raises(TrainingError, match="--overwrite"):
            other()
