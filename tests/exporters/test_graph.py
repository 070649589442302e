# SPDX-License-Identifier: Apache-2.0
"""The whole graph of tiny ensembles against the reference, without and with the native library."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

import bebert_edge
from bebert_edge import metadata, ops, reference
from bebert_edge.config import LayerQuantization, TaskConfig
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import ModelError, NativeLibraryError
from bebert_edge.exporters import build_model
from bebert_edge.lowering import lower
from bebert_edge.shrinking import halve_tables
from support import random_batch, random_ensemble

BIBERT = LayerQuantization("sign", "sign", "bool", "ternary", "sign", "ternary")
ROTARY: dict[str, Any] = {"head_size": 8, "structure": {"rotary_bases": (100.0, 1e4)}}
MODERN: dict[str, Any] = {
    "head_size": 8,
    "activation": "gelu",
    "pooler_activation": "gelu",
    "token_types": 0,
    "structure": {"norm": "pre", "gated": True, "rotary_bases": (1.6e5, 1e4), "pooler_norm": True},
}
"""As in ModernBERT."""
STRUCTURES: dict[str, dict[str, Any]] = {
    "boolean scores": {"bits": replace(BIBERT, scores="boolean")},
    "query, key and value apart": {"fused_qkv": False},
    "narrow heads": {"head_size": 5},
    "wide heads": {"bits": 1, "head_size": 9, "fused_qkv": False},
    "pooler with relu": {"pooler_activation": "relu"},
    "pooler with gelu": {"pooler_activation": "gelu"},
    "two terms": {"terms": 2, "activation": "gelu"},
    "narrow embeddings": {"embedding_size": 10},
    "wide embeddings": {"bits": 1, "embedding_size": 70, "fused_qkv": False},
    "narrow embeddings, two terms": {"embedding_size": 10, "terms": 2},
    "shared layers": {"layers": 4, "distinct_layers": 2},
    "shared layers, apart": {"layers": 3, "distinct_layers": 1, "fused_qkv": False, "bits": 1},
    "int8 words": {"embeddings": "int8"},
    "int4 words": {"embeddings": "int4", "shared_embeddings": True},
    "int4 words, odd and wider than a group": {"embeddings": "int4", "embedding_size": 131, "terms": 2},
    "bias by distance": {"structure": {"distance_biases": (7,)}},
    "bias by distance, of bits": {"bits": 1, "structure": {"distance_biases": (40, 2)}, "fused_qkv": False},
    "bias by distance, in one layer": {"structure": {"distance_biases": (0, 1)}},
    "two terms, apart": {"bits": 1, "terms": 2, "fused_qkv": False},
    "no token types": {"token_types": 0},
    "norms before": {"structure": {"norm": "pre"}},
    "gated": {"structure": {"gated": True}},
    "gated by gelu, two terms": {"activation": "gelu", "terms": 2, "structure": {"gated": True}},
    "norm behind the pooler": {"structure": {"pooler_norm": True}},
    "rotary": ROTARY,
    "rotary, apart": {**ROTARY, "fused_qkv": False},
    "rotary, two terms": {**ROTARY, "terms": 2},
    "rotary, without token types": {**ROTARY, "token_types": 0, "shared_embeddings": True},
    "pooler of the mean": {"task": TaskConfig(pooling="mean")},
    "pooler of the mean, modern": {**MODERN, "task": TaskConfig(pooling="mean")},
    "modern, 1 bit": {**MODERN, "bits": 1},
    "modern, 4 bits": MODERN,
    "modern, all at once": {
        **MODERN,
        "layers": 4,
        "distinct_layers": 2,
        "terms": 2,
        "embedding_size": 10,
        "embeddings": "int4",
        "weights": {"layers.0.qkv": "int8", "layers.1.ffn_in": "float16", "embeddings.projection": "int8"},
        "structure": {**MODERN["structure"], "rotary_bases": (1e4, 10.0, 1e4, 100.0), "distance_biases": (3, 0)},
    },
    "norms before, shared layers, bias by distance": {
        "bits": 1,
        "layers": 3,
        "distinct_layers": 1,
        "embedding_size": 10,
        "weights": {"layers.0.qkv": "float16", "pooler": "int8"},
        "structure": {"norm": "pre", "distance_biases": (5,), "pooler_norm": True},
    },
    "gated, rotary, apart, kept": {
        **ROTARY,
        "bits": 8,
        "fused_qkv": False,
        "weights": {"layers.0.query": "int8", "layers.1.key": "float16", "layers.1.ffn_in": "int8"},
        "structure": {**ROTARY["structure"], "gated": True, "distance_biases": (2, 6)},
    },
    "ranges of the sequence": {"bits": 8, "fused_qkv": False, "ranges": "sequence"},
    "ranges of the sequence, int8 tables": {
        "bits": 2,
        "fused_qkv": False,
        "ranges": "sequence",
        "embeddings": "int8",
    },
    "ranges of the sequence, two terms": {
        "bits": 4,
        "fused_qkv": False,
        "ranges": "sequence",
        "terms": 2,
        "head_size": 5,
        "activation": "gelu",
    },
}
Feed = dict[str, np.ndarray]


def session(model: onnx.ModelProto, *, native: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if native:
        try:
            ops.register(options)
        except NativeLibraryError as error:
            pytest.skip(str(error))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def expected(ensemble: PackedEnsemble, feed: Feed) -> tuple[np.ndarray, np.ndarray]:
    return reference.forward(ensemble, **{name: array.copy() for name, array in feed.items()})


def codes_of(model: onnx.ModelProto) -> list[str]:
    """Makes every tensor of codes an output of the graph, and returns their names."""
    floats = ("PackedBinaryEmbedding", "PackedBinaryMatMul")
    names = [node.output[-1] for node in model.graph.node if node.domain and node.op_type not in floats]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, None) for n in names)
    return names


@pytest.mark.parametrize("native", [False, True], ids=["portable", "native"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, BIBERT], ids=["1", "2", "4", "8", "mixed"])
def test_logits_are_the_reference_s(bits: int | LayerQuantization, activation: str, native: bool) -> None:
    ensemble = random_ensemble(
        bits=bits, activation=activation, members=3, labels=("a", "b", "c"), member_weights=(0.5, 0.2, 0.3)
    )
    feed = random_batch(ensemble, [5, 1, 14, 9], sequence=16)
    found = session(build_model(ensemble)[0], native=native).run(["logits", "member_logits"], feed)
    for f, e in zip(found, expected(ensemble, feed), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("native", [False, True], ids=["portable", "native"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_is_the_reference_s(structure: str, native: bool) -> None:
    arguments: dict[str, Any] = {"members": 2, **STRUCTURES[structure]}
    ensemble = random_ensemble(**arguments)
    feed = random_batch(ensemble, [5, 1, 14, 9], sequence=16)
    found = session(build_model(ensemble)[0], native=native).run(["logits", "member_logits"], feed)
    for f, e in zip(found, expected(ensemble, feed), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("native", [False, True], ids=["portable", "native"])
@pytest.mark.parametrize("bits", [1, 2, 8])
def test_codes_of_a_modern_encoder_are_the_reference_s(
    bits: int, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = random_ensemble(bits=bits, **MODERN)
    feed = random_batch(ensemble, [5, 1, 14, 30])
    recorded: list[np.ndarray] = []
    ops_of_codes = {
        "BinaryAttention": "binary_attention",
        "GatedQuantize": "gated_quantize",
        "AddLayerNormQuantize": "add_layer_norm_quantize",
    }
    for name in ops_of_codes.values():
        compute = getattr(reference, name)

        def record(*args: Any, compute: Any = compute, **kwargs: Any) -> Any:
            result = compute(*args, **kwargs)
            recorded.append(result[1] if isinstance(result, tuple) else result)
            return result

        monkeypatch.setattr(reference.ensemble, name, record)
    expected(ensemble, feed)
    model, _ = build_model(ensemble)
    codes_of(model)
    names = [node.output[-1] for node in model.graph.node if node.op_type in ops_of_codes]
    found = session(model, native=native).run(names, feed)
    first = [0, 5, 6, 20]
    for name, f, r in zip(names, found, recorded, strict=True):
        np.testing.assert_array_equal(f, r if f.shape == r.shape else r[:, first], err_msg=name)
        assert len(np.unique(f)) > 1, name


def test_terms_of_one_quantizer_share_its_codes() -> None:
    """A ternary weight is two binary ones behind the same quantizer."""
    ensemble = random_ensemble(terms=2, layers=1)
    for name in list(ensemble.tensors):
        if ".second." in name and not name.endswith(("bits", "scale")):
            ensemble.tensors[name] = ensemble.tensors[name.replace(".second", "")]
    apart, shared = (build_model(e)[0].graph.node for e in (random_ensemble(terms=2, layers=1), ensemble))
    assert Counter(node.op_type for node in apart)["BinaryAttention"] == 2
    found = Counter(node.op_type for node in shared)
    assert found["BinaryAttention"] == 1
    assert found["Quantize"] == 2 + 1  # of query, of key and value, and behind the activation


@pytest.mark.parametrize("bits", [1, 4])
def test_native_and_portable_codes_are_equal_everywhere(bits: int) -> None:
    ensemble = random_ensemble(bits=bits, activation="gelu", members=2, hidden_size=72, intermediate_size=130)
    model, _ = build_model(ensemble)
    names = codes_of(model)
    feed = random_batch(ensemble, [7, 3, 11])
    native = session(model, native=True).run(names, feed)
    portable = session(model).run(names, feed)
    assert len(names) == 1 + 2 * 5 + 1  # the last layer has two products for query, key and value
    for name, n, p in zip(names, native, portable, strict=True):
        np.testing.assert_array_equal(n, p, err_msg=name)
        assert len(np.unique(p)) > 1, name


def test_onnx_s_own_evaluator_agrees() -> None:
    ensemble = random_ensemble(bits=4, members=2)
    feed = random_batch(ensemble, [5, 9])
    found = ReferenceEvaluator(build_model(ensemble)[0]).run(None, feed)
    for f, e in zip(found, expected(ensemble, feed), strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-6, atol=1e-6)


def test_answers_depend_on_no_padding_company_or_order() -> None:
    """What the pooler reads is equal bit for bit; the classifier's float sums may be taken in another order."""
    ensemble = random_ensemble(bits=4)
    model, _ = build_model(ensemble)
    names = ["member_logits", codes_of(model)[-1]]
    run = session(model).run
    lengths = [12, 3, 7, 1, 12]
    feed = random_batch(ensemble, lengths)
    logits, codes = run(names, feed)
    for row, length in enumerate(lengths):
        alone = run(names, {name: array[row : row + 1, :length] for name, array in feed.items()})
        np.testing.assert_allclose(alone[0][:, 0], logits[:, row], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(alone[1][:, 0], codes[:, row])
    order = [3, 0, 4, 2, 1]
    shuffled = run(names, {name: array[order] for name, array in feed.items()})
    np.testing.assert_allclose(shuffled[0], logits[:, order], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(shuffled[1], codes[:, order])


def test_what_the_mask_hides_has_no_influence() -> None:
    """Padding right or left, and holes; a position is a column, as in the reference."""
    ensemble = random_ensemble(bits=4)
    run = session(build_model(ensemble)[0]).run
    feed = random_batch(ensemble, [10] * 4)
    feed["attention_mask"] = np.array(
        [
            [1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
            [0, 0, 0, 1, 1, 1, 1, 1, 1, 1],
            [1, 0, 1, 1, 0, 0, 1, 1, 0, 1],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
    )
    found = run(None, feed)
    np.testing.assert_allclose(found[1], expected(ensemble, feed)[1], rtol=1e-5, atol=1e-5)
    hidden = feed["attention_mask"] == 0
    hidden[:, 0] = False
    feed["input_ids"] = np.where(hidden, 1, feed["input_ids"])
    feed["token_type_ids"] = np.where(hidden, 1, feed["token_type_ids"])
    np.testing.assert_array_equal(run(None, feed)[1], found[1])
    feed["attention_mask"] = feed["attention_mask"] * 7  # any value but zero is attended
    np.testing.assert_array_equal(run(None, feed)[1], found[1])


def test_token_types_may_be_left_out() -> None:
    ensemble = random_ensemble(bits=4)
    run = session(build_model(ensemble)[0]).run
    feed = random_batch(ensemble, [6, 9])
    assert feed["token_type_ids"].any()
    with_types = run(None, feed)[1]
    feed["token_type_ids"] *= 0
    zeros = run(None, feed)[1]
    del feed["token_type_ids"]
    np.testing.assert_array_equal(run(None, feed)[1], zeros)
    assert not np.array_equal(with_types, zeros)


def test_an_empty_batch_gives_no_answers() -> None:
    ensemble = random_ensemble(bits=4, members=2)
    feed = {name: np.zeros((0, 5), np.int64) for name in ("input_ids", "attention_mask")}
    for native in (False, True):
        logits, member_logits = session(build_model(ensemble)[0], native=native).run(None, feed)
        assert logits.shape == (0, 2)
        assert member_logits.shape == (2, 0, 2)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_layer_is_seven_ops_and_the_last_eight_whatever_the_members(layers: int) -> None:
    graphs = [build_model(random_ensemble(layers=layers, members=members))[0].graph for members in (1, 5)]
    nodes = [[(node.op_type, node.name) for node in graph.node] for graph in graphs]
    assert nodes[0] == nodes[1]
    packed = Counter(
        node.name.split(".")[1] for node in graphs[0].node if node.domain and node.name.startswith("layers.")
    )
    assert packed == {str(i): 7 if i + 1 < layers else 8 for i in range(layers)}
    assert graphs[0].node[-1].output == ["logits"]
    assert all(node.name for node in graphs[0].node)


def test_weights_are_constants_for_the_native_library() -> None:
    model, _ = build_model(random_ensemble())
    inputs = {value.name for value in model.graph.input}
    assert inputs == {"input_ids", "attention_mask", "token_type_ids"}
    constants = {tensor.name for tensor in model.graph.initializer} - inputs
    constants |= {
        node.output[0] for node in model.graph.node if node.op_type == "Expand" and {*node.input} <= constants
    }
    for node in model.graph.node:
        if node.op_type.startswith("PackedBinaryMatMul"):
            assert set(node.input[1:]) <= constants


def test_tables_that_members_share_are_stored_once() -> None:
    sizes = [build_model(random_ensemble(shared_embeddings=shared, members=4))[1] for shared in (True, False)]
    assert 4 * sizes[0]["word embedding bits"] == sizes[1]["word embedding bits"]
    ensemble = random_ensemble(shared_embeddings=True, members=2)
    feed = random_batch(ensemble, [4, 8])
    for native in (False, True):
        found = session(build_model(ensemble)[0], native=native).run(None, feed)
        np.testing.assert_allclose(found[1], expected(ensemble, feed)[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_word_embeddings_in_groups_are_the_reference_s_bit_for_bit(kind: str, half: bool) -> None:
    ensemble = random_ensemble(embeddings=kind, embedding_size=131)
    ensemble = halve_tables(ensemble) if half else ensemble
    feed = random_batch(ensemble, [5, 1, 14])
    model, parts = build_model(ensemble)
    model.graph.output.append(onnx.helper.make_tensor_value_info("embeddings.word", onnx.TensorProto.FLOAT, None))
    (found,) = session(model).run(["embeddings.word"], feed)
    (table,) = lower(ensemble).embedding.words
    np.testing.assert_array_equal(found, table.rows(feed["input_ids"][feed["attention_mask"] != 0]))
    sizes = ensemble.size()
    for part in ("word embedding codes", "word embedding scales"):
        assert parts[part] == sizes[part]


@pytest.mark.parametrize("fused_qkv", [True, False])
def test_layers_that_share_weights_are_stored_once(fused_qkv: bool) -> None:
    ensembles = [random_ensemble(layers=n, distinct_layers=1, fused_qkv=fused_qkv) for n in (2, 6)]
    (two, two_parts), (six, six_parts) = (build_model(ensemble) for ensemble in ensembles)
    for parts, ensemble in ((two_parts, ensembles[0]), (six_parts, ensembles[1])):
        for part in ("encoder bits", "encoder scales", "biases", "layer norms", "word embedding bits"):
            assert parts[part] <= ensemble.size()[part], part
    stored = [sorted((tuple(i.dims), i.raw_data) for i in model.graph.initializer) for model in (two, six)]
    assert stored[0] == stored[1]
    graph = [Counter(node.op_type for node in model.graph.node)["BinaryAttention"] for model in (two, six)]
    assert graph == [2, 6]


def test_shared_constants_and_widened_ones_of_the_same_numbers_keep_apart() -> None:
    task = TaskConfig("sentence-embedding", "embedding")  # nothing reads the last codes: their steps are ones
    ensemble = random_ensemble(distinct_layers=1, task=task, combination="embeddings")
    ensemble.tensors |= {n: np.ones_like(x) for n, x in ensemble.tensors.items() if n.endswith("norm.weight")}
    feed = random_batch(ensemble, [4, 8])
    found = session(build_model(ensemble)[0]).run(None, feed)
    np.testing.assert_allclose(found[1], expected(ensemble, feed)[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("native", [False, True], ids=["portable", "native"])
@pytest.mark.parametrize("shared", ["bits", "scale"])
def test_members_may_share_one_table_of_words_without_the_other(shared: str, native: bool) -> None:
    ensemble = random_ensemble(members=2)
    ensemble.tensors[f"embeddings.word.{shared}"] = ensemble.tensors[f"embeddings.word.{shared}"][:1]
    feed = random_batch(ensemble, [4, 8])
    found = session(build_model(ensemble)[0], native=native).run(None, feed)
    np.testing.assert_allclose(found[1], expected(ensemble, feed)[1], rtol=1e-5, atol=1e-5)


def test_the_file_is_valid_and_old_enough_for_onnxruntime_1_17() -> None:
    model, _ = build_model(random_ensemble())
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    versions = {imported.domain: imported.version for imported in model.opset_import}
    assert versions == {"": 18, "bebert": 1, "bebert.detail": 1}
    for function in model.functions:
        assert {imported.domain: imported.version for imported in function.opset_import} == versions
    defined = {(function.domain, function.name) for function in model.functions}
    assert {(node.domain, node.op_type) for node in model.graph.node if node.domain} <= defined


def test_a_function_that_few_models_need_is_in_those_only() -> None:
    plain, _ = build_model(random_ensemble(layers=3))
    model, _ = build_model(random_ensemble(layers=3, structure={"distance_biases": (3,)}))
    defined = [{function.name for function in m.functions} for m in (plain, model)]
    assert defined[1] - defined[0] == {"BiasedBinaryAttention", "BiasedProbabilities", "DistanceBias"}
    onnx.checker.check_model(model, full_check=True)
    attention = [node for node in model.graph.node if node.op_type == "BiasedBinaryAttention"]
    assert {node.input[10] for node in attention} == {"layers.0.attention.distance_bias"}
    assert len(attention) == 3


def test_folding_leaves_no_branch_and_small_weights(tmp_path: Path) -> None:
    """What users without the library get: bodies without `If`, and weights of one byte, not four."""
    model, _ = build_model(random_ensemble(bits=4, hidden_size=192, intermediate_size=256, layers=1, members=1))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(options.optimized_model_filepath).graph
    assert "If" not in {node.op_type for node in graph.node}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulInteger" and node.input[1] in constants]
    assert len(products) == 6
    assert {constants[node.input[1]].data_type for node in products} == {onnx.TensorProto.INT8}


def test_metadata_is_enough_to_run_the_model() -> None:
    ensemble = random_ensemble(
        members=2, labels=("no", "yes", "ぷ"), problem="multi_label", text_pair=True, member_weights=(0.25, 0.75)
    )
    model, parts = build_model(ensemble)
    read = metadata.read_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert read.config == ensemble.config
    assert json.loads(read.tokenizer) == json.loads(ensemble.tokenizer)
    assert read.labels == ("no", "yes", "ぷ")
    assert read.task == {"type": "text-classification", "problem": "multi_label", "text_pair": True}
    assert (read.members, read.member_weights, read.max_length) == (2, (0.25, 0.75), 32)
    assert (read.version, read.ops_version, read.license) == (bebert_edge.__version__, "1", "Apache-2.0")
    assert read.quantization.startswith("1-bit weights, activations int4")
    assert read.size == parts
    assert 0 < sum(parts.values()) < model.ByteSize()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (metadata.FORMAT, None),
        (metadata.FORMAT, "2"),
        (metadata.TOKENIZER, None),
        (metadata.TOKENIZER, "not base64!"),
        (metadata.TOKENIZER, "AAAA"),
        (metadata.LABELS, '["one"]'),
        (metadata.LABELS, "[1, 2]"),
        (metadata.LABELS, "{"),
        (metadata.MEMBERS, "two"),
        (metadata.MEMBERS, "0"),
        (metadata.MEMBER_WEIGHTS, "[1.0]"),
        (metadata.TASK, "[]"),
        (metadata.SIZE, '{"graph": -1}'),
        (metadata.CONFIG, "{}"),
    ],
)
def test_metadata_that_is_missing_or_invalid_is_named(key: str, value: str | None) -> None:
    model, _ = build_model(random_ensemble())
    properties = {entry.key: entry.value for entry in model.metadata_props}
    del properties[key]
    if value is not None:
        properties[key] = value
    with pytest.raises(ModelError, match=key):
        metadata.read_metadata(properties)
