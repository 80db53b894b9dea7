"""Check a study of yours, or an objective, network or data set of yours, before anything is spent on it.

  trigbench check my.yaml                        a study: what it would make, or what is wrong and where
  trigbench check mine.py:loss                   an objective, network or data set: which of them, what it takes tells
  trigbench check package.module:Network --shape 3,32,32 --classes 10 --settings '{width: 64}'
  trigbench check mine.py --settings '{noise: 0.1}'         a data set is a module

The checks of a part are those that the project's own are held to: shapes, dtypes, seeds, rows that do not mix, exact
tangents, and that an objective rests at the exact solution of an oracle. Exit status 1 where anything failed.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from trigbench._extras import need
from trigbench._places import with_pages
from trigbench.commands import _completion, _output


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench check`."""
    raw = argparse.RawDescriptionHelpFormatter
    made = subparsers.add_parser("check", help="check what is yours", description=__doc__, formatter_class=raw)
    what = made.add_argument("what", metavar="FILE|MODULE:NAME", help="a study's YAML file, or a part by its path")
    _completion.by(what, _completion.checked)
    kinds = ("objective", "network", "data")
    made.add_argument("--as", dest="kind", choices=kinds, help="what the part is, where what it takes does not tell")
    made.add_argument("--settings", metavar="YAML", help="of the part, as under 'settings' in a study: '{width: 64}'")
    made.add_argument(
        "--shape", type=_shape, help="of a network's points, as 3,32,32 (default: the first that it takes)"
    )
    made.add_argument("--classes", type=_count, default=0, help="that a network is told (default: none)")
    return made


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write whole numbers, as 3,32,32")
    return shape


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of classes; write a whole number, as 10")
    return int(text)


def main(arguments: argparse.Namespace) -> None:
    """Print a line a check. Raises BenchError for a study that is not right, SystemExit(1) for a part that is not."""
    need("workflow", "trigbench check")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it, by which jobs import
    from trigbench.workflow.study.shipped import shipped  # noqa: PLC0415 - of the extra

    what = arguments.what
    if Path(what).suffix in (".yaml", ".yml") or what in shipped():
        from trigbench.workflow.run.planned import planned  # noqa: PLC0415

        _output.lines(planned(what))
        return
    from trigbench.workflow.run.conformance.parts import check_part  # noqa: PLC0415 - with torch

    kind, found = check_part(what, arguments.kind, _settings(arguments.settings), **_about(arguments))
    print(f"{what}: {'data set' if kind == 'data' else kind}\n")
    _output.table(("check", "", "why"), [(one.check, one.state, with_pages(one.said)) for one in found])
    failed = [one for one in found if one.state == "failed"]
    for one in failed:
        print(with_pages(f"\n{one.check}: {one.said}\n  remedy: {one.remedy}"))
    count = {state: sum(one.state == state for one in found) for state in ("passed", "failed", "does not apply")}
    print(f"\n{count['passed']} passed, {count['failed']} failed, {count['does not apply']} do not apply")
    if failed:
        sys.exit(1)


def _about(arguments: argparse.Namespace) -> dict[str, Any]:
    """What is said of a network's data."""
    said = {"shape": arguments.shape, "classes": arguments.classes}
    return {name: value for name, value in said.items() if value}


def _settings(text: str | None) -> dict[str, Any]:
    """The mapping in one line of YAML. Raises BenchError."""
    import yaml  # noqa: PLC0415 - of the extra, as what follows

    from trigbench.workflow.errors import BenchError  # noqa: PLC0415
    from trigbench.workflow.machine.plain import StrictLoader, resolved, syntax_said  # noqa: PLC0415

    try:
        found = resolved(yaml.load(text, Loader=StrictLoader)) if text else {}
    except Exception as error:  # PyYAML also lets through what values raise
        raise BenchError(
            f"not valid YAML: {syntax_said(error)}", key="--settings", remedy="write '{width: 64}'"
        ) from error
    if not isinstance(found, dict):
        raise BenchError(f"{text!r} is no mapping", key="--settings", remedy="write '{width: 64}'")
    return found
