"""Checkpointed parts of a module that is called with other weights compute again with these.

torch.func.functional_call takes the weights out again before the backward pass, in which a checkpoint (that is not
re-entrant) computes again: with the module's own, whose gradients would be wrong in silence.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils import checkpoint

Given = tuple[tuple[nn.Module, Mapping[str, Tensor]], ...]
_GIVEN: ContextVar[Given] = ContextVar("GIVEN", default=())
_generator: Callable[..., Any] = checkpoint._checkpoint_without_reentrant_generator


@contextmanager
def again_with(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """What is checkpointed within it computes again with these weights in the module."""
    _watch()
    token = _GIVEN.set((*_GIVEN.get(), (module, weights)))
    try:
        yield
    finally:
        _GIVEN.reset(token)


@cache
def _watch() -> None:
    checkpoint._checkpoint_without_reentrant_generator = _remembering


def _remembering(function: Callable[..., Any], *settings: Any, **named: Any) -> Any:
    """torch's own; it calls the function in the backward pass alone."""
    given = _GIVEN.get()
    return _generator(partial(_again, given, function) if given else function, *settings, **named)


def _again(given: Given, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with ExitStack() as stack:
        for module, weights in given:
            stack.enter_context(_reparametrize_module(module, weights, tie_weights=True))  # type: ignore
        return function(*args, **kwargs)
