"""What a study names by its path, `package.module:name`, and whether it can be called as the study says."""

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trigbench._nearest import choice
from trigbench.workflow.errors import BenchError


def named(path: str) -> Any:
    """What `package.module:name` stands for. Raises BenchError when it is not there."""
    module, name = path.split(":")
    found = imported(module, path)
    try:
        return getattr(found, name)
    except AttributeError as error:
        raise BenchError(f"there is no {name!r} in {module}", key=path, remedy=choice(name, dir(found))) from error


def named_here(path: str) -> Any:
    """`named`, of modules in the current folder too, or of `folder/file.py:name`. Raises BenchError likewise."""
    file, _, name = path.rpartition(":")
    if not file or not name:
        raise BenchError(f"{path!r} names no function", key=path, remedy="write package.module:name, or file.py:name")
    if not file.endswith(".py"):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        return named(path)
    found = module_in(Path(file), path)
    try:
        return getattr(found, name)
    except AttributeError as error:
        raise BenchError(
            f"there is no {name!r} in it", file=file, key=name, remedy=choice(name, vars(found))
        ) from error


def module_in(file: Path, key: str) -> types.ModuleType:
    """The module that a file holds, which may import what stands beside it; BenchError, whatever its code raises."""
    name = f"_of_{file.stem}"  # as the file may be called like a library
    spec = importlib.util.spec_from_file_location(name, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise BenchError("there is no such file", file=file, key=key, remedy="give the path of a Python file")
    if (folder := str(file.parent.absolute())) not in sys.path:
        sys.path.insert(0, folder)
    made = sys.modules[name] = importlib.util.module_from_spec(spec)  # where its dataclasses look themselves up
    try:
        spec.loader.exec_module(made)
    except (Exception, SystemExit) as error:
        problem = f"cannot import it: {problem_of(error)}"
        raise BenchError(problem, file=file, key=key, remedy="mend that file") from error
    return made


def imported(module: str, key: str) -> types.ModuleType:
    """The module, or BenchError, whatever its author's code raises."""
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        remedy = "start the workflow where the module can be imported from, or install it"
        if module.endswith(".py"):
            remedy = f"write it as Python imports it, without .py: {module.removesuffix('.py').replace('/', '.')}"
        if module.startswith(("core.", "workflow.")):  # as a checkout also calls its own
            remedy = f"write trigbench.{module}, if this project's is meant"
        said = f"cannot import {module!r}: {problem_of(error)}"
        raise BenchError(said, key=key, remedy=remedy if missing else "mend that module") from error


def problem_of(error: BaseException) -> str:
    """The error in one line, with the place in somebody's own code where it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0]}{where}" if words else f"{type(error).__name__}{where}"


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether it can be given a parameter of that name."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def check_call(
    path: str,
    function: Callable[..., Any],
    given: Collection[str],
    settings: Mapping[str, Any],
    key: str,
    first: int = 0,
) -> None:
    """Raise BenchError unless the function takes these settings by name, of the types that it says.

    `given` are other names that it is called with, where it takes them; `first` counts what it is given by place.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some built-in functions nothing is known
        return
    by_name = dict(list(signature.parameters.items())[first:])
    for name, value in settings.items():
        place = f"{key}.{name}"
        if name in given and takes(function, name):
            raise BenchError(f"{path} is given {name!r} by the workflow", key=place, remedy="remove it")
        if not takes(function, name):
            known = [other for other in by_name if other not in given]
            raise BenchError(f"{path} takes no {name!r}", key=place, remedy=choice(name, known))
        hint = _hints(function).get(name, Any)
        if not fits(value, hint):
            said = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
            raise BenchError(f"{path} wants {name!r} to be {said}, got {value!r}", key=place, remedy=f"write {said}")
    keywords = {name: None for name in given if takes(function, name)} | dict(settings)
    for name, parameter in by_name.items():
        if parameter.default is parameter.empty and parameter.kind not in _ANY and name not in keywords:
            raise BenchError(f"{path} needs {name!r}", key=key, remedy=f"add {name!r} there")
    try:
        signature.bind(*[None] * first, **keywords)
    except TypeError as error:
        raise BenchError(f"{path} cannot be called: {error}", key=key, remedy="mend its parameters") from error


_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function.__init__ if isinstance(function, type) else function)
    except Exception:  # names that only a type checker knows
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value out of YAML is of that type; of types that YAML has not it may be anything."""
    inner = typing.get_args(hint)
    kind: Any = typing.get_origin(hint) or hint
    if kind is typing.Annotated:
        return fits(value, inner[0])
    if kind is typing.Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if kind in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if kind in (list, tuple, Sequence, Collection, Iterable):
        return isinstance(value, list) and _all_fit(value, kind, inner)
    truth_for_a_number = kind in (int, float) and isinstance(value, bool)
    return isinstance(value, SCALARS.get(kind, object)) and not truth_for_a_number


def _all_fit(values: Sequence[Any], kind: Any, inner: Sequence[Any]) -> bool:
    if kind is tuple and inner and inner[-1] is not ...:
        return len(values) == len(inner) and all(map(fits, values, inner))
    return not inner or all(fits(value, inner[0]) for value in values)


SCALARS: dict[Any, Any] = {
    int: int, float: (int, float), str: str, bool: bool, types.NoneType: types.NoneType, dict: dict, Mapping: Mapping,
}  # fmt: skip
"""What YAML must hold for these types; of others nothing is known."""
