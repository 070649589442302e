# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a checkpoint as the text of a `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bebert_edge.checkpoints.files import TOKENIZER_FILE, read_json, read_text
from bebert_edge.errors import CheckpointError

VOCABULARY_FILE = "vocab.txt"
SETTINGS_FILE = "tokenizer_config.json"

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NEEDED = ("[UNK]", "[CLS]", "[SEP]")


def find_tokenizer(chosen: Path | None, directories: Sequence[Path]) -> Path:
    """The file of the tokenizer: what the user named, or the first `tokenizer.json` or `vocab.txt` found here.

    Raises:
        CheckpointError: There is none.
    """
    if chosen is not None and chosen.is_file():
        return chosen
    names = (TOKENIZER_FILE, VOCABULARY_FILE)
    for directory in directories if chosen is None else [chosen]:
        for name in names:
            if (directory / name).is_file():
                return directory / name
    raise CheckpointError(
        f"{(chosen or directories[0]) / TOKENIZER_FILE} is missing, and so is {VOCABULARY_FILE}: pass the directory of "
        "the float model that the checkpoint was trained from with --tokenizer DIR"
    )


def read_tokenizer(path: Path) -> str:
    """Reads a `tokenizer.json`, or makes one of a `vocab.txt`, without padding and truncation settings.

    Raises:
        CheckpointError: It is neither.
    """
    tokenizer = _from_vocabulary(path) if path.suffix == ".txt" else read_json(path)
    model = tokenizer.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), (dict, list)):
        raise CheckpointError(f"{path} has no vocabulary (model.vocab): expected a file saved by tokenizers")
    # Whoever runs the model decides on both; left in, they would apply behind its back.
    tokenizer["padding"] = tokenizer["truncation"] = None
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))


def check_vocabulary(path: Path, tokenizer: str, embedded: int) -> None:
    """Checks that the model has an embedding for each token.

    Raises:
        CheckpointError: It has not.
    """
    vocabulary = json.loads(tokenizer)["model"]["vocab"]
    tokens = len(vocabulary)
    if isinstance(vocabulary, dict):
        tokens = max((index + 1 for index in vocabulary.values() if isinstance(index, int)), default=0)
    if tokens > embedded:
        raise CheckpointError(
            f"{path} has {tokens} tokens, but the model embeds {embedded}: the tokenizer is another model's; "
            "pass the right one with --tokenizer"
        )


def _from_vocabulary(path: Path) -> dict[str, Any]:
    """BERT's WordPiece tokenizer of a vocabulary: lower case unless `tokenizer_config.json` beside it says otherwise.

    Source: Devlin et al. 2019, and the defaults of transformers' `BertTokenizer`.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    # Not splitlines(): multilingual vocabularies hold characters that it takes for the end of a line.
    lines = read_text(path).removesuffix("\n").split("\n")
    vocabulary = {line.removesuffix("\r"): index for index, line in enumerate(lines)}
    for token in _NEEDED:
        if token not in vocabulary:
            raise CheckpointError(
                f"{path} has no token {token}: expected the vocabulary of a BERT, one token on a line"
            )
    settings = read_json(path.parent / SETTINGS_FILE) if (path.parent / SETTINGS_FILE).is_file() else {}
    accents = None if settings.get("strip_accents") is None else _flag(path, settings, "strip_accents", True)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=_flag(path, settings, "tokenize_chinese_chars", True),
        strip_accents=accents,
        lowercase=_flag(path, settings, "do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens([token for token in _SPECIAL if token in vocabulary])
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return content


def _flag(path: Path, settings: dict[str, Any], key: str, default: bool) -> bool:
    value = settings.get(key, default)
    if not isinstance(value, bool):
        raise CheckpointError(f"{path.parent / SETTINGS_FILE}: {key} is {value!r}, expected true or false")
    return value
