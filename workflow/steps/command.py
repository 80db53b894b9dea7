"""What the commands of all steps share: arguments, the study, and errors that people can read."""

import argparse
import gc
import io
import sys
from collections.abc import Callable, Sequence
from typing import Literal

from trigbench._extras import remedy_for
from trigbench.workflow.errors import FINAL, BenchError
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import DEFAULT_BUDGET, Run, Study


def parser(description: str | None, needs_study: bool = True) -> argparse.ArgumentParser:
    """A parser with the arguments that every step takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        raise BenchError(f"unknown {name!r}", file=study.file, key=key, remedy=f"choose of: {', '.join(table)}")


def raise_all(problems: Sequence[BenchError]) -> None:
    """Raise the last of these, if there is any; the others are printed before."""
    for problem in problems[:-1]:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        raise problems[-1]


def main(command: Callable[[], None]) -> None:
    """Run a step's command on one thread; a BenchError becomes its message and exit status 2.

    A library that an extra would have brought is one, too. Below one that no second try mends stands so, for the
    workflow to read (workflow/rules/engine.smk).

    One thread a process: the workflow fills the cores with processes, and results do not depend
    on how many there are.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter gets its number, and no error
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    gc.freeze()  # what is imported stays; to look through it once more at the end takes a fifth of a short step
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
    try:
        command()
    except BenchError as error:
        print(f"error: {error}", *([] if error.again else [FINAL]), sep="\n", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (said := remedy_for(error)) is None:
            raise
        print(f"error: {said}", FINAL, sep="\n", file=sys.stderr)
        sys.exit(2)
