# SPDX-License-Identifier: Apache-2.0
import sys
from types import ModuleType

import pytest

from bebert_edge.errors import TrainingError
from bebert_edge.training.files import Examples
from bebert_edge.training.glue import TASKS, load_task, resolve


class Table:
    """What `load_task` uses of a datasets.Dataset."""

    def __init__(self, **columns):
        self.columns = columns
        self.column_names = list(columns)
        self.features = dict.fromkeys(columns)

    def __getitem__(self, name):
        return self.columns[name]


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for datasets.load_dataset: `hub[name, split]` is what it returns, an exception is raised."""
    tables = {}

    def load_dataset(source, name, *, split):
        assert source == "nyu-mll/glue"
        table = tables.get((name, split), ValueError(f"Unknown split {split!r}\nof many lines"))
        if isinstance(table, Exception):
            raise table
        return table

    stand_in = ModuleType("datasets")
    stand_in.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", stand_in)
    return tables


@pytest.mark.parametrize("name", TASKS)
def test_each_task(hub, name):
    task = TASKS[name]
    regression = task.problem == "regression"
    labels = [0.25, 5.0] if regression else [0, len(task.labels) - 1]
    columns = {column: [f"{column} {i}" for i in range(2)] for column in task.columns}
    hub[name, "train"] = Table(**columns, label=labels, idx=[0, 1])
    texts, pairs = [*columns.values(), None][:2]
    assert load_task(name) == Examples(texts, pairs, labels, list(task.labels), task.problem)


def test_dev_is_the_first_split_to_evaluate_on(hub):
    hub["mnli", "validation_matched"] = Table(premise=["a"], hypothesis=["b"], label=[2])
    hub["mnli", "validation_mismatched"] = Table(premise=["c"], hypothesis=["d"], label=[0])
    assert load_task("mnli", "dev").pairs == ["b"]
    assert load_task("mnli", "validation_mismatched").pairs == ["d"]


def test_splits_without_labels(hub):
    hub["mnli", "test_matched"] = Table(premise=["a"], hypothesis=["b"], label=[-1])
    hub["stsb", "test"] = Table(sentence1=["a"], sentence2=["b"], label=[-1.0])
    hub["sst2", "train"] = Table(sentence=[], label=[])
    with pytest.raises(TrainingError, match=r"test_matched has label -1.*train, validation_matched, validation_mis"):
        load_task("mnli", "test_matched")
    with pytest.raises(TrainingError, match=r"has label -1\.0, expected a score"):
        load_task("stsb", "test")
    with pytest.raises(TrainingError, match="no examples in train"):
        load_task("sst2")


def test_a_task_that_cannot_be_loaded(hub):
    hub["sst2", "train"] = ConnectionError("Couldn't reach the hub")
    with pytest.raises(TrainingError, match=r"load_dataset\('nyu-mll/glue', 'sst2', split='train'\).*reach.*pass a"):
        load_task("sst2")
    with pytest.raises(TrainingError, match=r"Unknown split 'dve'; check the network and the split"):
        load_task("sst2", "dve")
    hub["rte", "train"] = Table(text=["a"], label=[0])
    with pytest.raises(TrainingError, match="no column sentence1, only text, label"):
        load_task("rte")


def test_without_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TrainingError, match="pip install datasets"):
        load_task("cola")


def test_a_real_data_set(monkeypatch):
    datasets = pytest.importorskip("datasets")
    names = ["entailment", "not_entailment"]

    def load_dataset(source, name, *, split):
        columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1, 0], "idx": [0, 1]}
        data = datasets.Dataset.from_dict(columns)
        return data.cast_column("label", datasets.ClassLabel(names=names))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_task("rte") == Examples(["a", "b"], ["c", "d"], [1, 0], ["entailment", "not_entailment"])
    names.reverse()
    with pytest.raises(TrainingError, match="classes not_entailment, entailment, expected entailment, not_entailment"):
        load_task("rte")


def test_resolve_prefers_files(hub, tmp_path, monkeypatch):
    hub["sst2", "validation"] = Table(sentence=["good"], label=[1])
    assert resolve("sst2", "dev").labels == [1]
    (tmp_path / "data.tsv").write_text("text\tlabel\nx\t1\ny\t0\n")
    assert resolve(tmp_path / "data.tsv").texts == ["x", "y"]
    monkeypatch.chdir(tmp_path)
    assert resolve("data.tsv", classes=["1", "0"]).labels == [0, 1]
    (tmp_path / "sst2").mkdir()
    assert resolve("sst2", "dev").labels == [1]
    (tmp_path / "sst2").rmdir()
    (tmp_path / "sst2").write_text("a file")
    with pytest.raises(TrainingError, match=r"sst2: unknown file type"):
        resolve("sst2")


def test_resolve_names_what_there_is(hub, tmp_path):
    with pytest.raises(TrainingError, match=r"sst3 is neither a file nor a task.*cola, mnli, mrpc, .*sst2"):
        resolve("sst3")
    with pytest.raises(TrainingError, match="cannot be read"):
        resolve("absent.tsv")
    with pytest.raises(TrainingError, match="has the labels negative, positive, expected 0, 1: pass a file of them"):
        resolve("sst2", classes=["0", "1"])


def test_resolve_numbers_classes_as_it_is_told(hub):
    hub["mnli", "train"] = Table(premise=["a", "b", "c"], hypothesis=["d", "e", "f"], label=[0, 1, 2])
    names = ["contradiction", "entailment", "neutral"]
    examples = resolve("mnli", classes=names)
    assert (examples.labels, examples.label_names) == ([1, 2, 0], names)
