# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge doctor`: is this installation healthy?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from bebert_edge.cli._shared import OutputFormat, note

if TYPE_CHECKING:
    from bebert_edge.runtime.diagnosis import Diagnosis


def doctor(
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.table,
) -> None:
    """Check this installation, and every op on every CPU path.

    Exit code 1 if a self-test fails. A missing native library is reported, not failed: models run without it.
    """
    from bebert_edge.runtime.diagnosis import diagnose

    diagnosis = diagnose()
    if output_format is OutputFormat.json:
        print(json.dumps(diagnosis.as_dict(), indent=2, ensure_ascii=False))
    else:
        for line in _lines(diagnosis):
            print(line)
    if diagnosis.failures:
        failed = f"{len(diagnosis.failures)} of {len(diagnosis.tests)} self-tests failed"
        note(f"bebert-edge: error: {failed}. Force another CPU path with the environment variable BEBERT_EDGE_KERNEL")
        raise typer.Exit(1)


def _lines(diagnosis: Diagnosis) -> list[str]:
    rows = [
        *diagnosis.versions.items(),
        ("machine", diagnosis.machine),
        ("CPU features", " ".join(diagnosis.cpu_features) or "not known on this system"),
        ("native library", diagnosis.library or f"not in use: {diagnosis.problem}"),
    ]
    if diagnosis.library:
        rows += [
            ("library version", str(diagnosis.library_version)),
            ("CPU paths", ", ".join(diagnosis.supported_paths)),
            ("live path", f"native ({diagnosis.live_path})"),
        ]
    else:
        rows.append(("live path", "portable: models run, but slower"))
    for path in diagnosis.supported_paths:
        tests = [test for test in diagnosis.tests if test.path == path]
        failed = [test for test in tests if test.error]
        rows.append((f"self-test {path}", f"{len(tests) - len(failed)}/{len(tests)} passed"))
        rows += [(f"  {test.op}", f"FAILED: {test.error}") for test in failed]
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {value}" for name, value in rows]
