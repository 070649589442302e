# SPDX-License-Identifier: Apache-2.0
import math

import pytest

torch = pytest.importorskip("torch")

from bebert_edge.errors import TrainingError
from bebert_edge.training.boosting import member_weights, samme


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


def test_a_member_worse_than_chance_counts_for_nothing():
    weights, alpha = samme(torch.ones(4), torch.ones(4, dtype=torch.bool), classes=2)
    assert alpha == 0
    assert torch.equal(weights, torch.ones(4))


def test_a_member_without_mistakes_has_a_finite_alpha():
    weights, alpha = samme(torch.ones(4), torch.zeros(4, dtype=torch.bool), classes=2)
    assert alpha == pytest.approx(math.log(7))
    assert torch.equal(weights, torch.ones(4))


def test_misaligned_arguments_are_refused():
    with pytest.raises(TrainingError, match="mistakes"):
        samme(torch.ones(4), torch.ones(3, dtype=torch.bool), classes=2)


def test_member_weights_sum_to_one():
    assert member_weights([3.0, 1.0]) == [0.75, 0.25]
    assert member_weights([0.0, 0.0]) == [0.5, 0.5]
