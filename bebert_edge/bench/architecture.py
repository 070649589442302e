# SPDX-License-Identifier: Apache-2.0
"""Architectures by name or configuration file, and ensembles of random weights to time them with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.bits import pack_bits
from bebert_edge.config import EncoderConfig, EnsembleConfig, LayerQuantization, QuantizationConfig, TaskConfig
from bebert_edge.ensemble import PackedEnsemble, tensor_specs
from bebert_edge.errors import BenchError, FormatError

CONFIG_FILE = "config.json"
LABELS = 2


@dataclass(frozen=True)
class Architecture:
    """A classifier's shape, which decides what it costs.

    Attributes:
        name: As the user named it.
        encoder: Everything before the classifier.
        labels: Outputs of the classifier.
    """

    name: str
    encoder: EncoderConfig
    labels: int = LABELS


def _bert(layers: int, hidden_size: int, heads: int, intermediate_size: int) -> EncoderConfig:
    return EncoderConfig(
        vocab_size=30522,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        intermediate_size=intermediate_size,
        positions=512,
        token_types=2,
        layer_norm_epsilon=1e-12,
        activation="gelu",
    )


ARCHITECTURES = {"bert-base": _bert(12, 768, 12, 3072), "minilm-l6": _bert(6, 384, 12, 1536)}


def read_architecture(name: str) -> Architecture:
    """Finds an architecture.

    Args:
        name: One of `ARCHITECTURES`, or the path of a `config.json` (of Hugging Face's BERT, or of a packed ensemble)
            or of the directory that holds it.

    Raises:
        BenchError: There is no such architecture.
    """
    if name in ARCHITECTURES:
        return Architecture(name, ARCHITECTURES[name])
    path = Path(name)
    path = path / CONFIG_FILE if path.is_dir() else path
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(
            f"{name} is neither an architecture nor a file: expected {', '.join(ARCHITECTURES)}, a {CONFIG_FILE}, "
            "a packed ensemble, or an .onnx file that bebert-edge export wrote"
        ) from error
    except ValueError as error:
        raise BenchError(f"{path} is not JSON: expected the {CONFIG_FILE} of a BERT") from error
    if not isinstance(config, dict):
        raise BenchError(f"{path} is not an object: expected the {CONFIG_FILE} of a BERT")
    try:
        if isinstance(config.get("encoder"), dict):
            return Architecture(name, EncoderConfig(**config["encoder"]), len(config.get("labels") or "12"))
        return Architecture(name, _from_hugging_face(config), len(config.get("id2label") or "12"))
    except KeyError as error:
        raise BenchError(f"{path} has no key {error}: expected the {CONFIG_FILE} of a BERT") from error
    except (FormatError, TypeError) as error:
        raise BenchError(f"{path} is no BERT that can be binarized: {error}") from error


def _from_hugging_face(config: Mapping[str, Any]) -> EncoderConfig:
    if config.get("model_type", "bert") != "bert":
        raise FormatError(f"model_type is {config['model_type']!r}, expected 'bert'")
    return EncoderConfig(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        intermediate_size=config["intermediate_size"],
        positions=config.get("max_position_embeddings", 512),
        token_types=config.get("type_vocab_size", 2),
        layer_norm_epsilon=config.get("layer_norm_eps", 1e-12),
        activation=config.get("hidden_act", "gelu"),
    )


def random_ensemble(
    architecture: Architecture,
    *,
    bits: int,
    members: int,
    seed: int = 0,
    tokenizer: str | None = None,
    weights: Mapping[str, str] | None = None,
) -> PackedEnsemble:
    """A valid ensemble of random weights. What it computes has no meaning; what it costs is what a trained one costs.

    Args:
        architecture: Shape of a member.
        bits: Bits of activations: 1, 2, 4 or 8.
        members: Members of the ensemble; each has embedding tables of its own.
        seed: Seed of the weights.
        tokenizer: Text of a `tokenizer.json`; by default one of made-up words that fill the vocabulary.
        weights: Types of the weights of linears that keep more than one bit (docs/format.md, "Kept weights").

    Raises:
        FormatError: There is no code type with so many bits.
    """
    encoder = architecture.encoder
    config = EnsembleConfig(
        members=members,
        member_weights=(1 / members,) * members,
        encoder=encoder,
        quantization=replace(QuantizationConfig.for_bits(bits, encoder), weights=dict(weights or {})),
        task=TaskConfig(),
        labels=tuple(f"label {i}" for i in range(architecture.labels)),
        max_length=encoder.positions,
        metadata={"name": f"{architecture.name}, random weights"},
    )
    rng = np.random.default_rng(seed)
    layer = LayerQuantization.for_bits(bits)
    tensors: dict[str, NDArray[Any]] = {}
    for name, spec in tensor_specs(config).items():
        if spec.kind == "bits":
            tensors[name] = _random_bits(rng, spec.shape, spec.channels)
        elif spec.kind == "scale":
            size = encoder.hidden_size
            tensors[name] = rng.uniform(0.5, 1.5, spec.shape).astype(np.float32) / np.float32(np.sqrt(size))
        elif spec.kind == "int8":
            tensors[name] = rng.integers(-127, 128, spec.shape).astype(np.int8)
        elif spec.kind == "float16":
            tensors[name] = rng.normal(0, 0.1, spec.shape).astype(np.float16)
        elif spec.kind == "step":
            tensors[name] = np.full(spec.shape, _step(name, layer), np.float32)
        else:
            center = 1 if name.endswith("norm.weight") else 0
            tensors[name] = rng.normal(center, 0.1, spec.shape).astype(np.float32)
    return PackedEnsemble(config, tensors, tokenizer or _tokenizer(encoder.vocab_size, rng))


def _random_bits(rng: np.random.Generator, shape: tuple[int, ...], channels: int) -> NDArray[np.uint8]:
    bits = rng.integers(256, size=shape, dtype=np.uint8)
    return bits & pack_bits(np.ones(channels, bool))  # padding must be zero


def _step(name: str, layer: LayerQuantization) -> float:
    """A step with which values of unit variance, or probabilities, spread over their codes."""
    if name.endswith("probability_step"):
        code = layer.code("probability")
        return 0.1 if code.high == 1 else 0.5 / code.high
    high = layer.code("hidden").high
    return 0.7 if high == 1 else 2.0 / high


def _tokenizer(vocab_size: int, rng: np.random.Generator) -> str:
    """A WordPiece vocabulary of made-up words, which compresses about as badly as a real one."""
    words = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"][:vocab_size])
    weights = 1 / np.arange(2, 28)
    while len(words) < vocab_size:
        letters = "".join(rng.choice(list("etaoinshrdlucmfwypvbgkjqxz"), 8 * vocab_size, p=weights / weights.sum()))
        ends = np.cumsum(rng.integers(2, 12, vocab_size))
        made_up = (letters[a:b] for a, b in pairwise(ends.tolist()))
        words |= dict.fromkeys(islice((word for word in made_up if word not in words), vocab_size - len(words)))
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {word: i for i, word in enumerate(words)},
    }
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model})
