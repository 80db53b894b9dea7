"""Show one thing in full: what it is, its rule and verdict, its settings, what it needs, and the command that makes it.

  trigbench show oracle                              a study
  trigbench show two-steps-beat-one-scd              a claim
  trigbench show scd                                 an objective, and the arms of that name
  trigbench show oracle/dimension                    an experiment of a study
  trigbench show scd-m --study digits                an arm

Of what stands in several studies each is named. A verdict is of the results in this folder, or else the published one.
"""

import argparse
from pathlib import Path

from trigbench._extras import need
from trigbench.commands import _completion, _output
from trigbench.commands.list import studies_of


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench show`."""
    raw = argparse.RawDescriptionHelpFormatter
    made = subparsers.add_parser("show", help="show one thing in full", description=__doc__, formatter_class=raw)
    name = made.add_argument("name", metavar="NAME", help="of a study, claim, experiment, arm, objective, ...")
    _completion.by(name, _completion.names)
    made.add_argument("--study", help="of this study alone: a name, or a YAML file")
    return made


def main(arguments: argparse.Namespace) -> None:
    """Print what is known. Raises BenchError for a name that is not there."""
    need("workflow", "trigbench show")
    from trigbench.workflow.report.shown import shown  # noqa: PLC0415 - of the extra

    name, study = arguments.name, arguments.study
    if study is None and Path(name).suffix in (".yaml", ".yml"):
        study = name
    for number, lines in enumerate(shown(name, studies_of(study))):
        if number:
            print()
        _output.lines(lines)
