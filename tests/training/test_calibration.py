# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from bebert_edge.errors import TrainingError
from bebert_edge.training.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    combine,
    fit_member_weights,
    fit_temperature,
)

PROBLEMS = ("single_label", "multi_label")


def held_out(problem, examples=400, classes=3, temperature=1.0, seed=0):
    """Logits whose labels were drawn from them divided by a temperature: that one is the best there is."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(examples, classes, generator=generator, dtype=torch.float64)
    if problem == "multi_label":
        return logits, torch.bernoulli(torch.sigmoid(logits / temperature), generator=generator)
    return logits, torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)[:, 0]


def loss(logits, labels, problem):
    if problem == "multi_label":
        return float(F.binary_cross_entropy_with_logits(logits.double(), labels.double()))
    return float(F.cross_entropy(logits.double(), labels))


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_a_known_temperature_is_found(problem, temperature):
    logits, labels = held_out(problem, examples=20_000, temperature=temperature)
    assert fit_temperature(logits, labels, problem) == pytest.approx(temperature, rel=0.06)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_scipy_finds_the_same_temperature(problem, temperature):
    optimize = pytest.importorskip("scipy.optimize")
    special = pytest.importorskip("scipy.special")
    logits, labels = held_out(problem, temperature=temperature)
    z, y = logits.numpy(), labels.numpy()

    def objective(t):
        if problem == "multi_label":
            return np.mean(np.logaddexp(0, np.where(y == 1, -z, z) / t))
        return -np.mean(special.log_softmax(z / t, axis=-1)[np.arange(len(y)), y])

    best = optimize.minimize_scalar(objective, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-9})
    assert fit_temperature(logits, labels, problem) == pytest.approx(best.x, rel=1e-5)


@given(st.sampled_from(PROBLEMS), st.integers(0, 1000), st.floats(0.05, 20))
def test_the_temperature_scales_with_the_logits(problem, seed, factor):
    logits, labels = held_out(problem, examples=60, temperature=1.5, seed=seed)
    temperature = fit_temperature(logits, labels, problem)
    assume(MIN_TEMPERATURE < temperature * factor < MAX_TEMPERATURE and temperature != 1)
    assert fit_temperature(logits * factor, labels, problem) == pytest.approx(temperature * factor, rel=1e-9)


@given(st.sampled_from(PROBLEMS), st.integers(1, 12), st.integers(2, 4), st.integers(0, 1000), st.floats(0.2, 20))
def test_the_loss_never_grows_and_no_answer_changes(problem, examples, classes, seed, temperature):
    logits, labels = held_out(problem, examples, classes, temperature, seed)
    fitted = fit_temperature(logits, labels, problem)
    assert MIN_TEMPERATURE <= fitted <= MAX_TEMPERATURE
    assert loss(logits / fitted, labels, problem) <= loss(logits, labels, problem) + 1e-12
    assert torch.equal((logits / fitted).argmax(-1), logits.argmax(-1))
    assert torch.equal(logits / fitted > 0, logits > 0)


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_a_temperature_beyond_the_bounds_is_the_bound(factor):
    logits, labels = held_out("single_label")
    bound = MIN_TEMPERATURE if factor < 1 else MAX_TEMPERATURE
    assert fit_temperature(logits * factor, labels, "single_label") == bound


@pytest.mark.parametrize("examples", [1, 50])
def test_without_a_wrong_answer_the_temperature_stays_one(examples):
    logits, _ = held_out("single_label", examples)
    assert fit_temperature(logits, logits.argmax(-1), "single_label") == 1.0
    assert fit_temperature(logits, (logits > 0).double(), "multi_label") == 1.0


@pytest.mark.parametrize("examples", [1, 50])
def test_answers_that_all_are_wrong_deserve_no_belief(examples):
    logits, _ = held_out("single_label", examples)
    assert fit_temperature(logits, logits.argmin(-1), "single_label") == MAX_TEMPERATURE
    assert fit_temperature(logits, (logits < 0).double(), "multi_label") == MAX_TEMPERATURE


def test_logits_that_say_nothing_keep_the_temperature_one():
    assert fit_temperature(torch.zeros(10, 3), torch.arange(10) % 3, "single_label") == 1.0
    assert fit_temperature(torch.randn(10, 1), torch.zeros(10, dtype=torch.int64), "single_label") == 1.0


def test_large_logits_do_not_overflow():
    logits = torch.tensor([[1e30, 0.0], [1e30, 0.0], [0.0, 1e30]])
    assert fit_temperature(logits, torch.tensor([0, 1, 1]), "single_label") == MAX_TEMPERATURE


def test_a_regression_has_no_temperature():
    assert fit_temperature(torch.randn(5, 1), torch.randn(5), "regression") == 1.0


@pytest.mark.parametrize("problem", [*PROBLEMS, "regression"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(problem, value):
    logits = torch.zeros(2, 4, 1)
    logits[0, 3, 0] = value
    labels = torch.zeros(4, 1) if problem == "multi_label" else torch.zeros(4, dtype=torch.int64)
    with pytest.raises(TrainingError, match="NaN"):
        fit_temperature(logits[0], labels, problem)
    with pytest.raises(TrainingError, match="NaN"):
        fit_member_weights(logits, labels, "logits", problem)
    with pytest.raises(TrainingError, match="NaN"):
        combine(logits, [0.5, 0.5], "logits", problem)


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        ("single_label", torch.tensor([0, 1])),
        ("single_label", torch.tensor([0, 1, 3])),
        ("single_label", torch.tensor([0, 1, -1])),
        ("single_label", torch.tensor([0.0, 1.0, 2.0])),
        ("multi_label", torch.tensor([0, 1, 1])),
        ("multi_label", torch.full((3, 3), 0.5)),
        ("multi_label", torch.full((3, 3), math.nan)),
    ],
)
def test_labels_that_do_not_fit_are_refused(problem, labels):
    with pytest.raises(TrainingError, match="labels"):
        fit_temperature(torch.zeros(3, 3), labels, problem)
    with pytest.raises(TrainingError, match="labels"):
        fit_member_weights(torch.zeros(2, 3, 3), labels, "logits", problem)


def test_names_and_shapes_that_do_not_fit_are_refused():
    members = torch.zeros(2, 3, 1)
    with pytest.raises(TrainingError, match="'votes'"):
        combine(members, [1.0, 1.0], "votes", "single_label")
    with pytest.raises(TrainingError, match="'ranking'"):
        combine(members, [1.0, 1.0], "logits", "ranking")
    with pytest.raises(TrainingError, match="'ranking'"):
        fit_temperature(members[0], torch.zeros(3), "ranking")
    with pytest.raises(TrainingError, match="regression has none"):
        combine(members, [1.0, 1.0], "probabilities", "regression")
    with pytest.raises(TrainingError, match="one example or more"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), "single_label")
    with pytest.raises(TrainingError, match="one finite number"):
        fit_member_weights(members, torch.zeros(2), "logits", "regression")
    for weights in ([1.0], [1.0, -0.5], [0.0, 0.0], [1.0, math.nan]):
        with pytest.raises(TrainingError, match="member weights"):
            combine(members, weights, "logits", "single_label")


def test_logits_are_averaged():
    members = torch.tensor([[[1.0, 2.0]], [[5.0, -2.0]]])
    assert torch.equal(combine(members, [0.75, 0.25], "logits", "single_label"), torch.tensor([[2.0, 1.0]]))
    assert torch.equal(combine(members, [3, 1], "logits", "regression"), torch.tensor([[2.0, 1.0]]))


@given(st.integers(1, 4), st.integers(2, 4), st.integers(0, 1000), st.floats(0.1, 10))
def test_probabilities_are_averaged(members, classes, seed, spread):
    generator = torch.Generator().manual_seed(seed)
    z = spread * torch.randn(members, 6, classes, generator=generator, dtype=torch.float64)
    w = torch.rand(members, generator=generator, dtype=torch.float64) + 0.01
    w = w / w.sum()
    single = combine(z, w, "probabilities", "single_label")
    torch.testing.assert_close(single.exp(), (w[:, None, None] * torch.softmax(z, -1)).sum(0))
    multi = combine(z, w, "probabilities", "multi_label")
    torch.testing.assert_close(torch.sigmoid(multi), (w[:, None, None] * torch.sigmoid(z)).sum(0))


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("combination", ["logits", "probabilities"])
def test_members_that_answer_alike_are_the_ensemble(problem, combination):
    logits = 50 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    answer = combine(torch.stack([logits, logits, -logits]), [0.3, 0.7, 0.0], combination, problem)
    assert answer.dtype == torch.float32
    if problem == "single_label":
        answer, logits = torch.log_softmax(answer, -1), torch.log_softmax(logits, -1)
    torch.testing.assert_close(answer, logits)


def test_a_sure_member_does_not_overrule_a_mean_of_probabilities():
    members = torch.tensor([[[1000.0, 0.0]], [[-3.0, 0.0]], [[-3.0, 0.0]]])
    assert combine(members, [1, 1, 1], "logits", "single_label").argmax() == 0
    answer = combine(members, [1, 1, 1], "probabilities", "single_label")
    assert answer.argmax() == 1
    assert answer.isfinite().all()


def two_members(problem):
    """A member that answers as the labels were drawn, with noise, and one with more noise."""
    logits, labels = held_out(problem)
    noise = torch.randn(2, *logits.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return logits + noise * torch.tensor([1.0, 2.0])[:, None, None], labels


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("combination", ["logits", "probabilities"])
def test_fitted_member_weights_are_the_best(problem, combination):
    optimize = pytest.importorskip("scipy.optimize")
    members, labels = two_members(problem)
    weights = fit_member_weights(members, labels, combination, problem)

    def objective(w):
        return loss(combine(members, [w, 1 - w], combination, problem), labels, problem)

    best = optimize.minimize_scalar(objective, bounds=(0, 1), method="bounded", options={"xatol": 1e-10})
    assert sum(weights) == pytest.approx(1)
    assert 0.55 < best.x < 0.99
    assert weights[0] == pytest.approx(best.x, abs=1e-4)
    assert objective(weights[0]) <= min(objective(0.0), objective(0.5), objective(1.0), best.fun + 1e-9)


@pytest.mark.parametrize("combination", ["logits", "probabilities"])
def test_three_members_agree_with_a_constrained_solver(combination):
    optimize = pytest.importorskip("scipy.optimize")
    members, labels = two_members("single_label")
    noise = torch.randn(members[0].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    members = torch.cat([members, members[:1] + noise])
    weights = fit_member_weights(members, labels, combination, "single_label")
    best = optimize.minimize(
        lambda w: loss(combine(members, w, combination, "single_label"), labels, "single_label"),
        [1 / 3] * 3,
        method="SLSQP",
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12},
    )
    assert weights == pytest.approx(best.x, abs=1e-3)
    flipped = fit_member_weights(members.flip(0), labels, combination, "single_label")
    assert flipped[::-1] == pytest.approx(weights, abs=1e-5)


@given(
    st.sampled_from(PROBLEMS),
    st.sampled_from(["logits", "probabilities"]),
    st.integers(2, 4),
    st.integers(1, 30),
    st.integers(0, 1000),
    st.floats(0.2, 20),
)
def test_no_other_member_weights_are_better(problem, combination, members, examples, seed, spread):
    """The loss is convex: its slope towards every single member bounds what any other weights could gain."""
    z = spread * torch.randn(members, examples, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    _, labels = held_out(problem, examples, seed=seed)
    weights = torch.tensor(fit_member_weights(z, labels, combination, problem), dtype=torch.float64)
    assert bool((weights >= 0).all())
    assert float(weights.sum()) == pytest.approx(1)
    weights.requires_grad_()
    answer = combine(z, weights, combination, problem)
    if problem == "multi_label":
        value = F.binary_cross_entropy_with_logits(answer, labels)
    else:
        value = F.cross_entropy(answer, labels)
    (slope,) = torch.autograd.grad(value, weights)
    gain = float(slope @ weights.detach() - slope.min())
    assert gain <= 0.005 * float(value.detach()) + 1e-6


def test_a_member_of_a_regression_weighs_by_its_precision():
    # Independent errors of variance 1 and 4: the best weights are 4/5 and 1/5.
    generator = torch.Generator().manual_seed(0)
    labels = torch.randn(20_000, generator=generator)
    errors = torch.randn(2, 20_000, 1, generator=generator) * torch.tensor([1.0, 2.0])[:, None, None]
    weights = fit_member_weights(labels[:, None] + errors, labels, "logits", "regression")
    assert weights == pytest.approx([0.8, 0.2], abs=0.01)


def test_members_that_answer_alike_weigh_alike():
    logits, labels = held_out("single_label")
    assert fit_member_weights(logits.expand(4, -1, -1), labels, "logits", "single_label") == [0.25] * 4
    assert fit_member_weights(logits[None], labels, "logits", "single_label") == [1.0]


def test_a_harmful_member_weighs_nothing():
    logits, labels = held_out("single_label", temperature=1.0)
    weights = fit_member_weights(torch.stack([logits, -logits]), labels, "probabilities", "single_label")
    assert weights == pytest.approx([1, 0], abs=0.02)


def test_fitting_works_without_gradients_and_leaves_the_generator_alone():
    members, labels = two_members("single_label")
    state = torch.get_rng_state()
    expected = fit_member_weights(members, labels, "logits", "single_label")
    with torch.inference_mode():
        inside, copies = members * 1, labels * 1
        assert fit_member_weights(inside, copies, "logits", "single_label") == expected
    assert fit_member_weights(inside, copies, "logits", "single_label") == expected
    assert fit_member_weights(members.float(), labels, "logits", "single_label") == pytest.approx(expected, abs=1e-4)
    assert torch.equal(torch.get_rng_state(), state)
