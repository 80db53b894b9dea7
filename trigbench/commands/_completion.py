"""What may follow on the command line, for the shell that asks (docs/command.md): names, in tenths of a second.

Each is (what was typed, the arguments so far) -> names. Nothing is said where something is wrong: the command says it.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Completer = Callable[..., Iterable[str]]


def by(argument: argparse.Action, completer: Completer) -> None:
    """Let the argument be completed by it."""
    argument.completer = completer  # type: ignore[attr-defined] - where argcomplete looks for it


def studies(prefix: str, **_: Any) -> list[str]:
    """The project's own, and YAML files in the folder that is typed."""
    from trigbench.workflow.study.places import STUDIES  # noqa: PLC0415 - of an extra, as below

    own = [file.stem for file in STUDIES.glob("*.yaml")]
    return sorted(own) + files(prefix, (".yaml", ".yml"))


def checked(prefix: str, **_: Any) -> list[str]:
    """Files that `trigbench check` takes."""
    return files(prefix, (".yaml", ".yml", ".py"))


def kinds(prefix: str, **_: Any) -> list[str]:
    """What `trigbench list` can list."""
    from trigbench.workflow.report.catalogue import LISTINGS  # noqa: PLC0415 - of an extra, as below

    return list(LISTINGS)


def parts(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Experiments of the study that is named, and claims."""
    study = _loaded(parsed_args.study)
    return [*(study.experiments if study else ()), *(f"claims/{claim}" for claim in _claims())]


def names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """What `trigbench show` knows: of the study that is named, or of the project's own."""
    from trigbench.core.objectives import OBJECTIVES  # noqa: PLC0415

    said = [parsed_args.study] if parsed_args.study else [file for file in studies("x") if "." not in file]
    found = dict.fromkeys([*said, *OBJECTIVES, *_claims()])
    for study in filter(None, map(_loaded, said)):
        found |= dict.fromkeys([*study.experiments, *study.arms])
    return list(found)


def budgets(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Of the study that is named."""
    from trigbench.workflow.study.reading import budgets_of  # noqa: PLC0415
    from trigbench.workflow.study.study import DEFAULT_BUDGET  # noqa: PLC0415

    study = _loaded(parsed_args.study)
    return [DEFAULT_BUDGET, *budgets_of(study.file)] if study else []


def files(prefix: str, endings: tuple[str, ...]) -> list[str]:
    """Files of these endings, and folders, where the word that is typed points."""
    typed = Path(prefix)
    folder = typed if prefix.endswith("/") else typed.parent
    if not folder.is_dir():
        return []
    there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [f"{path}/" if path.is_dir() else str(path) for path in there if path.is_dir() or path.suffix in endings]


def _loaded(said: str) -> Any:
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415
    from trigbench.workflow.study.reading import load  # noqa: PLC0415

    try:
        return load(said)
    except BenchError:
        return None


def _claims() -> list[str]:
    from trigbench.workflow.claims.ledger import read_claims  # noqa: PLC0415

    return list(read_claims().claims)


def say_everywhere(parser: argparse.ArgumentParser) -> None:
    """Let the arguments that many commands have be completed in each."""
    for argument in parser._actions:  # argparse has no public list of them
        if argument.dest in COMMON:
            by(argument, COMMON[argument.dest])


COMMON: dict[str, Completer] = {"study": studies, "budget": budgets}
