# SPDX-License-Identifier: Apache-2.0
"""`cpu_path` runs a test once on every CPU path of this machine."""

from __future__ import annotations

import pytest

from bebert_edge import ops
from bebert_edge.errors import NativeLibraryError


def available_paths() -> tuple[str, ...]:
    """The paths of this machine. Without a library it is scalar's tests that fail."""
    try:
        return ops.info().supported
    except NativeLibraryError:
        return ("scalar",)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cpu_path" in metafunc.fixturenames:
        metafunc.parametrize("cpu_path", available_paths(), indirect=True)


@pytest.fixture
def cpu_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    path: str = request.param
    monkeypatch.setenv(ops.PATH_VARIABLE, path)
    return path
