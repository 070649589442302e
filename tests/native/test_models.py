# SPDX-License-Identifier: Apache-2.0
"""Whole exported models on every CPU path of this machine."""

from __future__ import annotations

import pytest

from bebert_edge import ops
from whole_models import MODELS, differing, run_native


@pytest.mark.parametrize("name", MODELS)
def test_every_cpu_path_gives_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ops.PATH_VARIABLE, raising=False)
    paths = ops.info().supported
    outputs = {}
    for path in paths:
        monkeypatch.setenv(ops.PATH_VARIABLE, path)
        assert ops.info().live == path
        outputs[path] = run_native(name)
    assert {path: differing(outputs[path], outputs["scalar"]) for path in paths} == {path: [] for path in paths}
