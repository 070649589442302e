# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import BertModel
from typer.testing import CliRunner

from bebert_edge.checkpoints import load
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import CheckpointError, TrainingError
from bebert_edge.training import Examples, TrainingOptions, load_member, train
from bebert_edge.training.augmentation import nearest_tokens, replace_tokens
from bebert_edge.training.data import EncodedExamples, LengthGroupedBatches
from bebert_edge.training.tasks import TextClassification
from bebert_edge.training.tasks.sentence_embedding import SentenceExamples
from latent import float_model, tokenizer, write_backbone, write_member

OPTIONS = TrainingOptions(
    epochs=1, batch_size=8, max_length=16, teacher_epochs=12, teacher_learning_rate=2e-3, calibration_share=0.0
)


def examples(count=40):
    good = [f"{'very ' * (i % 4)}good {'movie' if i % 2 else 'film'}" for i in range(count // 2)]
    bad = [f"{'very ' * (i % 4)}bad {'movie' if i % 2 else 'film'}" for i in range(count // 2)]
    return Examples(good + bad, None, [1] * (count // 2) + [0] * (count // 2), ["negative", "positive"])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return write_backbone(tmp_path_factory.mktemp("backbone"), initializer_range=0.1)


@pytest.mark.parametrize("method", ["boost", "bag", "snapshot", "independent"])
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
    assert result.score >= 0.9
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
    assert ensemble.config.metadata["dev_accuracy"] == f"{result.score:.4f}"
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
        ({"weigh_by": "alphas"}, "--weigh-by"),
        ({"weigh_by": "fitted", "calibration_share": 0.0}, "--calibration-share"),
    ]:
        with pytest.raises(TrainingError, match=option):
            TrainingOptions(**wrong)


@pytest.mark.parametrize(
    ("problem", "options", "message"),
    [
        ("single_label", {"pooling": "first"}, "--pooling"),
        ("regression", {"weigh_by": "fitted"}, "--weigh-by"),
    ],
)
def test_options_of_other_tasks_are_refused(tmp_path, backbone, problem, options, message):
    data = replace(examples(), problem=problem)
    with pytest.raises(TrainingError, match=message):
        train(data, tmp_path / "out", replace(OPTIONS, **options), backbone=backbone)


def test_models_that_do_not_fit(tmp_path, backbone):
    with pytest.raises(TrainingError, match="--backbone"):
        train(examples(), tmp_path / "out", OPTIONS)
    with pytest.raises(TrainingError, match="32 positions"):
        train(examples(), tmp_path / "out", replace(OPTIONS, max_length=64), backbone=backbone)
    with pytest.raises(CheckpointError, match="missing"):
        train(examples(), tmp_path / "out", OPTIONS, backbone=tmp_path / "absent")
    three = write_member(tmp_path / "three")
    with pytest.raises(TrainingError, match="has 2 labels, the data 3"):
        train(replace(examples(), label_names=["a", "b", "c"]), tmp_path / "out", OPTIONS, teacher=three)


def test_teachers_without_a_head_for_the_task_are_refused(tmp_path, backbone):
    BertModel(float_model().config).save_pretrained(tmp_path / "encoder")
    tokenizer().save_pretrained(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match=r"is a BertModel, without a head .* --backbone"):
        train(examples(), tmp_path / "out", OPTIONS, teacher=tmp_path / "encoder")
    data = SentenceExamples(["a good movie", "bad"])
    options = replace(OPTIONS, method="independent", combination="embeddings")
    with pytest.raises(CheckpointError, match="is a member for text-classification, without a head"):
        train(data, tmp_path / "out", options, teacher=write_member(tmp_path / "member"))


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
    lengths = [1 + i % 7 for i in range(24)]
    batches = list(LengthGroupedBatches(lengths, 4, batches=12, seed=0))
    epochs = [list(chain(*batches[:6])), list(chain(*batches[6:]))]
    assert [sorted(epoch) for epoch in epochs] == [list(range(24))] * 2
    assert epochs[0] != epochs[1]
    assert all(max(lengths[i] for i in batch) - min(lengths[i] for i in batch) <= 2 for batch in batches)
    assert list(LengthGroupedBatches(lengths, 4, batches=5, seed=0)) == batches[:5]
    assert list(LengthGroupedBatches(lengths, 4, batches=5, seed=1)) != batches[:5]


@pytest.mark.parametrize(("examples", "batch_size", "expected"), [(23, 4, 4), (3, 8, 3), (1, 1, 1)])
def test_batches_are_full_whatever_is_left_over(examples, batch_size, expected):
    batches = list(LengthGroupedBatches([1] * examples, batch_size, batches=9, seed=0))
    assert [len(batch) for batch in batches] == [expected] * 9
    assert all(len(set(batch)) == expected for batch in batches)


def test_replaced_tokens_come_from_the_batch_and_spare_separators():
    ids = [[2, *range(10, 10 + n), 3, *range(40, 40 + n), 3] for n in (3, 9, 5)]
    batch = EncodedExamples(ids, [[0] * len(i) for i in ids], torch.zeros(3, dtype=torch.long)).batch([0, 1, 2])
    torch.manual_seed(0)
    before, after = batch["input_ids"], replace_tokens(batch, 0.5)["input_ids"]
    fixed = (before == 2) | (before == 3) | (batch["attention_mask"] == 0)
    assert torch.equal(after[fixed], before[fixed])
    assert set(after[~fixed].tolist()) <= set(before[~fixed].tolist())
    assert 0.2 < (after != before)[~fixed].float().mean() < 0.8


def test_neighbours_are_the_most_similar_tokens():
    table = torch.randn(2100, 8, generator=torch.Generator().manual_seed(0))
    found = nearest_tokens(table, 3)
    unit = table.double() / table.double().norm(dim=1, keepdim=True)
    similarity = (unit @ unit.T).fill_diagonal_(-2)
    assert (found == similarity.topk(3, dim=1).indices).float().mean() > 0.999
    assert (found != torch.arange(2100)[:, None]).all()
    assert nearest_tokens(table[:3]).shape == (3, 2)


def test_neighbours_replace_tokens():
    ids = [[2, *range(10, 10 + n), 3] for n in (3, 9, 5)]
    batch = EncodedExamples(ids, [[0] * len(i) for i in ids], torch.zeros(3, dtype=torch.long)).batch([0, 1, 2])
    after = replace_tokens(batch, 0.5, torch.arange(100)[:, None] + torch.tensor([50, 70]))["input_ids"]
    before = batch["input_ids"]
    fixed = (before == 2) | (before == 3) | (batch["attention_mask"] == 0)
    assert torch.equal(after[fixed], before[fixed])
    moved = (after - before)[~fixed]
    assert set(moved.tolist()) == {0, 50, 70}


def scores(count=40):
    base = examples(count)
    return replace(base, labels=[5.0 * label for label in base.labels], label_names=["score"], problem="regression")


def several(count=40):
    base = examples(count)
    return replace(
        base, labels=[[label, 2] for label in base.labels], label_names=["a", "b", "c"], problem="multi_label"
    )


@pytest.mark.parametrize("make", [scores, several])
@pytest.mark.parametrize("boost_by", ["weights", "resampling"])
def test_regression_and_multi_label_tasks(tmp_path, backbone, make, boost_by):
    options = replace(
        OPTIONS, steps=60, learning_rate=2e-3, teacher_epochs=20, label_weight=1.0, boost_by=boost_by, new_head=True
    )
    result = train(make(), tmp_path / "out", options, backbone=backbone, dev=make())
    assert result.score >= 0.9
    config = load(tmp_path / "out").config
    assert config.task.problem == make().problem
    assert list(config.labels) == make().label_names


def test_what_a_member_learns_from():
    """The losses of distillation are those of the labels where the teacher is certain of them."""
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, 1, 0])
    certain = torch.full((5, 3), -100.0).scatter(1, labels[:, None], 100.0)
    value = torch.tensor([0.5, 1.0, -1.0, 3.0, 2.0])
    for problem, found, expected, truth in [
        ("single_label", logits, certain, labels),
        ("multi_label", logits, certain, (certain > 0).float()),
        ("regression", logits[:, :1], value[:, None], value),
    ]:
        task, batch = TextClassification(problem), {"labels": truth}
        torch.testing.assert_close(
            task.teacher_losses(found, expected, batch), task.label_losses(found, batch), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("distill", ["none", "logits", "layers"])
def test_members_learn_by_labels_logits_and_layers(tmp_path, backbone, distill):
    options = replace(OPTIONS, members=1, steps=80, learning_rate=2e-3, distill=distill)
    assert train(examples(), tmp_path / "out", options, backbone=backbone, dev=examples()).score >= 0.9


def test_stages_train_students_with_more_bits_first(tmp_path, backbone):
    options = replace(OPTIONS, members=1, bits=1, steps=40, learning_rate=2e-3, stages=(8, 2))
    seen = set()
    train(examples(), tmp_path, options, backbone=backbone, progress=lambda name, *rest: seen.add(name))
    assert seen == {"teacher", "stage-0-8bit", "stage-1-2bit", "member-0"}
    assert load(tmp_path / "stage-1-2bit").config.quantization.pooler == "int2"
    assert load(tmp_path).config.quantization.pooler == "sign"


@pytest.mark.parametrize("weigh_by", ["equal", "fitted"])
def test_members_weigh_what_is_asked_for(tmp_path, backbone, weigh_by):
    options = replace(OPTIONS, method="boost", calibration_share=0.25, members=2, steps=20, weigh_by=weigh_by)
    result = train(examples(), tmp_path, options, backbone=backbone)
    assert sum(result.member_weights) == pytest.approx(1)
    assert (result.member_weights == [0.5, 0.5]) == (weigh_by == "equal")
    assert load(tmp_path).config.member_weights == pytest.approx(tuple(result.member_weights))


def test_the_temperature_is_fitted_on_examples_that_nothing_was_trained_on(tmp_path, backbone):
    options = replace(OPTIONS, calibration_share=0.25, members=2, steps=60, learning_rate=2e-3)
    steps = []
    noisy = replace(examples(), labels=[1 - y if i % 5 == 0 else y for i, y in enumerate(examples().labels)])
    result = train(noisy, tmp_path, options, backbone=backbone, progress=lambda *step: steps.append(step))
    assert result.temperature != 1.0
    assert load(tmp_path).config.temperature == pytest.approx(result.temperature)
    assert steps[0][2] == 12 * 4  # epochs of the teacher: 30 of 40 examples are 4 batches of 8
    card = (tmp_path / "README.md").read_text()
    assert f"temperature {result.temperature:.4f}" in card


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

    other = CliRunner().invoke(app, [*arguments, "--members", "3"])
    assert other.exit_code == 1
    assert "members 2, this one has 3" in other.output
    assert "--overwrite" in other.output
    assert CliRunner().invoke(app, [*arguments, "--members", "1", "--overwrite"]).exit_code == 0
    assert PackedEnsemble.load(out / "packed").config.members == 1
