"""Say whether a loss is Algorithm 1's (sCM, arXiv 2410.11081), and what is wrong with it, term by term.

  trigbench audit scd                               an objective of the project
  trigbench audit my/package.py:loss                a loss (field, teacher, x0, z, t, r) of yours
  trigbench audit my.module:objective               or an objective (fields, x0, draws, settings)
  trigbench audit my/package.py:loss --sigma-d 0.7  at 0.5 a lost sigma_d looks like a factor of two
  trigbench audit my/package.py:loss --json         for other programs

In float64 on small random networks. Exit status 1 where a mistake is found. docs/audit.md says what is no
mistake, and what cannot be seen.
"""

import argparse
import json
import sys

from trigbench._extras import need


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench audit`."""
    raw = argparse.RawDescriptionHelpFormatter
    said = "say what is wrong with a loss"
    made = subparsers.add_parser("audit", help=said, description=__doc__, formatter_class=raw)
    made.add_argument("loss", metavar="LOSS", help="an objective's name, module:function or file.py:function")
    made.add_argument("--sigma-d", type=float, default=0.5, help="of the data (default: %(default)s)")
    made.add_argument("--r", type=float, nargs="+", default=[1.0, 0.5], help="of the warm-up (default: 1 0.5)")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    return made


def main(arguments: argparse.Namespace) -> None:
    """Print what is found. Raises BenchError for what cannot be audited."""
    need("train", "trigbench audit")
    from trigbench.workflow.machine.command import one_thread  # noqa: PLC0415 - of the extra
    from trigbench.workflow.run.auditing import audit  # noqa: PLC0415

    one_thread()
    found = audit(arguments.loss, arguments.sigma_d, arguments.r)
    print(json.dumps(found.content(), indent=1) if arguments.json else found)
    if not found.report.right:
        sys.exit(1)
