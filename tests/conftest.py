# SPDX-License-Identifier: Apache-2.0
"""One hypothesis profile for all tests: the same examples on every run, and no time limit on a single one."""

from hypothesis import settings

settings.register_profile("bebert-edge", derandomize=True, deadline=None, max_examples=25, print_blob=True)
settings.load_profile("bebert-edge")
