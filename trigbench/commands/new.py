"""Write a file to start from, in the current folder: it runs, or passes its checks, as it stands.

  trigbench new study mine          mine.yaml; then: trigbench run mine.yaml --budget smoke
  trigbench new objective mine      mine.py, with a function; then: trigbench check mine.py:mine
  trigbench new network mine        mine.py, with a torch module; then: trigbench check mine.py:Network
  trigbench new data mine           mine.py, a module; then: trigbench check mine.py

Nothing is overwritten.
"""

import argparse
import re
import sys
from pathlib import Path

from trigbench._extras import need
from trigbench._places import PACKAGE

TEMPLATES = PACKAGE / "templates"
PLACEHOLDER = "mine"
"""The name in every template."""
KINDS = {
    "study": ("study.yaml", "trigbench run {file} --budget smoke"),
    "objective": ("objective.py", "trigbench check {file}:{name}"),
    "network": ("network.py", "trigbench check {file}:Network"),
    "data": ("data.py", "trigbench check {file}"),
}
"""By what is asked for: its template, and what to do next."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench new`."""
    raw = argparse.RawDescriptionHelpFormatter
    made = subparsers.add_parser("new", help="write a file to start from", description=__doc__, formatter_class=raw)
    made.add_argument("kind", metavar="KIND", choices=KINDS, help="study, objective, network or data")
    made.add_argument("name", metavar="NAME", help="of the file, and of what is in it; its ending may be left out")
    return made


def main(arguments: argparse.Namespace) -> None:
    """Write the file and say what to do next. Raises BenchError for a bad name, or a file that is there."""
    need("workflow", "trigbench new")
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415 - of the extra
    from trigbench.workflow.machine.files import write_text  # noqa: PLC0415

    template, following = KINDS[arguments.kind]
    ending = Path(template).suffix
    file = Path(arguments.name)
    file = file if file.suffix == ending else file.with_name(f"{file.name}{ending}")
    name = _checked(file.stem, arguments.kind)
    if file.exists():
        raise BenchError("the file is there already", file=file, key="NAME", remedy="choose another name")
    if not file.parent.is_dir():
        raise BenchError("there is no such folder", file=file.parent, key="NAME", remedy="make it first")
    write_text(file, filled(template, name))
    following = following.format(file=file, name=name)
    print(f"wrote {file}\nnext: {following}")


def filled(template: str, name: str) -> str:
    """A template's text under another name."""
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    slug = name.replace("_", "-")  # of ids of claims, which have no other mark
    return re.sub(rf"\b{PLACEHOLDER}\b(-?)", lambda found: f"{slug}-" if found[1] else name, text)


def _checked(name: str, kind: str) -> str:
    """A name that can be a study's, or a module's and a function's."""
    from importlib.machinery import PathFinder  # noqa: PLC0415
    from keyword import iskeyword  # noqa: PLC0415

    from trigbench.workflow.errors import BenchError  # noqa: PLC0415
    from trigbench.workflow.study.checks import TAKEN  # noqa: PLC0415
    from trigbench.workflow.study.shipped import shipped  # noqa: PLC0415

    if kind == "study":
        if not re.fullmatch(r"[a-z0-9]+([_-][a-z0-9]+)*", name):
            remedy = "use small letters and digits, with - or _ between them"
            raise BenchError(f"{name!r} is no name of a study", key="NAME", remedy=remedy)
        if name in (*shipped(), *TAKEN):
            raise BenchError(f"{name!r} is a name of the project's own", key="NAME", remedy="choose another")
    elif not name.isidentifier() or iskeyword(name):
        remedy = "use letters, digits and _, as Python names are"
        raise BenchError(f"{name!r} cannot be imported by that name", key="NAME", remedy=remedy)
    elif name in sys.stdlib_module_names or (PathFinder.find_spec(name, _elsewhere()) is not None):
        remedy = f"choose another, such as my_{name}: a file of that name would be taken for it"
        raise BenchError(f"{name!r} is a module of Python's, or one that is installed", key="NAME", remedy=remedy)
    return name


def _elsewhere() -> list[str]:
    """Where Python looks for modules, but for the current folder."""
    return [place for place in sys.path if place and Path(place).resolve() != Path.cwd()]
