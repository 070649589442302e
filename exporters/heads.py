# SPDX-License-Identifier: Apache-2.0
"""The end of the graph: from the hidden states of the last layer to the ensemble's answer (docs/format.md, "Heads")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bebert_edge.config import EnsembleConfig
from bebert_edge.ensemble import head_prefix
from bebert_edge.exporters.mask_head import fill
from bebert_edge.exporters.nodes import Graph, numbered
from bebert_edge.exporters.range_graph import range_linear
from bebert_edge.lowering import LoweredEnsemble, LoweredHead
from bebert_edge.lowering.ranges import RangeLinear
from bebert_edge.reference.answer import SMALLEST_NORM

LOG_ZERO = -1e30
"""Stands for the log of weight 0: finite, so that no runtime meets a difference of infinities."""


def reads_first_tokens(config: EnsembleConfig) -> bool:
    """Whether no task's answer depends on anything but the first token of each sequence."""
    tasks = [config.of(name).task for name in config.task_names]
    return all(task.pooling == "first" and not task.answers_tokens and not task.fills for task in tasks)


def output_infos(config: EnsembleConfig) -> list[onnx.ValueInfoProto]:
    """Names, types and shapes of the graph's outputs: of every task the ensemble's answer, and those of its members."""
    return [info for name in config.task_names for info in _output_infos(head_prefix(name), config.of(name))]


def _output_infos(prefix: str, config: EnsembleConfig) -> list[onnx.ValueInfoProto]:
    places: list[Any] = ["batch", "sequence"] if config.task.answers_tokens else ["batch"]
    places = ["masks"] if config.task.fills else places
    own = config.logits_size
    combined = config.embedding_size or own
    answer, members = config.task.outputs
    return [
        helper.make_tensor_value_info(prefix + answer, TensorProto.FLOAT, [*places, combined]),
        helper.make_tensor_value_info(prefix + members, TensorProto.FLOAT, [config.members, *places, own]),
    ]


@dataclass(frozen=True)
class LastLayer:
    """Names of what the last layer gives: hidden states and codes, of all tokens or of the first ones only.

    `first` are the places of these among all, `ids` the ids of all.
    """

    hidden: str
    codes: list[str]
    first_only: bool
    first: str
    ids: str

    def first_rows(self, graph: Graph, x: str) -> str:
        """The rows of the first tokens."""
        if self.first_only:
            return x
        name = f"{x}.of_first"
        return name if name in graph.names else graph.node("Gather", [x, self.first], name, axis=1)


def answer(graph: Graph, model: LoweredEnsemble, last: LastLayer) -> None:
    """Adds the head of every task."""
    for name, head in model.heads.items():
        _Head(graph, head, last, head_prefix(name)).add()


class _Head:
    """The nodes of one head: the names of all begin with `prefix`."""

    def __init__(self, graph: Graph, head: LoweredHead, last: LastLayer, prefix: str) -> None:
        self.graph, self.head, self.last, self.prefix = graph, head, last, prefix
        self.config = head.config

    def node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        return self.graph.node(op, inputs, self.prefix + name, **attributes)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        return self.graph.constant(self.prefix + name, value, "classifier")

    def add(self) -> None:
        task = self.config.task
        combined, members = task.outputs
        if task.embeds:
            self.combine_embeddings(self.embed(members), combined)
        elif self.head.mask is not None:
            fill(self.graph, self.head.mask, self.config, self.masked_codes(), self.prefix, members)
            self.combine(self.prefix + members, combined)
        elif task.answers_tokens:
            answers = self.classify(self.last.hidden, "token_member_logits")
            self.pad(self.combine(answers, "token_logits"), [], combined)
            self.pad(answers, [self.config.members], members)
        else:
            self.combine(self.classify(self.pool(), members), combined)

    def pool(self) -> str:
        pooler = self.head.pooler
        assert pooler is not None
        name, mean = f"{self.prefix}pooler.dense", self.config.task.pooling == "mean"
        if isinstance(pooler.linear, RangeLinear):
            state = self.exact_mean() if mean else self.last.first_rows(self.graph, self.last.hidden)
            dense = range_linear(self.graph, pooler.linear, state, "first.offsets", name)
        elif mean:
            codes = self.graph.quantize(self.exact_mean(), pooler.inputs, f"{self.prefix}pooler.codes")
            dense = self.graph.linear(pooler.linear, codes, name)
        else:
            codes = [self.last.first_rows(self.graph, code) for code in self.last.codes]
            dense = self.graph.linear(pooler.linear, codes, name)
        pooled = self.activate(dense, pooler.activation, "pooler")
        return pooled if pooler.norm is None else self.layer_norm(pooled, *pooler.norm, "pooler.norm")

    def masked_codes(self) -> list[str]:
        """The rows of the masked tokens, in their order."""
        mask_id = self.graph.integers(self.config.task.mask_id or 0, scalar=True)
        found = self.node("NonZero", [self.node("Equal", [self.last.ids, mask_id], "is_masked")], "masked.rows")
        masked = self.node("Reshape", [found, self.graph.integers(-1)], "masked")
        names = [numbered("masked.codes", i) for i in range(len(self.last.codes))]
        return [self.node("Gather", [x, masked], name, axis=1) for x, name in zip(self.last.codes, names, strict=True)]

    def classify(self, x: str, output: str) -> str:
        classifier = self.head.classifier
        assert classifier is not None
        weight = self.constant("classifier.weight", classifier.weight.swapaxes(1, 2))
        bias = self.constant("classifier.bias", classifier.bias[:, None])
        return self.node("Add", [self.node("MatMul", [x, weight], "classifier"), bias], output)

    def activate(self, x: str, activation: str, name: str) -> str:
        """Of floats that do not become codes: in standard ops, GELU by its error function."""
        if activation != "gelu":
            return self.node({"tanh": "Tanh", "relu": "Relu"}[activation], [x], name)
        half_root, one, half = (
            self.graph.constant(f"float.{value}", np.array(value, np.float32), "graph") for value in (0.5**0.5, 1, 0.5)
        )
        erf = self.node("Erf", [self.node("Mul", [x, half_root], f"{name}.scaled")], f"{name}.erf")
        twice_phi = self.node("Add", [erf, one], f"{name}.twice_phi")
        return self.node("Mul", [self.node("Mul", [x, twice_phi], f"{name}.twice"), half], name)

    def layer_norm(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32], name: str) -> str:
        """Of floats that do not become codes, with weight and bias `[E, C]`."""
        ones = self.graph.constant(f"ones.{weight.shape[1]}", np.ones(weight.shape[1:], np.float32), "graph")
        epsilon = self.config.encoder.layer_norm_epsilon
        normal = self.node("LayerNormalization", [x, ones], f"{name}.normal", epsilon=epsilon)
        gamma = self.graph.constant(f"{self.prefix}{name}.gamma", weight[:, None], "layer norms")
        beta = self.graph.constant(f"{self.prefix}{name}.beta", bias[:, None], "layer norms")
        return self.node("Add", [self.node("Mul", [normal, gamma], f"{name}.scaled"), beta], name)

    # Tasks on tokens

    def pad(self, x: str, leading: list[int], output: str) -> str:
        """Numbers of the real tokens `[*leading, T, C]` -> `[*leading, batch, sequence, C]`, zeros in between."""
        axis = len(leading)
        width = self.node("Shape", [x], f"{output}.width", start=axis + 1)
        parts = [*([self.graph.integers(*leading)] if leading else []), "shape", width]
        shape = self.node("Concat", parts, f"{output}.shape", axis=0)
        spread = self.node("Gather", [x, self.slots()], f"{output}.spread", axis=axis)
        padded = self.node("Reshape", [spread, shape], f"{output}.padded")
        mask = self.node("Unsqueeze", ["is_real", self.graph.integers(-1)], f"{output}.mask")
        zero = self.graph.constant("zero", np.zeros((), np.float32), "graph")
        return self.node("Where", [mask, padded, zero], output)

    def slots(self) -> str:
        """For every place of the padded batch, row by row, the real token there; of padding, the last one before it."""
        graph, name = self.graph, "slots"
        if name not in graph.names:
            flat = graph.node("Reshape", ["is_real.integer", graph.integers(-1)], "is_real.flat")
            after = graph.node("CumSum", [flat, graph.integers(0, scalar=True)], "slots.after")
            graph.node("Sub", [after, graph.integers(1, scalar=True)], name)
        return name

    def exact_mean(self) -> str:
        """The mean of each sequence's hidden states `[E, batch, H]`, in binary64 and rounded once: it becomes codes."""
        padded = self.pad(self.last.hidden, [self.config.members], "pooler.padded")
        wide = self.node("Cast", [padded], "pooler.wide", to=TensorProto.DOUBLE)
        total = self.node("ReduceSum", [wide, self.graph.integers(2)], "pooler.sum", keepdims=0)
        lengths = self.node("Cast", ["lengths"], "pooler.lengths", to=TensorProto.DOUBLE)
        column = self.node("Unsqueeze", [lengths, self.graph.integers(-1)], "pooler.column")
        mean = self.node("Div", [total, column], "pooler.wide_mean")
        return self.node("Cast", [mean], "pooler.mean", to=TensorProto.FLOAT)

    # Sentence embeddings

    def embed(self, output: str) -> str:
        """Unit vectors of the sequences `[E, batch, H]`."""
        if self.config.task.pooling == "first":
            return self.normalize(self.last.first_rows(self.graph, self.last.hidden), output)
        padded = self.pad(self.last.hidden, [self.config.members], "hidden.padded")
        total = self.node("ReduceSum", [padded, self.graph.integers(2)], "hidden.sum", keepdims=0)
        lengths = self.node("Cast", ["lengths"], "lengths.float", to=TensorProto.FLOAT)
        column = self.node("Unsqueeze", [lengths, self.graph.integers(-1)], "lengths.column")
        return self.normalize(self.node("Div", [total, column], "hidden.mean"), output)

    def normalize(self, x: str, output: str) -> str:
        smallest = self.graph.constant("smallest_norm", np.array(SMALLEST_NORM, np.float32), "graph")
        norm = self.node("ReduceL2", [x, self.graph.integers(-1)], f"{output}.length", keepdims=1)
        return self.node("Div", [x, self.node("Max", [norm, smallest], f"{output}.divisor")], output)

    def combine_embeddings(self, members: str, output: str) -> str:
        """The direction of the weighted mean; or all side by side, so that products are weighted means of products."""
        if self.config.combination == "embeddings":
            return self.normalize(self.weighted_sum(members, "embeddings.mean"), output)
        roots = self.constant("member_weight_roots", np.sqrt(self.weights))
        weighted = self.node("Mul", [members, roots], "weighted_embeddings")
        by_text = self.node("Transpose", [weighted], "embeddings.by_text", perm=[1, 0, 2])
        shape = self.graph.integers(0, self.config.embedding_size)
        return self.node("Reshape", [by_text, shape], output)

    # The answer of all members

    @property
    def weights(self) -> NDArray[np.float32]:
        return np.asarray(self.config.member_weights, np.float32)[:, None, None]

    def weighted_sum(self, members: str, output: str) -> str:
        member_weights = self.graph.constant("member_weights", self.weights, "classifier")
        weighted = self.node("Mul", [members, member_weights], "weighted_logits")
        return self.node("ReduceSum", [weighted, self.graph.integers(0)], output, keepdims=0)

    def combine(self, members: str, output: str) -> str:
        """Logits of members `[E, N, labels]` -> `[N, labels]` (docs/format.md, "The answer")."""
        combined = output if self.config.temperature == 1 else "combined_logits"
        if self.config.combination == "logits":
            result = self.weighted_sum(members, combined)
        else:
            result = self.combine_probabilities(members, combined)
        if self.config.temperature == 1:
            return result
        temperature = self.constant("temperature", np.array(self.config.temperature, np.float32))
        return self.node("Div", [result, temperature], output)

    def combine_probabilities(self, members: str, combined: str) -> str:
        """The log of the mean of softmaxes, or the logit of the mean of sigmoids; nothing leaves the log domain."""
        logs = np.full_like(self.weights, LOG_ZERO)
        np.log(self.weights, out=logs, where=self.weights > 0)
        axis = self.graph.integers(0)
        log_weights = self.graph.constant("log_member_weights", logs, "classifier")
        if self.config.task.problem == "multi_label":
            # 1 - sigmoid(z) = exp(-softplus(z)), and sigmoid(z) = exp(z - softplus(z)).
            softplus = self.node("Softplus", [members], "softplus")
            weighted_no = self.node("Sub", [log_weights, softplus], "weighted_log_no")
            weighted_yes = self.node("Add", [weighted_no, members], "weighted_log_yes")
            yes = self.node("ReduceLogSumExp", [weighted_yes, axis], "log_yes", keepdims=0)
            no = self.node("ReduceLogSumExp", [weighted_no, axis], "log_no", keepdims=0)
            return self.node("Sub", [yes, no], combined)
        log_probabilities = self.node("LogSoftmax", [members], "member_log_probabilities", axis=-1)
        weighted = self.node("Add", [log_probabilities, log_weights], "weighted_log_probabilities")
        return self.node("ReduceLogSumExp", [weighted, axis], combined, keepdims=0)
