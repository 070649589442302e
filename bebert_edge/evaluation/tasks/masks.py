# SPDX-License-Identifier: Apache-2.0
"""Fill-mask: how probable models find the tokens that were masked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.bootstrap import Bootstrap
from bebert_edge.evaluation.models import Array, EvaluatedModel, Progress, combine
from bebert_edge.evaluation.tasks.task import Measured, TaskEvaluation
from bebert_edge.runtime.text import EncodedText
from bebert_edge.training.masking import mask

TOP = 5


class Masks(TaskEvaluation[Array]):
    """Accuracy and perplexity of masked tokens.

    Of every text 15 % of the tokens are masked, one at least, but never the first and the last; which ones depends on
    the seed, the number of the text and how many tokens it has. Answers are sums of every text `[N, 4]`: masks, those
    guessed right, those among the first five guesses, and the negative log-likelihood of what was masked. Masks that a
    text itself has do not count.

    Args:
        texts: The texts.
        resamples: Of the bootstrap over texts.
        seed: Of masks and bootstrap.
    """

    task = "fill-mask"
    metrics = ("accuracy", f"accuracy@{TOP}", "perplexity")

    def __init__(self, texts: Sequence[str], resamples: int = 1000, seed: int = 0) -> None:
        self.texts, self.seed = list(texts), seed
        self.counts = {"texts": len(self.texts)}
        self.bootstrap = Bootstrap(len(self.texts), resamples, seed)

    def check(self, model: EvaluatedModel) -> None:
        """See `TaskEvaluation.check`."""
        if model.mask_id is None:
            raise EvaluationError(
                f"{model.path} is a model for {model.task}, expected one that guesses masked tokens: train one with "
                f"--task {self.task}"
            )

    def answers(self, model: EvaluatedModel, batch_size: int, progress: Progress) -> tuple[Array, list[Array]]:
        """See `TaskEvaluation.answers`."""
        whole = model.encode(self.texts, None)
        mask_id = model.mask_id or 0
        masked = [self._mask(text, mask_id, i) for i, text in enumerate(whole)]
        sums = np.zeros((1 + model.members, len(whole), 4))
        by_length = sorted(range(len(whole)), key=lambda i: len(whole[i].ids))
        weights = np.array(model.weights)
        for begin in range(0, len(whole), batch_size):
            index = by_length[begin : begin + batch_size]
            members = np.asarray(model.run([masked[i] for i in index], index, None), np.float64)
            combined = combine(members, weights, model.combination, "single_label") / model.temperature
            pairs = [(i, b) for i in index for a, b in zip(masked[i].ids, whole[i].ids, strict=True) if a == mask_id]
            rows, right = np.array(pairs, np.int64).reshape(-1, 2).T
            known = right != mask_id  # of masks that the text itself has nothing is known
            for answer, logits in zip(sums, [combined, *members], strict=True):
                np.add.at(answer, rows[known], _scores(logits[known], right[known]))
            progress(begin + len(index), len(whole))
        return sums[0], list(sums[1:])

    def _mask(self, text: EncodedText, mask_id: int, number: int) -> EncodedText:
        last = len(text.ids) - 1
        allowed = [0 < place < last and token != mask_id for place, token in enumerate(text.ids)]
        return replace(text, ids=mask(text.ids, allowed, mask_id, 1_000_003 * self.seed + number))

    def measure(self, answer: Array) -> dict[str, Measured]:
        """See `TaskEvaluation.measure`."""
        whole, drawn = (self._metrics(sums) for sums in (answer.sum(0, keepdims=True), self.bootstrap.sums(answer)))
        return {name: Measured(float(whole[name][0]), drawn[name]) for name in self.metrics}

    def _metrics(self, sums: Array) -> dict[str, Array]:
        masks, right, near, loss = sums.T
        masks = np.maximum(masks, 1)
        return dict(zip(self.metrics, (right / masks, near / masks, np.exp(loss / masks)), strict=True))


def _scores(logits: Array, right: Array) -> Array:
    """What is summed of masks `[masks, 4]`."""
    rows = np.arange(len(right))
    wanted = logits[rows, right]
    rank = (logits > wanted[:, None]).sum(-1)
    loss = np.logaddexp.reduce(logits, axis=-1) - wanted
    return np.stack([np.ones(len(right)), rank == 0, rank < TOP, loss], axis=1)
