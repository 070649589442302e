# SPDX-License-Identifier: Apache-2.0
"""How much the members of an ensemble differ: what an ensemble can gain at all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge.evaluation.calibration import log_softmax
from bebert_edge.evaluation.metrics import answers
from bebert_edge.evaluation.models import MemberLogits


@dataclass(frozen=True)
class Diversity:
    """Diversity of members with classes; for multi-label tasks every label of every example is one answer.

    Attributes:
        agreement: Share of the answers on which all members agree.
        disagreement: Share on which two members differ, mean over the pairs (Skalak 1996).
        kappa: Cohen's kappa of two members' answers, mean over the pairs: 1 is equal, 0 as much as by chance.
        q_statistic: Yule's Q of which answers of two members are right, mean over the pairs (Kuncheva and Whitaker
            2003, doi:10.1023/A:1022859003006): 1 where they err together, 0 where independently, below where apart.
            None where no pair has it: it divides by zero where two members are never both right nor both wrong and one
            of them never errs alone.
        oracle: Share of the answers that one member or more has right.
        kl: Kullback-Leibler divergence of one member's probabilities from another's, in nats, mean over the ordered
            pairs and the answers.
    """

    agreement: float
    disagreement: float
    kappa: float
    q_statistic: float | None
    oracle: float
    kl: float


@dataclass(frozen=True)
class RegressionDiversity:
    """Diversity of members with values.

    Attributes:
        correlation: Pearson correlation of two members' errors, mean over the pairs; None where an error is constant.
        ambiguity: Weighted mean squared distance of the members from the ensemble. The ensemble's mean squared error is
            the weighted mean of the members' less this (Krogh and Vedelsby 1994).
    """

    correlation: float | None
    ambiguity: float


def diversity(logits: MemberLogits, labels: NDArray[Any]) -> Diversity | RegressionDiversity | None:
    """The diversity of members on N labelled texts; None for a single member."""
    members = logits.members
    if len(members) < 2:
        return None
    if logits.problem == "regression":
        return _regression(logits, labels)
    answered = answers(members, logits.problem).reshape(len(members), -1)
    right = answered == labels.reshape(1, -1)
    pairs = list(combinations(range(len(members)), 2))
    q_values = [q for i, j in pairs if (q := _q_statistic(right[i], right[j])) is not None]
    return Diversity(
        agreement=float((answered == answered[0]).all(0).mean()),
        disagreement=float(np.mean([(answered[i] != answered[j]).mean() for i, j in pairs])),
        kappa=float(np.mean([_kappa(answered[i], answered[j]) for i, j in pairs])),
        q_statistic=float(np.mean(q_values)) if q_values else None,
        oracle=float(right.any(0).mean()),
        kl=_kl(logits),
    )


def _kappa(a: NDArray[Any], b: NDArray[Any]) -> float:
    from sklearn.metrics import cohen_kappa_score

    # Where both always answer the same one class, agreement by chance is complete and kappa is 0 / 0.
    return 1.0 if np.array_equal(a, b) else float(cohen_kappa_score(a, b))


def _q_statistic(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float | None:
    together = float((a & b).sum()) * float((~a & ~b).sum())
    apart = float((a & ~b).sum()) * float((~a & b).sum())
    return (together - apart) / (together + apart) if together + apart else None


def _kl(logits: MemberLogits) -> float:
    members = logits.members
    if logits.problem == "multi_label":  # two outcomes for every label
        members = np.stack([members, np.zeros_like(members)], axis=-1)
    log_p = log_softmax(members)
    p = np.exp(log_p)
    pairs = permutations(range(len(members)), 2)
    return float(np.mean([(p[i] * (log_p[i] - log_p[j])).sum(-1).mean() for i, j in pairs]))


def _regression(logits: MemberLogits, labels: NDArray[Any]) -> RegressionDiversity:
    values = logits.members[..., 0]
    errors = values - labels
    found = None
    if len(labels) > 1 and (np.ptp(errors, axis=1) > 0).all():
        correlations = np.corrcoef(errors)
        found = float(np.mean(correlations[np.triu_indices(len(values), 1)]))
    distance = np.square(values - logits.answer[:, 0])
    return RegressionDiversity(found, float(logits.weights @ distance.mean(1)))
