# SPDX-License-Identifier: Apache-2.0
"""The study of docs/accuracy.md on generated data and a tiny model: killed, resumed, collected, reported."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from latent import write_backbone
from support import WORDS

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "examples" / "accuracy"


def write_task(folder, rows, columns):
    """One task of 48 training and 24 dev examples; its label hangs on the word `good`."""
    folder.mkdir(parents=True)
    for split, count in (("train", 48), ("dev", 24)):
        lines = ["\t".join(columns), *("\t".join(rows(i)) for i in range(count))]
        with gzip.open(folder / f"{split}.tsv.gz", "wt", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    generator = random.Random(0)

    def text():
        return " ".join(generator.choices([word for word in WORDS if word[0] != "#"], k=generator.randint(3, 6)))

    def labelled(names):
        return lambda i: (f"{text()} {'good' if i % 2 else 'bad'} {text()}", names[i % 2])

    def pair(i):
        return (f"{text()} {'good' if i % 2 else 'bad'}", text(), str(5.0 * (i % 2)))

    write_task(folder / "cola", labelled(["0", "1"]), ["sentence", "label"])
    write_task(folder / "stsb", pair, ["sentence1", "sentence2", "label"])
    (folder / "goemotions").mkdir()
    for split, count in (("train", 48), ("dev", 24)):
        with gzip.open(folder / "goemotions" / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
            for i in range(count):
                row = {"text": labelled(["", ""])(i)[0], "labels": ["joy", "love"][: 1 + i % 2]}
                file.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, datasets):
    backbone = write_backbone(tmp_path_factory.mktemp("backbone"), initializer_range=0.1)
    work = tmp_path_factory.mktemp("work")
    common = ["--work", str(work), "--datasets", str(datasets), "--backbone", str(backbone)]
    few = "teacher0|independent[01]|control2|boost1"
    all_of_cola = f"cola-(32|4)bit-seed0-({few}|labels1|snapshot1|bag[01]|staged0|ternary0|logits1)"
    only = f"^({all_of_cola}|(stsb|goemotions)-(32|4)bit-seed0-({few}))$"
    return [*common, "--only", only, "--steps", "2"], work


def start(*arguments):
    command = [sys.executable, str(STUDY / "study.py"), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def run(*arguments):
    process = start(*arguments)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def done(work):
    return sorted(path.parent.name for path in work.glob("units/*/result.json"))


def test_a_killed_worker_loses_its_unit_only(arguments, tmp_path):
    options, work = arguments
    worker = start("run", *options)
    while len(done(work)) < 2:
        assert worker.poll() is None
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    finished = {key: (work / "units" / key / "result.json").stat().st_mtime_ns for key in done(work)}
    assert not list(work.glob("failed/*"))

    first, second = start("run", *options), start("run", *options)
    logs = [worker.communicate(timeout=300)[1] for worker in (first, second)]
    assert not list(work.glob("failed/*")), next(work.glob("failed/*")).read_text()
    lines = [line.split()[1] for log in logs for line in log.splitlines() if " after " in line]
    assert sorted({*lines, *finished}) == done(work)
    assert len(lines) == len(set(lines)), "a unit was done twice"
    assert all((work / "units" / key / "result.json").stat().st_mtime_ns == t for key, t in finished.items())


def test_what_is_done_becomes_results_and_a_report(arguments, tmp_path):
    options, work = arguments
    if not done(work):  # this test runs alone
        run("run", *options)
    run("collect", *options, "--results", str(tmp_path / "results"))
    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.json")}
    assert sorted(results) == ["cola", "goemotions", "stsb"]
    for result in results.values():
        scores = {unit["key"]: unit["score"] for unit in result["units"]}
        alone = [cell for cell in result["cells"] if len(cell["units"]) == 1 and cell["input"] == "clean"]
        # The teacher, two members, the control; for the first task also the staged member and the ternary pair.
        assert len(alone) == (6 if result["task"] == "cola" else 4)
        for cell in alone:
            assert score_of_cell(result, cell) == pytest.approx(scores[cell["units"][0]], abs=0.05)
        pairs = [cell["method"] for cell in result["cells"] if cell["members"] == 2 and len(cell["units"]) == 2]
        assert set(pairs) >= {"independent", "boost"}
    assert {cell["method"] for cell in results["cola"]["cells"]} >= {"bag", "snapshot", "labels"}

    document = tmp_path / "accuracy.md"
    document.write_text((ROOT / "docs" / "accuracy.md").read_text())
    report("--results", str(tmp_path / "results"), "--document", str(document))
    text = document.read_text()
    assert f"| CoLA, Matthews | {results['cola']['units'][0]['score']:.1f} | " in text
    assert "not measured" in text
    assert (tmp_path / "accuracy-members.svg").stat().st_size > 1000
    report("--results", str(tmp_path / "results"), "--document", str(document), "--check")
    document.write_text(text.replace("| CoLA", "| CoLB"))
    with pytest.raises(AssertionError, match="is not what"):
        report("--results", str(tmp_path / "results"), "--document", str(document), "--check")


def score_of_cell(result, cell):
    """A cell's score by scikit-learn and scipy."""
    sys.path.insert(0, str(STUDY))
    from scipy.stats import pearsonr
    from scores import unpack
    from sklearn.metrics import f1_score, matthews_corrcoef

    problem = {"cola": "single_label", "stsb": "regression", "goemotions": "multi_label"}[result["task"]]
    truth = result["labels"]["clean"]
    found, labels = (unpack(text, problem, truth["examples"]) for text in (cell["predictions"], truth["packed"]))
    if problem == "single_label":
        return 100 * matthews_corrcoef(labels, found)
    if problem == "multi_label":
        return 100 * f1_score(labels, found, average="micro")
    return 100 * pearsonr(labels.astype(float), found.astype(float)).statistic


def report(*arguments):
    finished = subprocess.run(
        [sys.executable, str(STUDY / "report.py"), *arguments], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_the_document_says_what_the_results_say():
    report("--check")
