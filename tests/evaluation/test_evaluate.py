# SPDX-License-Identifier: Apache-2.0
"""Whole evaluations, of models whose every logit is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from bebert_edge.errors import EvaluationError
from bebert_edge.evaluation import EvaluatedModel, EvaluationData, Perturbation, Settings, evaluate
from bebert_edge.evaluation.data import best_named
from bebert_edge.runtime.text import EncodedText

PERTURBATIONS = [Perturbation("typos", 0.5), Perturbation("drop-words", 0.5), Perturbation("embedding-noise", 0.1)]


class Known(EvaluatedModel):
    """Answers the text "i ..." with row i of its logits `[E, N, C]`, and text that is not so with zeros."""

    def __init__(self, logits, labels=("a", "b"), problem="single_label", weights=None, path="known", text_pair=False):
        self.logits = np.asarray(logits, np.float64)
        self.path, self.kind, self.labels, self.problem, self.text_pair = path, "onnx", labels, problem, text_pair
        self.weights = weights or (1 / len(self.logits),) * len(self.logits)
        self.seen = []

    def encode(self, texts, pairs):
        self.seen.append((list(texts), None if pairs is None else list(pairs)))
        return [EncodedText(text, None, [0], [0], False) for text in texts]

    def run(self, batch, index, noise):
        known = [(text.text.split() or ["?"])[0] for text in batch]
        zero = np.zeros((len(self.logits), self.logits.shape[-1]))
        rows = [self.logits[:, int(word)] if word.isdecimal() else zero for word in known]
        return np.stack(rows, axis=1) + (0 if noise is None else noise.std)


def texts(n):
    return [f"{i} good words to perturb" for i in range(n)]


def data_of(labels, names=("a", "b"), problem="single_label", pairs=None):
    return EvaluationData(texts(len(labels)), pairs, np.array(labels), names, problem)


def random_case(n=200, seed=0, members=2, accuracy=0.8):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    answered = np.where(rng.random((members, n)) < accuracy, labels, 1 - labels)
    return Known(np.eye(2)[answered] * rng.uniform(0.5, 3, (members, n, 1))), data_of(labels)


def test_scores_members_and_gain():
    model, data = random_case(members=3)
    report = evaluate([model], data, Settings(), name="file.tsv")
    (found,) = report.models
    answered = model.logits.mean(0).argmax(-1)
    assert (report.data, report.examples, report.metric, report.labels) == ("file.tsv", 200, "accuracy", ("a", "b"))
    assert found.scores["accuracy"].value == accuracy_score(data.labels, answered)
    assert found.scores["f1"].value == f1_score(data.labels, answered)
    members = [accuracy_score(data.labels, member.argmax(-1)) for member in model.logits]
    assert [member.score.value for member in found.members] == members
    assert [member.weight for member in found.members] == [1 / 3] * 3
    assert found.gain.best == int(np.argmax(members))
    assert found.gain.over_mean.value == pytest.approx(found.scores["accuracy"].value - np.mean(members))
    assert found.gain.over_best.value == pytest.approx(found.scores["accuracy"].value - max(members))
    for score in (*found.scores.values(), *(m.score for m in found.members), found.gain.over_mean):
        assert score.interval.low <= score.value <= score.interval.high
    assert json.loads(json.dumps(report.to_dict()))["models"][0]["gain"]["best"] == found.gain.best


def test_weights_and_temperature_count():
    model, data = random_case()
    model.weights, model.temperature = (1.0, 0.0), 2.0
    found = evaluate([model], data, Settings(resamples=0)).models[0]
    assert found.scores["accuracy"].value == found.members[0].score.value
    assert found.scores["accuracy"].interval is None
    alone = Known(model.logits[:1] / 2)
    assert evaluate([alone], data, Settings(resamples=0)).models[0].calibration == found.calibration
    assert evaluate([alone], data, Settings(resamples=0)).models[0].gain is None


def test_a_comparison_is_paired():
    a, data = random_case(members=1)
    changed = a.logits.copy()
    changed[0, :7] = changed[0, :7, ::-1]
    b = Known(changed, path="b")
    (found,) = evaluate([a], data, Settings(), compare_to=b).comparisons
    right = [model.logits[0].argmax(-1) == data.labels for model in (a, b)]
    assert (found.first, found.second) == ("known", "b")
    assert found.difference.value == pytest.approx(right[0].mean() - right[1].mean())
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert (found.mcnemar.only_first, found.mcnemar.only_second) == only
    assert found.mcnemar.p_value == stats.binomtest(only[0], 7).pvalue
    assert found.equal_answers == 193 / 200
    assert found.largest_logit_difference == np.abs(a.logits - changed).max()
    # Seven examples differ: had the resamples not been the same for both, the interval were ten times as wide.
    assert found.difference.interval.high - found.difference.interval.low < 0.06


def test_a_model_equals_itself_and_one_with_its_labels_in_another_order():
    model, data = random_case()
    other = Known(model.logits[..., ::-1], labels=("b", "a"), path="other")
    same, swapped = evaluate([model, other], data, Settings(), compare_to=Known(model.logits)).comparisons
    for found in (same, swapped):
        assert (found.difference.value, found.mcnemar.p_value, found.equal_answers) == (0, 1, 1)
        assert found.largest_logit_difference == 0


def test_labels_without_names_have_the_order_of_the_others():
    model, data = random_case()
    for labels in (("LABEL_0", "LABEL_1"), ("0", "1")):
        (found,) = evaluate([model], data, Settings(), compare_to=Known(model.logits, labels)).comparisons
        assert found.equal_answers == 1


def test_a_named_model_gives_the_order_to_one_without_names():
    model, data = random_case()
    swapped = Known(model.logits[..., ::-1], ("b", "a"))
    unnamed = Known(model.logits, ("LABEL_0", "LABEL_1"))
    assert best_named([unnamed, swapped]) is swapped
    assert best_named([unnamed]) is unnamed
    # Whatever stands first: the data say which column is "a".
    for models in ([unnamed, swapped], [swapped, unnamed]):
        found = evaluate(models, data, Settings(resamples=0)).models
        assert found[0].scores == found[1].scores


def test_models_of_different_tasks_are_not_compared():
    model, data = random_case()
    with pytest.raises(EvaluationError, match="x has the labels a, c, the data a, b: expected the same names"):
        evaluate([model], data, Settings(), compare_to=Known(model.logits, ("a", "c"), path="x"))
    with pytest.raises(EvaluationError, match="x is a multi_label model, the data are single_label"):
        evaluate([model], data, Settings(), compare_to=Known(model.logits, problem="multi_label", path="x"))


def test_robustness_tells_what_ensemble_and_members_lose():
    labels = np.array([1] * 50)
    model = Known(np.tile([0.0, 1.0], (2, 50, 1)))
    report = evaluate([model], data_of(labels), Settings(perturbations=PERTURBATIONS)).models[0]
    typos, dropped, noise = report.robustness
    # A number is no word that typing errors hit; a dropped one leaves a text that the model does not know.
    assert (typos.loss.value, noise.loss.value) == (0, 0)
    share = 0.5
    assert dropped.loss.value == pytest.approx(share, abs=0.2)
    assert dropped.score.value == pytest.approx(1 - dropped.loss.value)
    assert dropped.member_losses == (dropped.loss.value,) * 2
    assert (dropped.mean_member_loss, dropped.advantage.value) == (dropped.loss, 0)
    assert dropped.loses_more_than == ()
    assert dropped.loss.sure
    assert not typos.loss.sure
    original, typed, shortened, unchanged = (seen for seen, _ in model.seen)
    assert original == unchanged == texts(50)
    assert original != typed
    assert original != shortened


def test_draws_are_averaged():
    model, labels = Known(np.tile([0.0, 1.0], (2, 50, 1))), [1] * 50
    one, two, both = (
        evaluate([model], data_of(labels), Settings(perturbations=PERTURBATIONS[1:2], seed=seed, draws=draws))
        .models[0]
        .robustness[0]
        for seed, draws in ((0, 1), (1, 1), (0, 2))
    )
    assert one.loss.value != two.loss.value
    assert both.loss.value == pytest.approx((one.loss.value + two.loss.value) / 2)
    assert both.member_losses == pytest.approx([both.loss.value] * 2)
    with pytest.raises(EvaluationError, match="--draws is 0"):
        evaluate([model], data_of(labels), Settings(draws=0))


def test_an_ensemble_that_loses_more_than_a_member_is_told():
    # Member 0 is always right; member 1 outweighs it where the text is unknown, and is wrong there.
    class Fragile(Known):
        def run(self, batch, index, noise):
            logits = super().run(batch, index, noise)
            unknown = logits[0, :, 1] == 0
            logits[0, unknown], logits[1, unknown] = [0, 1], [9, 0]
            return logits

    model = Fragile(np.tile([0.0, 1.0], (2, 40, 1)))
    (found,) = evaluate([model], data_of([1] * 40), Settings(perturbations=PERTURBATIONS[1:2])).models[0].robustness
    assert found.member_losses[0] == 0 < found.member_losses[1] == found.loss.value
    assert found.loses_more_than == (0,)
    assert found.advantage.value == pytest.approx(-found.loss.value / 2)


def test_the_second_texts_are_perturbed_too():
    model = Known(np.tile([0.0, 1.0], (1, 30, 1)), text_pair=True)
    data = data_of([1] * 30, pairs=texts(30))
    evaluate([model], data, Settings(perturbations=PERTURBATIONS[:1]))
    (first, second), (typed, typed_second) = model.seen
    assert first == second == texts(30)
    assert len({tuple(first), tuple(typed), tuple(typed_second)}) == 3


def test_regression():
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 5, 80)
    model = Known(labels[None, :, None] + rng.normal(size=(2, 80, 1)), ("score",), "regression")
    report = evaluate([model], data_of(labels, ("score",), "regression"), Settings(), compare_to=model)
    found = report.models[0]
    assert found.scores["pearson"].value == stats.pearsonr(labels, model.logits.mean(0)[:, 0])[0]
    assert found.scores["spearman"].interval.low < found.scores["spearman"].value
    assert found.calibration.rmse < found.members[0].calibration.rmse
    assert found.gain.over_best.value > 0
    assert report.comparisons == ()
    other = Known(model.logits + 1, ("value",), "regression", path="other")
    (comparison,) = evaluate(
        [model], data_of(labels, ("score",), "regression"), Settings(), compare_to=other
    ).comparisons
    assert (comparison.mcnemar, comparison.equal_answers) == (None, None)
    assert comparison.largest_logit_difference == pytest.approx(1)


def test_several_labels():
    rng = np.random.default_rng(0)
    labels = (rng.random((90, 3)) < 0.4).astype(np.int64)
    logits = np.where(rng.random((2, 90, 3)) < 0.8, labels, 1 - labels) * 4.0 - 2
    model = Known(logits, ("x", "y", "z"), "multi_label")
    report = evaluate([model], data_of(labels, ("x", "y", "z"), "multi_label"), Settings())
    found = report.models[0]
    assert report.metric == "f1_micro"
    assert found.scores["f1_macro"].value == f1_score(labels, logits.mean(0) > 0, average="macro")
    assert found.scores["accuracy"].value == (labels == (logits.mean(0) > 0)).all(1).mean()
    assert found.diversity.oracle > found.diversity.agreement
