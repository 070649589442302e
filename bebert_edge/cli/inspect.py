# SPDX-License-Identifier: Apache-2.0
"""`bebert-edge inspect`: what is inside a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bebert_edge.cli._shared import OutputFormat

PACKED = "bebert::"


def inspect(
    model: Annotated[Path, typer.Argument(help="An .onnx file, or the directory of a packed ensemble.")],
    output_format: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = OutputFormat.table,
) -> None:
    """Show what is inside a model, and where its bytes are."""
    from bebert_edge.runtime.inspection import inspect

    found = inspect(model)
    if output_format is OutputFormat.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for line in _lines(found):
            print(line)


def _sizes(encoder: dict[str, Any], key: str, other: str, meaning: str) -> str:
    """A size, and another in brackets if that differs."""
    return f"{encoder[key]}" + (f" ({encoder[other]} {meaning})" if encoder[other] != encoder[key] else "")


def _task(task: dict[str, Any]) -> str:
    return f"{task['type']}, {task['problem']}, {'pairs of texts' if task['text_pair'] else 'single texts'}"


def _lines(found: dict[str, Any]) -> list[str]:
    encoder = found["encoder"]
    weights = ", ".join(f"{weight:.3g}" for weight in found["member_weights"])
    shape = (
        f"{_sizes(encoder, 'layers', 'distinct_layers', 'distinct')} layers, "
        f"hidden {_sizes(encoder, 'hidden_size', 'embedding_size', 'in embeddings')}, {encoder['heads']} heads, "
        f"intermediate {encoder['intermediate_size']}, vocabulary {encoder['vocab_size']}, {encoder['activation']}"
    )
    rows = [
        (found["kind"], found["path"]),
        ("task", _task(found["task"])),
        ("labels", ", ".join(found["labels"]) or "none"),
        *(
            (f"task {name}", f"{_task(more['task'])}: {', '.join(more['labels'])}")
            for name, more in found["tasks"].items()
        ),
        ("members", f"{found['members']}, weights {weights}"),
        ("answer", f"weighted mean of their {found['combination']}, temperature {found['temperature']:.6g}"),
        ("longest input", f"{found['max_length']} tokens"),
        ("encoder", shape),
        *found["quantization"].items(),
        ("license", found["license"] or "not stated"),
    ]
    if "ops" in found:
        packed = {op: count for op, count in found["ops"].items() if op.startswith(PACKED)}
        portable = set(packed) <= set(found["functions"])
        rows += [
            ("packed ops", ", ".join(f"{count} {op.removeprefix(PACKED)}" for op, count in packed.items()) or "none"),
            ("other ops", ", ".join(f"{count} {op}" for op, count in found["ops"].items() if op not in packed)),
            ("portable", "yes" if portable else "no: needs the native library, another tool removed the functions"),
            ("opsets", ", ".join(f"{domain or 'ai.onnx'} {v}" for domain, v in found["opsets"].items())),
            (
                "onnxruntime",
                f">= {found['minimum_onnxruntime']}, with the native library >= {found['minimum_onnxruntime_native']}",
            ),
            ("written by", f"bebert-edge {found['bebert_edge_version']}"),
        ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:{width}}  {value}" for name, value in rows]
    lines += ["", f"{'bytes':>12}  share  part"]
    for part, size in found["bytes"].items():
        lines.append(f"{size:12,}  {size / found['size']:5.1%}  {part}")
    return [*lines, f"{found['size']:12,}         total"]
