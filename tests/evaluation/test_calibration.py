# SPDX-License-Identifier: Apache-2.0
"""Calibration and diversity, on examples computed by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.metrics import brier_score_loss, cohen_kappa_score, log_loss

from bebert_edge.evaluation import MemberLogits
from bebert_edge.evaluation.calibration import (
    calibration,
    expected_calibration_error,
    probabilities,
    regression_errors,
)
from bebert_edge.evaluation.diversity import diversity


def test_expected_calibration_error_by_hand():
    confidence = np.array([0.55, 0.58, 0.92, 0.98, 0.97])
    right = np.array([True, False, True, True, False])
    # Bins of width 1/5: (0.4, 0.6] has confidence 1.13 and 1 right; (0.8, 1] has 2.87 and 2 right.
    assert expected_calibration_error(confidence, right, bins=5) == pytest.approx((0.13 + 0.87) / 5)
    # Three bins of counts 2, 2, 1 in order of confidence: .55 .58 | .92 .97 | .98.
    found = expected_calibration_error(confidence, right, bins=3, adaptive=True)
    assert found == pytest.approx((abs(1.13 - 1) + abs(1.89 - 1) + abs(0.98 - 1)) / 5)


def test_bins_hold_their_upper_edge():
    # 0.2 belongs to (0, 0.2]: alone there, so its gap cannot cancel against that of 0.25.
    assert expected_calibration_error(np.array([0.2, 0.25]), np.array([True, False]), bins=5) == pytest.approx(1.05 / 2)
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0


@pytest.mark.parametrize("adaptive", [False, True])
def test_calibrated_answers_have_little_error_and_sure_ones_much(adaptive):
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 20000)
    right = rng.random(20000) < confidence
    assert expected_calibration_error(confidence, right, adaptive=adaptive) < 0.02
    sure = expected_calibration_error(np.full(20000, 0.99), right, adaptive=adaptive)
    assert sure == pytest.approx(0.99 - right.mean(), abs=0.02)


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_of_classes_are_those_of_scikit_learn(classes):
    rng = np.random.default_rng(classes)
    logits, labels = rng.normal(0, 2, (80, classes)), rng.integers(classes, size=80)
    p = probabilities(logits, "single_label")
    found = calibration(logits, labels, "single_label")
    assert found.nll == pytest.approx(log_loss(labels, p, labels=range(classes)))
    assert found.brier == pytest.approx(
        brier_score_loss(labels, p if classes > 2 else p[:, 1], labels=range(classes), scale_by_half=False)
    )
    assert found.confidence == pytest.approx(p.max(-1).mean())


def test_scores_of_several_labels_are_those_of_each():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (80, 3)), rng.integers(2, size=(80, 3))
    p = probabilities(logits, "multi_label")
    found = calibration(logits, labels, "multi_label")
    assert found.nll == pytest.approx(np.mean([log_loss(labels[:, k], p[:, k]) for k in range(3)]))
    assert found.brier == pytest.approx(np.mean([brier_score_loss(labels[:, k], p[:, k]) for k in range(3)]))
    assert found.ece == expected_calibration_error(p.ravel(), labels.ravel() == 1)


def test_huge_logits_stay_finite():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]])
    found = calibration(logits, np.array([0, 0]), "single_label")
    assert (found.nll, found.brier) == (1e4, 1.0)


def test_errors_of_values():
    errors = regression_errors(np.array([1.0, 2.0]), np.array([1.0, 5.0]))
    assert (errors.rmse, errors.mae) == (pytest.approx(np.sqrt(4.5)), 1.5)


def one_hot(members, labels=3):
    """Members whose logits are 1 for what they answer."""
    logits = np.eye(labels)[np.array(members)]
    return MemberLogits(logits, np.full(len(logits), 1 / len(logits)), "logits", 1.0, "single_label")


def test_diversity_by_hand():
    labels = np.array([0, 1, 2, 0])
    found = diversity(one_hot([[0, 1, 0, 1], [0, 2, 2, 1]]), labels)
    assert (found.agreement, found.disagreement, found.oracle) == (0.5, 0.5, 0.75)
    assert found.kappa == cohen_kappa_score([0, 1, 0, 1], [0, 2, 2, 1])
    # Both right 1, neither 1, only one of them 1 each.
    assert found.q_statistic == (1 * 1 - 1 * 1) / (1 * 1 + 1 * 1)
    e = np.e
    differ = (e - 1) / (e + 2)  # of two softmaxes of one-hot logits with different places
    assert found.kl == pytest.approx(0.5 * differ)


def test_diversity_of_equal_members():
    found = diversity(one_hot([[0, 0, 0], [0, 0, 0]]), np.array([0, 0, 0]))
    assert (found.agreement, found.disagreement, found.kappa, found.q_statistic, found.kl) == (1, 0, 1, None, 0)
    assert diversity(one_hot([[0, 1]]), np.array([0, 1])) is None


def test_diversity_of_several_labels_counts_each():
    members = np.array([[[1.0, -1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    logits = MemberLogits(members, np.array([0.5, 0.5]), "logits", 1.0, "multi_label")
    found = diversity(logits, np.array([[1, 0], [0, 1]]))
    assert (found.agreement, found.oracle) == (0.75, 0.75)
    p = 1 / (1 + np.exp(-1))
    assert found.kl == pytest.approx((p * np.log(p / (1 - p)) + (1 - p) * np.log((1 - p) / p)) / 4)


def test_ambiguity_is_what_averaging_gains():
    rng = np.random.default_rng(0)
    labels, weights = rng.normal(size=50), np.array([0.5, 0.3, 0.2])
    members = labels[None, :, None] + rng.normal(size=(3, 50, 1))
    logits = MemberLogits(members, weights, "logits", 1.0, "regression")
    found = diversity(logits, labels)
    squared = np.square(members[..., 0] - labels).mean(1)
    assert np.square(logits.answer[:, 0] - labels).mean() == pytest.approx(weights @ squared - found.ambiguity)
    assert abs(found.correlation) < 0.3
