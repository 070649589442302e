# SPDX-License-Identifier: Apache-2.0
"""Float sentence encoders, run by torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bebert_edge.checkpoints.pooling import read_pooling
from bebert_edge.errors import CheckpointError, EvaluationError
from bebert_edge.evaluation.models import EmbeddingNoise, EvaluatedModel, pad
from bebert_edge.evaluation.torch_models import backend, encode, longest_input, use_threads
from bebert_edge.runtime.text import EncodedText
from bebert_edge.training.latent import load_tokenizer


class SentenceModel(EvaluatedModel):
    """A sentence-transformers directory: an encoder, and the pooling that its `modules.json` names.

    Raises:
        CheckpointError: transformers cannot load model or tokenizer, or it pools otherwise.
    """

    def __init__(
        self,
        directory: Path,
        *,
        path: str | None = None,
        threads: int | None = None,
        max_length: int | None = None,
    ) -> None:
        from transformers import AutoModel

        use_threads(threads)
        self._pooling = read_pooling(directory)
        try:
            model = AutoModel.from_pretrained(
                directory, dtype=torch.float32, local_files_only=True, use_safetensors=True
            )
        except Exception as error:  # whatever transformers, safetensors or json make of a damaged file
            raise CheckpointError(f"{directory} cannot be loaded by transformers: {error}") from error
        self._model, self._tokenizer = model.eval(), load_tokenizer(directory)
        self.path, self.kind = path or str(directory), "sentence-transformers"
        self.task, self.problem, self.labels, self.text_pair = "sentence-embedding", "embedding", (), False
        self.weights, self.combination, self.backend = (1.0,), "embeddings", backend()
        self.max_length = max_length or longest_input(model.config, self._tokenizer)

    @property
    def width(self) -> int:
        """See `EvaluatedModel.width`."""
        return int(self._model.config.hidden_size)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[EncodedText]:
        """See `EvaluatedModel.encode`."""
        return encode(self._tokenizer, texts, pairs, self.max_length)

    def run(
        self, batch: Sequence[EncodedText], index: Sequence[int], noise: EmbeddingNoise | None
    ) -> NDArray[np.float32]:
        """See `EvaluatedModel.run`."""
        if noise is not None:
            raise EvaluationError(f"{self.path}: embedding noise is not added to embeddings: leave --perturb out")
        feed = {name: torch.from_numpy(array) for name, array in pad(batch, self._tokenizer.pad_token_id or 0).items()}
        if not int(getattr(self._model.config, "type_vocab_size", 0) or 0) > 1:
            del feed["token_type_ids"]
        with torch.inference_mode():
            hidden = self._model(**feed).last_hidden_state.float()
        pooled = hidden[:, 0]
        if self._pooling == "mean":
            mask = feed["attention_mask"][..., None]
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=-1)[None].numpy()
        return vectors
