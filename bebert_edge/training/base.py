# SPDX-License-Identifier: Apache-2.0
"""A binary base: a float encoder distilled into a binary one on texts without labels, for members to start from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bebert_edge.training.data import EncodedExamples
from bebert_edge.training.distillation import Objective
from bebert_edge.training.latent import load_float, load_tokenizer, save_member
from bebert_edge.training.state import is_main_process, wait
from bebert_edge.training.students import make_student
from bebert_edge.training.trainer import Progress, Schedule, fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LABEL = "base"
"""The one label of a base, which no task has: members take its encoder and the head of their teacher."""


def train_base(
    texts: Sequence[tuple[str, str | None]],
    output: str | Path,
    schedule: Schedule,
    *,
    backbone: str | Path,
    bits: int = 4,
    initial: str | Path | None = None,
    max_length: int = 128,
    replaced: float = 0.2,
    precision: str = "auto",
    embeddings: str = "binary",
    device: str = "auto",
    progress: Progress | None = None,
) -> None:
    """Distils all hidden states of a float BERT into a binary one and writes that as a latent member.

    A base is made once for a backbone; members of any task that start from it (`initial` of `train`) need a fraction
    of the steps. An interrupted run goes on from its newest checkpoint, which is in a hidden directory beside `output`.

    Args:
        texts: Texts, and the second text of those that are pairs.
        output: Directory of the latent member.
        schedule: How long and how fast.
        backbone: The float BERT: a directory or a name on the hub.
        bits: Bits of activations.
        initial: What to start from in place of the backbone, e.g. a base with more bits.
        max_length: Tokens of the longest text.
        replaced: Share of tokens replaced by others with similar embeddings.
        precision: As for `binarize`.
        embeddings: As for `make_student`.
        device: `auto` or `cpu`.
        progress: Called after every step.

    Raises:
        CheckpointError: A model cannot be loaded.
    """
    output = Path(output)
    tokenizer = load_tokenizer(backbone)
    torch.manual_seed(schedule.seed)
    teacher = load_float(backbone, [LABEL], "regression", new_head=True).eval()
    data = _encode(texts, tokenizer, max_length)
    model = make_student(teacher, bits, initial=initial, seed=schedule.seed, precision=precision, embeddings=embeddings)
    objective = Objective(distill="layers", teacher=teacher, replaced=replaced, logits=False, precision=precision)
    # Named after all that the result depends on: a run with other arguments must not go on from these checkpoints.
    run = [texts, str(backbone), str(initial), bits, asdict(schedule), max_length, replaced, precision, embeddings]
    digest = hashlib.sha256(json.dumps(run).encode()).hexdigest()[:16]
    checkpoints = output.with_name(f".{output.name}-{digest}")
    fit(model, data, schedule, objective, device=device, checkpoints=checkpoints, progress=progress, name="base")
    if is_main_process():
        save_member(
            model,
            tokenizer,
            output,
            bits=bits,
            labels=[LABEL],
            text_pair=False,
            max_length=max_length,
            problem="regression",
        )
    wait()


def _encode(
    texts: Sequence[tuple[str, str | None]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> EncodedExamples:
    ids, token_types = [], []
    for text, pair in texts:
        encoded = tokenizer(text, pair, truncation=True, max_length=max_length, return_token_type_ids=True)
        ids.append(encoded["input_ids"])
        token_types.append(encoded["token_type_ids"])
    return EncodedExamples(ids, token_types, torch.zeros(len(ids), dtype=torch.long), tokenizer.pad_token_id or 0)
