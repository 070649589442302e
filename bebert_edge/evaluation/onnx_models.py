# SPDX-License-Identifier: Apache-2.0
"""Exported models, run natively where the library loads, and packed ensembles, exported first."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebert_edge.config import EnsembleConfig
from bebert_edge.ensemble import PackedEnsemble
from bebert_edge.errors import EvaluationError, ModelError
from bebert_edge.evaluation.models import EmbeddingNoise, EvaluatedModel, pad
from bebert_edge.runtime.session import OpenModel
from bebert_edge.runtime.session import open_model as open_session
from bebert_edge.runtime.text import EncodedText, TextEncoder
from bebert_edge.runtime.windows import WindowEncoder

NOISE = "embedding_noise"
"""Input of a model that `with_noise` wrote."""

_EMBEDDINGS = "embeddings.norm"


class _PackedModel(EvaluatedModel):
    """What `config.json` of a packed ensemble says, and its tokenizer."""

    def __init__(self, path: Path, kind: str, config: EnsembleConfig, tokenizer: str) -> None:
        self.path, self.kind = str(path), kind
        self.task, self.labels, self.mask_id = config.task.type, config.labels, config.task.mask_id
        self.problem, self.text_pair = config.task.problem, config.task.text_pair
        self.weights, self.noise_size = tuple(config.member_weights), config.encoder.embedding_size
        self._width, self._outputs = config.task.embeds * config.encoder.hidden_size, config.task.outputs
        self.combination = config.combination
        self.temperature = config.temperature
        self._reads = tokenizer, config.max_length, config.task.text_pair
        self._encoder = TextEncoder(*self._reads)

    @property
    def width(self) -> int:
        """See `EvaluatedModel.width`."""
        return self._width or super().width

    def windows(self) -> WindowEncoder:
        """See `EvaluatedModel.windows`."""
        return WindowEncoder(*self._reads)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[EncodedText]:
        """See `EvaluatedModel.encode`."""
        return self._encoder.encode(texts if pairs is None else list(zip(texts, pairs, strict=True)))


class OnnxModel(_PackedModel):
    """An exported model.

    Args:
        file: The .onnx file.
        threads: Threads of a session; None for one per core.
        path: What the user named, if not the file.
        kind: See `EvaluatedModel`.

    Raises:
        ModelError: The file is missing, damaged, or not made by bebert-edge.
    """

    def __init__(self, file: Path, *, threads: int | None = None, path: Path | None = None, kind: str = "onnx") -> None:
        self._content = file.read_bytes() if kind != "onnx" else None
        self._file, self._threads = file, threads
        self._model = open_session(file, threads=threads)
        metadata = self._model.metadata
        super().__init__(path or file, kind, metadata.config, metadata.tokenizer)
        self.backend = str(self._model.backend)

    def run(
        self, batch: Sequence[EncodedText], index: Sequence[int], noise: EmbeddingNoise | None
    ) -> NDArray[np.float32]:
        """See `EvaluatedModel.run`."""
        feed: dict[str, NDArray[np.generic]] = dict(pad(batch))
        model = self._model
        if noise is not None:
            model = self._with_noise
            # The graph has no padding: the tokens of all texts are one axis.
            members = range(self.members)
            feed[NOISE] = np.stack([self._noise(noise, member, batch, index) for member in members])
        try:
            (logits,) = model.session.run([self._outputs[1]], feed)
        except Exception as error:  # the exceptions of onnxruntime have no public base class
            reason = " ".join(str(error).split())
            raise ModelError(f"{self.path} failed: {reason:.300}. Copy the file again, or export it again") from error
        answers: NDArray[np.float32] = logits
        return answers

    def _noise(
        self, noise: EmbeddingNoise, member: int, batch: Sequence[EncodedText], index: Sequence[int]
    ) -> NDArray[np.float32]:
        drawn = [noise.draw(member, i, len(text.ids), self.noise_size) for i, text in zip(index, batch, strict=True)]
        return np.concatenate(drawn)

    @cached_property
    def _with_noise(self) -> OpenModel:
        """The same model with one more input, opened when it is first needed."""
        if find_spec("onnx") is None:
            raise EvaluationError(
                f"{self.path}: embedding noise needs the package 'onnx', which is not installed. "
                "Run: pip install 'bebert-edge[export]', or leave embedding-noise out of --perturb"
            )
        with tempfile.TemporaryDirectory(prefix="bebert-edge-") as scratch:
            file = Path(scratch, "noise.onnx")
            try:
                file.write_bytes(with_noise(self._content or self._file.read_bytes()))
            except EvaluationError as error:
                raise EvaluationError(f"{self.path}: {error}") from error
            return open_session(file, threads=self._threads)


def open_packed(directory: Path, *, threads: int | None = None) -> EvaluatedModel:
    """Opens a packed ensemble: by its export, or by the numpy reference where the packages for exporting are missing.

    Raises:
        FormatError: The directory is not a valid packed ensemble.
    """
    ensemble = PackedEnsemble.load(directory)
    if any(find_spec(package) is None for package in ("onnx", "onnxscript")):
        return ReferenceModel(directory, ensemble)
    from bebert_edge.exporters import export

    with tempfile.TemporaryDirectory(prefix="bebert-edge-") as scratch:
        file = Path(scratch, "model.onnx")
        export(ensemble, file, verify=False)
        return OnnxModel(file, threads=threads, path=directory, kind="packed ensemble")


class ReferenceModel(_PackedModel):
    """A packed ensemble run by the definition of its ops in numpy: slow, and without embedding noise."""

    def __init__(self, path: Path, ensemble: PackedEnsemble) -> None:
        super().__init__(path, "packed ensemble", ensemble.config, ensemble.tokenizer)
        self.backend = "numpy reference"
        self._ensemble = ensemble

    def run(
        self, batch: Sequence[EncodedText], index: Sequence[int], noise: EmbeddingNoise | None
    ) -> NDArray[np.float32]:
        """See `EvaluatedModel.run`."""
        from bebert_edge.reference import forward

        if noise is not None:
            raise EvaluationError(
                f"{self.path}: embedding noise needs the packages for exporting. Run: "
                "pip install 'bebert-edge[export]', or leave embedding-noise out of --perturb"
            )
        return forward(self._ensemble, **pad(batch))[1]


def with_noise(model: bytes) -> bytes:
    """An exported model that adds its new input `embedding_noise` `[E, T, H]` to the output of the embeddings.

    T are the real tokens of all texts of a batch, one text after the other.

    Raises:
        EvaluationError: The graph has no node for the embeddings' LayerNorm: another tool changed it.
    """
    import onnx
    from onnx import helper

    proto = onnx.ModelProto.FromString(model)
    nodes = proto.graph.node
    at = next((i for i, node in enumerate(nodes) if node.name == _EMBEDDINGS), None)
    if at is None:
        raise EvaluationError(f"the model has no node {_EMBEDDINGS!r} to add noise to. Export it again")
    norm = nodes[at]
    hidden, codes = norm.output
    norm.output[:] = [f"{hidden}.clean", f"{codes}.clean"]
    (code,) = (attribute for attribute in norm.attribute if attribute.name == "output_code")
    added = helper.make_node("Add", [f"{hidden}.clean", NOISE], [hidden], name="embeddings.noise")
    quantized = helper.make_node(
        "Quantize",
        [hidden, *norm.input[4:]],
        [codes],
        name="embeddings.noise.codes",
        domain=norm.domain,
        output_code=code.ints,
        activation=0,
    )
    for node in (quantized, added):
        nodes.insert(at + 1, node)
    noise = helper.make_tensor_value_info(NOISE, onnx.TensorProto.FLOAT, ["members", "tokens", "embedding_size"])
    proto.graph.input.append(noise)
    return bytes(proto.SerializeToString())
