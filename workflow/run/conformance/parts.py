"""Which part a path means, and the checks of its kind."""

import inspect
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from trigbench.core.objectives import OBJECTIVES, Method
from trigbench.core.objectives.regression import settings_class
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.named import check_call, imported, module_in, named_here
from trigbench.workflow.run.conformance.data_sets import check_data
from trigbench.workflow.run.conformance.finding import Finding
from trigbench.workflow.run.conformance.networks import check_network, is_called
from trigbench.workflow.run.conformance.objectives import check_objective
from trigbench.workflow.run.own import ABOUT, metrics_in
from trigbench.workflow.run.settings import MADE
from trigbench.workflow.study.kinds import read_data

PartKind = Literal["objective", "network", "data"]
KINDS: tuple[PartKind, ...] = get_args(PartKind)
GIVEN = ("fields", "x0", "draws", "settings")
"""What an objective is called with."""
SAY = "say which it is: --as objective, --as network or --as data"


def found(path: str) -> Any:
    """What `package.module:name`, `file.py:name`, a module or a file stands for. Raises BenchError where it is not."""
    if Path(path).is_dir():
        remedy = "name a file in it: a study's YAML file, a data set's module, or file.py:name"
        raise BenchError("it is a folder", file=path, key="FILE|MODULE:NAME", remedy=remedy)
    if ":" in Path(path).name:
        return named_here(path)
    return module_in(Path(path), path) if path.endswith(".py") else imported(path, path)


def kind_of(part: Any, path: str) -> PartKind:
    """Which part it is, by what it takes. Raises BenchError where that does not tell."""
    if isinstance(part, types.ModuleType):
        if hasattr(part, "open_dataset") or hasattr(part, "prepare"):
            return "data"
        own = {name: one for name, one in vars(part).items() if getattr(one, "__module__", None) == part.__name__}
        names = sorted(own, key=lambda name: isinstance(own[name], type) and not issubclass(own[name], nn.Module))
        remedy = f"name one of its functions or classes: {path}:{names[0] if names else 'name'}"
        raise BenchError("the module is no data set: it has no 'prepare'", key=path, remedy=remedy)
    if isinstance(part, type) and issubclass(part, nn.Module):
        return "network"
    if not callable(part):
        raise BenchError(f"it is no function or class but {type(part).__name__}", key=path, remedy=SAY)
    names = list(inspect.signature(part).parameters)
    if "draws" in names or "fields" in names:
        return "objective"
    if "shape" in names:
        return "network"
    if getattr(part, "__name__", "") in ("prepare", "open_dataset", "judge_samples", "judge_map", "floors"):
        return "data"
    if len(names) == len(GIVEN):
        return "objective"
    raise BenchError(f"what it takes, ({', '.join(names)}), does not tell what it is", key=path, remedy=SAY)


def check_part(
    path: str, kind: PartKind | None = None, settings: Mapping[str, Any] | None = None, **about: Any
) -> tuple[PartKind, list[Finding]]:
    """(what the path means, the findings). Raises BenchError for what is not there or takes no such settings.

    `about` is for networks: `shape` and `classes` of the data; a shape that is not given is looked for.
    """
    part, settings = found(path), dict(settings or {})
    kind = kind or kind_of(part, path)
    if kind == "data":
        module = part if isinstance(part, types.ModuleType) else sys.modules[part.__module__]
        return kind, _of_data(module, settings)
    if not callable(part):
        raise BenchError(f"it is no function or class but {type(part).__name__}", key=path, remedy="name one in it")
    if kind == "objective":
        return kind, _of_objective(path, part, settings)
    check_call(path, part, ABOUT, settings, "--settings")
    if about.get("shape") is None:
        about["shape"] = shape_for(part, settings, about.get("classes") or 0)
    return kind, check_network(part, settings=settings, **about)


def _of_objective(path: str, part: Callable[..., Any], settings: Mapping[str, Any]) -> list[Finding]:
    table = {method.path: method for method in OBJECTIVES.values()}
    method = table.get(f"{getattr(part, '__module__', '')}:{getattr(part, '__name__', '')}")
    try:
        inspect.signature(part).bind(*GIVEN)
    except TypeError as error:
        remedy = f"let it take ({', '.join(GIVEN)})"
        raise BenchError(f"it cannot be called as an objective: {error}", key=path, remedy=remedy) from error
    check_call(f"the settings of {path}", settings_class(part), MADE, settings, "--settings")
    return check_objective(part, settings, **(about(method) if method else {}))


def about(method: Method) -> dict[str, Any]:
    """What the table says of a method that its check has to know."""
    grouped = {"group": method.group.setting} if method.group else {}
    return {"even": method.even, "halves": method.halves, **grouped}


def _of_data(module: types.ModuleType, settings: Mapping[str, Any]) -> list[Finding]:
    data = read_data({"kind": "own", "module": module.__name__, "settings": dict(settings)})
    metrics_in(data, "--settings")
    return check_data(module, data, settings)


SHAPES = ((2,), (1, 8, 8), (3, 16, 16), (3, 32, 32))


def shape_for(make: Callable[..., Any], settings: Mapping[str, Any], classes: int) -> tuple[int, ...]:
    """The first of SHAPES of which the network takes points; the last where it takes none."""
    for shape in SHAPES:
        if is_called(make, shape, classes, settings):
            return shape
    return SHAPES[-1]
