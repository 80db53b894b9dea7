"""The command line's own errors, in the words of all others: what is wrong, the key, the remedy."""

import argparse
import re
import sys
from typing import NoReturn

from trigbench._nearest import nearest
from trigbench._places import with_pages

ARGUMENT = re.compile(r"argument (?P<key>[^:]+): (?P<problem>.*)", re.DOTALL)
MISSING, UNKNOWN = "the following arguments are required: ", "unrecognized arguments: "


class Parser(argparse.ArgumentParser):
    """argparse's, whose subparsers are such, too. A type's ArgumentTypeError may say `problem; remedy`."""

    def error(self, message: str) -> NoReturn:
        """Print the error and end with status 2, as argparse does."""
        key, remedy = None, None
        if found := ARGUMENT.fullmatch(message):
            key, message = found["key"], found["problem"]
        elif message.startswith(MISSING):
            key, message = message.removeprefix(MISSING), "something is missing"
        elif message.startswith(UNKNOWN):
            key = message.removeprefix(UNKNOWN)
            message, remedy = (
                "this command takes nothing of that name",
                nearest(key.split()[0], self._option_string_actions),
            )
        message, _, said = message.partition("; ")
        lines = [f"error: {message}", *([f"  key:    {key}"] if key else [])]
        print(
            *lines, f"  remedy: {said or remedy or f'{self.prog} --help says what it takes'}", sep="\n", file=sys.stderr
        )
        sys.exit(2)

    def format_help(self) -> str:
        """As argparse has it, with pages of docs/ named where they lie."""
        return with_pages(super().format_help())


def step_parser(description: str | None) -> Parser:
    """That of a step by hand, which calls itself as it is called: `python -m trigbench.workflow.steps.NAME`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    called = f"python -m {spec.name}" if spec is not None and ".steps." in spec.name else None
    return Parser(prog=called, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
