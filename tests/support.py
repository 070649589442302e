# SPDX-License-Identifier: Apache-2.0
"""Small random ensembles and inputs that tests of every part share."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge import groups
from bebert_edge.bits import pack_bits
from bebert_edge.config import (
    SPAN_LABELS,
    EncoderConfig,
    EnsembleConfig,
    HeadConfig,
    LayerQuantization,
    QuantizationConfig,
    TaskConfig,
)
from bebert_edge.ensemble import PackedEnsemble, tensor_specs

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "the",
    "a",
    "is",
    "was",
    "not",
    "good",
    "bad",
    "movie",
    "film",
    "very",
    "it",
    "and",
    "of",
    "##ly",
    "##s",
    "##ing",
]
CHARACTERS = [*string.ascii_lowercase, *string.digits, *string.punctuation]
VOCABULARY = [*SPECIAL_TOKENS, *WORDS, *CHARACTERS, *(f"##{c}" for c in string.ascii_lowercase + string.digits)]


def tokenizer_json() -> str:
    """A lower-casing WordPiece tokenizer of `VOCABULARY` with BERT's template for one text and for pairs."""
    token = {"[CLS]": 2, "[SEP]": 3}

    def template(*parts: tuple[str, int]) -> list[dict[str, object]]:
        kinds = {"A": "Sequence", "B": "Sequence", "[CLS]": "SpecialToken", "[SEP]": "SpecialToken"}
        return [{kinds[name]: {"id": name, "type_id": type_id}} for name, type_id in parts]

    special = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, "content": name, **special} for i, name in enumerate(SPECIAL_TOKENS)],
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": template(("[CLS]", 0), ("A", 0), ("[SEP]", 0)),
                "pair": template(("[CLS]", 0), ("A", 0), ("[SEP]", 0), ("B", 1), ("[SEP]", 1)),
                "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in token.items()},
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {name: i for i, name in enumerate(VOCABULARY)},
            },
        }
    )


def random_ensemble(
    *,
    bits: int | LayerQuantization = 4,
    members: int = 2,
    layers: int = 2,
    hidden_size: int = 24,
    heads: int = 3,
    intermediate_size: int = 40,
    activation: str = "relu",
    labels: Iterable[str] = ("negative", "positive"),
    problem: str = "single_label",
    text_pair: bool = False,
    task: TaskConfig | None = None,
    heads_of_tasks: Iterable[HeadConfig] = (),
    member_weights: Iterable[float] | None = None,
    shared_embeddings: bool = False,
    max_length: int = 32,
    combination: str = "logits",
    temperature: float = 1.0,
    head_size: int = 0,
    pooler_activation: str = "tanh",
    embedding_size: int = 0,
    distinct_layers: int = 0,
    embeddings: str = "binary",
    terms: int = 1,
    fused_qkv: bool = True,
    token_types: int = 2,
    structure: Mapping[str, Any] | None = None,
    weights: dict[str, str] | None = None,
    ranges: str = "fixed",
    seed: int = 0,
) -> PackedEnsemble:
    """A valid ensemble of random weights whose codes take many different values.

    Args:
        bits: Activations of 1, 2, 4 or 8 bits, or the code types of every layer.
        task: Instead of `problem` and `text_pair`; then `labels` are those that its type asks for.
        heads_of_tasks: Further tasks.
        shared_embeddings: Store one table of each kind for all members.
        structure: More fields of the encoder, those that BERT's own structure does not need.
    """
    task = task or TaskConfig(problem=problem, text_pair=text_pair)
    labels = () if task.embeds or task.fills else SPAN_LABELS if task.type == "question-answering" else labels
    structure = structure or {}
    gated = structure.get("gated", False)
    layer = bits if isinstance(bits, LayerQuantization) else LayerQuantization.for_bits(bits, gated)
    config = EnsembleConfig(
        members=members,
        member_weights=tuple(member_weights or [1 / members] * members),
        encoder=EncoderConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=hidden_size,
            layers=layers,
            heads=heads,
            intermediate_size=intermediate_size,
            positions=max_length,
            token_types=token_types,
            layer_norm_epsilon=1e-12,
            activation=activation,
            head_size=head_size,
            pooler_activation=pooler_activation,
            embedding_size=embedding_size,
            distinct_layers=distinct_layers,
            **structure,
        ),
        quantization=QuantizationConfig(
            (layer,) * (distinct_layers or layers),
            layer.hidden,
            terms,
            fused_qkv,
            projection=layer.hidden if embedding_size else None,
            weights=weights or {},
            ranges=ranges,
            embeddings=embeddings,
        ),
        task=task,
        labels=tuple(labels),
        max_length=max_length,
        combination=combination,
        temperature=temperature,
        metadata={"name": "random", "license": "Apache-2.0"},
        heads=tuple(heads_of_tasks),
    )
    rng = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, spec in tensor_specs(config).items():
        shape = (1, *spec.shape[1:]) if spec.shareable and shared_embeddings else spec.shape
        if spec.kind == "bits":
            tensors[name] = pack_bits(rng.random((*shape[:-1], spec.channels)) < 0.5)
        elif spec.kind == "int8":
            tensors[name] = rng.integers(-127, 128, shape).astype(np.int8)
        elif spec.kind == "float16":
            tensors[name] = rng.normal(0, 1 / np.sqrt(hidden_size), shape).astype(np.float16)
        elif spec.kind == "clip":
            tensors[name] = rng.uniform(1.5, 3, shape).astype(np.float32) * np.array([-1, 1], np.float32)
        elif spec.kind in ("bytes", "nibbles"):
            table = rng.normal(0, 1, (*shape[:-1], spec.channels)).astype(np.float32)
            tensors[name], _ = groups.quantize(table, embeddings)
        elif name.endswith("norm.weight"):
            tensors[name] = rng.normal(1, 0.1, shape).astype(np.float32)
        elif name.endswith(("classifier.weight", "distance_bias")):
            tensors[name] = rng.normal(0, 0.5, shape).astype(np.float32)
        elif spec.kind == "float":
            tensors[name] = rng.normal(0, 0.1, shape).astype(np.float32)
        elif spec.kind == "scale":
            largest = 64 if name.removesuffix(".scale") in config.quantization.weights else 1
            if name == "embeddings.word.scale" and embeddings != "binary":
                largest = 4
            tensors[name] = (rng.uniform(0.5, 1.5, shape) / np.sqrt(hidden_size) / largest).astype(np.float32)
        else:
            tensors[name] = (rng.uniform(0.8, 1.2, shape) * _step(name, layer)).astype(np.float32)
    ensemble = PackedEnsemble(config, tensors, tokenizer_json())
    ensemble.validate()
    return ensemble


def answering(member_logits: NDArray[np.float32], **arguments: Any) -> PackedEnsemble:
    """A random ensemble whose members answer every text with the same logits `[E, labels]`."""
    members, labels = member_logits.shape
    names = [f"label {i}" for i in range(labels)]
    ensemble = random_ensemble(members=members, labels=names, layers=1, hidden_size=6, intermediate_size=8, **arguments)
    ensemble.tensors["classifier.weight"] = np.zeros_like(ensemble.tensors["classifier.weight"])
    ensemble.tensors["classifier.bias"] = np.asarray(member_logits, np.float32)
    return ensemble


def _step(name: str, layer: LayerQuantization) -> float:
    """A step with which values of unit variance (or probabilities) fill the range of their code type."""
    if name.endswith("probability_step"):
        code = layer.code("probability")
        return 0.1 if code.high == 1 else 0.5 / code.high
    uses = {
        "qkv": "hidden",
        "query": "hidden",
        "key": "hidden",
        "value": "hidden",
        "attention": "attention",
        "attention_output": "context",
        "ffn_in": "ffn",
        "ffn_out": "intermediate",
    }
    behind = ("pooler", "embeddings", "heads", "transform", "decoder")
    use = "hidden" if name.startswith(behind) else uses[name.split(".")[2]]
    code = layer.code(use)
    return 0.7 if code.width == 1 else 2.0 / max(code.high, 1)


def linear_names(layers: int) -> list[str]:
    """Names of the linears of what training makes (docs/format.md)."""
    uses = ("qkv", "attention_output", "ffn_in", "ffn_out")
    return [*(f"layers.{i}.{use}" for i in range(layers) for use in uses), "pooler"]


def random_batch(
    ensemble: PackedEnsemble, lengths: Iterable[int], sequence: int | None = None, seed: int = 0
) -> dict[str, NDArray[np.int64]]:
    """Random ids of sequences of these lengths, padded on the right to the longest or to `sequence`."""
    lengths = list(lengths)
    rng = np.random.default_rng(seed)
    shape = (len(lengths), sequence or max(lengths, default=1))
    mask = (np.arange(shape[1]) < np.array(lengths, np.int64).reshape(-1, 1)).astype(np.int64)
    return {
        "input_ids": rng.integers(len(SPECIAL_TOKENS), ensemble.config.encoder.vocab_size, shape) * mask,
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, max(1, ensemble.config.encoder.token_types), shape) * mask,
    }


__all__ = ["VOCABULARY", "answering", "linear_names", "random_batch", "random_ensemble", "tokenizer_json"]
