# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from bebert_edge.errors import BebertEdgeError, ModelError, NativeLibraryError
from bebert_edge.runtime import EdgeModel
from bebert_edge.runtime.onnx_bytes import one_node_model


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>Sign in</html>", "HTML or XML page"),
        (b"\xef\xbb\xbf\n  <html></html>", "HTML or XML page"),
        (b"PK\x03\x04" + b"\0" * 100, "zip archive"),
        (b"\x1f\x8b\x08" + b"\0" * 100, "gzip archive"),
        (b"\x20\0\0\0ORTM" + b"\0" * 100, r"an \.ort file"),
        (b'{"error": "not found"}', "JSON"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"a":{}}', "safetensors"),
        (b"just text, no model", "not a whole ONNX model|not an ONNX model"),
        (b"\0" * 1000, "not a whole ONNX model|not an ONNX model"),
        (b"\x08\x08", "not an ONNX model"),
    ],
)
def test_other_files_are_recognized(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        EdgeModel(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none.onnx does not exist.*bebert-edge export"):
        EdgeModel(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"is a directory.*bebert-edge export"):
        EdgeModel(tmp_path)


def test_a_truncated_file_at_every_place(model_path: Path, tmp_path: Path) -> None:
    whole, path = model_path.read_bytes(), tmp_path / "model.onnx"
    for size in [*range(1, 100), *range(100, len(whole), len(whole) // 200), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError):
            EdgeModel(path)


def test_flipped_bits_are_an_error_or_an_answer_but_never_a_crash(
    model_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A flip in a weight is another weight; a flip in the structure must be told."""
    whole, path = np.frombuffer(model_path.read_bytes(), np.uint8), tmp_path / "model.onnx"
    random = np.random.default_rng(0)
    for _ in range(50):
        damaged = whole.copy()
        damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        path.write_bytes(damaged.tobytes())
        try:
            assert len(EdgeModel(path, threads=1).predict(["a good movie"])) == 1
        except BebertEdgeError:
            continue
    assert capfd.readouterr() == ("", "")


def changed(model_path: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(model_path)
    change(model)
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_of_another_tool(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    x = np.zeros((1, 2), np.float32)
    path.write_bytes(
        one_node_model("Relu", "", inputs={"x": x}, initializers={}, outputs={"y": (x.dtype, 2)}, attributes={})
    )
    with pytest.raises(ModelError, match=r"other.onnx: .*bebert-edge did not write it"):
        EdgeModel(path)


def test_lost_metadata_is_named(model_path: Path, tmp_path: Path) -> None:
    def forget(model: onnx.ModelProto) -> None:
        kept = [p for p in model.metadata_props if p.key != "bebert_edge.tokenizer"]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)

    with pytest.raises(ModelError, match=r"lacks the metadata key 'bebert_edge.tokenizer'"):
        EdgeModel(changed(model_path, tmp_path, forget))


@pytest.mark.usefixtures("portable")
def test_lost_functions_are_named_where_the_library_is_missing(model_path: Path, tmp_path: Path) -> None:
    def forget(model: onnx.ModelProto) -> None:
        del model.functions[:]

    with pytest.raises(ModelError, match="carries no portable functions and the native library is not in use"):
        EdgeModel(changed(model_path, tmp_path, forget))


def test_a_model_whose_ops_were_replaced_cannot_be_native(model_path: Path, tmp_path: Path) -> None:
    import onnx.inliner

    path = tmp_path / "inlined.onnx"
    path.write_bytes(onnx.inliner.inline_local_functions(onnx.load(model_path)).SerializeToString())
    model = EdgeModel(path)
    assert "holds no op of domain 'bebert'" in str(model.backend)
    np.testing.assert_allclose(model.logits(["good"]), EdgeModel(model_path).logits(["good"]), atol=1e-5)
    with pytest.raises(NativeLibraryError, match=r"cannot run this model.*Export the model again"):
        EdgeModel(path, require_native=True)


def test_damaged_weights_are_told_from_answers(model_path: Path, tmp_path: Path) -> None:
    def damage(model: onnx.ModelProto) -> None:
        (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "classifier.weight")
        bias.raw_data = np.full(len(bias.raw_data) // 4, np.nan, np.float32).tobytes()

    with pytest.raises(ModelError, match="not finite"):
        EdgeModel(changed(model_path, tmp_path, damage)).predict(["good"])


def test_an_output_of_another_shape_is_told(model_path: Path, tmp_path: Path) -> None:
    def relabel(model: onnx.ModelProto) -> None:
        for prop in model.metadata_props:
            prop.value = prop.value.replace('["negative","positive"]', '["a","b","c"]')

    with pytest.raises(ModelError, match="the file is damaged"):
        EdgeModel(changed(model_path, tmp_path, relabel)).predict(["good"])
