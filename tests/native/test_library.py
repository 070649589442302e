# SPDX-License-Identifier: Apache-2.0
"""The library as a file, its registration, and the choice of a CPU path."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from bebert_edge import ops
from bebert_edge.codes import CODE_TYPES
from bebert_edge.errors import NativeLibraryError
from native_op import assert_same, op_session, random_codes, random_floats, random_quantizer, run_op

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")


def tool(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@LINUX
def test_one_symbol_is_exported() -> None:
    symbols = tool("nm", "-D", "--defined-only", str(ops.library_path())).split("\n")
    assert [line.split()[-1] for line in symbols if line] == ["RegisterCustomOps"]


@LINUX
def test_nothing_is_needed() -> None:
    """Weak symbols may be absent: the library asks for getenv and does without."""
    undefined = tool("nm", "-D", "--undefined-only", str(ops.library_path())).split("\n")
    assert [line.split() for line in undefined if line] == [["w", "getenv"]]
    assert "(NEEDED)" not in tool("readelf", "-dW", str(ops.library_path()))


@LINUX
def test_segments_are_aligned_to_16_kilobytes() -> None:
    loads = [line for line in tool("readelf", "-lW", str(ops.library_path())).split("\n") if " LOAD " in line]
    assert loads
    assert {int(line.split()[-1], 16) for line in loads} == {0x4000}


def test_slots_of_the_abi_header_are_those_of_the_official_header() -> None:
    official = json.loads((Path(__file__).parent / "ort_abi_slots.json").read_text(encoding="utf-8"))
    header = (ROOT / "custom_ops/ort/abi.h").read_text(encoding="utf-8")
    asserted = re.findall(r"^BEBERT_ORT_SLOT\((\w+), (\w+), (\d+)\);$", header, re.MULTILINE)
    slots: dict[str, dict[str, int]] = {"OrtApi": {}, "OrtCustomOp": {}}
    for table, function, slot in asserted:
        slots[table][function] = int(slot)
    assert slots == {table: official[table] for table in slots}
    # A member without an assertion would be checked by nobody.
    for table, names in slots.items():
        body = re.search(rf"^struct {table} \{{(.*?)^\}};", header, re.MULTILINE | re.DOTALL)
        assert body is not None
        members = re.findall(r"^  [\w* ]+?(?: |\(\*)(\w+)(?:\)\(|;)", body[1], re.MULTILINE)
        assert members == list(names)


def test_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ops.PATH_VARIABLE, raising=False)
    info = ops.info()
    assert info.live == info.supported[0]
    assert info.supported[-1] == "scalar"
    assert f'\nversion = "{info.version}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


AVX2 = {"avx2", "bmi1", "bmi2", "popcnt"}
AVX512 = {"avx512" + part for part in ("f", "bw", "vl", "dq", "vbmi", "_vnni", "_vpopcntdq", "_bitalg")}
FLAGS = {
    "x86_avx2": AVX2,
    "x86_avx512": AVX2 | AVX512,
    "arm64_neon": {"asimd"},
    "arm64_dotprod": {"asimd", "asimddp"},
}
"""What /proc/cpuinfo calls the instructions of each CPU path."""


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo to compare with")
def test_paths_are_those_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ops.PATH_VARIABLE, raising=False)
    flags = set(
        re.findall(r"^(?:flags|Features)\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[0].split()
    )
    assert set(ops.info().supported) == {"scalar"} | {path for path, needed in FLAGS.items() if needed <= flags}


def test_a_forced_path_is_live(cpu_path: str) -> None:
    assert ops.info().live == cpu_path


def test_an_empty_variable_forces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ops.PATH_VARIABLE, "")
    assert ops.info().live == ops.info().supported[0]


def test_an_unknown_path_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    paths, supported = ", ".join(["scalar", *FLAGS]), ", ".join(ops.info().supported)
    monkeypatch.setenv(ops.PATH_VARIABLE, "avx2")
    expected = (
        f'BEBERT_EDGE_KERNEL: "avx2" is not a CPU path; CPU paths: {paths}; '
        f"this library on this machine runs: {supported}"
    )
    with pytest.raises(NativeLibraryError, match=re.escape(expected)):
        ops.info()


def test_a_path_of_another_machine_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    supported = ops.info().supported
    missing = next(path for path in ("arm64_neon", "x86_avx512") if path not in supported)
    monkeypatch.setenv(ops.PATH_VARIABLE, missing)
    with pytest.raises(NativeLibraryError, match=f'"{missing}" does not run here'):
        ops.register(onnxruntime.SessionOptions())


def test_registering_twice_changes_nothing() -> None:
    options = onnxruntime.SessionOptions()
    ops.register(options)
    ops.register(options)
    (codes,) = onnxruntime.InferenceSession(quantize_model(), options).run(None, {"x": np.ones((1, 1, 1), np.float32)})
    np.testing.assert_array_equal(codes, [[[1, 0, 0, 0, 0, 0, 0, 0]]])


def test_registering_twice_with_another_path_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ops.info().supported
    if len(paths) == 1:
        pytest.skip("this machine has one CPU path")
    options = onnxruntime.SessionOptions()
    monkeypatch.setenv(ops.PATH_VARIABLE, paths[0])
    ops.register(options)
    monkeypatch.setenv(ops.PATH_VARIABLE, paths[1])
    with pytest.raises(NativeLibraryError, match=f"already have the CPU path {paths[0]}.*asks for {paths[1]}"):
        ops.register(options)


def quantize_model() -> bytes:
    from onnx import helper

    constants = {"shift": [0.0], "inverse_step": [1.0]}
    graph = helper.make_graph(
        [helper.make_node("Quantize", ["x", *constants], ["y"], domain="bebert", output_code=[1, -1, 1], activation=0)],
        "quantize",
        [helper.make_tensor_value_info("x", 1, ["m", "t", "c"])],
        [helper.make_tensor_value_info("y", 2, None)],
        [helper.make_tensor(name, 1, [1, 1], value) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("bebert", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_sessions_live_side_by_side_and_one_after_the_other() -> None:
    x = np.full((1, 1, 1), 3, np.float32)
    for _ in range(3):
        sessions = []
        for _ in range(3):
            options = onnxruntime.SessionOptions()
            ops.register(options)
            sessions.append(onnxruntime.InferenceSession(quantize_model(), options))
            del options
        for session in reversed(sessions):
            assert session.run(None, {"x": x})[0][0, 0, 0] == 1
        sessions.clear()


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ops.LIBRARY_VARIABLE, "/nowhere/bebert_edge_ops.so")
    with pytest.raises(NativeLibraryError, match=r"BEBERT_EDGE_OPS_LIBRARY is /nowhere/.*: expected a file"):
        ops.library_path()


def test_a_file_that_is_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "bebert_edge_ops.so"
    file.write_bytes(b"no library")
    monkeypatch.setenv(ops.LIBRARY_VARIABLE, str(file))
    with pytest.raises(NativeLibraryError, match=r"bebert_edge_ops\.so"):
        ops.info()


def test_threads_change_no_byte(cpu_path: str) -> None:
    rng = np.random.default_rng(0)
    int4, sign = CODE_TYPES["int4"], CODE_TYPES["sign"]
    members, tokens, k = 3, 200, 130
    quantizer = random_quantizer(rng, members, k, 1.0, sign)
    floats = random_floats(rng, (members, tokens, k))
    codes = random_codes(rng, int4, (members, tokens, 3 * k))
    heads = random_floats(rng, (members, 10), 0.01)
    matrix = {
        "codes": random_codes(rng, int4, (members, tokens, k)),
        "weight": random_codes(rng, sign, (members, k, k)),
        "scale": random_floats(rng, (members, k), 0.02),
        "bias": random_floats(rng, (members, k)),
    }
    offsets = np.array([0, 20, 20, 90, 200])
    calls = (
        ("Quantize", {"x": floats, **quantizer}, {"output_code": sign.triple, "activation": 2}),
        (
            "AddLayerNormQuantize",
            {"x": floats, "residual": floats[:1], "gamma": quantizer["shift"], "beta": quantizer["shift"], **quantizer},
            {"epsilon": 1e-5, "output_code": sign.triple},
        ),
        (
            "PackedBinaryEmbedding",
            {"ids": rng.integers(0, k, tokens), "weight": matrix["weight"], "scale": matrix["scale"]},
            {"k": k},
        ),
        ("PackedBinaryMatMul", matrix, {"k": k, "input_code": int4.triple}),
        (
            "PackedBinaryMatMulQuantize",
            {**matrix, **quantizer},
            {"k": k, "input_code": int4.triple, "output_code": sign.triple, "activation": 2},
        ),
        (
            "BinaryAttention",
            {
                "query": codes,
                "key": codes,
                "value": codes,
                "query_offsets": offsets,
                "key_offsets": offsets,
                "score_scale": abs(heads),
                "probability_inverse_step": np.full_like(heads, 15),
                "context_scale": heads,
                **quantizer,
            },
            {
                "heads": 10,
                "head_size": 13,
                "channels": (0, k, 2 * k),
                "softmax": 1,
                "input_code": int4.triple,
                "probability_code": CODE_TYPES["uint4"].triple,
                "output_code": sign.triple,
            },
        ),
    )
    _, inputs, attributes = calls[-1]
    bias = random_floats(rng, (members, 10, 31))
    softmax_only = {name: value for name, value in attributes.items() if name != "softmax"}
    calls += (("BiasedBinaryAttention", {**inputs, "distance_bias": bias}, softmax_only),)
    for op, inputs, attributes in calls:
        expected = run_op(op, inputs, attributes, threads=1)
        session = op_session(op, inputs, attributes, threads=2)
        for _ in range(5):
            assert_same(session.run(None, inputs), expected, (cpu_path, op))
