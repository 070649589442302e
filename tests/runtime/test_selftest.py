# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from bebert_edge import ops, reference
from bebert_edge.runtime.diagnosis import diagnose
from bebert_edge.runtime.selftest import self_test

OPS = {
    "PackedBinaryEmbedding",
    "Quantize",
    "GatedQuantize",
    "PackedBinaryMatMul",
    "PackedBinaryMatMulQuantize",
    "BinaryAttention",
    "BiasedBinaryAttention",
    "AddLayerNormQuantize",
}


def test_every_op_passes_on_every_path_of_this_machine() -> None:
    tests = self_test()
    assert {(test.path, test.op.split()[0]) for test in tests} == {(p, op) for p in ops.info().supported for op in OPS}
    assert [test for test in tests if test.error] == []


def test_a_wrong_result_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.quantize
    monkeypatch.setattr(reference, "quantize", lambda *a, **k: right(*a, **k) ^ 1)
    failed = {test.op.split()[0] for test in self_test() if test.error}
    assert failed == {"Quantize"}


def test_an_op_that_does_not_run_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bebert_edge.runtime.selftest.DOMAIN", "nowhere")
    assert all(test.error and "nowhere" in test.error for test in self_test())


@pytest.mark.usefixtures("portable")
def test_a_missing_library_is_a_finding_not_an_error() -> None:
    diagnosis = diagnose()
    assert diagnosis.library is None
    assert diagnosis.problem
    assert "/nowhere/bebert_edge_ops.so" in diagnosis.problem
    assert diagnosis.tests == []


def test_a_diagnosis_names_versions_and_paths() -> None:
    diagnosis = diagnose()
    assert diagnosis.versions["onnxruntime"][0].isdigit()
    assert diagnosis.live_path in diagnosis.supported_paths
    assert diagnosis.failures == []
