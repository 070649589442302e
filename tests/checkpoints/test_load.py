# SPDX-License-Identifier: Apache-2.0
import json
import pickle
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from bebert_edge.bits import unpack_bits
from bebert_edge.checkpoints import Options, load, read
from bebert_edge.checkpoints.bert import binarize_rows
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import CheckpointError
from latent import float_model, tokenizer, write_ensemble_file, write_latent_ensemble, write_member
from support import random_ensemble

WEIGHT = "bert.encoder.layer.1.intermediate.dense.weight"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_member(tmp_path_factory.mktemp("latent") / "member-0")


@pytest.fixture
def member(original, tmp_path):
    return shutil.copytree(original, tmp_path / "member-0")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_tensors(member, change):
    tensors = load_file(member / "model.safetensors")
    change(tensors)
    save_file(tensors, member / "model.safetensors")


def test_bits_and_scales_by_hand():
    bits, scale = binarize_rows(np.array([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]], np.float32))
    np.testing.assert_array_equal(bits, [[False, False, True], [True, True, True]])  # 0 counts as +1
    np.testing.assert_array_equal(scale, np.array([2.0, 0.0], np.float32))


def test_packed_tensors_are_those_of_the_latent_weights(member):
    latent = load_file(member / "model.safetensors")
    packed = load(member)
    weight = latent[WEIGHT]
    bits = unpack_bits(packed.tensors["layers.1.ffn_in.bits"][0], 32)
    np.testing.assert_array_equal(bits, weight >= weight.mean(1, keepdims=True, dtype=np.float64).astype(np.float32))
    step = latent["bert.encoder.layer.1.attention.self.key_quantizer.step"]
    np.testing.assert_array_equal(packed.tensors["layers.1.attention.key_step"], np.full((1, 4), step))
    np.testing.assert_array_equal(
        packed.tensors["embeddings.position"][0], latent["bert.embeddings.position_embeddings.weight"][:24]
    )
    assert packed.config.max_length == packed.config.encoder.positions == 24
    assert packed.config.encoder.activation == "relu"
    assert packed.config.quantization.layers[0].intermediate == "uint4"


def test_packing_twice_gives_the_same_bytes(member, tmp_path):
    for name in ("a", "b"):
        load(member).save(tmp_path / name)
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_tokenizer_loses_padding_and_truncation_only(member):
    def pad(content):
        content["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}

    before = json.loads((member / "tokenizer.json").read_text())
    edit(member / "tokenizer.json", pad)
    packed = json.loads(load(member).tokenizer)
    assert packed == before | {"truncation": None, "padding": None}


def test_members_and_weights_of_an_ensemble(tmp_path):
    for i in range(2):
        write_member(tmp_path / f"member-{i}", seed=i)
    write_ensemble_file(tmp_path, members=["member-0", "member-1"], member_weights=[3, 1], metadata={"name": "x"})
    packed = load(tmp_path)
    assert packed.config.member_weights == (0.75, 0.25)
    assert packed.config.metadata == {"name": "x"}
    assert load([tmp_path / "member-0", tmp_path / "member-1"]).config.member_weights == (0.5, 0.5)


@pytest.mark.parametrize(
    ("problem", "labels", "answer"),
    [
        ("single_label", ["no", "maybe", "yes"], {"combination": "probabilities", "temperature": 1.5}),
        ("multi_label", ["joy", "anger", "fear"], {"combination": "probabilities", "temperature": 2}),
        ("multi_label", ["toxic"], {"temperature": 0.5}),
        ("regression", ["similarity"], {}),
        ("regression", ["similarity"], {"combination": "logits", "temperature": 1.0}),
    ],
)
def test_problem_and_answer_reach_the_packed_ensemble(problem, labels, answer, tmp_path):
    write_latent_ensemble(tmp_path / "latent", bits=2, problem=problem, labels=labels, content=answer)
    packed = load(tmp_path / "latent")
    packed.save(tmp_path / "packed")
    for config in (packed.config, PackedEnsemble.load(tmp_path / "packed").config):
        assert (config.task.problem, list(config.labels)) == (problem, labels)
        assert (config.combination, config.temperature) == (
            answer.get("combination", "logits"),
            answer.get("temperature", 1),
        )
    alone = load(tmp_path / "latent" / "member-0").config  # combined and calibrated is the ensemble, not a member
    assert (alone.task.problem, alone.combination, alone.temperature) == (problem, "logits", 1.0)


def test_a_member_without_a_problem_has_a_single_label(member):
    edit(member / "config.json", lambda c: c["bebert_edge"].pop("problem"))
    write_ensemble_file(member.parent)
    config = load(member.parent).config
    assert (config.task.problem, config.combination, config.temperature) == ("single_label", "logits", 1.0)


def test_tables_that_all_members_share_are_stored_once(member, tmp_path):
    packed = load([member, shutil.copytree(member, tmp_path / "copy")])
    assert packed.tensors["embeddings.word.bits"].shape[0] == 1
    assert packed.tensors["layers.0.qkv.bits"].shape[0] == 2


def test_members_that_differ_are_refused(tmp_path):
    a = write_member(tmp_path / "a")
    others = {
        r"quantization.layers\[0\].hidden \('int2' and 'int4'\)": {"bits": 2},
        r"labels\[0\] \('x' and 'negative'\)": {"labels": ["x", "y"]},
        r"encoder.positions \(20 and 24\)": {"max_length": 20},
        "task.problem": {"problem": "multi_label"},
        r"the shape of classifier.bias \(\[3\] and \[2\]\)": {"labels": ["x", "y", "z"]},
    }
    for i, (difference, other) in enumerate(others.items()):
        with pytest.raises(CheckpointError, match=f"differ in {difference}"):
            load([a, write_member(tmp_path / str(i), **other)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(WEIGHT), rf"member-0/.* has a tensor {WEIGHT}, and .*other/model.safetensors has none"),
        (lambda t: t.update({"extra": np.ones(2)}), "other/.* has a tensor extra, and .*member-0/.* has none"),
    ],
)
def test_members_with_other_tensors_are_refused(member, tmp_path, change, message):
    other = shutil.copytree(member, tmp_path / "other")
    edit_tensors(other, change)
    with pytest.raises(CheckpointError, match=message):
        load([member, other])


def test_options_go_before_what_an_ensemble_says(tmp_path):
    write_latent_ensemble(tmp_path, bits=2, content={"combination": "probabilities", "temperature": 2.0})
    kept = read(tmp_path, Options(labels=("no", "yes"), max_length=12))
    config = kept.ensemble.config
    assert (config.labels, config.max_length, config.encoder.positions) == (("no", "yes"), 12, 12)
    assert (config.combination, config.temperature, kept.notes) == ("probabilities", 2.0, ())
    assert (kept.family, [file.parent.name for file in kept.files]) == ("bert", ["member-0", "member-1"])

    changed = read(tmp_path, Options(alpha=(3.0, 1.0), combination="logits"))
    config = changed.ensemble.config
    assert (config.member_weights, config.combination, config.temperature) == ((0.75, 0.25), "logits", 1.0)
    (note,) = changed.notes
    assert "left out the temperature 2" in note


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ("a", "b", "c")}, r"classifier.weight has 2 rows, but 3 labels were given \(a, b, c\)"),
        ({"max_length": 33}, "max_length is 33, but it has 32 positions"),
        ({"text_pair": True}, "was trained on single texts: leave out --text-pair"),
        ({"alpha": (1.0, 2.0)}, "has 1 members, but 2 weights were given"),
        ({"family": "roberta"}, "family is 'roberta', expected auto or one of bert"),
    ],
)
def test_options_that_do_not_fit(member, options, message):
    with pytest.raises(CheckpointError, match=message):
        load(member, Options(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": (1.0, 0.0)}, r"alpha is \[1.0, 0.0\], expected numbers > 0"),
        ({"alpha": (float("nan"),)}, "expected numbers > 0"),
        ({"alpha": ()}, "expected numbers > 0"),
        ({"combination": "votes"}, "combination is 'votes', expected one of logits, probabilities"),
        ({"labels": ("a", "a")}, "expected different names"),
        ({"labels": ("a", "")}, "none empty"),
    ],
)
def test_options_that_mean_nothing(options, message):
    with pytest.raises(CheckpointError, match=message):
        Options(**options)


def test_a_whole_ensemble_is_no_member(tmp_path):
    write_latent_ensemble(tmp_path, bits=2)
    with pytest.raises(CheckpointError, match=r"is a whole ensemble \(ensemble.json\)"):
        load([tmp_path, tmp_path / "member-0"])


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(member, missing):
    (member / missing).unlink()
    with pytest.raises(CheckpointError, match=f"{missing} is missing"):
        load(member)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(WEIGHT), rf"tensor {WEIGHT} is missing, expected shape \[48, 32\]"),
        (lambda t: t.update({WEIGHT: t[WEIGHT][1:]}), rf"{WEIGHT} has shape \[47, 32\], expected \[48, 32\]"),
        (lambda t: t.update({WEIGHT: np.full_like(t[WEIGHT], np.nan)}), rf"{WEIGHT} is nan at \[0, 0\]"),
        (
            lambda t: t["classifier.bias"].__setitem__(1, np.inf),
            r"classifier.bias is inf at \[1\]",
        ),
        (lambda t: t.update({WEIGHT: t[WEIGHT].astype(np.int32)}), rf"{WEIGHT} has dtype I32, expected F32"),
        (lambda t: t.update({"extra": t[WEIGHT].copy()}), "tensor extra is unknown"),
    ],
)
def test_damaged_tensors_are_named(member, change, message):
    edit_tensors(member, change)
    with pytest.raises(CheckpointError, match=message):
        load(member)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(num_attention_heads=5), "heads is 5"),
        (lambda c: c.update(hidden_size="32"), "hidden_size is '32'"),
        (lambda c: c.update(hidden_size=10**12), "has shape"),
        (lambda c: c.update(num_hidden_layers=10**9), "is missing, expected shape"),
        (lambda c: c.pop("vocab_size"), "vocab_size is None"),
        (lambda c: c.update(layer_norm_eps=-1.0), "layer_norm_eps is -1.0"),
        (lambda c: c.update(hidden_act="swish"), "'swish'"),
        (lambda c: c["bebert_edge"].update(format_version=2), "format_version is 2, expected 1"),
        (lambda c: c["bebert_edge"].update(bits=3), "bits|code type"),
        (lambda c: c["bebert_edge"].update(labels=[]), "labels"),
        (lambda c: c["bebert_edge"].update(problem="ranking"), "problem is 'ranking', expected one of single_label"),
        (lambda c: c["bebert_edge"].update(problem=None), "problem is None"),
        (lambda c: c["bebert_edge"].update(problem="regression"), "labels is .*expected one name for the problem"),
        (
            lambda c: c["bebert_edge"].update(embeddings="int2"),
            "embeddings is 'int2', expected one of binary, int8, int4",
        ),
        (lambda c: c["bebert_edge"].update(embeddings=[]), r"embeddings is \[\]"),
        (lambda c: c["bebert_edge"].update(distinct_layers=3), "distinct_layers is 3, expected a divisor of layers 2"),
        (lambda c: c["bebert_edge"].update(embedding_size="16"), "embedding_size is '16'"),
        (
            lambda c: c["bebert_edge"].update(embedding_size=16),
            r"embeddings.weight has shape .*, 32\], expected .*, 16\]",
        ),
        (lambda c: c["bebert_edge"].update(max_length=33), "max_length is 33, but it has 32 positions"),
        (lambda c: c.update(bebert_edge=[]), "bebert_edge is \\[\\]"),
        (lambda c: c.pop("bebert_edge"), "bebert-edge train"),
        (lambda c: c.update(model_type="gpt2"), "'gpt2'"),
    ],
)
def test_wrong_configurations_are_named(member, change, message):
    edit(member / "config.json", change)
    with pytest.raises(CheckpointError, match=message):
        load(member)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_files(member, keep):
    path = member / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        load(member)


def test_a_pickle_by_another_name_is_not_opened(member):
    (member / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match=r"is a pickle.*safe_serialization=True"):
        load(member)


def test_a_tokenizer_of_another_model_is_refused(member):
    edit(member / "tokenizer.json", lambda c: c["model"]["vocab"].update({f"extra{i}": 10_000 + i for i in range(9)}))
    with pytest.raises(CheckpointError, match="another model's"):
        load(member)


def test_what_is_no_latent_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="not a directory"):
        load(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load([])
    float_model().save_pretrained(tmp_path / "float")
    tokenizer().save_pretrained(tmp_path / "float")
    with pytest.raises(CheckpointError, match="bebert-edge train FILE --backbone"):
        load(tmp_path / "float")
    random_ensemble().save(tmp_path / "packed")
    with pytest.raises(CheckpointError, match=r"packed already.*bebert-edge export"):
        load(tmp_path / "packed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format_version": 2}, "format_version is 2"),
        ({"members": []}, "members is"),
        ({"members": ["../member-0"]}, "expected names of directories beside it"),
        ({"members": ["/etc"]}, "expected names of directories beside it"),
        ({"member_weights": [1, 1]}, "expected 1 numbers"),
        ({"member_weights": [float("nan")]}, "expected 1 numbers"),
        ({"member_weights": [10**400]}, "expected 1 numbers"),
        ({"member_weights": [0]}, "not all 0"),
        ({"metadata": {"x": 1}}, "expected an object of strings"),
        ({"combination": "votes"}, "ensemble.json: combination is 'votes', expected one of logits, probabilities"),
        ({"combination": None}, "combination is None"),
        ({"temperature": 0}, "ensemble.json: temperature is 0, expected a number 1e-06"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": "1.0"}, "temperature is '1.0'"),
    ],
)
def test_wrong_ensemble_files(member, content, message):
    write_ensemble_file(member.parent, **content)
    with pytest.raises(CheckpointError, match=message):
        load(member.parent)


def test_the_command_packs_and_reports_sizes(member, tmp_path):
    from bebert_edge.cli.main import app

    out = tmp_path / "packed"
    result = CliRunner().invoke(app, ["pack", str(member), "-o", str(out)])
    assert result.exit_code == 0, result.output
    size = sum(file.stat().st_size for file in out.iterdir())
    assert f"{size:,} bytes" in result.stdout
    assert PackedEnsemble.load(out).config.members == 1

    again = CliRunner().invoke(app, ["pack", str(member), "-o", str(out)])
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    assert CliRunner().invoke(app, ["pack", str(member), "-o", str(out), "--overwrite"]).exit_code == 0


@pytest.mark.parametrize("answer", [{"combination": "probabilities"}, {"temperature": 2.0}])
def test_a_regression_has_neither_probabilities_nor_temperature(answer, tmp_path):
    write_latent_ensemble(tmp_path, bits=1, members=1, problem="regression", labels=["score"], content=answer)
    with pytest.raises(CheckpointError, match=r"cannot be packed: .*for the problem 'regression'"):
        load(tmp_path)
