# SPDX-License-Identifier: Apache-2.0
"""PackedEnsemble -> onnx.ModelProto: the ensemble's definition in ONNX, from top to bottom.

Inputs are padded `[batch, sequence]`. The prologue removes padding: from there to the classifier there are only real
tokens, `[members, tokens, ...]`, and `offsets`, the token at which each sequence begins. All members are one axis, so
the graph has the same nodes for one member or eight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bebert_edge.ensemble import PackedEnsemble, term_names
from bebert_edge.exporters.functions import function_protos, opset_imports
from bebert_edge.exporters.grouped import grouped_words
from bebert_edge.exporters.heads import LastLayer, answer, output_infos, reads_first_tokens
from bebert_edge.exporters.metadata import metadata_properties
from bebert_edge.exporters.nodes import Graph, numbered
from bebert_edge.exporters.range_functions import FUNCTIONS as RANGE_FUNCTIONS
from bebert_edge.exporters.range_graph import range_layer
from bebert_edge.exporters.rotary import rotated_query_key_value
from bebert_edge.groups import GroupedTable
from bebert_edge.lowering import LoweredEmbedding, LoweredLayer, lower
from bebert_edge.lowering.ranges import RangeLayer

IR_VERSION = 8
"""The IR of opset 18's first release, read by every onnxruntime that has opset 18."""


def build_model(ensemble: PackedEnsemble) -> tuple[onnx.ModelProto, dict[str, int]]:
    """Builds the self-contained model of an ensemble.

    Args:
        ensemble: A valid ensemble.

    Returns:
        The model (opset 18, IR version 8, with function bodies and metadata), and its bytes by part; what is left of
        the file's size is the graph itself.
    """
    encoder, ranges = ensemble.config.encoder, ensemble.config.quantization.ranges == "sequence"
    model, graph = lower(ensemble), Graph(sharing=encoder.distinct_layers < encoder.layers)
    tokens = _remove_padding(graph)
    hidden, codes = _embed(graph, model.embedding, tokens, model.epsilon)
    for i, layer in enumerate(model.layers):
        first_only = i == len(model.layers) - 1 and reads_first_tokens(ensemble.config)
        if isinstance(layer, RangeLayer):
            hidden, codes = range_layer(graph, layer, hidden, tokens.offsets, model.epsilon, f"layers.{i}"), []
            # Ranges are of all tokens, so that all go through the last layer too.
            (hidden,) = _first(graph, [hidden], tokens, f"layers.{i}.first") if first_only else [hidden]
        else:
            hidden, codes = _layer(graph, layer, hidden, codes, tokens, model.epsilon, f"layers.{i}", first_only)
    answer(graph, model, LastLayer(hidden, codes, reads_first_tokens(ensemble.config), tokens.first, tokens.ids))

    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "bebert",
            _inputs(),
            output_infos(ensemble.config),
            list(graph.initializers.values()),
            doc_string=f"Binary ensemble BERT of {ensemble.config.members} members",
        ),
        functions=function_protos({node.op_type for node in graph.nodes}, RANGE_FUNCTIONS if ranges else ()),
        opset_imports=opset_imports(),
        ir_version=IR_VERSION,
        producer_name="bebert-edge",
    )
    functions = {"functions": sum(function.ByteSize() for function in proto.functions)}
    properties, parts = metadata_properties(ensemble, {**graph.parts, **functions})
    proto.producer_version = properties["bebert_edge.version"]
    helper.set_model_props(proto, properties)
    return proto, parts


def _inputs() -> list[onnx.ValueInfoProto]:
    names = ("input_ids", "attention_mask", "token_type_ids")
    return [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in names]


@dataclass(frozen=True)
class _Tokens:
    """Names of what is known about the real tokens; `first` are the first tokens of the sequences."""

    ids: str
    types: str
    positions: str
    offsets: str
    first: str
    first_offsets: str


def _remove_padding(graph: Graph) -> _Tokens:
    """[batch, sequence] -> the real tokens in order; a token's position is its column.

    The first token of a sequence counts as real even if the mask says otherwise: the pooler needs it.
    """
    token_types = numpy_helper.from_array(np.zeros((1, 1), np.int64), "token_type_ids")
    graph.initializers[token_types.name] = token_types  # also an input: the value where the caller gives none

    graph.node("Shape", ["input_ids"], "shape")
    graph.node("Gather", ["shape", graph.integers(1, scalar=True)], "sequence_length")
    zero, one = graph.integers(0, scalar=True), graph.integers(1, scalar=True)
    graph.node("Range", [zero, "sequence_length", one], "columns")
    graph.node("Equal", ["columns", zero], "is_first")
    graph.node("Cast", ["attention_mask"], "is_attended", to=TensorProto.BOOL)
    graph.node("Or", ["is_attended", "is_first"], "is_real")
    graph.node("NonZero", ["is_real"], "rows_and_columns")
    graph.node("Transpose", ["rows_and_columns"], "places", perm=[1, 0])

    ids = graph.node("GatherND", ["input_ids", "places"], "tokens.ids")
    graph.node("Expand", ["token_type_ids", "shape"], "token_type_ids.expanded")
    types = graph.node("GatherND", ["token_type_ids.expanded", "places"], "tokens.types")
    positions = graph.node("Gather", ["rows_and_columns", one], "tokens.positions")

    graph.node("Cast", ["is_real"], "is_real.integer", to=TensorProto.INT64)
    graph.node("ReduceSum", ["is_real.integer", graph.integers(1)], "lengths", keepdims=0)
    graph.node("CumSum", ["lengths", zero], "ends")
    offsets = graph.node("Concat", [graph.integers(0), "ends"], "offsets", axis=0)
    first = graph.node("Slice", ["offsets", graph.integers(0), graph.integers(-1)], "first")
    graph.node("Size", ["offsets"], "offsets.size")
    first_offsets = graph.node("Range", [zero, "offsets.size", one], "first.offsets")
    return _Tokens(ids, types, positions, offsets, first, first_offsets)


def _embed(graph: Graph, embedding: LoweredEmbedding, tokens: _Tokens, epsilon: float) -> tuple[str, list[str]]:
    word = ""
    for words, name in zip(embedding.words, term_names("embeddings.word", len(embedding.words)), strict=True):
        if isinstance(words, GroupedTable):
            grouped_words(graph, words, tokens.ids, name)
        else:
            weight = graph.constant(f"{name}.weight", words.weight, "word embedding bits")
            scale = graph.constant(f"{name}.scale", words.scale, "word embedding scales")
            graph.op("PackedBinaryEmbedding", [tokens.ids, weight, scale], name, k=embedding.k)
        word = graph.node("Add", [word, name], "embeddings.word.sum") if word else name

    tables = [
        _table(graph, table, rows, name)
        for table, rows, name in (
            (embedding.position, tokens.positions, "embeddings.position"),
            (embedding.token_type, tokens.types, "embeddings.token_type"),
        )
        if table is not None
    ]
    if len(tables) == 2:
        place = graph.node("Add", tables, "embeddings.place")
    elif tables:
        (place,) = tables
    else:
        graph.node("Shape", [word], "embeddings.shape")
        place = graph.node("ConstantOfShape", ["embeddings.shape"], "embeddings.place")
    hidden, codes = graph.norm(embedding.norm, word, place, epsilon, "embeddings.norm")
    if embedding.projection is None:
        return hidden, codes
    name = "embeddings.projection"
    hidden = graph.linear(embedding.projection, codes, name)
    return hidden, graph.quantize(hidden, embedding.projection.outputs, f"{name}.codes")


def _table(graph: Graph, table: NDArray[Any], rows: str, name: str) -> str:
    """Rows of a table, as float32."""
    weight = graph.constant(f"{name}.weight", table, "position and type embeddings")
    if table.dtype == np.float32:
        return graph.node("Gather", [weight, rows], name, axis=1)
    half = graph.node("Gather", [weight, rows], f"{name}.half", axis=1)
    return graph.node("Cast", [half], name, to=TensorProto.FLOAT)


def _layer(
    graph: Graph,
    layer: LoweredLayer,
    hidden: str,
    codes: list[str],
    tokens: _Tokens,
    epsilon: float,
    name: str,
    first_only: bool,
) -> tuple[str, list[str]]:
    """The seven ops of a layer. If only first tokens are read of the last, it goes on with those: eight."""
    query_codes, offsets = codes, [tokens.offsets, tokens.offsets]
    # Of layers that share weights: a part of a product's would be one more constant.
    whole = graph.sharing and len(layer.qkv) == 1 and layer.rotary is None
    if first_only:
        query_codes = codes if whole else _first(graph, codes, tokens, f"{name}.first_codes")
        (hidden,) = _first(graph, [hidden], tokens, f"{name}.residual")
        offsets = [tokens.first_offsets, tokens.offsets]
    if layer.rotary is None:
        attended, channels = _query_key_value(graph, layer, query_codes, codes, name)
    else:
        attended, channels = rotated_query_key_value(
            graph, layer, layer.rotary, query_codes, codes, tokens.positions, name
        )
    if first_only and whole:
        (query,) = _first(graph, [attended[0]], tokens, f"{name}.query")
        attended = (query, *attended[1:])
    context = graph.attention(layer.attention, attended, channels, offsets, f"{name}.attention")
    projected = graph.linear(layer.attention_output, context, f"{name}.attention_output")
    hidden, codes = graph.norm(layer.attention_norm, projected, hidden, epsilon, f"{name}.attention_norm")
    intermediate = graph.quantized_linear(layer.ffn_in, codes, f"{name}.ffn_in")
    projected = graph.linear(layer.ffn_out, intermediate, f"{name}.ffn_out")
    return graph.norm(layer.ffn_norm, projected, hidden, epsilon, f"{name}.ffn_norm")


def _first(graph: Graph, tensors: list[str], tokens: _Tokens, name: str) -> list[str]:
    """The rows of the first tokens."""
    return [graph.node("Gather", [x, tokens.first], numbered(name, i), axis=1) for i, x in enumerate(tensors)]


def _query_key_value(
    graph: Graph, layer: LoweredLayer, query_codes: list[str], codes: list[str], name: str
) -> tuple[tuple[str, str, str], tuple[int, int, int]]:
    """The tensors that hold query, key and value, and the channels at which they begin in them."""
    if len(layer.qkv) == 3:
        inputs = (query_codes, codes, codes)
        uses = ("query", "key", "value")
        query, key, value = (
            graph.quantized_linear(linear, given, f"{name}.{use}")[0]
            for linear, given, use in zip(layer.qkv, inputs, uses, strict=True)
        )
        return (query, key, value), (0, 0, 0)
    (fused,) = layer.qkv
    width = layer.attention.width
    if query_codes is codes:
        (qkv,) = graph.quantized_linear(fused, codes, f"{name}.qkv")
        return (qkv, qkv, qkv), (0, width, 2 * width)
    (query,) = graph.quantized_linear(fused.rows(0, width), query_codes, f"{name}.query")
    (key_value,) = graph.quantized_linear(fused.rows(width, 3 * width), codes, f"{name}.key_value")
    return (query, key_value, key_value), (0, 0, width)
