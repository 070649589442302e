# SPDX-License-Identifier: Apache-2.0
"""Reads the files of a checkpoint: JSON, safetensors, and pickles of nothing but tensors. None of them can run code."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]

CONFIG_FILE = "config.json"
TENSOR_FILE = "model.safetensors"
INDEX_FILE = f"{TENSOR_FILE}.index.json"
TOKENIZER_FILE = "tokenizer.json"

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
SAFE_TORCH = (2, 10)
"""First PyTorch whose `weights_only` keeps hostile pickles from running code: CVE-2025-32434 and CVE-2026-24747 are
fixed in 2.6 and 2.10."""

_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_CONVERT = (
    "such a file can run code when it is loaded, so it is not opened here; in an environment that you trust, load it "
    "with transformers and write it again with model.save_pretrained(DIR, safe_serialization=True)"
)
_BUFFERS = ("embeddings.position_ids",)
"""Ends of the names of integers that some versions of transformers save, and none needs."""

_STATE_KEYS = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the tensors in a file that holds more."""


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


def read_tensors(directory: Path) -> dict[str, Floats]:
    """Reads the safetensors of a directory, as float32.

    Raises:
        CheckpointError: The file is missing, damaged, a pickle, or holds tensors that are not floats.
    """
    path = directory / TENSOR_FILE
    if not path.is_file():
        pickles = sorted(p.name for p in directory.iterdir() if p.suffix in PICKLE_SUFFIXES)
        if pickles:
            raise CheckpointError(f"{directory / pickles[0]} is a pickle, expected {TENSOR_FILE}: {_CONVERT}")
        raise CheckpointError(f"{path} is missing: a checkpoint needs {TENSOR_FILE}; see docs/latent.md")
    return read_safetensors(path)


def read_safetensors(path: Path) -> dict[str, Floats]:
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
                if _is_buffer(name):
                    continue
                kind = file.get_slice(name).get_dtype()
                if kind not in ("F16", "F32", "F64"):
                    raise CheckpointError(f"{path}: tensor {name} has dtype {kind}, expected F32")
                tensors[name] = file.get_tensor(name).astype(np.float32)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as safetensors ({error}): the file is damaged or truncated; copy it again"
        ) from error
    return tensors


def read_state(path: Path) -> dict[str, Floats]:
    """Reads a file of tensors, as float32, under the names of today's BERTs.

    `LayerNorm.gamma` and `.beta` are called `weight` and `bias`; the prefix `module.` of `DataParallel` is dropped, and
    so are `position_ids`.

    Args:
        path: A safetensors file, the index of several, or a pickle that `torch.load(weights_only=True)` reads.

    Raises:
        CheckpointError: The file is damaged, or holds anything but tensors of floats.
    """
    if path.name == INDEX_FILE:
        tensors = _read_shards(path)
    elif path.suffix == ".safetensors":
        tensors = read_safetensors(path)
    else:
        tensors = _read_pickle(path)
    renamed: dict[str, Floats] = {}
    for name, tensor in tensors.items():
        new = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name.removeprefix("module."))
        new = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", new)
        if new in renamed:
            raise CheckpointError(f"{path} holds tensor {new} twice, once as {name}: expected one; copy the file again")
        renamed[new] = tensor
    return renamed


def _read_shards(path: Path) -> dict[str, Floats]:
    files = read_json(path).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(f, str) and Path(f).name == f for f in files.values()):
        raise CheckpointError(f"{path} names no files beside it (weight_map): the index is damaged; copy it again")
    tensors: dict[str, Floats] = {}
    for file in sorted(set(files.values())):
        if not (path.parent / file).is_file():
            raise CheckpointError(f"{path.parent / file} is missing: {path.name} names it; copy the checkpoint again")
        tensors |= read_safetensors(path.parent / file)
    return tensors


def _read_pickle(path: Path) -> dict[str, Floats]:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{path} is a pickle, which only PyTorch reads: run pip install torch") from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_TORCH:
        needed = ".".join(map(str, SAFE_TORCH))
        raise CheckpointError(
            f"{path} is a pickle, and PyTorch {torch.__version__} cannot keep one from running code (CVE-2026-24747), "
            f"expected {needed} or newer: run pip install -U 'torch>={needed}'"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted:
            raise CheckpointError(
                f"{path} wants to run {wanted[1]}, expected tensors only: such a file can run code, so it is not "
                "opened. Where you trust it, load it with PyTorch and write torch.save(model.state_dict(), FILE)"
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:  # whatever PyTorch makes of a damaged file
        raise _damaged(path, error) from error
    for key in _STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected the tensors of a model by name (a state_dict)"
        )
    return {name: _to_numpy(path, name, tensor) for name, tensor in content.items() if not _is_buffer(name)}


def _is_buffer(name: object) -> bool:
    return isinstance(name, str) and name.endswith(_BUFFERS)


def _to_numpy(path: Path, name: object, tensor: Tensor) -> Floats:
    import torch

    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        raise CheckpointError(f"{path}: {name!r} is a {type(tensor).__name__}, expected tensors of floats by name")
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.is_floating_point():
        raise CheckpointError(f"{path}: tensor {name} has dtype {tensor.dtype}, expected float32")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: tensor {name} has fewer numbers than its shape {list(tensor.shape)} says")
    return tensor.detach().to(torch.float32).numpy()


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(
        f"{path} cannot be read by PyTorch ({reason:.200}): the file is damaged or truncated; copy it again"
    )
