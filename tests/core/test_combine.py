# SPDX-License-Identifier: Apache-2.0
"""How the reference makes one answer of its members' logits, against the definition in exact arithmetic."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from answers import cases, defined_answer
from bebert_edge.config import EnsembleConfig
from bebert_edge.errors import FormatError
from bebert_edge.reference.answer import combine
from support import random_ensemble


def config(members: int, labels: int, **arguments: Any) -> EnsembleConfig:
    return random_ensemble(members=members, labels=[str(i) for i in range(labels)], layers=1, **arguments).config


@settings(max_examples=200)
@given(cases())
def test_the_answer_is_what_the_format_defines(case: dict[str, Any]) -> None:
    logits = case["member_logits"]
    arguments = {"member_weights": case["weights"], **{k: case[k] for k in ("combination", "problem", "temperature")}}
    found = combine(logits, config(*logits.shape, **arguments))
    assert found.dtype == np.float32
    tolerance = 1e-6 * max(1, np.abs(logits).max()) / case["temperature"]
    np.testing.assert_allclose(found, defined_answer(**case), rtol=1e-6, atol=tolerance)


def test_members_that_agree_are_answered_for() -> None:
    logits = np.array([[1.0, -2.0, 0.5]] * 3, np.float32)
    shape = (3, 3)
    softmax = np.exp(logits[0]) / np.exp(logits[0]).sum()
    single = combine(logits, config(*shape, combination="probabilities"))
    np.testing.assert_allclose(np.exp(single), softmax, rtol=1e-6)
    multi = combine(logits, config(*shape, combination="probabilities", problem="multi_label"))
    np.testing.assert_allclose(multi, logits[0], rtol=1e-6)
    warm = combine(logits, config(*shape, temperature=4.0))
    np.testing.assert_allclose(warm, logits[0] / 4, rtol=1e-6)


def test_one_sure_member_outvotes_by_logits_and_not_by_probabilities() -> None:
    logits = np.array([[30.0, 0.0], [0.0, 2.0], [0.0, 2.0]], np.float32)
    weights = {"member_weights": (1 / 3, 1 / 3, 1 / 3)}
    assert combine(logits, config(3, 2, **weights)).argmax() == 0
    assert combine(logits, config(3, 2, **weights, combination="probabilities")).argmax() == 1


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_the_largest_logits_that_are_promised_give_finite_answers(problem: str) -> None:
    logits = np.array([[1e29, -1e29], [-1e29, 1e29], [1e29, 1e29]], np.float32)
    for weights in [(1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.0, 0.0, 1.0)]:
        settled = config(3, 2, problem=problem, combination="probabilities", member_weights=weights, temperature=1e-6)
        assert np.isfinite(combine(logits, settled)).all()


def test_a_file_without_the_keys_is_the_mean_of_logits() -> None:
    default = config(2, 2)
    assert not {"combination", "temperature"} & json.loads(default.to_json()).keys()
    assert (default.combination, default.temperature) == ("logits", 1.0)
    assert EnsembleConfig.from_json(default.to_json()) == default
    explicit = {**json.loads(default.to_json()), "combination": "logits", "temperature": 1}
    assert EnsembleConfig.from_json(json.dumps(explicit)) == default
    other = config(2, 2, combination="probabilities", temperature=1.7)
    assert json.loads(other.to_json())["temperature"] == 1.7
    assert EnsembleConfig.from_json(other.to_json()) == other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"combination": "votes"}, "combination is 'votes', expected one of"),
        ({"combination": None}, "combination is None"),
        ({"combination": ["logits"]}, "combination is"),
        ({"temperature": 0}, "temperature is 0, expected a number 1e-06 .. 1e[+]06"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": 1e-7}, "temperature is 1e-07"),
        ({"temperature": 10**400}, "temperature is 1000"),
        ({"temperature": "1"}, "temperature is '1'"),
        ({"temperature": True}, "temperature is True"),
        ({"combination": "probabilities", "member_weights": [1.5, -0.5]}, "member_weights is .*numbers >= 0"),
        ({"member_weights": [10**400, 1]}, "member_weights"),
        ({"task": {"problem": "regression"}}, "labels is .*expected one name, for the problem 'regression'"),
        ({"task": {"problem": "regression"}, "labels": ["x"], "temperature": 2.0}, "temperature is 2.0, expected 1.0"),
        (
            {"task": {"problem": "regression"}, "labels": ["x"], "combination": "probabilities"},
            "combination is 'probabilities', expected 'logits' for the problem 'regression'",
        ),
    ],
)
def test_answers_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    content = json.loads(config(2, 2).to_json())
    changes = {**changes, "task": {**content["task"], **changes.get("task", {})}}
    with pytest.raises(FormatError, match=message):
        EnsembleConfig.from_json(json.dumps({**content, **changes}))


def test_the_worked_example_of_the_format_is_right() -> None:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    example = text[text.index("Example: members of equal weight") : text.index("## model.safetensors")]
    found = [np.array(json.loads(f"[{row}]")) for row in re.findall(r"`logits = \[(.*?)\]`", example)]
    logits = np.array([[2, 0], [0, 1]], np.float32)
    expected = [
        combine(logits, config(2, 2, temperature=2.0)),
        combine(logits, config(2, 2, temperature=2.0, combination="probabilities")),
        combine(logits, config(2, 2, temperature=2.0, combination="probabilities", problem="multi_label")),
    ]
    np.testing.assert_allclose(found, expected, atol=5.1e-5)
