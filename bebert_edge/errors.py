# SPDX-License-Identifier: Apache-2.0
"""The one tree of errors. Each message names the thing, what was found, what was expected, and what to do next."""


class BebertEdgeError(Exception):
    """Base of every error that bebert-edge raises on purpose."""


class FormatError(BebertEdgeError):
    """A PackedEnsemble directory, or a part of it, does not follow docs/format.md."""


class CheckpointError(BebertEdgeError):
    """A latent checkpoint cannot be read, or is of no known family."""


class TrainingError(BebertEdgeError):
    """Training data or settings cannot be used."""


class ExportError(BebertEdgeError):
    """An ONNX model cannot be built or written."""


class VerificationError(ExportError):
    """An exported model does not compute what its ensemble computes."""


class ModelError(BebertEdgeError):
    """An .onnx file cannot be loaded, or was not made by bebert-edge."""


class RuntimeInputError(BebertEdgeError):
    """Text or a file of texts cannot be used as input."""


class DeviceError(BebertEdgeError):
    """A device was asked for that does not exist."""


class NativeLibraryError(BebertEdgeError):
    """The native library is missing, cannot be loaded, or refused a forced CPU path."""


class BenchError(BebertEdgeError):
    """A benchmark cannot be run as it was asked for."""


class EvaluationError(BebertEdgeError):
    """Models, data or settings of an evaluation do not fit together."""
