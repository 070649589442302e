# SPDX-License-Identifier: Apache-2.0
"""`python -m bebert_edge.cli`."""

from bebert_edge.cli.main import main

main()
