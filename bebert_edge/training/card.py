# SPDX-License-Identifier: Apache-2.0
"""The model card that a training writes beside its members."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from bebert_edge.training.files import Examples
from bebert_edge.training.options import TrainingOptions
from bebert_edge.training.result import TrainingResult
from bebert_edge.training.state import write_text

CARD_FILE = "README.md"

_METHODS = {
    "boost": "boosting: each member sees more of the mistakes of those before it",
    "bag": "bagging: each member has its own bootstrap sample of the data",
    "snapshot": "snapshots of one run, whose learning rate starts again for every member",
    "independent": "independent members, which differ by their seeds",
}


def _front_matter(metadata: dict[str, str]) -> list[str]:
    lines = ["---", "library_name: bebert-edge", "tags: [text-classification, binary, ensemble, onnx]"]
    if "license" in metadata:
        lines.append(f"license: {metadata['license'].lower()}")
    return [*lines, "---", ""]


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
    directory: Path, options: TrainingOptions, result: TrainingResult, examples: Examples, metadata: dict[str, str]
) -> None:
    """Writes `README.md`: what the ensemble is, how well it does, how it was made."""
    name = metadata.get("name", directory.resolve().name)
    labels = examples.label_names if len(examples.label_names) <= 20 else [*examples.label_names[:20], "..."]
    recipe = [f"| `{key}` | {value} |" for key, value in asdict(options).items()]
    lines = [
        *_front_matter(metadata),
        f"# {name}",
        "",
        f"{options.members} binary BERTs: one bit a weight, {options.bits} bits an activation.",
        *([f"Linears that keep more bits a weight: {', '.join(options.keep)}."] if options.keep else []),
        f"Made by {_METHODS[options.method]}.",
        f"The answer is the weighted mean of their {options.combination}, at temperature {result.temperature:.4f}.",
        "",
        f"Task: {examples.problem.replace('_', ' ')}, {len(examples.label_names)} labels: {', '.join(labels)}.",
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
        '    bebert-edge run model.onnx "a text"',
        "",
    ]
    write_text(directory / CARD_FILE, "\n".join(lines))
