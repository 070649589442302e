# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st

from bebert_edge.errors import TrainingError
from bebert_edge.training.boosting import LOSSES, MAX_RATIO, adaboost_r2, bootstrap, member_weights, resample, samme

EXAMPLES, ROUNDS = 120, 4


def test_weights_of_a_hand_computed_round():
    # Four examples, one mistake: error 1/4, alpha = ln 3; the mistake weighs 3 and the mean (3 + 3) / 4 = 1.5.
    weights, alpha = samme(torch.ones(4), torch.tensor([False, True, False, False]), classes=2)
    assert alpha == pytest.approx(math.log(3))
    torch.testing.assert_close(weights, torch.tensor([1, 3, 1, 1]) / 1.5)


def test_a_second_round_uses_the_weights_of_the_first():
    # Weighted error (1 + 1) / 6 = 1/3, three classes: alpha = ln 2 + ln 2, mistakes times 4.
    weights, alpha = samme(torch.tensor([1.0, 3, 1, 1]), torch.tensor([True, False, True, False]), classes=3)
    assert alpha == pytest.approx(math.log(4), rel=1e-6)
    torch.testing.assert_close(weights, torch.tensor([4.0, 3, 4, 1]) / 3)


def test_a_rate_shrinks_alpha():
    mistakes = torch.tensor([False, True, False, False])
    assert samme(torch.ones(4), mistakes, 2, rate=0.5)[1] == pytest.approx(0.5 * samme(torch.ones(4), mistakes, 2)[1])


@pytest.mark.parametrize("wrong", [2, 3, 4])
def test_a_member_no_better_than_chance_counts_for_nothing(wrong):
    weights, alpha = samme(torch.ones(4), torch.arange(4) < wrong, classes=2)
    assert alpha == 0
    assert torch.equal(weights, torch.ones(4))


def test_half_wrong_is_better_than_chance_among_three_classes():
    assert samme(torch.ones(4), torch.arange(4) < 2, classes=3)[1] == pytest.approx(math.log(2))


def test_a_member_without_mistakes_has_a_finite_alpha():
    weights, alpha = samme(torch.ones(4), torch.zeros(4, dtype=torch.bool), classes=2)
    assert alpha == pytest.approx(math.log(7))
    assert torch.equal(weights, torch.ones(4))


def test_no_example_becomes_the_whole_training_set():
    # Published, the one mistake of 10 000 would weigh 9999 times the others, as much as all of them.
    weights, alpha = samme(torch.ones(10_000).double(), torch.arange(10_000) == 7, classes=2)
    assert alpha == pytest.approx(math.log(9999))
    assert float(weights[7] / weights[0]) == pytest.approx(MAX_RATIO)
    for _ in range(50):
        weights, _ = samme(weights, torch.arange(10_000) == 7, classes=2)
    assert float(weights.max() / weights.min()) == pytest.approx(MAX_RATIO)


@pytest.mark.parametrize(
    ("weights", "mistakes", "message"),
    [
        (torch.ones(4), torch.ones(3, dtype=torch.bool), "mistakes"),
        (torch.ones(0), torch.ones(0), "mistakes"),
        (torch.ones(2, 2), torch.ones(2, 2), "mistakes"),
        (torch.ones(2), torch.tensor([0.0, 1.5]), "share"),
        (torch.ones(2), torch.tensor([0.0, math.nan]), "share"),
        (torch.tensor([1.0, 0.0]), torch.zeros(2), "weights"),
        (torch.tensor([1, 1]), torch.zeros(2), "floats"),
        (torch.tensor([1.0, math.inf]), torch.zeros(2), "weights"),
        (torch.tensor([1.0, math.nan]), torch.zeros(2), "weights"),
    ],
)
def test_unusable_arguments_are_refused(weights, mistakes, message):
    with pytest.raises(TrainingError, match=message):
        samme(weights, mistakes, classes=2)


@pytest.mark.parametrize(("classes", "rate"), [(1, 1.0), (2, 0.0), (2, math.nan)])
def test_unusable_settings_are_refused(classes, rate):
    with pytest.raises(TrainingError, match="rate"):
        samme(torch.ones(4), torch.zeros(4), classes, rate)


@st.composite
def rounds(draw, shares):
    examples = draw(st.integers(2, 30))
    weights = draw(st.lists(st.floats(0.5, 2), min_size=examples, max_size=examples))
    mistakes = draw(st.lists(shares, min_size=examples, max_size=examples))
    return torch.tensor(weights, dtype=torch.float64), torch.tensor(mistakes, dtype=torch.float64)


@given(rounds(st.sampled_from([0.0, 1.0])), st.integers(2, 5))
def test_the_member_is_no_better_than_chance_on_the_new_weights(data, classes):
    weights, mistakes = data
    new, alpha = samme(weights, mistakes, classes)
    assert float(new.mean()) == pytest.approx(1)
    unbounded = float((weights * mistakes).sum() / weights.sum()) > 0.5 / len(weights)
    if alpha > 0 and unbounded and float(new.max() / new.min()) < MAX_RATIO * 0.999:
        assert float((new * mistakes).mean()) == pytest.approx(1 - 1 / classes)


@given(rounds(st.sampled_from([0.0, 1.0])), st.integers(2, 5), st.floats(0.1, 1.5))
def test_shares_of_zero_and_one_are_bools(data, classes, rate):
    weights, mistakes = data
    of_shares, of_bools = samme(weights, mistakes, classes, rate), samme(weights, mistakes.bool(), classes, rate)
    assert of_shares[1] == of_bools[1]
    assert torch.equal(of_shares[0], of_bools[0])


@given(rounds(st.floats(0, 1)), st.integers(2, 5), st.floats(0.01, 100))
def test_neither_the_order_nor_the_sum_of_the_weights_matters(data, classes, factor):
    weights, mistakes = data
    new, alpha = samme(weights, mistakes, classes)
    flipped, of_flipped = samme(weights.flip(0) * factor, mistakes.flip(0), classes)
    assert of_flipped == pytest.approx(alpha, rel=1e-9, abs=1e-9)
    torch.testing.assert_close(flipped.flip(0), new)


@given(rounds(st.floats(0, 1)))
def test_shares_keep_the_bound_of_adaboost(data):
    """The normaliser of a round is at most 2 sqrt(e (1 - e)), and for bools it is that (Schapire and Singer)."""
    weights, share = data
    distribution = weights / weights.sum()

    def normaliser(mistakes):
        _, alpha = samme(weights, mistakes, 2)
        return float((distribution * torch.exp(-alpha / 2 * (1 - 2 * mistakes))).sum())

    error = float((distribution * share).sum())
    if 0.5 / len(weights) < error < 0.5:
        assert normaliser(share) <= 2 * math.sqrt(error * (1 - error)) + 1e-12
    wrong = (share > 0.5).double()
    error = float((distribution * wrong).sum())
    if 0.5 / len(weights) < error < 0.5:
        assert normaliser(wrong) == pytest.approx(2 * math.sqrt(error * (1 - error)))


def test_the_vote_errs_on_no_more_examples_than_the_bound():
    generator = torch.Generator().manual_seed(0)
    weights, bound, votes = torch.ones(500).double(), 1.0, torch.zeros(500).double()
    for _ in range(5):
        wrong = torch.rand(500, generator=generator) < 0.3
        error = float((weights * wrong).sum() / weights.sum())
        weights, alpha = samme(weights, wrong, 2)
        votes += alpha * (1 - 2 * wrong.double())
        bound *= 2 * math.sqrt(error * (1 - error))
    assert 0 < float((votes <= 0).double().mean()) <= bound < 1


def replayed(base, predictions):
    """A scikit-learn learner whose n-th copy predicts row n, whatever it is fitted to, and the weights it was given."""
    given_weights = []

    class Replay(*base):
        def fit(self, X, y, sample_weight=None):
            self.classes_ = np.unique(y)
            self.round = len(given_weights)
            given_weights.append(sample_weight)
            return self

        def predict(self, X):
            return predictions[self.round][np.asarray(X)[:, 0].astype(int)]

    return Replay(), given_weights


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_samme_agrees_with_scikit_learn(classes, rate):
    sklearn = pytest.importorskip("sklearn")
    from sklearn.ensemble import AdaBoostClassifier

    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, EXAMPLES)
    right = rng.random((ROUNDS, EXAMPLES)) < 1.2 / classes + 0.05
    predictions = np.where(right, labels, (labels + rng.integers(1, classes, (ROUNDS, EXAMPLES))) % classes)
    learner, given_weights = replayed((sklearn.base.ClassifierMixin, sklearn.base.BaseEstimator), predictions)
    boosted = AdaBoostClassifier(learner, n_estimators=ROUNDS, learning_rate=rate)
    boosted.fit(np.arange(EXAMPLES)[:, None], labels)
    assert len(given_weights) == ROUNDS

    weights = torch.ones(EXAMPLES).double()
    for i in range(ROUNDS):
        np.testing.assert_allclose(weights / weights.sum(), given_weights[i], rtol=1e-9)
        weights, alpha = samme(weights, torch.from_numpy(predictions[i] != labels), classes, rate)
        assert alpha == pytest.approx(boosted.estimator_weights_[i], rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_adaboost_r2_agrees_with_scikit_learn(loss, rate):
    sklearn = pytest.importorskip("sklearn")
    from sklearn.ensemble import AdaBoostRegressor

    drawn_with = []

    class Recorder(np.random.RandomState):
        def choice(self, a, size=None, replace=True, p=None):
            drawn_with.append(p.copy())
            return super().choice(a, size, replace, p)

    rng = np.random.default_rng(1)
    labels = rng.normal(size=EXAMPLES)
    predictions = labels + rng.normal(size=(ROUNDS, EXAMPLES)) * rng.uniform(0.2, 1, (ROUNDS, 1))
    learner, _ = replayed((sklearn.base.RegressorMixin, sklearn.base.BaseEstimator), predictions)
    boosted = AdaBoostRegressor(learner, n_estimators=ROUNDS, learning_rate=rate, loss=loss, random_state=Recorder(0))
    boosted.fit(np.arange(EXAMPLES)[:, None], labels)
    assert len(drawn_with) == ROUNDS

    weights = torch.ones(EXAMPLES).double()
    for i in range(ROUNDS):
        np.testing.assert_allclose(weights / weights.sum(), drawn_with[i], rtol=1e-9)
        weights, alpha = adaboost_r2(weights, torch.from_numpy(predictions[i] - labels), loss, rate)
        assert alpha == pytest.approx(boosted.estimator_weights_[i], rel=1e-9)


def test_a_hand_computed_round_of_adaboost_r2():
    # Relative errors 0, 0, 1/2, 1: e = 3/8, beta = 3/5, and weights beta, beta, beta ** (1/2), 1.
    weights, alpha = adaboost_r2(torch.ones(4).double(), torch.tensor([0.0, 0, -2, 4]))
    assert alpha == pytest.approx(math.log(5 / 3))
    expected = torch.tensor([0.6, 0.6, math.sqrt(0.6), 1], dtype=torch.float64)
    torch.testing.assert_close(weights, expected / expected.mean())


def test_a_regressor_without_errors_changes_no_weight():
    weights, alpha = adaboost_r2(torch.tensor([0.5, 1.5]), torch.zeros(2))
    assert alpha == pytest.approx(math.log(3))
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5]))


@pytest.mark.parametrize("errors", [[1.0, 1, 1, 1], [0.0, 0, 1, 1]])
def test_a_regressor_with_half_the_largest_error_on_average_counts_for_nothing(errors):
    weights, alpha = adaboost_r2(torch.ones(4), torch.tensor(errors))
    assert alpha == 0
    assert torch.equal(weights, torch.ones(4))


@given(rounds(st.floats(0, 1)), st.sampled_from(list(LOSSES)), st.floats(0.01, 100))
def test_the_unit_of_the_errors_does_not_matter(data, loss, unit):
    weights, errors = data
    new, alpha = adaboost_r2(weights, errors, loss)
    scaled, of_scaled = adaboost_r2(weights, errors * unit, loss)
    assert of_scaled == pytest.approx(alpha, rel=1e-6, abs=1e-9)
    torch.testing.assert_close(scaled, new, rtol=1e-6, atol=1e-9)


def test_unusable_errors_are_refused():
    with pytest.raises(TrainingError, match="not finite"):
        adaboost_r2(torch.ones(2), torch.tensor([0.0, math.nan]))
    with pytest.raises(TrainingError, match="huber"):
        adaboost_r2(torch.ones(2), torch.ones(2), loss="huber")
    with pytest.raises(TrainingError, match="mistakes"):
        adaboost_r2(torch.ones(2), torch.ones(0))


def test_examples_are_drawn_as_often_as_they_weigh():
    scipy_stats = pytest.importorskip("scipy.stats")
    weights = torch.arange(1, 11).double().repeat(1000)
    drawn = resample(weights, seed=3)
    assert drawn.shape == weights.shape
    assert drawn.dtype == torch.int64
    counts = torch.bincount(drawn % 10, minlength=10).numpy()
    assert scipy_stats.chisquare(counts, np.arange(1, 11) / 55 * 10_000).pvalue > 0.001


def test_a_seed_draws_the_same_examples():
    weights = torch.rand(100, generator=torch.Generator().manual_seed(0)) + 0.1
    state = torch.get_rng_state()
    assert torch.equal(resample(weights, 5), resample(weights * 7, 5))
    assert not torch.equal(resample(weights, 5), resample(weights, 6))
    assert torch.equal(torch.get_rng_state(), state), "the generator of the training run moved"


def test_a_bootstrap_leaves_out_what_it_should():
    # An example is left out with probability (1 - 1/n)^n, about 1/e.
    drawn = bootstrap(20_000, seed=0)
    assert drawn.shape == (20_000,)
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < 20_000
    assert len(drawn.unique()) / 20_000 == pytest.approx(1 - 1 / math.e, abs=0.01)
    assert torch.equal(bootstrap(1, seed=0), torch.tensor([0]))
    with pytest.raises(TrainingError, match="weights"):
        bootstrap(0, seed=0)


def test_member_weights_sum_to_one():
    assert member_weights([3.0, 1.0]) == [0.75, 0.25]
    assert member_weights([0.0, 0.0]) == [0.5, 0.5]
    assert member_weights([2.0, 0.0]) == [1.0, 0.0]
    assert member_weights([1e308, 1e308]) == [0.5, 0.5]


@pytest.mark.parametrize("alphas", [[], [-1.0, 2.0], [math.nan], [math.inf, 1.0]])
def test_unusable_alphas_are_refused(alphas):
    with pytest.raises(TrainingError, match="alphas"):
        member_weights(alphas)
