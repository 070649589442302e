# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner

from bebert_edge.checkpoints import load
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import CheckpointError, TrainingError
from bebert_edge.training import Examples, TrainingOptions, load_member, train
from bebert_edge.training.data import EncodedExamples
from latent import float_model, write_backbone, write_member

OPTIONS = TrainingOptions(epochs=1, batch_size=8, max_length=16, teacher_epochs=12, teacher_learning_rate=2e-3)


def examples(count=40):
    good = [f"{'very ' * (i % 4)}good {'movie' if i % 2 else 'film'}" for i in range(count // 2)]
    bad = [f"{'very ' * (i % 4)}bad {'movie' if i % 2 else 'film'}" for i in range(count // 2)]
    return Examples(good + bad, None, [1] * (count // 2) + [0] * (count // 2), ["negative", "positive"])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return write_backbone(tmp_path_factory.mktemp("backbone"), initializer_range=0.1)


@pytest.mark.parametrize("method", ["boost", "independent"])
def test_an_ensemble_learns_a_simple_task_and_packs(tmp_path, backbone, method):
    options = replace(OPTIONS, method=method, steps=60, learning_rate=2e-3, label_weight=1.0)
    steps = []
    result = train(
        examples(),
        tmp_path / "out",
        options,
        backbone=backbone,
        dev=examples(),
        metadata={"name": "tiny"},
        progress=lambda name, done, total, loss: steps.append((name, done, total)),
    )
    assert result.accuracy >= 0.9
    assert [s for s in steps if s[1] == s[2]] == [
        ("teacher", 60, 60),
        ("member-0", 60, 60),
        ("member-1", *([30] * 2 if method == "boost" else [60] * 2)),
    ]
    ensemble = load(tmp_path / "out")
    assert ensemble.config.members == 2
    assert ensemble.config.labels == ("negative", "positive")
    assert ensemble.config.member_weights == pytest.approx(result.member_weights)
    assert ensemble.config.metadata["name"] == "tiny"
    assert ensemble.config.metadata["dev_accuracy"] == f"{result.accuracy:.4f}"
    bits = ensemble.tensors["layers.0.qkv.bits"]
    assert not np.array_equal(bits[0], bits[1])


def test_the_same_seed_gives_the_same_members(tmp_path, backbone):
    for name in ("a", "b"):
        train(examples(), tmp_path / name, replace(OPTIONS, members=1, steps=3), backbone=backbone)
    a, b = (load_member(tmp_path / name / "member-0").state_dict() for name in ("a", "b"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_member_with_more_bits_teaches_and_starts_one_with_fewer(tmp_path, backbone):
    train(examples(), tmp_path / "four", replace(OPTIONS, members=1, steps=3), backbone=backbone)
    four = tmp_path / "four" / "member-0"
    train(examples(), tmp_path / "one", replace(OPTIONS, bits=1, members=1, steps=1), teacher=four, initial=four)
    latent = [load_member(tmp_path / n / "member-0").bert.pooler.dense.weight for n in ("four", "one")]
    assert (latent[0] - latent[1]).abs().max() < 0.01
    assert load(tmp_path / "one").config.quantization.pooler == "sign"


def test_settings_that_cannot_work():
    for wrong, option in [
        ({"bits": 3}, "--bits"),
        ({"members": 0}, "--members"),
        ({"learning_rate": 0.0}, "--learning-rate"),
    ]:
        with pytest.raises(TrainingError, match=option):
            TrainingOptions(**wrong)


def test_models_that_do_not_fit(tmp_path, backbone):
    with pytest.raises(TrainingError, match="--backbone"):
        train(examples(), tmp_path, OPTIONS)
    with pytest.raises(TrainingError, match="32 positions"):
        train(examples(), tmp_path, replace(OPTIONS, max_length=64), backbone=backbone)
    with pytest.raises(CheckpointError, match="missing"):
        train(examples(), tmp_path, OPTIONS, backbone=tmp_path / "absent")
    three = write_member(tmp_path / "three")
    with pytest.raises(TrainingError, match="has 2 labels, the data 3"):
        train(replace(examples(), label_names=["a", "b", "c"]), tmp_path, OPTIONS, teacher=three)


def test_a_model_that_diverges_is_not_saved(tmp_path, backbone):
    model = float_model()
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(tmp_path / "teacher")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "teacher" / name).write_bytes((backbone / name).read_bytes())
    with pytest.raises(TrainingError, match="diverged"):
        train(examples(), tmp_path / "out", OPTIONS, teacher=tmp_path / "teacher")
    assert not (tmp_path / "out" / "member-0").exists()


def test_every_example_comes_once_an_epoch():
    data = EncodedExamples([[1] * (1 + i % 7) for i in range(23)], [[0] * (1 + i % 7) for i in range(23)], [0] * 23)
    shuffled = data.shuffled(4, seed=0)
    epochs = [torch.cat([next(shuffled).index for _ in range(6)]).tolist() for _ in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(23))] * 2
    assert epochs[0] != epochs[1]
    assert sorted(torch.cat([b.index for b in data.sequential(4)]).tolist()) == list(range(23))


def test_replaced_tokens_come_from_the_batch_and_spare_separators():
    from bebert_edge.training.distillation import _augment

    ids = [[2, *range(10, 10 + n), 3, *range(40, 40 + n), 3] for n in (3, 9, 5)]
    batch = next(EncodedExamples(ids, [[0] * len(i) for i in ids], [0] * 3).sequential(3))
    torch.manual_seed(0)
    augmented = _augment(batch, 0.5)
    fixed = (batch.input_ids == 2) | (batch.input_ids == 3) | (batch.attention_mask == 0)
    assert torch.equal(augmented.input_ids[fixed], batch.input_ids[fixed])
    assert set(augmented.input_ids[~fixed].tolist()) <= set(batch.input_ids[~fixed].tolist())
    changed = (augmented.input_ids != batch.input_ids)[~fixed].float().mean()
    assert 0.2 < changed < 0.8


def test_the_command_trains_packs_and_reports(tmp_path, backbone):
    from bebert_edge.cli.main import app

    rows = examples()
    data = tmp_path / "data.tsv"
    data.write_text("sentence\tlabel\n" + "".join(f"{t}\t{y}\n" for t, y in zip(rows.texts, rows.labels, strict=True)))
    out = tmp_path / "out"
    arguments = [
        *("train", str(data), "--backbone", str(backbone), "-o", str(out), "--steps", "2", "--max-length", "16"),
        *("--dev", str(data), "--label-names", "negative,positive", "--license", "none"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "ensemble: dev accuracy" in result.stdout
    ensemble = PackedEnsemble.load(out / "packed")
    assert ensemble.config.metadata["license"] == "none"
    assert json.loads((out / "ensemble.json").read_text())["members"] == ["member-0", "member-1"]

    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.output
