# SPDX-License-Identifier: Apache-2.0
"""Files and directories as published code leaves them, and what a user says about them: on tiny BiBERT checkpoints."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from bebert_edge.checkpoints import FAMILIES, Options, load, read
from bebert_edge.checkpoints.files import read_json, read_state
from bebert_edge.errors import CheckpointError
from checkpoints import bibert_oracle as bibert
from checkpoints import binarybert_oracle as binarybert
from checkpoints import bit_oracle as bit
from support import VOCABULARY

SHAPE = bibert.config(vocab_size=len(VOCABULARY), num_hidden_layers=1)
WEIGHT = "bert.encoder.layer.0.intermediate.dense.weight"
State = dict[str, Any]


@pytest.fixture(scope="module")
def states() -> list[State]:
    return [bibert.random_state(SHAPE, seed=seed) for seed in range(3)]


@pytest.fixture
def directory(states: list[State], tmp_path: Path) -> Path:
    return bibert.save_bibert(tmp_path / "one", SHAPE, states[0], VOCABULARY)


def same(a: Any, b: Any) -> bool:
    return a.tensors.keys() == b.tensors.keys() and all(np.array_equal(a.tensors[n], b.tensors[n]) for n in a.tensors)


def old_names(state: State) -> State:
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in state.items()
    }


@pytest.mark.parametrize(
    "save",
    [
        pytest.param(lambda s, d: torch.save(s, d / "pytorch_model.bin"), id="zip"),
        pytest.param(
            lambda s, d: torch.save(s, d / "pytorch_model.bin", _use_new_zipfile_serialization=False),
            id="PyTorch before 1.6",
        ),
        pytest.param(lambda s, d: torch.save({"state_dict": s, "epoch": 3}, d / "pytorch_model.bin"), id="in a dict"),
        pytest.param(
            lambda s, d: torch.save({f"module.{n}": t for n, t in s.items()}, d / "pytorch_model.bin"), id="ddp"
        ),
        pytest.param(lambda s, d: torch.save(old_names(s), d / "pytorch_model.bin"), id="gamma and beta"),
        pytest.param(
            lambda s, d: torch.save({n: torch.nn.Parameter(t.double()) for n, t in s.items()}, d / "pytorch_model.bin"),
            id="float64 parameters",
        ),
        pytest.param(
            lambda s, d: torch.save(
                s | {"bert.embeddings.position_ids": torch.arange(24)[None]}, d / "pytorch_model.bin"
            ),
            id="position_ids",
        ),
        pytest.param(
            lambda s, d: save_file(
                s | {"bert.embeddings.position_ids": torch.arange(24)[None]}, d / "model.safetensors"
            ),
            id="safetensors",
        ),
    ],
)
def test_every_kind_of_file_is_read(
    states: list[State], directory: Path, save: Callable[[State, Path], None], tmp_path: Path
) -> None:
    expected = load(directory)
    (directory / "pytorch_model.bin").unlink()
    save(states[0], directory)
    assert same(load(directory), expected)


def test_shards(states: list[State], directory: Path) -> None:
    expected = load(directory)
    (directory / "pytorch_model.bin").unlink()
    names = sorted(states[0])
    files = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: states[0][name] for name in names if files[name] == file}, directory / file)
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    assert same(load(directory), expected)
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002.safetensors is missing"):
        load(directory)
    index.write_text(json.dumps({"weight_map": {WEIGHT: "../other.safetensors"}}))
    with pytest.raises(CheckpointError, match="names no files beside it"):
        load(directory)


def test_the_members_of_bebert_come_in_numeric_order(states: list[State], tmp_path: Path) -> None:
    many = bibert.save_bebert(tmp_path / "out", SHAPE, [states[i % 3] for i in range(11)], VOCABULARY)
    found = read(many, Options(alpha=tuple(range(1, 12))))
    assert [file.name for file in found.files] == [f"{i}.bin" for i in range(11)]
    assert found.ensemble.config.member_weights == pytest.approx([i / 66 for i in range(1, 12)])
    alone = load(many / "1.bin")
    np.testing.assert_array_equal(
        found.ensemble.tensors["classifier.weight"][10], alone.tensors["classifier.weight"][0]
    )
    (many / "3.bin").unlink()
    with pytest.raises(CheckpointError, match=r"0.bin, 1.bin, 2.bin, 4.bin.* but no number 3"):
        load(many)
    assert load([many / "0.bin", many / "4.bin"]).config.members == 2


def test_members_whose_directory_lost_its_slash(states: list[State], tmp_path: Path) -> None:
    out = bibert.save_bebert(tmp_path / "out", SHAPE, states[:2], VOCABULARY)
    expected = load(out)
    for i in range(2):
        (out / f"{i}.bin").rename(tmp_path / f"out{i}.bin")
    assert same(load([tmp_path / "out0.bin", tmp_path / "out1.bin"]), expected)
    with pytest.raises(CheckpointError, match=r"are its members beside it\? .*out0.bin .*out1.bin"):
        load(out)


def test_directories_and_files_mix(states: list[State], tmp_path: Path) -> None:
    paths = [bibert.save_bibert(tmp_path / f"m{i}", SHAPE, state, VOCABULARY) for i, state in enumerate(states)]
    expected = load(bibert.save_bebert(tmp_path / "all", SHAPE, states, VOCABULARY))
    shutil.move(paths[1] / "pytorch_model.bin", paths[1] / "round.pt")
    assert same(load([paths[0], paths[1] / "round.pt", paths[2]]), expected)


def test_numbered_members_go_before_a_single_model(states: list[State], tmp_path: Path) -> None:
    out = bibert.save_bebert(tmp_path / "out", SHAPE, states[:2], VOCABULARY)
    bibert.save_bibert(out, SHAPE, states[2], VOCABULARY)  # what BEBERT's training started from
    assert [file.name for file in read(out).files] == ["0.bin", "1.bin"]


def save_binarybert(directory: Path, **shape: Any) -> Path:
    config = binarybert.published_config(vocab_size=len(VOCABULARY), layers=1, **shape)
    state = binarybert.random_state(config, split=shape.get("split", True))
    return bibert.save_bibert(directory, config, state, VOCABULARY)


def test_each_family_knows_its_own_checkpoints_only(directory: Path, tmp_path: Path) -> None:
    settings = [bit.Settings(len(VOCABULARY), num_hidden_layers=1, input_bits=bits) for bits in (1, 4)]
    published = {
        "bibert": [directory],
        "binarybert": [save_binarybert(tmp_path / str(split), split=split) for split in (False, True)],
        "bit": [bit.write(tmp_path / f"bit{s.input_bits}", s, bit.random_state(s), VOCABULARY) for s in settings],
    }
    ours = {"bert", "modernbert"}  # found by what training writes into config.json (tests/training)
    assert ours | set(published) == {family.NAME for family in FAMILIES}, "a family without a checkpoint here"
    for family, directories in published.items():
        for path in directories:
            assert read(path).family == family
            config, names = read_json(path / "config.json"), read_state(path / "pytorch_model.bin").keys()
            assert [known.NAME for known in FAMILIES if known.detect(config, names)] == [family]


def test_members_of_two_families_are_refused(directory: Path, tmp_path: Path) -> None:
    other = save_binarybert(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"other/.* is of family 'binarybert', .*one/.* of 'bibert'"):
        load([directory, other])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_hidden_layers": 2},
            r"has a tensor bert.encoder.layer.1.attention.output.LayerNorm.bias, and .* has none",
        ),
        ({"intermediate_size": 40}, r"differ in the shape of .*intermediate.dense.bias \(\[40\] and \[48\]\)"),
        ({"num_attention_heads": 8}, r"differ in encoder.heads \(8 and 4\)"),
        ({"layer_norm_eps": 1e-5}, r"differ in encoder.layer_norm_epsilon \(1e-05 and 1e-12\)"),
    ],
)
def test_members_of_other_shapes_are_refused(directory: Path, tmp_path: Path, change: Any, message: str) -> None:
    shape = SHAPE | change
    other = bibert.save_bibert(tmp_path / "other", shape, bibert.random_state(shape), VOCABULARY)
    with pytest.raises(CheckpointError, match=message):
        load([directory, other])


def test_members_of_another_vocabulary_are_refused(directory: Path, states: list[State], tmp_path: Path) -> None:
    other = bibert.save_bibert(tmp_path / "other", SHAPE, states[1], list(reversed(VOCABULARY)))
    with pytest.raises(CheckpointError, match="differ in tokenizer"):
        load([directory, other])


class Hostile:
    """A pickle that creates a file, if it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False, None], ids=["zip", "PyTorch before 1.6", "plain pickle"])
def test_a_hostile_pickle_is_not_run(directory: Path, tmp_path: Path, zipped: bool | None) -> None:
    touched, file = tmp_path / "touched", directory / "pytorch_model.bin"
    content = {"classifier.weight": torch.ones(2, 2), "x": Hostile(touched)}
    if zipped is None:
        file.write_bytes(pickle.dumps({"x": Hostile(touched)}, protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin (wants to run|cannot be read)"):
        load(directory)
    assert not touched.exists()
    if zipped is None:
        pickle.loads(file.read_bytes())["x"].close()
    else:
        torch.load(file, weights_only=False)["x"].close()
    assert touched.exists(), "the pickle is harmless: the test shows nothing"


def test_a_whole_model_is_named_as_what_it_is(directory: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"wants to run torch.nn.modules.linear.Linear.*model.state_dict\(\)"):
        load(directory)


def test_old_versions_of_pytorch_do_not_read_pickles(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(CheckpointError, match=r"PyTorch 2.9.1\+cpu .*expected 2.10 or newer: run pip install"):
        load(directory)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds a list, expected the tensors of a model by name"),
        ({}, "holds a dict, expected the tensors"),
        ({"a": 3}, "'a' is a int, expected tensors of floats"),
        ({"a": torch.ones(2, dtype=torch.int64)}, "tensor a has dtype torch.int64, expected float32"),
        ({"a": torch.ones(2).to_sparse()}, "tensor a has dtype"),
        ({"a": torch.ones(1).expand(10**12)}, r"tensor a has fewer numbers than its shape \[1000000000000\] says"),
        ({"LayerNorm.gamma": torch.ones(2), "LayerNorm.weight": torch.ones(2)}, "tensor LayerNorm.weight twice"),
    ],
)
def test_what_is_no_state_dict(directory: Path, content: object, message: str) -> None:
    torch.save(content, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=message):
        load(directory)


@pytest.mark.parametrize("keep", [0, 4, 300, -1])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_pickles(states: list[State], directory: Path, keep: int, zipped: bool) -> None:
    file = directory / "pytorch_model.bin"
    torch.save(states[0], file, _use_new_zipfile_serialization=zipped)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin cannot be read by PyTorch .* copy it again"):
        load(directory)


def test_paths_that_hold_no_checkpoint(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a directory or file"):
        load(tmp_path / "absent.bin")
    with pytest.raises(CheckpointError, match=r"config.json is no file of tensors"):
        load(directory / "config.json")
    with pytest.raises(CheckpointError, match=rf"model.safetensors is missing: .*there are some in {directory}"):
        load(tmp_path)
    (directory / "config.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(CheckpointError, match=r"one/config.json is missing"):
        load(directory / "pytorch_model.bin")


def configure(directory: Path, **fields: object) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return directory


@pytest.mark.parametrize(
    ("fields", "options", "labels"),
    [
        ({}, {}, ("LABEL_0", "LABEL_1")),
        ({"id2label": {"0": "bad", "1": "good"}}, {}, ("bad", "good")),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, {}, ("LABEL_0", "LABEL_1")),  # of another head
        ({"id2label": {"0": "bad", "1": "good"}}, {"labels": ["no", "yes"]}, ("no", "yes")),
    ],
)
def test_labels(directory: Path, fields: Any, options: Any, labels: tuple[str, ...]) -> None:
    assert load(configure(directory, **fields), Options(**options)).config.labels == labels


def test_problems(tmp_path: Path) -> None:
    one = bibert.save_bibert(tmp_path / "one", SHAPE, bibert.random_state(SHAPE, labels=1), VOCABULARY)
    assert load(one).config.task.problem == "regression"
    with pytest.raises(CheckpointError, match=r"combination is 'probabilities', expected 'logits'"):
        load(one, Options(combination="probabilities"))
    many = bibert.save_bibert(tmp_path / "many", SHAPE, bibert.random_state(SHAPE, labels=3), VOCABULARY)
    assert load(many).config.task.problem == "single_label"
    configure(many, problem_type="multi_label_classification")
    config = load(many, Options(combination="probabilities")).config
    assert (config.task.problem, config.combination) == ("multi_label", "probabilities")


@pytest.mark.parametrize(
    ("task", "chosen", "text_pair"),
    [
        (None, None, False),
        ("sst-2", None, False),
        ("MNLI-mm", None, True),
        ("sts-b", None, True),
        ("rte", None, True),
        ("rte", False, False),
        (None, True, True),
        ("cola", True, True),
    ],
)
def test_pairs_of_texts(directory: Path, task: str | None, chosen: bool | None, text_pair: bool) -> None:
    assert (
        load(configure(directory, finetuning_task=task), Options(text_pair=chosen)).config.task.text_pair == text_pair
    )


def test_lengths(directory: Path, tmp_path: Path) -> None:
    config = load(directory).config
    assert (config.max_length, config.encoder.positions) == (24, 24)
    config = load(directory, Options(max_length=16)).config
    assert (config.max_length, config.encoder.positions) == (16, 16)
    with pytest.raises(CheckpointError, match=r"max_length is 25, but there are 24 positions: pass 2 .. 24"):
        load(directory, Options(max_length=25))
    long = SHAPE | {"max_position_embeddings": 600}
    bibert.save_bibert(tmp_path / "long", long, bibert.random_state(long), VOCABULARY)
    assert load(tmp_path / "long").config.max_length == 512


TEXTS = ["The movie is good.", "Très BAD — naïve 電影!", "a\tb\u00a0c\u200b 123 unknownword", ""]


@pytest.mark.parametrize(
    "settings", [None, {}, {"do_lower_case": False}, {"strip_accents": False, "tokenize_chinese_chars": False}]
)
def test_a_vocabulary_becomes_the_tokenizer_that_transformers_makes_of_it(
    directory: Path, settings: dict[str, bool] | None
) -> None:
    from tokenizers import Tokenizer

    transformers = pytest.importorskip("transformers")
    if settings is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    ours = Tokenizer.from_str(load(directory).tokenizer)
    theirs = transformers.BertTokenizer.from_pretrained(directory)
    for text in TEXTS:
        for pair in (None, "It was bad"):
            found = ours.encode(text) if pair is None else ours.encode(text, pair)
            expected = theirs(text, pair)
            assert (found.ids, found.type_ids) == (expected["input_ids"], expected["token_type_ids"])


def test_where_a_tokenizer_comes_from(directory: Path, tmp_path: Path) -> None:
    expected = load(directory).tokenizer
    elsewhere = tmp_path / "float"
    elsewhere.mkdir()
    shutil.move(directory / "vocab.txt", elsewhere / "vocab.txt")
    with pytest.raises(CheckpointError, match=r"one/tokenizer.json is missing, and so is vocab.txt.*--tokenizer DIR"):
        load(directory)
    assert load(directory, Options(tokenizer=elsewhere)).tokenizer == expected
    assert load(directory, Options(tokenizer=str(elsewhere / "vocab.txt"))).tokenizer == expected
    (tmp_path / "saved.json").write_text(expected)
    assert load(directory, Options(tokenizer=tmp_path / "saved.json")).tokenizer == expected
    (directory / "tokenizer.json").write_text(expected)
    assert load(directory).tokenizer == expected
    with pytest.raises(CheckpointError, match=r"absent/tokenizer.json is missing"):
        load(directory, Options(tokenizer=tmp_path / "absent"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", "\n".join(VOCABULARY[:2]), r"vocab.txt has no token \[CLS\]"),
        ("vocab.txt", "\n".join([*VOCABULARY, "more"]), f"has {len(VOCABULARY) + 1} tokens, but the model embeds"),
        ("tokenizer_config.json", '{"do_lower_case": "yes"}', "do_lower_case is 'yes', expected true or false"),
        ("tokenizer.json", "{}", r"tokenizer.json has no vocabulary \(model.vocab\)"),
    ],
)
def test_tokenizers_that_do_not_fit(directory: Path, name: str, content: str, message: str) -> None:
    (directory / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load(directory)


def test_a_vocabulary_of_windows(directory: Path) -> None:
    expected = load(directory).tokenizer
    file = directory / "vocab.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert load(directory).tokenizer == expected
