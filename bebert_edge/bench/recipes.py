# SPDX-License-Identifier: Apache-2.0
"""Ways to make the model file of a baseline. Which one is fastest depends on model, shape and CPU: all are tried.

Everything here runs in a process of its own, see `bebert_edge.bench.baselines`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from bebert_edge.bench.architecture import Architecture
from bebert_edge.bench.shape import INPUTS, Shape

Fusion = Literal["none", "gelu", "attention", "all"]

_NOT_FUSED: dict[Fusion, tuple[str, ...]] = {
    "gelu": ("attention", "skip_layer_norm", "bias_skip_layer_norm", "embed_layer_norm"),
    "attention": ("skip_layer_norm", "bias_skip_layer_norm", "embed_layer_norm"),
    "all": (),
}
"""Options of onnxruntime's optimizer to turn off. SkipLayerNormalization is slower there than its parts."""

_FUSION_NAMES: dict[Fusion, str] = {
    "none": "",
    "gelu": ", GELU fused",
    "attention": ", GELU and attention fused",
    "all": ", all fused",
}


class Recipe(Protocol):
    """One way to make a model file."""

    @property
    def file(self) -> str:
        """Name of the file, which tells recipes apart."""

    @property
    def source(self) -> Recipe | None:
        """What must be made before."""

    def __str__(self) -> str:
        """The recipe in a few words."""

    def write(self, architecture: Architecture, source: Path | None, target: Path) -> None:
        """Makes the file `target` from the file of `source`."""


@dataclass(frozen=True)
class Exported:
    """The float model of transformers as torch exports it."""

    exporter: Literal["TorchScript", "torch.export"]
    attention: Literal["eager", "sdpa"]
    source: None = None

    def __str__(self) -> str:
        return f"{self.exporter}, {self.attention}"

    @property
    def file(self) -> str:
        return f"{self.exporter.lower().replace('.', '-')}-{self.attention}.onnx"

    def write(self, architecture: Architecture, source: Path | None, target: Path) -> None:
        import torch

        model = _float_model(architecture, self.attention)
        example = {name: torch.ones(2, min(16, architecture.encoder.positions), dtype=torch.int64) for name in INPUTS}
        if self.exporter == "torch.export":
            dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
            torch.onnx.export(
                model,
                (),
                str(target),
                kwargs=example,
                dynamo=True,
                external_data=False,
                dynamic_shapes=dict.fromkeys(INPUTS, dynamic),
            )
        else:
            torch.onnx.export(
                model,
                tuple(example.values()),
                str(target),
                input_names=list(INPUTS),
                output_names=["logits"],
                dynamic_axes={name: {0: "batch", 1: "sequence"} for name in INPUTS},
                opset_version=17,
                dynamo=False,
            )


def _float_model(architecture: Architecture, attention: str) -> Any:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    encoder = architecture.encoder
    config = BertConfig(
        vocab_size=encoder.vocab_size,
        num_hidden_layers=encoder.layers,
        hidden_size=encoder.hidden_size,
        num_attention_heads=encoder.heads,
        intermediate_size=encoder.intermediate_size,
        max_position_embeddings=encoder.positions,
        type_vocab_size=encoder.token_types,
        hidden_act=encoder.activation,
        num_labels=architecture.labels,
        attn_implementation=attention,
        return_dict=False,
    )
    torch.manual_seed(0)
    return BertForSequenceClassification(config).eval()


def _fuse(architecture: Architecture, source: Path, fusion: Fusion, target: Path) -> Path:
    """Runs the optimizer of `onnxruntime.transformers`; returns the file with the result, `target` if that is new."""
    if fusion == "none":
        return source
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    for name in _NOT_FUSED[fusion]:
        setattr(options, f"enable_{name}", False)
    encoder = architecture.encoder
    optimized = optimize_model(
        str(source),
        "bert",
        num_heads=encoder.heads,
        hidden_size=encoder.hidden_size,
        optimization_options=options,
        opt_level=0,
    )
    optimized.save_model_to_file(str(target))
    return target


def _load_fused(architecture: Architecture, source: Path, fusion: Fusion) -> Any:
    import onnx

    with tempfile.TemporaryDirectory() as scratch:
        return onnx.load(str(_fuse(architecture, source, fusion, Path(scratch, "fused.onnx"))))


@dataclass(frozen=True)
class Fused:
    """A float model after onnxruntime's optimizer for transformers."""

    source: Exported
    fusion: Fusion

    def __str__(self) -> str:
        return f"{self.source}{_FUSION_NAMES[self.fusion]}"

    @property
    def file(self) -> str:
        return f"{Path(self.source.file).stem}-{self.fusion}.onnx"

    def write(self, architecture: Architecture, source: Path | None, target: Path) -> None:
        assert source is not None
        _fuse(architecture, source, self.fusion, target)


@dataclass(frozen=True)
class Quantized:
    """Dynamic int8 quantization by onnxruntime; with attention fused it becomes `QAttention`."""

    source: Exported
    fusion: Fusion
    per_channel: bool

    def __str__(self) -> str:
        return f"{self.source}{_FUSION_NAMES[self.fusion]}, per {'channel' if self.per_channel else 'tensor'}"

    @property
    def file(self) -> str:
        granularity = "channel" if self.per_channel else "tensor"
        return f"{Path(self.source.file).stem}-{self.fusion}-int8-{granularity}.onnx"

    def write(self, architecture: Architecture, source: Path | None, target: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        assert source is not None
        model = _load_fused(architecture, source, self.fusion)
        del model.graph.value_info[:]  # torch.export leaves shapes that shape inference refuses
        quantize_dynamic(
            model,
            str(target),
            per_channel=self.per_channel,
            reduce_range=False,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": 1},  # float, behind fused ops that shape inference does not know
        )


@dataclass(frozen=True)
class WeightOnly:
    """4-bit weights in blocks of 32 and int8 arithmetic by onnxruntime's `MatMulNBits`; embeddings stay float."""

    source: Exported
    fusion: Fusion

    def __str__(self) -> str:
        return f"{self.source}{_FUSION_NAMES[self.fusion]}, blocks of 32, accuracy level 4"

    @property
    def file(self) -> str:
        return f"{Path(self.source.file).stem}-{self.fusion}-matmulnbits.onnx"

    def write(self, architecture: Architecture, source: Path | None, target: Path) -> None:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        assert source is not None
        model = _load_fused(architecture, source, self.fusion)
        quantizer = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=True, accuracy_level=4)
        quantizer.process()
        quantizer.model.save_model_to_file(str(target))


@dataclass(frozen=True)
class OpenVino:
    """Static int8 quantization of weights and activations by NNCF for OpenVINO."""

    source: Exported

    def __str__(self) -> str:
        return str(self.source)

    @property
    def file(self) -> str:
        from importlib.metadata import version

        versions = "-".join(f"{package}-{version(package)}" for package in ("openvino", "nncf"))
        return f"{Path(self.source.file).stem}-int8-{versions}.xml"

    def write(self, architecture: Architecture, source: Path | None, target: Path) -> None:
        import nncf
        import openvino

        encoder = architecture.encoder
        shape = Shape((min(64, encoder.positions),))
        samples = [shape.feed(encoder.vocab_size, seed) for seed in range(4)]  # any: the weights are random
        model = nncf.quantize(
            openvino.convert_model(str(source)),
            nncf.Dataset(samples),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(samples),
        )
        openvino.save_model(model, str(target), compress_to_fp16=False)


SCRIPT_EAGER, SCRIPT_SDPA = Exported("TorchScript", "eager"), Exported("TorchScript", "sdpa")
EXPORT_EAGER, EXPORT_SDPA = Exported("torch.export", "eager"), Exported("torch.export", "sdpa")

_GELU: tuple[Fusion, ...] = ("none", "gelu")
_FUSIONS: tuple[Fusion, ...] = ("gelu", "attention", "all")

RECIPES: dict[str, tuple[Recipe, ...]] = {
    "fp32": (
        *(SCRIPT_EAGER, SCRIPT_SDPA, EXPORT_EAGER, EXPORT_SDPA),
        *(Fused(SCRIPT_EAGER, fusion) for fusion in _FUSIONS),
    ),
    "int8": tuple(
        Quantized(source, fusion, per_channel)
        for source, fusions in (
            (SCRIPT_EAGER, (*_GELU, "all")),
            (SCRIPT_SDPA, _GELU),
            (EXPORT_EAGER, _GELU),
        )
        for fusion in fusions
        for per_channel in (False, True)
    ),
    "matmulnbits": tuple(WeightOnly(source, fusion) for source in (SCRIPT_EAGER, SCRIPT_SDPA) for fusion in _GELU),
    "openvino": tuple(OpenVino(source) for source in (SCRIPT_EAGER, EXPORT_EAGER)),
}
"""The recipes of every baseline that is a model of its own."""
