"""What a command line asks for: the arguments that steps share, and the study, run or part that they name."""

import argparse
from typing import Literal

from trigbench._nearest import nearest
from trigbench._parser import step_parser
from trigbench.workflow.errors import BenchError
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import DEFAULT_BUDGET, Run, Study


def parser(description: str | None, needs_study: bool = True) -> argparse.ArgumentParser:
    """A parser with the arguments that every step takes."""
    made = step_parser(description)
    made.add_argument("--study", required=needs_study, help="a study's name, such as oracle, or a YAML file")
    made.add_argument("--budget", default=DEFAULT_BUDGET, help="a budget of that study (default: %(default)s)")
    return made


def run_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser for steps that work on one run."""
    made = parser(description)
    made.add_argument("--arm", required=True, help="an arm of the study")
    made.add_argument("--seed", required=True, type=int, help="the run's seed")
    made.add_argument("--device", choices=["auto", "cpu", "cuda"], help="in place of the study's (default: auto)")
    return made


def one_of(description: str | None, kind: Literal["experiments", "data"]) -> tuple[Study, str]:
    """Parse the arguments of a step that works on one experiment, or one data set: the study, and the name of it."""
    made = parser(description)
    made.add_argument(f"--{kind.removesuffix('s')}", dest="name", required=True, help=f"of the study's {kind}")
    arguments = made.parse_args()
    study = study_of(arguments)
    check_known(study, kind, arguments.name)
    return study, arguments.name


def study_of(arguments: argparse.Namespace) -> Study:
    """The study that the arguments name, on the device that they name."""
    study = load(arguments.study, arguments.budget)
    device = getattr(arguments, "device", None)
    return study.model_copy(update={"device": device}) if device else study


def run_of(study: Study, arguments: argparse.Namespace) -> Run:
    """The run that the arguments name; raises BenchError for an unknown arm."""
    check_known(study, "arms", arguments.arm)
    return Run(arm=arguments.arm, seed=arguments.seed)


def check_known(study: Study, key: Literal["arms", "data", "experiments"], name: str) -> None:
    """Raise BenchError unless the study has `name` under `key`."""
    table = getattr(study, key)
    if name not in table:
        remedy = nearest(name, table) or f"choose of: {', '.join(table)}"
        raise BenchError(f"unknown {name!r}", file=study.file, key=key, remedy=remedy)
