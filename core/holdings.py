"""What a function holds besides its arguments: modules, their state, and TorchScript.

A field is a closure over a network, so that what an evaluation may change, running statistics and
counters say, is looked for in closures, partials, bound methods, global names and the objects that
these hold, and in the modules among them. Modules that are hidden from this are found when they are called.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

_LARGEST = 5000
"""Lists and dicts with more in them are data and not looked through."""
_NOTHING = object()
_SIMPLE = (Tensor, int, float, str)
_KINDS = {Tensor, FunctionType, MethodType, partial, dict, list, torch.jit.ScriptFunction, torch._C.ScriptMethod}
_LIBRARIES = frozenset({"torch", "numpy", "jaxtyping", "beartype", *sys.stdlib_module_names})
"""Whose global names hold no state of a network; what their wrappers close over may."""
_SCRIPTED = (torch.jit.ScriptModule, torch.jit.ScriptFunction, torch._C.ScriptMethod)


@dataclass(frozen=True)
class Held:
    """What a function holds; everything once."""

    modules: list[nn.Module] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    """Those outside modules, but for parameters."""
    dicts: list[dict[Any, Any]] = field(default_factory=list)
    objects: list[Any] = field(default_factory=list)
    """Objects of other kinds that have attributes."""
    scripted: list[Any] = field(default_factory=list)


def held_by(function: Any) -> Held:
    """What `function` holds, as far as it can be found without running it."""
    held, seen, waiting = Held(), set[int](), [function]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        if item is None or kind is nn.Parameter or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, nn.Module):
            _add_parts(item, held.modules, seen)
        elif kind is Tensor:
            held.tensors.append(item)
        elif kind is FunctionType:
            _add_direct(_captured(item), held, waiting)
        elif kind is MethodType:
            waiting.append(item.__func__)
            _add_direct([item.__self__], held, waiting)
        elif isinstance(item, partial):
            waiting.append(item.func)
            _add_direct((*item.args, *item.keywords.values()), held, waiting)
        elif isinstance(item, list | tuple | dict):
            if len(item) <= _LARGEST:
                if isinstance(item, dict):
                    held.dicts.append(item)
                waiting.extend(item.values() if isinstance(item, dict) else item)
        elif isinstance(item, _SCRIPTED):
            held.scripted.append(item)
        elif callable(item) and _has_attributes(item):
            held.objects.append(item)
            waiting.extend(vars(item).values())
    return held


def _add_direct(items: Iterable[Any], held: Held, waiting: list[Any]) -> None:
    """What a function names itself is looked into once, whatever it is; deeper there may be anything."""
    for item in items:
        if not callable(item) and _has_attributes(item):
            held.objects.append(item)
            waiting.extend(vars(item).values())
        else:
            waiting.append(item)


def _add_parts(module: nn.Module, found: list[nn.Module], seen: set[int]) -> None:
    found.append(module)
    for part in module._modules.values():
        if part is not None and (own := id(part)) not in seen:
            seen.add(own)
            _add_parts(part, found, seen)


def _has_attributes(item: Any) -> bool:
    """Whether it is an instance of somebody's class, with attributes of its own."""
    foreign = type(item).__module__.partition(".")[0] in ("torch", "numpy", "builtins")
    return not foreign and not isinstance(item, type) and isinstance(getattr(item, "__dict__", None), dict)


def _captured(function: FunctionType) -> Iterator[Any]:
    """What a function's closure, defaults and global names stand for, of kinds that may hold something."""
    if (function.__module__ or "torch").partition(".")[0] in ("torch", "numpy"):
        return
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet filled
            continue
    yield from function.__defaults__ or ()
    if str(function.__globals__.get("__name__")).partition(".")[0] not in _LIBRARIES:
        yield from _named(function.__code__, function.__globals__)


def _named(code: CodeType, names: dict[str, Any]) -> Iterator[Any]:
    for name in _names_in(code):
        item = names.get(name)
        if type(item) in _KINDS or isinstance(item, nn.Module) or _has_attributes(item):
            yield item
        elif type(item) is ModuleType and not item.__name__.startswith(("torch", "numpy")):
            own = vars(item)
            yield from (own[other] for other in _names_in(code) if type(own.get(other)) in _KINDS)


@lru_cache(maxsize=1024)
def _names_in(code: CodeType) -> tuple[str, ...]:
    inside = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return (*code.co_names, *(name for part in inside for name in _names_in(part)))


def refuse_scripts(held: Held) -> None:
    """RuntimeError where there is TorchScript in it, or in what the classes of its modules call by a global name."""
    for script in held.scripted:
        raise RuntimeError(refusal_of(script))
    for module in held.modules:
        if found := _scripts_of(type(module)):
            raise RuntimeError(refusal_of(module if found[0] is type(module) else found[0]))


def refusal_of(script: Any) -> str:
    """What is wrong with TorchScript, of which forward mode loses tangent and gradient from the second call on."""
    name = getattr(script, "original_name", None) or getattr(script, "name", None) or type(script).__name__
    return (
        f"{name} is TorchScript, where forward mode loses tangent and gradient in silence (pytorch#73972); use the "
        "module or function that was scripted or traced, or method='difference'"
    )


@lru_cache(maxsize=1024)
def _scripts_of(kind: type) -> tuple[Any, ...]:
    if issubclass(kind, torch.jit.ScriptModule):
        return (kind,)
    methods = [f for owner in kind.__mro__ if owner is not nn.Module for f in vars(owner).values()]
    named = [item for f in methods if isinstance(f, FunctionType) for item in _captured(f)]
    inside = [item for f in named if isinstance(f, FunctionType) for item in _captured(f)]
    return tuple(item for item in (*named, *inside) if isinstance(item, _SCRIPTED))


@dataclass(frozen=True)
class Noted:
    """What a function held that an evaluation may change."""

    entries: list[tuple[dict[str, Any], dict[str, Any]]]
    """A module's attributes or buffers, and which they were."""
    tensors: list[tuple[Tensor, int | None, Tensor | None]]
    """A tensor, its version, and a copy where one was made."""

    def put_back(self) -> bool:
        """Restores it; False where a tensor changed of which no copy was made."""
        for place, was in self.entries:
            for name, now in list(place.items()):
                if now is was.get(name, _NOTHING) or not _is_state(now, was.get(name, 0)):
                    continue
                if name in was:
                    place[name] = was[name]
                else:
                    del place[name]
        noted = {id(tensor) for tensor, _, _ in self.tensors}
        others = [a for _, was in self.entries for a in was.values() if type(a) is Tensor and id(a) not in noted]
        known = not any(map(_version, others))  # these are no buffers, and were not written to since they were made
        for tensor, version, copy in self.tensors:
            if copy is not None:  # always, as batch norm changes its buffers without a new version
                tensor.data.copy_(copy)
            else:
                known = known and version is not None and version == _version(tensor)
        return known


def _is_state(now: Any, was: Any) -> bool:
    """What was None and is no tensor now is not: it was made ready on first use."""
    return (
        isinstance(now, Tensor) if was is None else isinstance(was, _SIMPLE) and isinstance(now, (*_SIMPLE, type(None)))
    )


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def noted(held: Held) -> Noted:
    """Its state, quickly: with copies of buffers; whether other tensors changed can be told afterwards."""
    state = Noted([], [(tensor, _version(tensor), None) for tensor in held.tensors])
    for item in held.objects:
        state.entries.append((vars(item), vars(item).copy()))
    for module in held.modules:
        _note(state, module)
    return state


def _note(state: Noted, module: nn.Module) -> None:
    own, buffers = vars(module), module._buffers
    state.entries.append((own, own.copy()))
    if isinstance(buffers, dict):  # TorchScript has its own
        state.entries.append((buffers, buffers.copy()))
        for buffer in buffers.values():
            if buffer is not None:
                _copy(state, buffer)


def copied(held: Held) -> Noted:
    """Its state, to put it back, with copies of all tensors but parameters and what is given in their place."""
    state, weights = noted(held), _weights(held)
    state.tensors[: len(held.tensors)] = []
    for tensor in held.tensors:
        if id(tensor) in weights:
            state.tensors.append((tensor, _version(tensor), None))
        else:
            _copy(state, tensor)
    for module in held.modules:
        for value in vars(module).values():
            if type(value) is Tensor:
                _copy(state, value)
    return state


def _weights(held: Held) -> set[int]:
    """Tensors under the names of parameters, such as those that `bind` is given; they are large and not written to."""
    names = {name for module in held.modules for name, _ in module.named_parameters()} if held.dicts else set()
    given = [tensor for by_name in held.dicts for name, tensor in by_name.items() if name in names]
    return {id(tensor) for tensor in given if type(tensor) is Tensor and not tensor.is_inference()}


def _copy(state: Noted, tensor: Tensor) -> None:
    if not (tensor.requires_grad and tensor.is_leaf):
        state.tensors.append((tensor, _version(tensor), tensor.detach().clone()))


@contextmanager
def unchanged(function: Callable[..., Any]) -> Iterator[None]:
    """After it, what `function` holds is what it was before.

    So is what modules hold that it hides, say in an object that it captured; but not where a module is compiled,
    which would be compiled anew for each look.
    """
    held = held_by(function)
    state = copied(held)
    compiled = any("_orig_mod" in m._modules or m._compiled_call_impl is not None for m in held.modules)
    try:
        with nullcontext() if compiled else watched(held, state):
            yield
    finally:
        state.put_back()
    if any(copy is None and version != _version(tensor) for tensor, version, copy in state.tensors):
        raise RuntimeError("the function writes to weights in place, which are not put back; use method='pairs'")


@contextmanager
def watched(held: Held, state: Noted) -> Iterator[None]:
    """Within it, modules that were not found are added to `state` when they are called, before they run."""
    known = {id(module) for module in held.modules}

    def remember(module: nn.Module, _: Any) -> None:
        if id(module) in known:
            return
        for part in module.modules():
            if id(part) not in known:
                known.add(id(part))
                _note(state, part)

    handle = register_module_forward_pre_hook(remember)
    try:
        yield
    finally:
        handle.remove()
