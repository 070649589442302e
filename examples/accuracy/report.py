# SPDX-License-Identifier: Apache-2.0
"""Writes the tables, verdicts and plots of docs/accuracy.md from results/*.json. `--check` only compares the text."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import tables
from evidence import Evidence

ROOT = Path(__file__).parents[2]
MARKED = re.compile(r"(<!-- (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def regenerate(text: str, evidence: Evidence) -> str:
    """The text with what stands between each pair of markers made anew."""

    def replaced(match: re.Match[str]) -> str:
        make = tables.TABLES[match["name"]]
        return f"{match[1]}\n{make(evidence).strip()}\n\n{match[3]}"

    return MARKED.sub(replaced, text)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "accuracy.md")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the document is out of date")
    arguments = parser.parse_args()
    evidence = Evidence.load(arguments.results)
    old = arguments.document.read_text(encoding="utf-8")
    new = regenerate(old, evidence)
    if arguments.check:
        if new != old:
            sys.exit(f"{arguments.document} is not what {arguments.results} says: python {Path(__file__).name}")
        return
    from plots import draw_members, draw_robustness

    draw_members(evidence, arguments.document.with_name("accuracy-members.svg"))
    draw_robustness(evidence, arguments.document.with_name("accuracy-robustness.svg"))
    arguments.document.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
