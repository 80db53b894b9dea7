"""A step's process: one thread, and errors that people can read."""

import gc
import io
import sys
from collections.abc import Callable, Sequence

from trigbench._extras import remedy_for
from trigbench.workflow.errors import FINAL, BenchError


def raise_all(problems: Sequence[BenchError]) -> None:
    """Raise the last of these, if there is any; the others are printed before."""
    for problem in problems[:-1]:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        raise problems[-1]


def one_thread() -> None:
    """Let torch, where it is imported, compute on one thread."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


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
    one_thread()
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
