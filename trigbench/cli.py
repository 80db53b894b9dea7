# PYTHON_ARGCOMPLETE_OK
"""The command `trigbench`: one module of trigbench.commands each, as `trigbench run`."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence

from trigbench import __version__
from trigbench._extras import MissingExtra, need
from trigbench._nearest import choice
from trigbench._parser import UNKNOWN, Parser
from trigbench.commands import (
    audit,
    check,
    compare,
    convert,
    edit,
    estimate,
    export,
    judge,
    new,
    report,
    run,
    show,
    watch,
)
from trigbench.commands import list as listing
from trigbench.commands._completion import say_everywhere

COMMANDS = (run, listing, show, new, check, estimate, watch, report, compare, judge, edit, export, audit, convert)
"""Modules with `add_parser(subparsers)` and `main(arguments)`; what an extra brings, main imports."""


def complete(parser: argparse.ArgumentParser, commands: Iterable[argparse.ArgumentParser]) -> None:
    """Answer the shell that asks what may follow (docs/command.md), and end; return where none asks."""
    if "_ARGCOMPLETE" in os.environ:
        need("workflow", "completion")
        import argcomplete  # noqa: PLC0415 - of the extra

        for command in commands:
            say_everywhere(command)
        argcomplete.autocomplete(parser)


def main(words: Sequence[str] | None = None) -> None:
    """Do what the command line says. A BenchError becomes its message (file, key, remedy) and exit status 1."""
    parser = Parser(prog="trigbench", description="Which claims on consistency models hold?")
    parser.add_argument("--version", action="version", version=f"trigbench {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands).set_defaults(main=command.main)
    complete(parser, commands.choices.values())
    words = list(sys.argv[1:] if words is None else words)
    if not words:
        parser.print_help()
        sys.exit(2)
    end = words.index("--") if "--" in words else len(words)
    more = words[end + 1 :]
    if (asked := words[0]) not in commands.choices and not asked.startswith("-"):
        parser.error(f"there is no command {asked!r}; {choice(asked, commands.choices)}")
    arguments, unknown = parser.parse_known_args(words[:end], argparse.Namespace(engine=more))
    if unknown:
        commands.choices.get(asked, parser).error(f"{UNKNOWN}{' '.join(unknown)}")
    if more and arguments.main is not run.main:
        parser.error("what follows -- is for Snakemake; give it to `trigbench run`")
    try:
        arguments.main(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # of what is left at the end
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)  # as shells have it; who typed Ctrl-C needs no traceback
    except MissingExtra as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        errors = sys.modules.get("trigbench.workflow.errors")  # which itself is of an extra
        if errors is None or not isinstance(error, errors.BenchError):
            raise
        sys.exit(f"error: {error}")
