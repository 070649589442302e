# SPDX-License-Identifier: Apache-2.0
"""The end of the graph: from the hidden states of the last layer to the ensemble's answer (docs/format.md, "Heads")."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bebert_edge.answer import SMALLEST_NORM
from bebert_edge.config import EnsembleConfig, TaskConfig
from bebert_edge.exporters.nodes import Graph
from bebert_edge.lowering import LoweredClassifier, LoweredEnsemble

LOG_ZERO = -1e30
"""Stands for the log of weight 0: finite, so that no runtime meets a difference of infinities."""


def reads_first_tokens(task: TaskConfig) -> bool:
    """Whether the answer depends on nothing but the first token of each sequence."""
    return task.pooled or (task.embeds and task.pooling == "first")


def output_infos(config: EnsembleConfig) -> list[onnx.ValueInfoProto]:
    """Names, types and shapes of the graph's outputs: the ensemble's answer, and those of its members."""
    places: list[Any] = ["batch", "sequence"] if config.task.answers_tokens else ["batch"]
    own = config.encoder.hidden_size if config.task.embeds else len(config.labels)
    combined = config.embedding_size or own
    answer, members = config.task.outputs
    return [
        helper.make_tensor_value_info(answer, TensorProto.FLOAT, [*places, combined]),
        helper.make_tensor_value_info(members, TensorProto.FLOAT, [config.members, *places, own]),
    ]


def answer(graph: Graph, model: LoweredEnsemble, hidden: str, codes: list[str], config: EnsembleConfig) -> None:
    """Adds the head: `hidden` and `codes` are of the first tokens if they are all that is read, else of all."""
    combined, members = config.task.outputs
    if config.task.embeds:
        _embed(graph, hidden, config, members)
        _combine_embeddings(graph, config, members, combined)
        return
    assert model.classifier is not None
    if config.task.answers_tokens:
        _classify(graph, model.classifier, hidden, "token_member_logits")
        _combine(graph, config, "token_member_logits", "token_logits")
        _pad(graph, "token_logits", [], combined)
        _pad(graph, "token_member_logits", [config.members], members)
        return
    assert model.pooler is not None
    dense = graph.linear(model.pooler.linear, codes, "pooler.dense")
    pooled = _activate(graph, dense, model.pooler.activation, "pooler")
    if model.pooler.norm is not None:
        pooled = _layer_norm(graph, pooled, *model.pooler.norm, model.epsilon, "pooler.norm")
    _classify(graph, model.classifier, pooled, members)
    _combine(graph, config, members, combined)


def _classify(graph: Graph, classifier: LoweredClassifier, x: str, output: str) -> None:
    weight = graph.constant("classifier.weight", classifier.weight.swapaxes(1, 2), "classifier")
    bias = graph.constant("classifier.bias", classifier.bias[:, None], "classifier")
    graph.node("MatMul", [x, weight], "classifier")
    graph.node("Add", ["classifier", bias], output)


def _activate(graph: Graph, x: str, activation: str, name: str) -> str:
    """Of floats that do not become codes: in standard ops, GELU by its error function."""
    if activation != "gelu":
        return graph.node({"tanh": "Tanh", "relu": "Relu"}[activation], [x], name)
    constants = [graph.constant(f"float.{value}", np.array(value, np.float32), "graph") for value in (0.5**0.5, 1, 0.5)]
    graph.node("Mul", [x, constants[0]], f"{name}.scaled")
    graph.node("Erf", [f"{name}.scaled"], f"{name}.erf")
    graph.node("Add", [f"{name}.erf", constants[1]], f"{name}.twice_phi")
    graph.node("Mul", [x, f"{name}.twice_phi"], f"{name}.twice")
    return graph.node("Mul", [f"{name}.twice", constants[2]], name)


def _layer_norm(
    graph: Graph, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32], epsilon: float, name: str
) -> str:
    """Of floats that do not become codes, with weight and bias `[E, C]`."""
    ones = graph.constant(f"{name}.ones", np.ones(weight.shape[1:], np.float32), "graph")
    graph.node("LayerNormalization", [x, ones], f"{name}.normal", epsilon=epsilon)
    gamma = graph.constant(f"{name}.gamma", weight[:, None], "layer norms")
    beta = graph.constant(f"{name}.beta", bias[:, None], "layer norms")
    graph.node("Mul", [f"{name}.normal", gamma], f"{name}.scaled")
    return graph.node("Add", [f"{name}.scaled", beta], name)


# Tasks on tokens


def _pad(graph: Graph, x: str, leading: list[int], output: str) -> None:
    """Numbers of the real tokens `[*leading, T, C]` -> `[*leading, batch, sequence, C]`, zeros in between."""
    axis = len(leading)
    width = graph.node("Shape", [x], f"{x}.width", start=axis + 1)
    parts = [*([graph.integers(*leading)] if leading else []), "shape", width]
    shape = graph.node("Concat", parts, f"{output}.shape", axis=0)
    spread = graph.node("Gather", [x, _slots(graph)], f"{output}.spread", axis=axis)
    padded = graph.node("Reshape", [spread, shape], f"{output}.padded")
    mask = graph.node("Unsqueeze", ["is_real", graph.integers(-1)], f"{output}.mask")
    zero = graph.constant("zero", np.zeros((), np.float32), "graph")
    graph.node("Where", [mask, padded, zero], output)


def _slots(graph: Graph) -> str:
    """For every place of the padded batch, row by row, the real token there; of padding, the last one before it."""
    name = "slots"
    if not any(node.name == name for node in graph.nodes):
        flat = graph.node("Reshape", ["is_real.integer", graph.integers(-1)], "is_real.flat")
        graph.node("CumSum", [flat, graph.integers(0, scalar=True)], "slots.after")
        graph.node("Sub", ["slots.after", graph.integers(1, scalar=True)], name)
    return name


# Sentence embeddings


def _embed(graph: Graph, hidden: str, config: EnsembleConfig, output: str) -> None:
    """Unit vectors of the sequences `[E, batch, H]`."""
    pooled = hidden
    if config.task.pooling == "mean":
        _pad(graph, hidden, [config.members], "hidden.padded")
        graph.node("ReduceSum", ["hidden.padded", graph.integers(2)], "hidden.sum", keepdims=0)
        graph.node("Cast", ["lengths"], "lengths.float", to=TensorProto.FLOAT)
        graph.node("Unsqueeze", ["lengths.float", graph.integers(-1)], "lengths.column")
        pooled = graph.node("Div", ["hidden.sum", "lengths.column"], "hidden.mean")
    _normalize(graph, pooled, output)


def _normalize(graph: Graph, x: str, output: str) -> None:
    smallest = graph.constant("smallest_norm", np.array(SMALLEST_NORM, np.float32), "graph")
    graph.node("ReduceL2", [x, graph.integers(-1)], f"{x}.norm", keepdims=1)
    graph.node("Max", [f"{x}.norm", smallest], f"{x}.divisor")
    graph.node("Div", [x, f"{x}.divisor"], output)


def _combine_embeddings(graph: Graph, config: EnsembleConfig, members: str, output: str) -> None:
    """The direction of the weighted mean; or all side by side, scaled so that products are weighted means of theirs."""
    weights = np.asarray(config.member_weights, np.float32)[:, None, None]
    if config.combination == "embeddings":
        _weighted_sum(graph, weights, members, "embeddings.mean")
        _normalize(graph, "embeddings.mean", output)
        return
    roots = graph.constant("member_weight_roots", np.sqrt(weights), "classifier")
    graph.node("Mul", [members, roots], "weighted_embeddings")
    graph.node("Transpose", ["weighted_embeddings"], "embeddings.by_text", perm=[1, 0, 2])
    shape = graph.integers(0, config.embedding_size)
    graph.node("Reshape", ["embeddings.by_text", shape], output)


# The answer of all members


def _weighted_sum(graph: Graph, weights: NDArray[np.float32], members: str, output: str) -> None:
    member_weights = graph.constant("member_weights", weights, "classifier")
    graph.node("Mul", [members, member_weights], "weighted_logits")
    graph.node("ReduceSum", ["weighted_logits", graph.integers(0)], output, keepdims=0)


def _combine(graph: Graph, config: EnsembleConfig, members: str, output: str) -> None:
    """Logits of members `[E, N, labels]` -> `[N, labels]` (docs/format.md, "The answer")."""
    weights = np.asarray(config.member_weights, np.float32)[:, None, None]
    combined = output if config.temperature == 1 else "combined_logits"
    if config.combination == "logits":
        _weighted_sum(graph, weights, members, combined)
    else:
        _combine_probabilities(graph, weights, config.task.problem, members, combined)
    if config.temperature != 1:
        temperature = graph.constant("temperature", np.array(config.temperature, np.float32), "classifier")
        graph.node("Div", [combined, temperature], output)


def _combine_probabilities(
    graph: Graph, weights: NDArray[np.float32], problem: str, members: str, combined: str
) -> None:
    """The log of the mean of softmaxes, or the logit of the mean of sigmoids; nothing leaves the log domain."""
    logs = np.full_like(weights, LOG_ZERO)
    np.log(weights, out=logs, where=weights > 0)
    log_weights, axis = graph.constant("log_member_weights", logs, "classifier"), graph.integers(0)
    if problem == "multi_label":
        # 1 - sigmoid(z) = exp(-softplus(z)), and sigmoid(z) = exp(z - softplus(z)).
        graph.node("Softplus", [members], "softplus")
        graph.node("Sub", [log_weights, "softplus"], "weighted_log_no")
        graph.node("Add", ["weighted_log_no", members], "weighted_log_yes")
        yes = graph.node("ReduceLogSumExp", ["weighted_log_yes", axis], "log_yes", keepdims=0)
        no = graph.node("ReduceLogSumExp", ["weighted_log_no", axis], "log_no", keepdims=0)
        graph.node("Sub", [yes, no], combined)
    else:
        graph.node("LogSoftmax", [members], "member_log_probabilities", axis=-1)
        graph.node("Add", ["member_log_probabilities", log_weights], "weighted_log_probabilities")
        graph.node("ReduceLogSumExp", ["weighted_log_probabilities", axis], combined, keepdims=0)
