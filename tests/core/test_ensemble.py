# SPDX-License-Identifier: Apache-2.0
"""Saving, loading, validating and measuring a PackedEnsemble."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from bebert_edge.config import EnsembleConfig, HeadConfig, LayerQuantization, TaskConfig
from bebert_edge.ensemble import FILES, PackedEnsemble, tensor_specs
from bebert_edge.errors import FormatError
from support import random_ensemble


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    random_ensemble(bits=4, members=2).save(tmp_path / "ensemble")
    return tmp_path / "ensemble"


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_saved_ensemble_loads_as_it_was(bits: int, tmp_path: Path) -> None:
    ensemble = random_ensemble(bits=bits, members=3)
    ensemble.save(tmp_path / "a" / "b")
    loaded = PackedEnsemble.load(tmp_path / "a" / "b")
    assert loaded.config == ensemble.config
    assert loaded.tokenizer == ensemble.tokenizer
    assert loaded.tensors.keys() == ensemble.tensors.keys()
    for name, array in ensemble.tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], array)


@pytest.mark.parametrize(
    "structure",
    [
        {"terms": 2, "fused_qkv": False, "head_size": 5, "pooler_activation": "relu"},
        {"bits": replace(LayerQuantization.for_bits(1), scores="boolean")},
        {"head_size": 8},
        {"bits": 8, "ranges": "sequence", "fused_qkv": False},
        {"embedding_size": 10, "terms": 2},
        {"token_types": 0, "structure": {"norm": "pre", "gated": True, "pooler_norm": True}},
        {"head_size": 8, "structure": {"rotary_bases": (160000, 1e4)}},
        {"layers": 6, "distinct_layers": 3},
        {"embeddings": "int4", "embedding_size": 7},
        {"structure": {"distance_biases": (5,)}},
        {"structure": {"distance_biases": (0, 3)}},
    ],
)
def test_every_structure_loads_as_it_was(structure: dict[str, Any], tmp_path: Path) -> None:
    ensemble = random_ensemble(**structure)
    ensemble.save(tmp_path / "ensemble")
    assert PackedEnsemble.load(tmp_path / "ensemble").config == ensemble.config


def test_one_number_for_all_channels_is_stored_once(tmp_path: Path) -> None:
    ensemble = random_ensemble(bits=4, members=2)
    before = ensemble.size()["quantizers"]
    name = "layers.0.ffn_out.shift"
    ensemble.tensors[name] = np.repeat(np.array([[0.5], [0]], np.float32), 40, axis=1)
    ensemble.save(tmp_path / "ensemble")
    assert load_file(tmp_path / "ensemble" / "model.safetensors")[name].shape == (2, 1)
    loaded = PackedEnsemble.load(tmp_path / "ensemble")
    np.testing.assert_array_equal(loaded.tensors[name], ensemble.tensors[name])
    assert loaded.size()["quantizers"] == before - 2 * 39 * 4


def test_keys_that_have_their_usual_values_are_not_written(saved: Path) -> None:
    written = json.loads((saved / "config.json").read_text())
    keys = {*written, *written["encoder"], *written["quantization"], *written["quantization"]["layers"][0]}
    unusual = {"combination", "temperature", "head_size", "pooler_activation", "terms", "fused_qkv", "scores"}
    unusual |= {"ranges", "embedding_size", "projection", "distinct_layers", "embeddings"}
    unusual |= {"norm", "gated", "rotary_bases", "pooler_norm", "distance_biases"}
    assert not keys & unusual


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("encoder", "head_size", -1, "encoder.head_size is -1"),
        ("encoder", "pooler_activation", "swish", "encoder.pooler_activation is 'swish'"),
        ("encoder", "norm", "none", "encoder.norm is 'none'"),
        ("encoder", "gated", 1, "encoder.gated is 1, expected true or false"),
        ("encoder", "pooler_norm", None, "encoder.pooler_norm is None, expected true or false"),
        ("encoder", "token_types", -1, "encoder.token_types is -1, expected an integer >= 0"),
        ("encoder", "rotary_bases", [1e4], "encoder.rotary_bases is [10000.0], expected 2 numbers >= 1"),
        ("encoder", "rotary_bases", [1e4, 0.5], "encoder.rotary_bases is [10000.0, 0.5], expected 2 numbers >= 1"),
        ("encoder", "rotary_bases", 1e4, "encoder.rotary_bases is 10000.0, expected 2 numbers >= 1"),
        ("quantization", "terms", 3, "quantization.terms is 3, expected 1 or 2"),
        ("quantization", "fused_qkv", 1, "quantization.fused_qkv is 1"),
        ("quantization", "embeddings", "int2", "quantization.embeddings is 'int2', expected one of ('binary', 'int8'"),
        ("encoder", "distinct_layers", 3, "encoder.distinct_layers is 3, expected a divisor of layers 2"),
        ("encoder", "distinct_layers", 1, "quantization.layers is 'a list of 2', expected a list of 1"),
        ("encoder", "distance_biases", 1, "encoder.distance_biases is 1, expected 2 integers >= 0"),
        ("encoder", "distance_biases", [4, -1], "encoder.distance_biases is [4, -1], expected 2 integers >= 0"),
        ("encoder", "distance_biases", [4, 1, 1], "encoder.distance_biases is [4, 1, 1], expected 2 integers >= 0"),
        ("encoder", "embedding_size", 0.5, "encoder.embedding_size is 0.5"),
        ("encoder", "embedding_size", 10, "quantization.projection is None, expected a code type where"),
        ("quantization", "projection", "int3", "quantization.projection is 'int3'"),
        ("quantization", "projection", "int4", "quantization.projection is 'int4', expected a code type where"),
    ],
)
def test_a_wrong_structure_is_refused(section: str, key: str, value: object, expected: str, saved: Path) -> None:
    written = json.loads((saved / "config.json").read_text())
    written[section][key] = value
    with pytest.raises(FormatError, match=re.escape(expected)):
        EnsembleConfig.from_json(json.dumps(written))


def test_rotary_positions_want_pairs_of_channels() -> None:
    with pytest.raises(FormatError, match=r"head_size is 5, expected an even number, for rotary positions"):
        random_ensemble(head_size=5, structure={"rotary_bases": (1e4, 1e4)})


@pytest.mark.parametrize(
    ("distances", "tensor"), [((4,), "distance_bias"), ((0, 4), "layers.1.attention.distance_bias")]
)
def test_biases_by_distance_are_of_all_layers_or_of_one(distances: tuple[int, ...], tensor: str) -> None:
    ensemble = random_ensemble(structure={"distance_biases": distances})
    assert [name for name in ensemble.tensors if "distance_bias" in name] == [tensor]
    del ensemble.tensors[tensor]
    with pytest.raises(FormatError, match=rf"tensor {re.escape(tensor)} is missing: expected shape \(2, 3, 9\)"):
        ensemble.validate()


def test_boolean_scores_take_no_bias_by_distance() -> None:
    boolean = replace(LayerQuantization.for_bits(1), scores="boolean")
    with pytest.raises(FormatError, match=r"distance_biases is \(0, 4\), expected none for layer 1, which has boolean"):
        random_ensemble(bits=boolean, structure={"distance_biases": (0, 4)})


def test_layers_without_end_are_refused() -> None:
    config = json.loads(random_ensemble(layers=2, distinct_layers=1).config.to_json())
    config["encoder"]["layers"] = 10**12
    with pytest.raises(FormatError, match=r"distinct_layers is 1, expected a divisor of layers 10+, and no less than"):
        EnsembleConfig.from_json(json.dumps(config))


def test_rotary_positions_without_end_are_refused() -> None:
    with pytest.raises(FormatError, match=r"encoder.positions is 65537, expected at most 65536, for rotary positions"):
        random_ensemble(max_length=2**16 + 1, structure={"rotary_bases": (1e4, 1e4)})


@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "embedding_size"])
def test_a_width_that_no_tensor_has_is_refused_before_anything_is_widened_to_it(key: str, tmp_path: Path) -> None:
    ensemble = random_ensemble(embedding_size=10)
    ensemble.tensors |= {n: np.full_like(x, 0.5) for n, x in ensemble.tensors.items() if n.endswith(("shift", "scale"))}
    ensemble.save(tmp_path / "ensemble")
    path = tmp_path / "ensemble" / "config.json"
    config = json.loads(path.read_text())
    config["encoder"] |= {key: 3 * 10**15, "head_size": 8}
    path.write_text(json.dumps(config))
    with pytest.raises(FormatError, match="has shape"):
        PackedEnsemble.load(path.parent)


def test_boolean_scores_want_boolean_probabilities() -> None:
    with pytest.raises(FormatError, match=r"probability is 'uint4', expected 'bool' for boolean scores"):
        replace(LayerQuantization.for_bits(4), scores="boolean")


def test_size_counts_every_byte_of_the_directory(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == sorted(FILES)
    assert sum(PackedEnsemble.load(saved).size().values()) == sum(path.stat().st_size for path in saved.iterdir())


def test_an_existing_directory_is_replaced_only_on_request(saved: Path) -> None:
    other = random_ensemble(bits=1, members=1)
    with pytest.raises(FormatError, match="--overwrite"):
        other.save(saved)
    assert PackedEnsemble.load(saved).config.members == 2
    other.save(saved, overwrite=True)
    assert PackedEnsemble.load(saved).config.members == 1
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_an_invalid_ensemble_is_not_written(tmp_path: Path) -> None:
    ensemble = random_ensemble(bits=4, members=2)
    ensemble.tensors["pooler.bias"][1, 3] = np.nan
    with pytest.raises(FormatError, match=r"pooler\.bias is nan at \[1, 3\], expected finite"):
        ensemble.save(tmp_path / "ensemble")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="cannot be written"):
        random_ensemble(bits=4, members=1).save(tmp_path / "file" / "ensemble")


def _spoil_first(kind: str, value: Any) -> Callable[[PackedEnsemble], str]:
    def spoil(ensemble: PackedEnsemble) -> str:
        name = next(name for name, spec in tensor_specs(ensemble.config).items() if spec.kind == kind)
        ensemble.tensors[name] = ensemble.tensors[name].copy()
        ensemble.tensors[name].flat[0] = value
        return name

    return spoil


def _drop(ensemble: PackedEnsemble) -> str:
    del ensemble.tensors["layers.1.ffn_in.bits"]
    return "layers.1.ffn_in.bits"


def _add(ensemble: PackedEnsemble) -> str:
    ensemble.tensors["layers.9.qkv.bits"] = np.zeros(3, np.uint8)
    return "layers.9.qkv.bits"


def _reshape(ensemble: PackedEnsemble) -> str:
    ensemble.tensors["classifier.weight"] = ensemble.tensors["classifier.weight"][..., :-1]
    return "classifier.weight"


def _retype(ensemble: PackedEnsemble) -> str:
    ensemble.tensors["pooler.scale"] = ensemble.tensors["pooler.scale"].astype(np.float16)
    return "pooler.scale"


def _set_padding(ensemble: PackedEnsemble) -> str:
    bits = ensemble.tensors["pooler.bits"].copy()
    bits[0, 0, -1] |= 0x80
    ensemble.tensors["pooler.bits"] = bits
    return "pooler.bits"


@pytest.mark.parametrize(
    "spoil",
    [
        _drop,
        _add,
        _reshape,
        _retype,
        _set_padding,
        _spoil_first("float", np.inf),
        _spoil_first("scale", -1.0),
        _spoil_first("scale", np.nan),
        _spoil_first("step", 0.0),
    ],
)
def test_a_wrong_tensor_is_named_with_what_was_expected(spoil: Callable[[PackedEnsemble], str], tmp_path: Path) -> None:
    ensemble = random_ensemble(bits=4, members=2)
    name = spoil(ensemble)
    with pytest.raises(FormatError, match=r"expected|unknown") as caught:
        ensemble.validate()
    assert name in str(caught.value)


def test_tables_may_be_shared_by_all_members() -> None:
    ensemble = random_ensemble(bits=4, members=3)
    for name in ("embeddings.word.bits", "embeddings.word.scale", "embeddings.position", "embeddings.token_type"):
        ensemble.tensors[name] = ensemble.tensors[name][:1]
    ensemble.validate()


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(file: str, saved: Path) -> None:
    (saved / file).unlink()
    with pytest.raises(FormatError, match=f"{file} is missing"):
        PackedEnsemble.load(saved)


def test_something_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not a directory"):
        PackedEnsemble.load(tmp_path / "nothing")


@pytest.mark.parametrize("keep", [0, 7, 8, 100, 0.5, -1])
def test_a_truncated_tensor_file_is_refused(keep: float, saved: Path) -> None:
    path = saved / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(FormatError, match=r"model\.safetensors cannot be read"):
        PackedEnsemble.load(saved)


def test_flipped_bits_of_the_tensor_header_never_escape_as_another_error(saved: Path) -> None:
    path = saved / "model.safetensors"
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    for position in np.random.default_rng(0).integers(0, 8 * header, 200):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        try:
            PackedEnsemble.load(saved)
        except FormatError:
            refused += 1
    assert refused > 150


def test_a_pickle_posing_as_tensors_is_refused(saved: Path) -> None:
    import pickle

    (saved / "model.safetensors").write_bytes(pickle.dumps({"pooler.bits": [1, 2, 3]}))
    with pytest.raises(FormatError, match="cannot be read as safetensors"):
        PackedEnsemble.load(saved)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format_version",), 2, "format_version is 2, expected 1"),
        (("family",), "gpt", "family is 'gpt'"),
        (("members",), 0, "members is 0"),
        (("member_weights",), [0.5, 0.4], "member_weights"),
        (("member_weights",), [float("nan"), 1.0], "member_weights"),
        (("member_weights",), 1.0, "expected a list"),
        (("labels",), [], "labels"),
        (("labels",), [1, 2], "labels"),
        (("max_length",), 1000, "max_length is 1000"),
        (("encoder", "heads"), 5, "encoder.heads is 5"),
        (("encoder", "hidden_size"), "24", "encoder.hidden_size"),
        (("encoder", "activation"), "tanh", "encoder.activation"),
        (("encoder", "surprise"), 1, "surprise"),
        (("quantization", "pooler"), "int3", "quantization.pooler is 'int3'"),
        (("quantization", "pooler"), ["int4"], "quantization.pooler is ['int4']"),
        (("quantization", "layers", 0, "ffn"), {}, "quantization.layers[].ffn is {}"),
        (("quantization", "layers"), [], "quantization.layers"),
        (("task", "problem"), "ranking", "task.problem"),
        (("task",), None, "task"),
        (("metadata",), {"a": 1}, "metadata"),
    ],
)
def test_a_wrong_configuration_is_named(path: tuple[Any, ...], value: Any, message: str) -> None:
    config = json.loads(random_ensemble(bits=4, members=2).config.to_json())
    section = config
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(FormatError, match=message.replace(".", r"\.").replace("[", r"\[")):
        EnsembleConfig.from_json(json.dumps(config))


def _places(section: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a JSON value."""
    items = section.items() if isinstance(section, dict) else enumerate(section) if isinstance(section, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


@pytest.mark.parametrize(
    "value",
    [None, [], {}, "x", -1, 10**400, 1e308, float("nan"), True, [[]], {"a": []}],
    ids=lambda value: repr(value)[:9],
)
def test_whatever_stands_for_a_value_no_other_error_escapes(value: object) -> None:
    head = HeadConfig("guess", TaskConfig("fill-mask", mask_id=4), ())
    structure = {"norm": "pre", "rotary_bases": (1e4, 10.0), "distance_biases": (3,)}
    ensemble = random_ensemble(
        embedding_size=10, head_size=8, structure=structure, heads_of_tasks=[head], temperature=2
    )
    text, refused = ensemble.config.to_json(), 0
    for *path, key in _places(json.loads(text)):
        section = config = json.loads(text)
        for name in path:
            section = section[name]
        section[key] = value
        try:
            tensor_specs(EnsembleConfig.from_json(json.dumps(config)))
        except FormatError:
            refused += 1
    assert refused > 40


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00", "[" * 10**5])
def test_a_configuration_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match=r"config\.json"):
        EnsembleConfig.from_json(text)


def test_every_key_of_the_configuration_is_required() -> None:
    config = json.loads(random_ensemble(bits=4, members=2).config.to_json())
    for key in config:
        with pytest.raises(FormatError, match=key):
            EnsembleConfig.from_json(json.dumps({k: v for k, v in config.items() if k != key}))


def test_a_tokenizer_that_is_no_tokenizer_is_refused() -> None:
    ensemble = random_ensemble(bits=4, members=1)
    for text in ("", "[]", "{}", "[" * 10**5):
        with pytest.raises(FormatError, match=r"tokenizer\.json"):
            replace(ensemble, tokenizer=text).validate()
