# SPDX-License-Identifier: Apache-2.0
"""The model card that a training writes beside its members."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from bebert_edge.training.options import TrainingOptions
from bebert_edge.training.result import TrainingResult
from bebert_edge.training.state import write_text
from bebert_edge.training.tasks import LabelledExamples

CARD_FILE = "README.md"

_METHODS = {
    "boost": "boosting: each member sees more of the mistakes of those before it",
    "bag": "bagging: each member has its own bootstrap sample of the data",
    "snapshot": "snapshots of one run, whose learning rate starts again for every member",
    "independent": "independent members, which differ by their seeds",
}


def _front_matter(metadata: dict[str, str], task: str) -> list[str]:
    lines = ["---", "library_name: bebert-edge", f"tags: [{task}, binary, ensemble, onnx]"]
    if "license" in metadata:
        lines.append(f"license: {metadata['license'].lower()}")
    return [*lines, "---", ""]


def _task(examples: LabelledExamples) -> str:
    name = examples.problem if examples.task == "text-classification" else examples.task
    return name.replace("_", " ").replace("-", " ")


def _input(examples: LabelledExamples) -> str:
    single, pair = '"a text"', '"a text" --pair "another"'
    others = {
        "question-answering": '"a question" --pair "a text"',
        "reranking": '--query "a question" "a document" "another"',
        "fill-mask": '"a text with a [MASK]"',
    }
    return others.get(examples.task, pair if examples.text_pair else single)


def _scores(result: TrainingResult) -> list[str]:
    if result.score is None:
        return ["No dev examples were given, so nothing was measured.", ""]
    rows = [("full precision (the teacher)", "", result.teacher_score)]
    weights = zip(result.member_weights, result.member_scores, strict=True)
    rows += [(f"member {i}", f"{weight:.3f}", score) for i, (weight, score) in enumerate(weights)]
    rows.append(("**ensemble**", "", result.score))
    table = [f"| {name} | {weight} | {score:.4f} |" for name, weight, score in rows]
    note = "Weights are those of the last step; dev examples were measured on and never used to choose."
    return [f"| model | weight | dev {result.metric} |", "|---|---|---|", *table, "", note, ""]


def write_card(
    directory: Path,
    options: TrainingOptions,
    result: TrainingResult,
    examples: LabelledExamples,
    metadata: dict[str, str],
) -> None:
    """Writes `README.md`: what the ensemble is, how well it does, how it was made."""
    name = metadata.get("name", directory.resolve().name)
    labels = examples.label_names if len(examples.label_names) <= 20 else [*examples.label_names[:20], "..."]
    labelled = f", {len(examples.label_names)} labels: {', '.join(labels)}" if labels else ""
    recipe = [f"| `{key}` | {value} |" for key, value in asdict(options).items()]
    lines = [
        *_front_matter(metadata, examples.task),
        f"# {name}",
        "",
        f"{options.members} binary BERTs: one bit a weight, {options.bits} bits an activation.",
        *([f"Linears that keep more bits a weight: {', '.join(options.keep)}."] if options.keep else []),
        *([f"Word embeddings are {options.embeddings}."] if options.embeddings != "binary" else []),
        f"Made by {_METHODS[options.method]}.",
        f"The answer is the weighted mean of their {options.combination}, at temperature {result.temperature:.4f}.",
        "",
        f"Task: {_task(examples)}{labelled}.",
        "",
        "## Scores",
        "",
        *_scores(result),
        "## How it was made",
        "",
        f"`bebert-edge train` on {len(examples):,} examples ({metadata.get('source', 'no source was named')}), with:",
        "",
        "| option | value |",
        "|---|---|",
        *recipe,
        "",
        "## Use",
        "",
        "    bebert-edge export . -o model.onnx",
        f"    bebert-edge run model.onnx {_input(examples)}",
        "",
    ]
    write_text(directory / CARD_FILE, "\n".join(lines))
