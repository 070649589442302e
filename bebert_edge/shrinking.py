# SPDX-License-Identifier: Apache-2.0
"""Smaller packed ensembles: fewer words, narrower tables."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.config import TaskConfig
from bebert_edge.ensemble import PackedEnsemble, tensor_specs
from bebert_edge.errors import FormatError

_VOCABULARY_MODELS = ("WordPiece", "WordLevel", "Unigram")


def halve_tables(ensemble: PackedEnsemble) -> PackedEnsemble:
    """Rounds position and token type tables, and scales of groups of word embeddings, to float16.

    The rest of the ensemble is shared, not copied.

    Raises:
        FormatError: A number is beyond float16's 65,504.
    """
    tensors = dict(ensemble.tensors)
    for name, spec in tensor_specs(ensemble.config).items():
        if spec.half:
            with np.errstate(over="ignore"):
                half = tensors[name].astype(np.float16)
            if not np.isfinite(half).all():
                raise FormatError(
                    f"tensor {name} has numbers beyond 65504, which float16 cannot hold: keep it as it is"
                )
            tensors[name] = half
    return PackedEnsemble(ensemble.config, tensors, ensemble.tokenizer)


def trim_vocabulary(ensemble: PackedEnsemble, texts: Iterable[str]) -> PackedEnsemble:
    """Keeps only the words that texts are made of, and special tokens; the tokenizer is rewritten to match.

    A text all of whose tokens are kept has the same answer as before: a WordPiece tokenizer takes the longest match,
    and a Unigram tokenizer the best path, and both are still there. Other words become what is left of the vocabulary
    can spell, or the unknown token; single characters and their continuations are kept, so that most can be spelt.

    Args:
        ensemble: A valid ensemble.
        texts: A corpus like the texts to come.

    Raises:
        FormatError: The tokenizer is of another kind (byte-pair encoding needs its merges), or its special tokens
            cannot be found.
    """
    from tokenizers import Tokenizer

    content = json.loads(ensemble.tokenizer)
    kind = content["model"].get("type", "WordPiece")
    if kind not in _VOCABULARY_MODELS:
        raise FormatError(
            f"the tokenizer is {kind}, expected one of {', '.join(_VOCABULARY_MODELS)}: "
            "its vocabulary cannot be trimmed; leave it whole"
        )
    tokenizer = Tokenizer.from_str(ensemble.tokenizer)
    used = {token for encoding in _batches(tokenizer, texts) for token in encoding}
    words = _words(content)
    kept = sorted(used | _indispensable(content, words) | _masks(ensemble))
    if kept == list(range(ensemble.config.encoder.vocab_size)):
        return ensemble
    return _keep(ensemble, content, words, kept)


def _masks(ensemble: PackedEnsemble) -> set[int]:
    """The tokens that stand for those to be guessed, which a tokenizer need not know as special ones."""
    config = ensemble.config
    tasks = (config.of(name).task for name in config.task_names)
    return {task.mask_id for task in tasks if task.mask_id is not None}


def _batches(tokenizer: Any, texts: Iterable[str], size: int = 1000) -> Iterable[list[int]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield from (encoding.ids for encoding in tokenizer.encode_batch(batch))
            batch = []
    yield from (encoding.ids for encoding in tokenizer.encode_batch(batch))


def _words(content: dict[str, Any]) -> dict[int, str]:
    """Tokens by their ids."""
    vocabulary = content["model"]["vocab"]
    words = dict(enumerate(word for word, _ in vocabulary)) if isinstance(vocabulary, list) else _inverse(vocabulary)
    if any(token["id"] not in words for token in content.get("added_tokens") or []):
        raise FormatError("the tokenizer has added tokens outside its vocabulary: it cannot be trimmed; leave it whole")
    return words


def _inverse(vocabulary: dict[str, int]) -> dict[int, str]:
    words = {i: word for word, i in vocabulary.items()}
    if len(words) < len(vocabulary):
        raise FormatError("the tokenizer has two tokens of one id: it cannot be trimmed; leave it whole")
    return words


def _indispensable(content: dict[str, Any], words: dict[int, str]) -> set[int]:
    """Special tokens, and single characters: at the beginning of a word and within it."""
    prefix = content["model"].get("continuing_subword_prefix") or ""
    added = {token["id"] for token in content.get("added_tokens") or []}
    unknown = content["model"].get("unk_token"), content["model"].get("unk_id")
    return added | {
        i for i, word in words.items() if len(word.removeprefix(prefix)) == 1 or word == unknown[0] or i == unknown[1]
    }


def _keep(ensemble: PackedEnsemble, content: dict[str, Any], words: dict[int, str], kept: list[int]) -> PackedEnsemble:
    new = {old: i for i, old in enumerate(kept)}
    model = content["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [model["vocab"][old] for old in kept]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {words[old]: i for old, i in new.items()}
    for token in content.get("added_tokens") or []:
        token["id"] = new[token["id"]]
    _renumber(content.get("post_processor"), new)
    tensors: dict[str, NDArray[Any]] = dict(ensemble.tensors)
    for name in tensors:
        if name.startswith("embeddings.word.") or name.endswith("decoder.bias"):
            tensors[name] = np.ascontiguousarray(tensors[name][:, kept])
    config = ensemble.config
    config = replace(
        config,
        encoder=replace(config.encoder, vocab_size=len(kept)),
        task=_with_mask(config.task, new),
        heads=tuple(replace(head, task=_with_mask(head.task, new)) for head in config.heads),
    )
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    trimmed = PackedEnsemble(config, tensors, text)
    trimmed.validate()
    return trimmed


def _with_mask(task: TaskConfig, new: dict[int, int]) -> TaskConfig:
    return task if task.mask_id is None else replace(task, mask_id=new[task.mask_id])


def _renumber(processor: Any, new: dict[int, int]) -> None:
    """Ids in a post-processor: those of a template's special tokens, or pairs like `["[SEP]", 102]`."""
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors", []):
        _renumber(part, new)
    for special in (processor.get("special_tokens") or {}).values():
        special["ids"] = [new[i] for i in special["ids"]]
    for key in ("sep", "cls"):
        if isinstance(processor.get(key), list):
            processor[key][1] = new[processor[key][1]]
