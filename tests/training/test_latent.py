# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file

from bebert_edge.errors import CheckpointError, TrainingError
from bebert_edge.training.latent import load_float, load_member, load_model, load_tokenizer, save_member
from latent import binary_model, float_model, tokenizer, write_backbone, write_member

ABC = ["a", "b", "c"]
SETTINGS = dict(bits=4, labels=["negative", "positive"], text_pair=False, max_length=24)


@pytest.fixture
def backbone(tmp_path):
    return write_backbone(tmp_path / "backbone", labels=3)


def change_tensors(directory, change):
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def change_config(directory, **entries):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | entries))


def kept(directory):
    """Names in the parent of a member, without backbones."""
    return sorted(path.name for path in directory.parent.iterdir() if path.name != "backbone")


def test_tensors_are_saved_bit_by_bit(tmp_path):
    model = binary_model(4)
    with torch.no_grad():
        values = torch.tensor([-0.0, 1e-45, -1e-40, 3.4028235e38, 1 / 3])
        model.classifier.weight.view(-1)[: len(values)] = values
    save_member(model, tokenizer(), tmp_path / "member", **SETTINGS)
    loaded = load_member(tmp_path / "member").state_dict()
    assert loaded.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name].view(torch.int32), tensor.view(torch.int32)), name


def test_tensors_that_would_be_rounded_are_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"float64, expected a model in float32"):
        save_member(binary_model(4).double(), tokenizer(), tmp_path / "member", **SETTINGS)
    assert kept(tmp_path / "member") == []


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        ("single_label", "single_label_classification"),
        ("multi_label", "multi_label_classification"),
        ("regression", "regression"),
    ],
)
def test_the_problem_is_kept(tmp_path, backbone, problem, name):
    write_member(tmp_path / "member", problem=problem)
    config = json.loads((tmp_path / "member" / "config.json").read_text())
    assert config["bebert_edge"]["problem"] == problem
    assert load_member(tmp_path / "member").config.problem_type == name
    assert load_float(backbone, ABC, problem).config.problem_type == name


def test_members_without_a_problem_have_single_labels(tmp_path):
    directory = write_member(tmp_path / "member")
    section = json.loads((directory / "config.json").read_text())["bebert_edge"]
    change_config(directory, bebert_edge={key: value for key, value in section.items() if key != "problem"})
    assert load_member(directory).config.problem_type == "single_label_classification"
    change_config(directory, bebert_edge=section | {"problem": "ranking"})
    with pytest.raises(CheckpointError, match=r"problem is 'ranking', expected one of single_label, multi_label"):
        load_member(directory)


KILLED = """
import os, shutil, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from latent import binary_model, tokenizer
from bebert_edge.training.latent import save_member

model, left = binary_model(4, seed=1), 0

def dying(function):
    def call(*arguments, **settings):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return function(*arguments, **settings)
    return call

shutil.rmtree = dying(shutil.rmtree)
for name in ("rename", "mkdir", "write_text"):
    setattr(Path, name, dying(getattr(Path, name)))
for run in sorted(Path({directory!r}).iterdir(), key=lambda path: int(path.name)):
    left = int(run.name)
    if not (child := os.fork()):
        save_member(model, tokenizer(), run / "member", **{settings!r})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Replaces each member once, killed at the step that is its directory's name."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_kill_leaves_the_old_member_or_the_new(tmp_path):
    old, new = (write_member(tmp_path / name, seed=seed) for seed, name in enumerate(["old", "new"]))
    expected = [load_member(path).state_dict()["classifier.weight"] for path in (old, new)]
    runs = [tmp_path / "runs" / str(step) for step in range(1, 16)]
    for run in runs:
        shutil.copytree(old, run / "member")
    script = KILLED.format(
        paths=[path for path in sys.path if path], directory=str(tmp_path / "runs"), settings=SETTINGS
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    codes = [int(line) for line in result.stdout.split()]
    assert codes == sorted(codes, reverse=True), result.stderr
    assert set(codes) == {0, 9}
    found = []
    for run in runs:
        weight = load_member(run / "member").state_dict()["classifier.weight"]
        found.append([torch.equal(weight, tensor) for tensor in expected].index(True))
        write_member(run / "member", seed=1)
        assert kept(run / "member") == ["member"]
    assert found == sorted(found)
    assert set(found) == {0, 1}


def test_a_failure_leaves_the_old_member(tmp_path, monkeypatch):
    directory = write_member(tmp_path / "member")
    before = load_member(directory).state_dict()["classifier.weight"]

    def full(*arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(TrainingError, match=r"member cannot be written: No space left on device"):
        write_member(directory, seed=1)
    monkeypatch.undo()
    assert kept(directory) == ["member"]
    assert torch.equal(load_member(directory).state_dict()["classifier.weight"], before)


def test_a_head_of_another_size_is_replaced_only_on_demand(backbone):
    trained = load_float(backbone, ABC)
    assert trained.config.id2label == {0: "a", 1: "b", 2: "c"}
    with pytest.raises(CheckpointError, match=r"a head of 3 outputs, but the data 2 labels: .*--new-head"):
        load_float(backbone, ["a", "b"])
    for labels in (["a", "b"], ABC):
        new = load_float(backbone, labels, new_head=True)
        assert new.classifier.weight.shape == (len(labels), 32)
        assert new.config.num_labels == len(labels)
        assert torch.equal(new.bert.pooler.dense.weight, trained.bert.pooler.dense.weight)
        assert not torch.equal(new.classifier.weight[:2], trained.classifier.weight[:2])


def test_a_model_without_a_head_gets_one(backbone):
    float_model().bert.save_pretrained(backbone)
    torch.manual_seed(0)
    first = load_float(backbone, ABC)
    torch.manual_seed(0)
    assert torch.equal(first.classifier.weight, load_float(backbone, ABC).classifier.weight)
    assert torch.equal(first.bert.pooler.dense.weight, float_model().bert.pooler.dense.weight)


def test_a_head_of_the_same_labels_in_another_order_is_refused(backbone):
    change_config(backbone, id2label={"0": "Negative", "1": "neutral", "2": "positive"})
    assert load_float(backbone, ["negative", "neutral", "positive"]).config.num_labels == 3
    with pytest.raises(CheckpointError, match=r"negative, neutral, positive in this order, the data positive, neutral"):
        load_float(backbone, ["positive", "neutral", "negative"])
    load_float(backbone, ["positive", "neutral", "negative"], new_head=True)


def _without_query(tensors):
    del tensors["bert.encoder.layer.0.attention.self.query.weight"]


def _narrow(tensors):
    tensors["bert.embeddings.LayerNorm.weight"] = torch.ones(16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: change_tensors(d, _without_query), r"no tensor bert\.encoder\.layer\.0\..*query\.weight \(1 are"),
        (lambda d: change_tensors(d, _narrow), r"LayerNorm\.weight has shape \[16\], expected \[32\]"),
        (lambda d: change_config(d, model_type="gpt2"), "of type 'gpt2', expected one of the supported families: bert"),
        (lambda d: change_config(d, hidden_size="wide"), "cannot be loaded by transformers"),
        (lambda d: (d / "model.safetensors").write_bytes(b"12"), "cannot be loaded by transformers"),
        (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), "is a pickle"),
        (lambda d: (d / "config.json").unlink(), r"config\.json is missing"),
    ],
)
def test_models_that_cannot_be_loaded(backbone, change, message):
    change(backbone)
    with pytest.raises(CheckpointError, match=message):
        load_float(backbone, ABC)


def test_a_latent_checkpoint_is_no_float_model(tmp_path):
    member = write_member(tmp_path / "member")
    with pytest.raises(CheckpointError, match="is a latent checkpoint, expected a float model"):
        load_float(member, ["negative", "positive"])
    assert "quantizer" in str(load_model(member, ["negative", "positive"]))


def test_shards(backbone):
    load_float(backbone, ABC).save_pretrained(backbone, max_shard_size="20KB")
    (backbone / "model.safetensors").unlink(missing_ok=True)
    assert torch.equal(load_float(backbone, ABC).classifier.weight, float_model(labels=3).classifier.weight)


def test_tokenizers(backbone, tmp_path):
    assert load_tokenizer(backbone)("good").input_ids == tokenizer()("good").input_ids
    (backbone / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be loaded by transformers"):
        load_tokenizer(backbone)
    (backbone / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        load_tokenizer(backbone)
    for path in (tmp_path / "absent", backbone / "config.json"):
        with pytest.raises(CheckpointError, match=r"absent is missing|config\.json is a file"):
            load_tokenizer(path)


class TestHub:
    """Names on the Hugging Face hub, with a stand-in for its downloads."""

    @pytest.fixture
    def downloads(self, monkeypatch, backbone):
        calls = []

        def snapshot_download(name, *, allow_patterns):
            calls.append((name, allow_patterns))
            if name == "someone/absent":
                raise OSError("401 Client Error\nwith many lines")
            return str(backbone)

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
        return calls

    def test_safetensors_alone_are_downloaded(self, downloads):
        assert load_float("someone/bert", ABC).config.num_labels == 3
        assert load_tokenizer("someone/bert")("good").input_ids
        assert {name for name, _ in downloads} == {"someone/bert"}
        patterns = {pattern for _, patterns in downloads for pattern in patterns}
        assert "*.safetensors" in patterns
        assert not any("bin" in pattern or pattern == "*" for pattern in patterns)

    def test_the_family_is_checked_before_tensors_are_downloaded(self, downloads, backbone):
        change_config(backbone, model_type="t5")
        with pytest.raises(CheckpointError, match=r"someone/t5 is a model of type 't5'"):
            load_float("someone/t5", ABC)
        assert downloads == [("someone/t5", ["config.json"])]

    def test_out_of_reach(self, downloads):
        with pytest.raises(CheckpointError, match=r"did not give it \(401 Client Error\); check .*hf download someone"):
            load_float("someone/absent", ABC)

    @pytest.mark.parametrize("name", ["a/b/c", "./absent", "~/absent", "/absent", "ab sent", "../b"])
    def test_paths_are_never_looked_up(self, downloads, name):
        with pytest.raises(CheckpointError, match="is missing: expected a model directory, or a name"):
            load_float(name, ABC)
        assert downloads == []
