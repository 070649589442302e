# SPDX-License-Identifier: Apache-2.0
"""Metrics and their bootstrap, against scikit-learn and scipy called directly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sklearn")

from scipy import stats
from sklearn import metrics as sklearn_metrics

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation.bootstrap import Bootstrap
from bebert_edge.evaluation.metrics import answers, choose, metrics_for


def task(problem: str, classes: int, n: int = 60, seed: int = 0):
    """Labels, and answers that are right more often than not."""
    rng = np.random.default_rng(seed)
    if problem == "regression":
        labels = np.round(rng.uniform(0, 5, n), 1)
        return labels, labels + rng.normal(0, 1, n)
    if problem == "multi_label":
        labels = (rng.random((n, classes)) < 0.3).astype(np.int64)
        return labels, np.where(rng.random(labels.shape) < 0.8, labels, 1 - labels)
    labels = rng.integers(classes, size=n)
    return labels, np.where(rng.random(n) < 0.6, labels, rng.integers(classes, size=n))


TASKS = [("single_label", 2), ("single_label", 5), ("multi_label", 4), ("regression", 1)]


def test_hand_computed_values():
    labels, answered = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])  # tp 2, fn 1, fp 1, tn 1
    found = {metric.name: metric.score(labels, answered) for metric in metrics_for("single_label", 2)}
    assert found == pytest.approx(
        {"accuracy": 3 / 5, "f1": 4 / 6, "matthews": (2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2)}
    )


def test_values_are_those_of_the_libraries():
    labels, answered = task("single_label", 5)
    found = {metric.name: metric.score(labels, answered) for metric in metrics_for("single_label", 5)}
    assert found == {
        "accuracy": sklearn_metrics.accuracy_score(labels, answered),
        "f1_macro": sklearn_metrics.f1_score(labels, answered, average="macro"),
        "f1_micro": sklearn_metrics.f1_score(labels, answered, average="micro"),
        "matthews": sklearn_metrics.matthews_corrcoef(labels, answered),
    }
    labels, answered = task("regression", 1)
    found = {metric.name: metric.score(labels, answered) for metric in metrics_for("regression", 1)}
    pearson, spearman = stats.pearsonr(labels, answered)[0], stats.spearmanr(labels, answered)[0]
    assert found == {"pearson": pearson, "spearman": spearman, "pearson_spearman": (pearson + spearman) / 2}


def test_f1_of_two_classes_is_that_of_class_1():
    labels, answered = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
    (f1,) = (metric for metric in metrics_for("single_label", 2) if metric.name == "f1")
    assert f1.score(labels, answered) == 0


@pytest.mark.parametrize(("problem", "classes"), TASKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_resampled_values_are_those_of_the_resampled_examples(problem, classes, seed):
    labels, answered = task(problem, classes, n=23, seed=seed)
    bootstrap = Bootstrap(len(labels), 100, seed)
    for metric in metrics_for(problem, classes):
        found = bootstrap.scores(metric, labels, answered, problem, classes)
        for value, counts in zip(found, bootstrap._counts, strict=True):
            index = np.repeat(np.arange(len(labels)), counts)
            assert value == pytest.approx(metric.score(labels[index], answered[index]), abs=1e-9)


@pytest.mark.parametrize(("problem", "classes"), TASKS)
def test_an_answer_that_is_always_the_same_has_a_value(problem, classes):
    labels, answered = task(problem, classes)
    answered = np.zeros_like(answered)
    bootstrap = Bootstrap(len(labels), 100)
    for metric in metrics_for(problem, classes):
        found = bootstrap.scores(metric, labels, answered, problem, classes)
        assert np.isfinite([metric.score(labels, answered), *found]).all()
        if metric.name in ("matthews", "pearson", "spearman"):
            assert not found.any()


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 0.9))
def test_intervals_are_as_wide_as_the_binomial_says(seed, accuracy):
    right = np.random.default_rng(seed).random(400) < accuracy
    bootstrap = Bootstrap(400, 1000, seed)
    interval = bootstrap.interval(bootstrap.means(right))
    width = 2 * 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert interval.low < right.mean() < interval.high
    assert interval.high - interval.low == pytest.approx(width, rel=0.15)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        right = rng.random(150) < 0.8
        bootstrap = Bootstrap(150, 200, seed)
        interval = bootstrap.interval(bootstrap.means(right))
        held += interval.low <= 0.8 <= interval.high
    # 190 are expected, with a standard deviation of 3; percentile intervals are a little narrow.
    assert 178 <= held <= 199


def test_intervals_agree_with_scipy():
    labels, answered = task("regression", 1, n=120)
    (pearson, *_) = metrics_for("regression", 1)
    bootstrap = Bootstrap(120, 4000)
    found = bootstrap.interval(bootstrap.scores(pearson, labels, answered, "regression", 1))
    expected = stats.bootstrap(
        (labels, answered),
        lambda x, y: stats.pearsonr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_the_same_seed_gives_the_same_intervals():
    values = np.random.default_rng(0).random(50)
    first, again, other = (Bootstrap(50, 100, seed).means(values) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_no_resamples_give_no_interval():
    bootstrap = Bootstrap(10, 0)
    assert bootstrap.interval(bootstrap.means(np.ones(10))) is None
    with pytest.raises(EvaluationError, match="--bootstrap is 10, expected 100 or more"):
        Bootstrap(10, 10)


def test_the_main_metric_comes_first():
    assert [m.name for m in choose([], None, "single_label", 2)] == ["accuracy", "f1", "matthews"]
    assert [m.name for m in choose([], "matthews", "single_label", 2)] == ["matthews", "accuracy", "f1"]
    assert [m.name for m in choose(["f1", "accuracy"], None, "single_label", 2)] == ["f1", "accuracy"]
    assert choose([], None, "multi_label", 4)[0].name == "f1_micro"
    with pytest.raises(EvaluationError, match="'pearson' is no metric of a single_label task of 2 labels"):
        choose(["pearson"], None, "single_label", 2)


def test_logits_to_answers():
    logits = np.array([[1.0, 1.0], [-1.0, 0.5]])
    assert answers(logits, "single_label").tolist() == [0, 1]
    assert answers(logits, "multi_label").tolist() == [[1, 1], [0, 1]]
    assert answers(logits[:, :1], "regression").tolist() == [1.0, -1.0]
