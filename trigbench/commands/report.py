"""Write the pages of studies from whatever runs there are, to reports/ in this folder.

  trigbench report                    every study in results/
  trigbench report oracle             one of them
  trigbench report oracle --open      and show it in the browser

Tables, figures and verdicts are made anew; what is missing is named, with the command that makes it.
"""

import argparse
import webbrowser
from pathlib import Path

from trigbench._extras import need


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench report`."""
    raw = argparse.RawDescriptionHelpFormatter
    said = "write the pages from what is there"
    made = subparsers.add_parser("report", help=said, description=__doc__, formatter_class=raw)
    made.add_argument("study", metavar="STUDY", nargs="?", help="a study's name, or a YAML file; without it, all")
    made.add_argument("--budget", help="a budget of that study (default: laptop)")
    made.add_argument("--open", action="store_true", help="show the page in the browser")
    return made


def main(arguments: argparse.Namespace) -> None:
    """Write, and open. Raises BenchError for a study that is not there, or results that cannot be read."""
    need("workflow", "trigbench report")
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415 - of the extra
    from trigbench.workflow.steps.report import report_all, report_one  # noqa: PLC0415 - with a backend of no screen
    from trigbench.workflow.study.reading import load  # noqa: PLC0415
    from trigbench.workflow.study.study import DEFAULT_BUDGET  # noqa: PLC0415

    if arguments.budget and not arguments.study:
        raise BenchError("no study is named for that budget", key="--budget", remedy="name the study before it")
    if arguments.study is None:
        page = report_all()
    else:
        page = report_one(load(arguments.study, arguments.budget or DEFAULT_BUDGET), partial=True)
    if arguments.open:
        show(page)


def show(page: Path) -> None:
    """Raises BenchError where there is no browser."""
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415

    if not webbrowser.open(page.absolute().as_uri()):
        raise BenchError("no browser can be started here", file=page, remedy="open that file in one")
