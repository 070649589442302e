# SPDX-License-Identifier: Apache-2.0
"""The command line: one file per command, which parses arguments and prints; the work is in the package."""

from bebert_edge.cli.main import main

__all__ = ["main"]
