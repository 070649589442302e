# SPDX-License-Identifier: Apache-2.0
"""`inspect`, `doctor`, and what holds for every command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bebert_edge import __version__
from support import random_ensemble

Command = Any
CLI = [sys.executable, "-m", "bebert_edge.cli"]


def test_inspect_a_model(command: Command, model_path: Path) -> None:
    done = command("inspect", model_path)
    assert done.code == 0
    for part in ("negative, positive", "layers 0-1", "encoder bits", "2 BinaryAttention", "Apache-2.0", "32 tokens"):
        assert part in done.out
    assert f"{model_path.stat().st_size:,}         total" in done.out
    found = json.loads(command("inspect", model_path, "--format", "json").out)
    assert sum(found["bytes"].values()) == found["size"] == model_path.stat().st_size


def test_inspect_an_ensemble(command: Command, tmp_path: Path) -> None:
    random_ensemble(members=3).save(tmp_path / "ensemble")
    done = command("inspect", tmp_path / "ensemble")
    assert done.code == 0
    assert "3, weights 0.333" in done.out
    assert "packed ops" not in done.out


def test_inspect_what_is_no_model(command: Command, tmp_path: Path) -> None:
    done = command("inspect", tmp_path / "none.onnx")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("bebert-edge: error: ")


def test_doctor_on_a_healthy_installation(command: Command) -> None:
    done = command("doctor")
    assert (done.code, done.err) == (0, "")
    assert "self-test scalar" in done.out
    report = json.loads(command("doctor", "--format", "json").out)
    assert report["live_path"] in report["supported_paths"]
    assert report["tests"]


def test_doctor_fails_when_a_self_test_fails(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from bebert_edge import reference

    right = reference.packed_binary_matmul
    monkeypatch.setattr(reference, "packed_binary_matmul", lambda *a, **k: right(*a, **k) + 1)
    done = command("doctor")
    assert done.code == 1
    assert "FAILED: the result differs from the reference" in done.out
    assert "self-tests failed" in done.err


def test_doctor_without_library_reports_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEBERT_EDGE_OPS_LIBRARY", "/nowhere/ops.so")
    done = command("doctor")
    assert done.code == 0
    assert "not in use: " in done.out
    assert "/nowhere/ops.so" in done.out


def test_the_version(command: Command) -> None:
    assert command("--version").out == f"bebert-edge {__version__}\n"


@pytest.mark.parametrize("name", ["run", "bench", "inspect", "doctor", "train", "pack", "export", "evaluate"])
def test_every_command_has_help(command: Command, name: str) -> None:
    done = command(name, "--help")
    assert (done.code, done.err) == (0, "")


def test_a_missing_optional_package_is_named_with_the_command_that_installs_it(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_ensemble().save(tmp_path / "ensemble")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    done = command("inspect", tmp_path / "ensemble")
    assert done.code == 1
    assert done.err.endswith("'safetensors', which is not installed. Run: pip install 'bebert-edge[export]'\n")


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*CLI, *map(str, arguments)], stdin=pipe, stdout=pipe, stderr=pipe, **options)


def test_help_needs_no_heavy_import(tmp_path: Path) -> None:
    code = (
        "import sys, bebert_edge.cli.main; "
        "print(sorted({'torch', 'transformers', 'onnx', 'onnxruntime', 'numpy', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"


def test_ctrl_c_ends_quietly(model_path: Path, tmp_path: Path) -> None:
    # A background job of a shell ignores the signal, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start("run", model_path, "--batch-size", 1, "--format", "json", cwd=tmp_path)
    signal.signal(signal.SIGINT, before)
    assert process.stdin
    assert process.stderr
    process.stderr.readline()  # the backend: the model is loaded and stdin is being read
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, b"")


def test_a_reader_that_leaves_is_no_error(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a\n" * 5000)
    process = start("run", model_path, "-i", tmp_path / "texts.txt", "--format", "json", cwd=tmp_path)
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait() == 141
    assert len(err.splitlines()) == 1  # the backend


def test_answers_to_a_live_pipe_come_at_once(model_path: Path, tmp_path: Path) -> None:
    process = start("run", model_path, "--batch-size", 1, "--format", "json", cwd=tmp_path)
    assert process.stdin
    assert process.stdout
    for text in ("one", "two"):
        process.stdin.write(f"{text}\n".encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"] == text
    process.communicate()
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(model_path: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [*CLI, "run", model_path, "a"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [b"bebert-edge: error: [Errno 28] No space left on device"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_progress_bar_leaves_the_answers_alone(model_path: Path, tmp_path: Path) -> None:
    import pty

    (tmp_path / "texts.txt").write_text("a\n" * 20)
    terminal, stderr = pty.openpty()
    command = [*CLI, "run", model_path, "-i", tmp_path / "texts.txt", "--format", "csv"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, check=True, cwd=tmp_path)
    os.close(stderr)
    assert len(done.stdout.splitlines()) == 21
    assert b"texts.txt" in os.read(terminal, 10_000)
    os.close(terminal)


def test_output_is_utf8_in_every_locale(model_path: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "POSIX"}
    process = start("run", model_path, "--format", "json", cwd=tmp_path, env=environment)
    out, _ = process.communicate("日本 🎬\n".encode())
    assert json.loads(out)["text"] == "日本 🎬"


def test_an_argument_that_is_not_utf8_is_one_line(model_path: Path, tmp_path: Path) -> None:
    done = subprocess.run([*CLI, "run", model_path, b"caf\xe9"], capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert b"lone surrogate" in done.stderr
    assert b"Traceback" not in done.stderr
