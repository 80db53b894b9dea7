"""The checks of shapes and types that tests run with: beartype's, made once for a signature.

jaxtyping asks for them whenever a function is defined, and a function within another is defined at each call of that.
What it hands over takes the arguments of the function to be checked and does nothing with them, so that functions with
the same annotations can have the same check.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype

MADE: dict[Any, Any] = {}


def once(function: Callable[..., Any]) -> Any:
    """Made when it is first called: of a hundred functions that tests import they call a few."""
    made: list[Any] = []

    def checked(*arguments: Any, **named: Any) -> Any:
        if not made:
            made.append(_made(function))
        return made[0](*arguments, **named)

    return checked


def _made(function: Callable[..., Any]) -> Any:
    if function.__defaults__ or function.__kwdefaults__:  # which are its own
        return beartype(function)
    key = (function.__module__, function.__qualname__, function.__code__, *function.__annotations__.items())
    try:
        hash(key)
    except TypeError:
        return beartype(function)
    if key not in MADE:
        MADE[key] = beartype(function)
    return MADE[key]
