"""Say what there is, one line each: of the project, and of its studies.

  trigbench list                           the kinds of things, and how many there are
  trigbench list studies claims
  trigbench list arms --study oracle       of one study, also one of yours by its file

Where the output is no terminal, columns are plain and nothing is cut: trigbench list arms | grep fp16
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trigbench._extras import need
from trigbench._nearest import choice
from trigbench.commands import _completion, _output

if TYPE_CHECKING:
    from trigbench.workflow.study.study import Study


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench list`."""
    raw = argparse.RawDescriptionHelpFormatter
    made = subparsers.add_parser("list", help="say what there is", description=__doc__, formatter_class=raw)
    kinds = made.add_argument(
        "kinds", metavar="KIND", nargs="*", help="studies, arms, claims, ...; without any, the kinds"
    )
    _completion.by(kinds, _completion.kinds)
    made.add_argument("--study", help="of this study alone: a name, or a YAML file")
    return made


def main(arguments: argparse.Namespace) -> None:
    """Print the tables. Raises BenchError for a kind or a study that is not there."""
    need("workflow", "trigbench list")
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415 - of the extra
    from trigbench.workflow.report.catalogue import LISTINGS  # noqa: PLC0415

    for kind in arguments.kinds:
        if kind not in LISTINGS:
            raise BenchError(f"there is no kind {kind!r}", key="KIND", remedy=choice(kind, LISTINGS))
    studies = studies_of(arguments.study)
    if not arguments.kinds:
        rows = [(name, str(len(listing.rows(studies))), f"trigbench list {name}") for name, listing in LISTINGS.items()]
        _output.table(("kind", "there are", "to see them"), rows)
        print("\nOf one study: --study NAME. One thing in full: trigbench show NAME")
    for number, kind in enumerate(arguments.kinds):
        if number:
            print()
        _output.table(LISTINGS[kind].columns, LISTINGS[kind].rows(studies))


def studies_of(said: str | None) -> "Sequence[Study]":
    """The study of that name, or in that file; without one, the project's own."""
    from trigbench.workflow.report.catalogue import shipped_studies  # noqa: PLC0415 - of the extra
    from trigbench.workflow.study.reading import load  # noqa: PLC0415

    return [load(said)] if said else shipped_studies()
