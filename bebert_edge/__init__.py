# SPDX-License-Identifier: Apache-2.0
"""Binary ensemble BERTs in one ONNX file: train, export and run them on edge devices."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("bebert-edge")
except PackageNotFoundError:  # imported from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
