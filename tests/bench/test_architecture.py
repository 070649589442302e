# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from bebert_edge.bench import ARCHITECTURES, Architecture, find_subjects, random_ensemble, read_architecture
from bebert_edge.config import EncoderConfig
from bebert_edge.errors import BenchError, ModelError
from model_files import write_model
from support import random_ensemble as small_ensemble

TINY = EncoderConfig(
    vocab_size=70,
    hidden_size=36,
    layers=2,
    heads=3,
    intermediate_size=65,
    positions=20,
    token_types=2,
    layer_norm_epsilon=1e-12,
    activation="relu",
)
HUGGING_FACE = {
    "model_type": "bert",
    "vocab_size": 70,
    "hidden_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 65,
    "max_position_embeddings": 20,
    "hidden_act": "relu",
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_names(name: str) -> None:
    assert read_architecture(name) == Architecture(name, ARCHITECTURES[name], 2)


def test_a_configuration_of_hugging_face(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**HUGGING_FACE, "id2label": {"0": "a", "1": "b", "2": "c"}}))
    assert read_architecture(str(path)) == Architecture(str(path), TINY, 3)
    assert read_architecture(str(tmp_path)) == Architecture(str(tmp_path), TINY, 3)


def test_a_configuration_of_a_packed_ensemble(tmp_path: Path) -> None:
    ensemble = small_ensemble(labels="abcd")
    path = tmp_path / "config.json"
    path.write_text(ensemble.config.to_json())
    assert read_architecture(str(path)) == Architecture(str(path), ensemble.config.encoder, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an object"),
        ('{"model_type": "gpt2"}', "model_type is 'gpt2', expected 'bert'"),
        ('{"model_type": "bert"}', "has no key 'vocab_size'"),
        (json.dumps({**HUGGING_FACE, "num_attention_heads": 5}), "encoder.heads is 5"),
        (json.dumps({**HUGGING_FACE, "hidden_act": "silu"}), "encoder.activation is 'silu'"),
        ('{"encoder": {"layers": 2}}', "is no BERT that can be binarized"),
    ],
)
def test_what_is_no_architecture(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BenchError, match=r"config\.json") as caught:
        read_architecture(str(tmp_path))
    assert message in str(caught.value)


def test_an_unknown_name() -> None:
    with pytest.raises(BenchError, match="bert-large is neither an architecture nor a file: expected bert-base"):
        read_architecture("bert-large")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("members", [1, 3])
def test_random_ensembles_are_valid(bits: int, members: int) -> None:
    ensemble = random_ensemble(Architecture("tiny", TINY), bits=bits, members=members)
    ensemble.validate()
    assert ensemble.config.members == members
    assert ensemble.config.encoder == TINY
    vocabulary = json.loads(ensemble.tokenizer)["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(TINY.vocab_size))


def test_random_ensembles_follow_their_seed() -> None:
    first, same, other = (random_ensemble(Architecture("tiny", TINY), bits=4, members=1, seed=s) for s in (1, 1, 2))
    name = "layers.0.qkv.bits"
    assert (first.tensors[name] == same.tensors[name]).all()
    assert (first.tensors[name] != other.tensors[name]).any()
    assert first.tokenizer == same.tokenizer


def test_subjects(tmp_path: Path) -> None:
    packed, config = tmp_path / "packed", tmp_path / "config.json"
    small_ensemble(members=3, bits=1).save(packed)
    config.write_text(json.dumps(HUGGING_FACE))
    model = write_model(tmp_path / "model.onnx", members=2, bits=4)
    scratch = tmp_path / "scratch"
    subjects = find_subjects([str(model), str(packed), str(config)], bits=(1, 8), members=(1, 2), scratch=scratch)
    assert [s.name for s in subjects] == [
        "model.onnx, 2 members, 4-bit",
        "packed, 3 members, 1-bit",
        *("1 member, 1-bit", "1 member, 8-bit", "2 members, 1-bit", "2 members, 8-bit"),
    ]
    assert [s.source for s in subjects[:3]] == [str(model), str(packed), None]
    assert all(s.path.is_file() for s in subjects)
    assert subjects[0].path == model
    assert subjects[0].architecture.encoder == subjects[1].architecture.encoder
    assert subjects[2].architecture == Architecture(str(config), TINY)


def test_a_model_of_somebody_else(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx does not exist"):
        find_subjects([str(tmp_path / "none.onnx")], bits=(1,), members=(1,), scratch=tmp_path)


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    paths = [str(write_model(tmp_path / "a" / "model.onnx")), str(write_model(tmp_path / "model.onnx"))]
    subjects = find_subjects(paths, bits=(1,), members=(1,), scratch=tmp_path)
    assert [s.name for s in subjects] == [f"{path}, 2 members, 4-bit" for path in paths]


def test_two_names_of_one_architecture(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for name in names:
        Path(name).write_text(json.dumps(HUGGING_FACE))
    with pytest.raises(BenchError, match="1 member, 1-bit would be timed twice"):
        find_subjects(names, bits=(1,), members=(1,), scratch=tmp_path)


def test_a_name_given_twice(tmp_path: Path) -> None:
    model = str(write_model(tmp_path / "model.onnx"))
    with pytest.raises(BenchError, match="would be timed twice"):
        find_subjects([model, model], bits=(1,), members=(1,), scratch=tmp_path)
