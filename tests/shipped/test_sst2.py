# SPDX-License-Identifier: Apache-2.0
"""The ensemble that ships: its size, its stated accuracy, and one answer on every path, on real sentences."""

import csv
import gzip
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.runtime import EdgeModel, default_model_path
from torch_twin import torch_twins

ROOT = Path(__file__).parents[2]
ENSEMBLE = ROOT / "examples" / "sst2" / "ensemble"
DATA = Path(os.environ.get("BEBERT_EDGE_DATASETS", ROOT.parent / "shared" / "datasets")) / "sst2" / "dev.tsv.gz"
TIE = 0.02
"""Two logits this close are a tie: one flipped code may decide."""

needs_data = pytest.mark.skipif(
    not DATA.is_file(), reason=f"{DATA} is missing: set BEBERT_EDGE_DATASETS to a folder with sst2/dev.tsv.gz"
)


@cache
def dev_set() -> tuple[list[str], np.ndarray]:
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"] for row in rows], np.array([int(row["label"]) for row in rows])


@cache
def ensemble() -> PackedEnsemble:
    return PackedEnsemble.load(ENSEMBLE)


@cache
def native() -> EdgeModel:
    return EdgeModel(default_model_path(), require_native=True)


@cache
def native_logits() -> np.ndarray:
    return native().logits(dev_set()[0])


@pytest.fixture
def portable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> EdgeModel:
    monkeypatch.setenv("BEBERT_EDGE_OPS_LIBRARY", str(tmp_path / "no_such_library.so"))
    model = EdgeModel(default_model_path())
    assert not model.backend.native
    return model


def assert_same_labels(a: np.ndarray, b: np.ndarray) -> None:
    differ = a.argmax(-1) != b.argmax(-1)
    margin = np.abs(a[differ, 0] - a[differ, 1])
    assert differ.sum() <= 3, f"{differ.sum()} labels differ, at margins {margin}"
    assert (margin < TIE).all()


def test_it_is_small_and_binary_as_promised() -> None:
    config = ensemble().config
    assert config.members == 2
    assert {layer.hidden for layer in config.quantization.layers} == {"int4"}
    files = list(ENSEMBLE.iterdir())
    assert sum(file.stat().st_size for file in files) == sum(ensemble().size().values()) <= 8_000_000


def test_the_shipped_file_is_the_export_of_the_shipped_ensemble(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from bebert_edge.exporters import export

    export(ENSEMBLE, tmp_path / "again.onnx", verify=False)
    shipped, again = onnx.load(default_model_path()), onnx.load(tmp_path / "again.onnx")
    assert [node.SerializeToString() for node in shipped.graph.node] == [
        node.SerializeToString() for node in again.graph.node
    ]
    assert {t.name: t.raw_data for t in shipped.graph.initializer} == {
        t.name: t.raw_data for t in again.graph.initializer
    }


@needs_data
def test_it_is_as_accurate_as_stated() -> None:
    _, labels = dev_set()
    accuracy = (native_logits().argmax(-1) == labels).mean()
    assert f"{accuracy:.4f}" == ensemble().config.metadata["dev_accuracy"]
    assert accuracy >= 0.86
    assert f"{accuracy:.4f}" in (ROOT / "examples" / "sst2" / "MODEL_CARD.md").read_text(encoding="utf-8")


@needs_data
def test_native_and_portable_agree(portable: EdgeModel) -> None:
    logits = portable.logits(dev_set()[0])
    np.testing.assert_allclose(logits, native_logits(), atol=1e-5)
    assert_same_labels(logits, native_logits())


@needs_data
def test_native_and_torch_agree() -> None:
    torch = pytest.importorskip("torch")
    texts, _ = dev_set()
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_str(ensemble().tokenizer)
    tokenizer.enable_padding()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    twins = torch_twins(ensemble())
    logits = np.zeros((len(texts), 2), np.float32)
    for start in range(0, len(order), 64):
        batch = order[start : start + 64]
        encoded = tokenizer.encode_batch([texts[i] for i in batch])
        ids, mask = (torch.tensor([getattr(e, name) for e in encoded]) for name in ("ids", "attention_mask"))
        with torch.no_grad():
            members = [twin(input_ids=ids, attention_mask=mask).logits.numpy() for twin in twins]
        logits[batch] = np.tensordot(ensemble().config.member_weights, np.stack(members), 1)
    assert_same_labels(logits, native_logits())


@needs_data
def test_answers_do_not_depend_on_batches_or_order() -> None:
    texts, _ = dev_set()
    for batch_size in (1, 7, 200):
        np.testing.assert_allclose(native().logits(texts, batch_size=batch_size), native_logits(), atol=1e-5)
    backwards = native().logits(texts[::-1])[::-1]
    np.testing.assert_allclose(backwards, native_logits(), atol=1e-5)
