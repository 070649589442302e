# SPDX-License-Identifier: Apache-2.0
"""`pack` and `export` on published checkpoints: the options that they share, and what they print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from bebert_edge.checkpoints import Options
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import ExportError
from bebert_edge.exporters import export
from checkpoints import bibert_oracle as bibert
from latent import write_latent_ensemble
from support import VOCABULARY

Command = Callable[..., Any]
SHAPE = bibert.config(vocab_size=len(VOCABULARY), num_hidden_layers=1)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEBERT of two members."""
    states = [bibert.random_state(SHAPE, seed=seed) for seed in range(2)]
    return bibert.save_bebert(tmp_path_factory.mktemp("published") / "out", SHAPE, states, VOCABULARY)


def test_pack_with_every_option(command: Command, published: Path, tmp_path: Path) -> None:
    options = ("--family", "bibert", "--alpha", "1.2,0.8", "--combination", "probabilities", "--labels", "bad, good")
    options += ("--text-pair", "--max-length", "16", "--tokenizer", str(published / "vocab.txt"))
    done = command("pack", published / "0.bin", published / "1.bin", "-o", tmp_path / "packed", *options)
    assert done.code == 0, done.err
    assert done.err.endswith(f"wrote {tmp_path}/packed; next: bebert-edge export {tmp_path}/packed -o model.onnx\n")
    config = PackedEnsemble.load(tmp_path / "packed").config
    assert (config.member_weights, config.combination) == (pytest.approx((0.6, 0.4)), "probabilities")
    assert (config.labels, config.task.text_pair, config.max_length) == (("bad", "good"), True, 16)


def test_a_trimmed_ensemble_is_smaller_and_answers_as_before(command: Command, published: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.csv"
    corpus.write_text("text\nit is good\n")
    done = command("pack", published, "-o", tmp_path / "small", "--trim-vocabulary", corpus, "--half-tables")
    assert done.code == 0, done.err
    assert f"of {len(VOCABULARY)} words" in done.err
    small = PackedEnsemble.load(tmp_path / "small")
    assert small.config.encoder.vocab_size < len(VOCABULARY)
    assert small.tensors["embeddings.position"].dtype == "float16"
    answers = []
    for options in ((), ("--trim-vocabulary", corpus)):
        assert command("pack", published, "-o", tmp_path / "packed", "--overwrite", *options).code == 0
        assert command("export", tmp_path / "packed", "-o", tmp_path / "model.onnx", "--overwrite").code == 0
        answers.append(command("run", tmp_path / "model.onnx", "it is good", "--format", "json").out)
    assert json.loads(answers[0])["scores"] == json.loads(answers[1])["scores"]


def test_a_corpus_that_is_not_there_is_an_error(command: Command, published: Path, tmp_path: Path) -> None:
    done = command("pack", published, "-o", tmp_path / "packed", "--trim-vocabulary", tmp_path / "none.txt")
    assert (done.code, (tmp_path / "packed").exists()) == (1, False)
    assert "none.txt cannot be read: No such file or directory" in done.err


def test_export_takes_the_same_options(command: Command, published: Path, tmp_path: Path) -> None:
    options = ("--alpha", "1.2,0.8", "--labels", "bad,good", "--format", "json")
    done = command("export", published, "-o", tmp_path / "model.onnx", *options)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    checks = {check["name"]: check for check in report["checks"]}
    assert (report["members"], report["notes"]) == (2, [])
    assert checks["without the native library"]["passed"]
    assert checks["PyTorch"]["passed"] is None
    assert checks["PyTorch"]["detail"] == "there is no PyTorch model of bibert checkpoints to compare with"
    answer = command("run", tmp_path / "model.onnx", "it is good", "--format", "json")
    assert json.loads(answer.out)["label"] in ("bad", "good")


def test_notes_go_to_stderr(command: Command, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from bebert_edge.checkpoints import bibert as family

    def read(source: Any, original: Any = family.read) -> Any:
        return replace(original(source), notes=("ranges are taken over one text",))

    monkeypatch.setattr(family, "read", read)
    packing = command("pack", published, "-o", tmp_path / "packed")
    exporting = command("export", published, "-o", tmp_path / "model.onnx", "--no-verify")
    for done in (packing, exporting):
        assert done.err.count("note: ranges are taken over one text\n") == 1, done.err
        assert "ranges" not in done.out


@pytest.mark.parametrize("name", ["pack", "export"])
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--alpha", "1.2,x"), 2, "'x' is not a number > 0"),
        (("--alpha", "1.2,-1"), 2, "'-1' is not a number > 0"),
        (("--alpha", "1"), 1, "has 2 members, but 1 weights were given: pass one for each with --alpha"),
        (("--labels", "a,b,c"), 1, "classifier.weight has 2 rows, but 3 labels were given (a, b, c)"),
        (("--max-length", "99"), 1, "max_length is 99, but there are 24 positions"),
        (("--combination", "votes"), 2, "'votes' is not one of 'logits', 'probabilities'"),
        (("--family", "gpt"), 1, "family is 'gpt', expected auto or one of bert"),
        (("--family", "bert"), 1, "bebert_edge is None, expected an object"),
        (("--tokenizer", "absent"), 1, "absent/tokenizer.json is missing"),
    ],
)
def test_wrong_options(
    command: Command, published: Path, tmp_path: Path, name: str, options: tuple[str, ...], code: int, message: str
) -> None:
    output = tmp_path / "packed.onnx"
    done = command(name, published, "-o", output, *options)
    assert done.code == code
    assert message in " ".join(done.err.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_a_packed_ensemble_takes_no_options(command: Command, published: Path, tmp_path: Path) -> None:
    command("pack", published, "-o", tmp_path / "packed")
    done = command("export", tmp_path / "packed", "-o", tmp_path / "model.onnx", "--labels", "a,b")
    assert done.code == 1
    assert "is a packed ensemble" in done.err
    assert "run 'bebert-edge pack' again" in done.err
    with pytest.raises(ExportError, match="the source is a packed ensemble"):
        export(PackedEnsemble.load(tmp_path / "packed"), tmp_path / "model.onnx", options=Options(labels=("a", "b")))


@pytest.mark.parametrize("kind", [None, "int4"])
def test_word_embeddings_of_full_precision_are_stored_in_8_or_4_bits(
    command: Command, kind: str | None, tmp_path: Path
) -> None:
    latent = write_latent_ensemble(tmp_path / "latent", bits=4, embeddings="int8")
    options = () if kind is None else ("--embeddings", kind)
    done = command("pack", latent, "-o", tmp_path / "packed", *options)
    assert done.code == 0, done.err
    assert "word embedding codes" in done.out
    done = command(
        "export", latent, "-o", tmp_path / "model.onnx", *options, "--format", "json"
    )  # and compares with torch
    assert done.code == 0, done.err
    checks = {check["name"]: check["passed"] for check in json.loads(done.out)["checks"]}
    assert not [name for name, passed in checks.items() if passed is False]
    assert any("PyTorch" in name and passed for name, passed in checks.items()), checks
    words = 2 * len(VOCABULARY)
    for path in (tmp_path / "packed", tmp_path / "model.onnx"):
        found = json.loads(command("inspect", path, "--format", "json").out)
        assert found["quantization"]["word embeddings"] == f"{kind or 'int8'}, in groups of 64 channels"
        assert found["bytes"]["word embedding codes"] == words * (32 if kind is None else 16)
        assert found["bytes"]["word embedding scales"] == words * 4


def test_binary_word_embeddings_cannot_be_rounded(command: Command, published: Path, tmp_path: Path) -> None:
    for checkpoint in (published, write_latent_ensemble(tmp_path / "latent", bits=4)):
        done = command("pack", checkpoint, "-o", tmp_path / "packed", "--embeddings", "int8")
        assert done.code == 1
        assert "has binary word embeddings, not int8: leave out --embeddings, or pass it to" in " ".join(
            done.err.split()
        )
        assert not (tmp_path / "packed").exists()
