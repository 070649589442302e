# SPDX-License-Identifier: Apache-2.0
"""Reads the files of a checkpoint. Only JSON and safetensors: nothing that could run code is ever opened as such."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.errors import CheckpointError

CONFIG_FILE = "config.json"
TENSOR_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"

_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_CONVERT = (
    "such a file can run code when it is loaded, so it is not opened; in an environment that you trust, load it with "
    "transformers and write it again with model.save_pretrained(DIR, safe_serialization=True)"
)


def read_text(path: Path) -> str:
    """Reads a UTF-8 file.

    Raises:
        CheckpointError: It is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: a checkpoint needs {path.name}; see docs/latent.md") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8: the file is damaged; copy it again") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        CheckpointError: As `read_text`, or the file is not a JSON object.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}): the file is damaged; copy it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value


def read_tensors(directory: Path) -> dict[str, NDArray[np.float32]]:
    """Reads the safetensors of a directory, as float32.

    Raises:
        CheckpointError: The file is missing, damaged, a pickle, or holds tensors that are not floats.
    """
    path = directory / TENSOR_FILE
    if not path.is_file():
        pickles = sorted(p.name for p in directory.iterdir() if p.suffix in _PICKLE_SUFFIXES)
        if pickles:
            raise CheckpointError(f"{directory / pickles[0]} is a pickle, expected {TENSOR_FILE}: {_CONVERT}")
        raise CheckpointError(f"{path} is missing: a checkpoint needs {TENSOR_FILE}; see docs/latent.md")
    return read_safetensors(path)


def read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Reads a safetensors file, as float32.

    Raises:
        CheckpointError: The file is damaged, a pickle, or holds tensors that are not floats.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        if file.read(4).startswith(_PICKLE_STARTS):
            raise CheckpointError(f"{path} is a pickle by its first bytes, expected safetensors: {_CONVERT}")
    tensors = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                kind = file.get_slice(name).get_dtype()
                if kind not in ("F16", "F32", "F64"):
                    raise CheckpointError(f"{path}: tensor {name} has dtype {kind}, expected F32")
                tensors[name] = file.get_tensor(name).astype(np.float32)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors ({error}): the file is damaged or truncated; copy it again"
        ) from error
    return tensors


def read_tokenizer(directory: Path) -> str:
    """Reads `tokenizer.json` and returns it without padding and truncation settings, in as few bytes as possible.

    Raises:
        CheckpointError: It is missing or not a tokenizer.
    """
    path = directory / TOKENIZER_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing: write it with transformers: "
            f"AutoTokenizer.from_pretrained(BACKBONE).save_pretrained({str(directory)!r})"
        )
    tokenizer = read_json(path)
    model = tokenizer.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), (dict, list)):
        raise CheckpointError(f"{path} has no vocabulary (model.vocab): expected a file saved by tokenizers")
    # Whoever runs the model decides on both; left in, they would apply behind its back.
    tokenizer["padding"] = tokenizer["truncation"] = None
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
