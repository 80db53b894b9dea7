"""What a study names by its path, `package.module:name`."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from workflow.errors import BenchError


def named(path: str) -> Any:
    """What `package.module:name` stands for. Raises BenchError when it is not there."""
    module, name = path.split(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        remedy = "start the workflow where the module can be imported from, or install it"
        raise BenchError(f"cannot import {path!r}: {error}", key=path, remedy=remedy) from error


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether it can be given a parameter of that name."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
