# SPDX-License-Identifier: Apache-2.0
"""Proof that an exported model computes what its ensemble computes: on sentences, with and without native library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_edge import ops, reference
from bebert_edge.config import EnsembleConfig, TaskConfig
from bebert_edge.ensemble import PackedEnsemble, head_prefix
from bebert_edge.errors import ExportError, NativeLibraryError
from bebert_edge.exporters.samples import Sample
from bebert_edge.reference.answer import combine

Floats = NDArray[np.float32]
Feed = dict[str, NDArray[np.int64]]
Answers = tuple[Floats, Floats]

EXACT_TOLERANCE = 1e-5
"""Of logits, absolute and relative, where codes are the same: only the classifier's sums are taken in another order."""

TORCH_TOLERANCE = 0.01
"""Of the mean logit difference to PyTorch, whose float sums may put a value on the other side of a rounding tie."""


@dataclass(frozen=True)
class Check:
    """One line of a verification.

    Attributes:
        name: What was compared.
        passed: None if the check was skipped.
        detail: What was measured, or why it was skipped.
    """

    name: str
    passed: bool | None
    detail: str

    def __str__(self) -> str:
        mark = {True: "✓", False: "✗", None: "skipped"}[self.passed]
        return f"-[{mark}] {self.name}: {self.detail}"


@dataclass(frozen=True)
class TorchMembers:
    """The torch models that an ensemble was packed from, or why there are none.

    Attributes:
        models: One callable per member, as transformers' models for the task.
        reason: Why `models` is empty.
    """

    models: Sequence[Callable[..., Any]] = ()
    reason: str = ""


def encode(ensemble: PackedEnsemble, samples: Sequence[Sample]) -> Feed:
    """Tokenizes samples as the runtime does: truncated to the model's longest input, padded on the right."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(ensemble.tokenizer)
    tokenizer.no_padding()
    tokenizer.enable_truncation(ensemble.config.max_length)
    encodings = tokenizer.encode_batch(list(samples))
    feed = {
        name: np.zeros((len(encodings), max(len(e.ids) for e in encodings)), np.int64)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    for row, encoding in enumerate(encodings):
        tokens = slice(0, len(encoding.ids))
        feed["input_ids"][row, tokens] = encoding.ids
        feed["attention_mask"][row, tokens] = 1
        feed["token_type_ids"][row, tokens] = encoding.type_ids
    return feed


def verify(
    model: Path, ensemble: PackedEnsemble, samples: Sequence[Sample], torch_members: TorchMembers
) -> Iterator[Check]:
    """Runs every check, one at a time.

    Args:
        model: The .onnx file.
        ensemble: What it was exported from.
        samples: Texts, or pairs of texts if the task is on pairs.
        torch_members: The models that the ensemble was packed from.

    Yields:
        The checks, in order: checker, then of every task portable and native, then PyTorch, of the main task.

    Raises:
        ExportError: `samples` cannot be used.
    """
    if not samples:
        raise ExportError("no samples were given to verify the model with: expected one or more texts")
    if any(isinstance(sample, str) == ensemble.config.task.text_pair for sample in samples):
        kind = "pairs of texts" if ensemble.config.task.text_pair else "single texts"
        raise ExportError(f"the samples do not fit the task: expected {kind} (task.text_pair)")
    feed = encode(ensemble, samples)
    mask_ids = (ensemble.config.of(name).task.mask_id for name in ensemble.config.task_names)
    if not all(mask_id is None or (feed["input_ids"] == mask_id).any() for mask_id in mask_ids):
        raise ExportError("no sample has a mask: expected one or more with the tokenizer's mask for a missing word")
    yield _check_file(model)
    expected = reference.forward_tasks(ensemble, **{name: array.copy() for name, array in feed.items()})
    portable = _try(lambda: _run(model, feed, ensemble.config, native=False))
    native = _try(lambda: _run(model, feed, ensemble.config, native=True))
    for task, answers in expected.items():
        compare = _Comparison.of(samples, ensemble.config.of(task))
        of_task = f", task {task}" if task else ""
        yield compare.exact(f"without the native library{of_task}", _of(portable, task), answers)
        name = f"with the native library{of_task}"
        if isinstance(native, NativeLibraryError):
            yield Check(name, None, str(native))
        else:
            yield compare.exact(name, _of(native, task), answers)
    compare = _Comparison.of(samples, ensemble.config.of(""))
    yield _check_torch(compare, feed, ensemble, torch_members, _of(portable, ""))


def _check_file(model: Path) -> Check:
    import onnx

    name = "onnx.checker"
    try:
        onnx.checker.check_model(str(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        return Check(name, False, " ".join(str(error).split())[:400])
    return Check(name, True, "the model and its functions are valid")


def _of(found: Mapping[str, Answers] | Exception, task: str) -> Answers | Exception:
    return found if isinstance(found, Exception) else found[task]


def _run(model: Path, feed: Feed, config: EnsembleConfig, *, native: bool) -> dict[str, Answers]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # onnxruntime warns of the input with a default value, which is meant
    if native:
        ops.register(options)
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    answers = {}
    for task in config.task_names:
        combined, members = session.run([head_prefix(task) + name for name in config.of(task).task.outputs], feed)
        answers[task] = combined, members
    return answers


def _try(run: Callable[[], dict[str, Answers]]) -> dict[str, Answers] | Exception:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - onnxruntime raises many types; each is the outcome of a check
        return error


def _check_torch(
    compare: _Comparison, feed: Feed, ensemble: PackedEnsemble, members: TorchMembers, found: Answers | Exception
) -> Check:
    name = "PyTorch"
    if not members.models:
        return Check(name, None, members.reason)
    import torch

    with torch.no_grad():
        inputs = {key: torch.from_numpy(array) for key, array in feed.items()}
        member_logits = np.stack([_torch_logits(model(**inputs)) for model in members.models])
    if ensemble.config.task.answers_tokens:
        member_logits *= feed["attention_mask"][..., None]
    return compare.close(name, found, (combine(member_logits, ensemble.config), member_logits))


def _torch_logits(output: Any) -> Floats:
    """Logits as docs/format.md has them: transformers keeps those of an answer's start and end apart."""
    spans = hasattr(output, "start_logits")
    logits = np.stack([output.start_logits, output.end_logits], -1) if spans else output.logits.numpy()
    return np.asarray(logits, np.float32)


@dataclass(frozen=True)
class _Comparison:
    """Compares answers to the samples.

    Attributes:
        samples: The inputs.
        task: What the answers mean.
        temperature: Of the ensemble. Its logits have been divided by it, and so is their tolerance.
    """

    samples: Sequence[Sample]
    task: TaskConfig
    temperature: float

    @classmethod
    def of(cls, samples: Sequence[Sample], config: EnsembleConfig) -> _Comparison:
        """For the only task of a configuration."""
        return cls(samples, config.task, config.temperature)

    def exact(self, name: str, found: Answers | Exception, expected: Answers) -> Check:
        """The same codes: every logit equal within `EXACT_TOLERANCE`, and so labels but for ties within it."""
        return self._compare(name, found, expected, EXACT_TOLERANCE, of_mean=False)

    def close(self, name: str, found: Answers | Exception, expected: Answers) -> Check:
        """The same labels but for ties, and a mean difference of logits within `TORCH_TOLERANCE`."""
        return self._compare(name, found, expected, TORCH_TOLERANCE, of_mean=True)

    def _compare(
        self, name: str, found: Answers | Exception, expected: Answers, tolerance: float, *, of_mean: bool
    ) -> Check:
        if isinstance(found, Exception):
            return Check(name, False, " ".join(str(found).split())[:400])
        if [a.shape for a in found] != [a.shape for a in expected]:
            shapes = [[list(a.shape) for a in answers] for answers in (found, expected)]
            outputs = " and ".join(self.task.outputs)
            return Check(name, False, f"{outputs} have shapes {shapes[0]}, expected {shapes[1]}")
        ensemble, members = (np.abs(f - e) for f, e in zip(found, expected, strict=True))
        member_limit = tolerance * max(1.0, float(np.abs(expected[1]).max()))
        limit = member_limit / self.temperature
        measured = [float(d.mean() if of_mean else d.max()) for d in (ensemble, members)]
        agree = self._labels_agree(found[0], expected[0], limit)
        # NaN is not within the limit.
        passed = measured[0] <= limit and measured[1] <= member_limit and bool(agree.all())
        labels = f"labels agree {agree.sum()}/{len(agree)}; " if self._has_labels else ""
        detail = (
            f"{labels}{self.task.outputs[0]} differ by {ensemble.max():.1e} at most, {ensemble.mean():.1e} on average "
            f"(limit {limit:.1e} {'on average' if of_mean else 'at most'}); "
            f"members by {', '.join(f'{member.max():.1e}' for member in members)} at most"
        )
        if not passed and not self.task.fills:  # whose answers are of masks, not of samples
            detail += f"; worst sample {self.samples[int(ensemble.reshape(len(ensemble), -1).max(axis=1).argmax())]!r}"
        return Check(name, passed, detail)

    @property
    def _has_labels(self) -> bool:
        return self.task.problem not in ("regression", "embedding")

    def _labels_agree(self, found: Floats, expected: Floats, tie: float) -> NDArray[np.bool_]:
        """Per sample, or token, whether the labels are equal or their scores expected closer than `tie`."""
        found, expected = (x.reshape(-1, x.shape[-1]) for x in (found, expected))
        if not self._has_labels:
            return np.ones(len(found), bool)
        if self.task.problem == "multi_label" or found.shape[1] == 1:
            same = ((found > 0) == (expected > 0)) | (np.abs(expected) <= tie)
            return np.asarray(same.all(axis=1))
        rows = np.arange(len(found))
        chosen = expected[rows, found.argmax(axis=1)]
        return np.asarray(chosen >= expected.max(axis=1) - tie)
