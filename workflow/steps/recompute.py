"""Recompute every published verdict from the published tables, apart from what judged them, and say where they differ.

  python -m trigbench.workflow.steps.recompute                every study of results/published
  python -m trigbench.workflow.steps.recompute FOLDER ...     those of these folders
  python -m trigbench.workflow.steps.recompute --table        with effect, interval, p and seeds of each

It says how many agree, how many differ, and how many are not comparable, as they were judged by earlier rules, have no
rule now, or rest on curves that are not published. Exit status 1 where a verdict or one of its numbers differs. See
docs/verdicts.md.
"""

import sys
from pathlib import Path

from trigbench._parser import step_parser
from trigbench.workflow.claims.ledger import CLAIMS
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.command import main
from trigbench.workflow.report.recomputing import read_claims, report, show
from trigbench.workflow.study.places import ORIGIN, PUBLISHED, RUNS, VERDICTS


def command() -> None:
    """Parse the arguments and recompute."""
    parser = step_parser(__doc__)
    parser.add_argument("folders", metavar="FOLDER", nargs="*", type=Path, help="of a published study")
    parser.add_argument("--table", action="store_true", help="print what comes out of each claim")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="write that to a table")
    asked = parser.parse_args()
    folders = asked.folders or [path.parent for path in sorted(PUBLISHED.glob(f"*/{VERDICTS}"))]
    for path in (folder / name for folder in folders for name in (VERDICTS, RUNS, ORIGIN)):
        if not path.is_file():
            raise BenchError("it is not there", file=path, remedy="name the folder of a published study")
    claims = read_claims(CLAIMS)
    if show([report(folder, claims) for folder in folders], asked.table, asked.csv):
        sys.exit(1)


if __name__ == "__main__":
    main(command)
