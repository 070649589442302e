# SPDX-License-Identifier: Apache-2.0
"""Times an ensemble against the fp32 model of the same architecture, both in onnxruntime.

    python custom_ops/bench/against_onnxruntime.py minilm-l6 --bits 1 --members 1 --threads 1 --tokens 128
    python custom_ops/bench/against_onnxruntime.py bert-base --ensemble model.onnx

Without `--ensemble` the ensemble has random weights, which take the same time as trained ones. Of several exports of
the fp32 model the fastest is quoted. Both run in turn, so that whatever else the machine does slows both. With one
thread the time is CPU time: it does not count the time that other processes took the core.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
ARCHITECTURES = {  # layers, hidden size, heads, intermediate size
    "minilm-l6": (6, 384, 12, 1536),
    "bert-base": (12, 768, 12, 3072),
}
VARIANTS = [(dynamo, attention) for dynamo in (False, True) for attention in ("eager", "sdpa")]
Feed = dict[str, np.ndarray]
Run = Callable[[], object]


def _options(threads: int) -> onnxruntime.SessionOptions:
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads
    session_options.log_severity_level = 3
    # A pool that spins after its run would take the cores from the session that runs next.
    session_options.add_session_config_entry("session.force_spinning_stop", "1")
    return session_options


def _session(path: Path, session_options: onnxruntime.SessionOptions, feed: Feed) -> Run:
    made = onnxruntime.InferenceSession(str(path), session_options, providers=["CPUExecutionProvider"])
    inputs = {i.name: feed[i.name] for i in made.get_inputs() if i.name in feed}
    return lambda: made.run(None, inputs)


def _export_ensemble(arguments: argparse.Namespace, directory: Path) -> Path:
    from bebert_edge.exporters.export import export
    from support import random_ensemble

    layers, hidden_size, heads, intermediate_size = ARCHITECTURES[arguments.architecture]
    ensemble = random_ensemble(
        bits=arguments.bits,
        members=arguments.members,
        layers=layers,
        hidden_size=hidden_size,
        heads=heads,
        intermediate_size=intermediate_size,
        activation=arguments.activation,
        max_length=512,
    )
    return export(ensemble, directory / "ensemble.onnx", verify=False).path


def _export_fp32(arguments: argparse.Namespace, directory: Path, dynamo: bool, attention: str) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    layers, hidden_size, heads, intermediate_size = ARCHITECTURES[arguments.architecture]
    config = BertConfig(
        vocab_size=1000,
        num_hidden_layers=layers,
        hidden_size=hidden_size,
        num_attention_heads=heads,
        intermediate_size=intermediate_size,
        hidden_act=arguments.activation,
        attn_implementation=attention,
        return_dict=False,
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = {name: torch.ones(2, 16, dtype=torch.int64) for name in names}
    path = directory / f"fp32_{'dynamo' if dynamo else 'trace'}_{attention}.onnx"
    axes = {0: "batch", 1: "sequence"}
    if dynamo:
        dim = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        torch.onnx.export(
            model,
            (),
            str(path),
            kwargs=example,
            dynamo=True,
            verbose=False,
            dynamic_shapes=dict.fromkeys(names, dim),
        )
    else:
        torch.onnx.export(
            model,
            tuple(example.values()),
            str(path),
            input_names=names,
            output_names=["logits"],
            dynamic_axes=dict.fromkeys(names, axes),
            opset_version=17,
            dynamo=False,
        )
    return path


def _seconds(run: Run, threads: int) -> float:
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def _fastest_fp32(arguments: argparse.Namespace, directory: Path, feed: Feed) -> tuple[str, Run]:
    """Exports every variant that this torch and transformers can export; the best of a few runs decides."""
    candidates: list[tuple[float, str, Run]] = []
    for dynamo, attention in VARIANTS:
        name = f"{'torch.export' if dynamo else 'TorchScript'}, {attention} attention"
        try:
            run = _session(_export_fp32(arguments, directory, dynamo, attention), _options(arguments.threads), feed)
            best = min(_seconds(run, arguments.threads) for _ in range(10))
        except Exception as error:  # noqa: BLE001 - which variants fail differs between versions
            print(f"fp32 by {name}: {type(error).__name__}, left out", file=sys.stderr)
            continue
        print(f"fp32 by {name}: best of 10 runs {best * 1e3:.2f} ms", file=sys.stderr)
        candidates.append((best, name, run))
    if not candidates:
        sys.exit("no variant of the fp32 model could be exported")
    _, name, run = min(candidates, key=lambda candidate: candidate[0])
    return name, run


def _versions() -> str:
    from importlib.metadata import version

    names = ("onnxruntime", "torch", "transformers")
    return f"python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=ARCHITECTURES)
    parser.add_argument("--ensemble", type=Path, help="an exported model of this architecture")
    parser.add_argument("--bits", type=int, default=1, choices=(1, 2, 4, 8))
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--activation", default="gelu", choices=("gelu", "relu"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()

    from bebert_edge import ops

    rng = np.random.default_rng(0)
    shape = (arguments.batch, arguments.tokens)
    feed = {
        "input_ids": rng.integers(5, 60, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        path = arguments.ensemble or _export_ensemble(arguments, directory)
        native = _options(arguments.threads)
        ops.register(native)
        ensemble = _session(path, native, feed)
        size = path.stat().st_size
        variant, fp32 = _fastest_fp32(arguments, directory, feed)

        for run in (ensemble, fp32):
            run()
        times = np.array(
            [[_seconds(run, arguments.threads) for run in (ensemble, fp32)] for _ in range(arguments.rounds)]
        )

    what = (
        str(arguments.ensemble)
        if arguments.ensemble
        else (f"{arguments.members} member(s) of {arguments.architecture}, {arguments.bits}-bit, random weights")
    )
    print(f"ensemble: {what}, {size / 1e6:.1f} MB, CPU path {ops.info().live}")
    print(f"fp32:     one {arguments.architecture}, {variant}")
    print(
        f"input:    batch {arguments.batch} x {arguments.tokens} tokens, {arguments.threads} thread(s), "
        f"{arguments.rounds} rounds in turn, {'CPU' if arguments.threads == 1 else 'wall-clock'} time"
    )
    for name, column in (("ensemble", times[:, 0]), ("fp32", times[:, 1])):
        median, p95 = np.percentile(column, (50, 95))
        print(
            f"{name + ':':9} median {median * 1e3:7.2f} ms, p95 {p95 * 1e3:7.2f} ms, best {column.min() * 1e3:7.2f} ms"
        )
    low, median, high = np.percentile(times[:, 1] / times[:, 0], (5, 50, 95))
    print(f"fp32 / ensemble: median {median:.2f}, 5th to 95th percentile {low:.2f} to {high:.2f}")
    print(_versions())


if __name__ == "__main__":
    _main()
