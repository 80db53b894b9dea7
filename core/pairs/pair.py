"""Pairs (value, tangent) in place of tensors, and what an operation does on them: by a rule, in place, without one."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._pytree import tree_leaves, tree_map

from trigbench.core.holdings import refusal_of

Rule = Callable[[Callable[..., Any], Sequence[Any], dict[str, Any], Any], Any]
"""(operation, args, kwargs, its value) -> its tangent; None if it has none, NotImplemented if not covered."""
RULES: dict[Any, Rule] = {}
"""By operation; as core.pairs.table says, which fills it."""
WHOLE: dict[Any, Callable[..., Any]] = {}
"""What makes value and tangent together, called on pairs in place of the function; filled there too."""
IN_PLACE = re.compile(r".*[^_]_|__(set|setitem|delitem|i(?!nvert).*)__")
SEQUENCES = (list, tuple)
primal_of = attrgetter("primal")


@dataclass(eq=False)
class Evaluation:
    """What pairs of one evaluation share."""

    changed: list[Any] = field(default_factory=list)  # in place; tensors that became pairs so are only referred to
    kept: bool = False  # whether a pair was made an attribute of a module
    depth: tuple[int | None, int] = (None, -1)  # deeper in torch's transforms what pairs carry would be lost
    over: bool = False  # then its pairs are their values, wherever they are kept, but where a checkpoint computes again


def depth() -> tuple[int | None, int]:
    """Of torch.func's transforms around, and of forward mode."""
    return torch._C._functorch.maybe_current_level(), forward_ad._current_level  # type: ignore


RUNNING: ContextVar[Evaluation | None] = ContextVar("RUNNING", default=None)
_AGAIN = Evaluation(over=True)  # that of pairs that a checkpoint makes when it computes again


class FallbackWarning(UserWarning):
    """Something that torch.func.jvp takes in place of a rule, an operation or all: right, but slower."""


class DetachWarning(UserWarning):
    """A part that is detached, or that torch cannot differentiate, counts as standing still, as in torch.func.jvp,
    though its numbers move with the input."""


class NestingError(RuntimeError):
    """Of pairs within pairs: two directions would mix."""


PAST_PAIRS = frozenset({"data_ptr", "untyped_storage", "numpy", "__array__", "__dlpack__"})
"""What a kernel or another library reads a tensor by."""
UNLIKE = frozenset({
    "requires_grad_", "set_", "resize_", "resize_as_", "detach_", "share_memory_", "apply_", "map_", "map2_", "rename_",
    "__set__", "__delete__", "__delitem__",
})  # fmt: skip
"""In-place operations whose result is no function of numbers."""
SHARED = (
    "in-place operation {} on what other tensors may share, under value_and_tangent; write it out of place, or use "
    "method='func'"
)
BACKWARD = frozenset({torch.autograd.grad, torch.autograd.backward, Tensor.backward})


class Pair(Tensor):
    """A value with its derivative along one direction; shape, dtype and device are the value's.

    A tensor subclass, so that it passes type checks. Code that bypasses __torch_function__ gets an
    error from __torch_dispatch__, not a silent zero tangent.
    """

    primal: Tensor
    tangent: Tensor
    evaluation: Evaluation | None = None
    shares = True
    """Whether it has its value's memory too, as it has until it is changed in place."""
    shape = property(lambda self: self.primal.shape)  # type: ignore
    dtype = property(lambda self: self.primal.dtype)  # type: ignore
    device = property(lambda self: self.primal.device)  # type: ignore
    ndim = property(lambda self: self.primal.ndim)  # type: ignore

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore
        kwargs = kwargs or {}
        if has_kept(args, kwargs):
            return of_values(func, args, kwargs)
        rule = RULES.get(func)
        return _without_rule(func, args, kwargs) if rule is None else apply(func, rule, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore
        raise TypeError(f"pairs cannot follow {func} here; use method='func', or 'difference' where func fails too")

    @property
    def _is_param(self) -> bool:
        """What a module asks of a tensor that becomes its attribute."""
        if (running := RUNNING.get()) is not None:
            running.kept = True
        return False

    def __iter__(self):
        return iter(self.unbind(0))

    def __repr__(self) -> str:  # type: ignore
        return f"Pair({self.primal!r}, {self.tangent!r})"


class Spent(Pair):
    """What was changed in place: a checkpoint that computes again from it would not see what it saw before."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore
        if has_kept(args, kwargs or {}):
            return of_values(func, args, kwargs or {})
        raise RuntimeError(
            "a checkpointed part computes again from what was changed in place, maybe since; write it out of place, "
            "or use method='func'"
        )


def is_over(pair: Pair) -> bool:
    """Whether it was kept beyond its evaluation."""
    return pair.evaluation is not None and pair.evaluation.over


def has_kept(args: Iterable[Any], kwargs: dict[str, Any]) -> bool:
    """Whether there are pairs of an evaluation that is over, kept by the network; no checkpoint's, in a backward."""
    for a in (*args, *kwargs.values()) if kwargs else args:
        kind = type(a)
        if kind is Pair or kind is Spent:
            if is_over(a):
                return torch._C._current_graph_task_id() == -1
        elif kind in SEQUENCES and has_kept(a, {}):
            return True
    return False


def of_values(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The operation on values of pairs that were kept, beside what else there is."""

    def now(a: Any) -> Any:
        if isinstance(a, Pair):
            return a.primal if is_over(a) else a
        return type(a)(map(now, a)) if type(a) in SEQUENCES else a

    return func(*map(now, args), **{name: now(a) for name, a in kwargs.items()})


def apply(func: Callable[..., Any], rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The operation on values, recorded, and its rule on pairs, not recorded."""
    if not kwargs:
        value = func(*with_pairs(args, primal_of))
    elif kwargs.get("inplace") or kwargs.get("out") is not None:
        return _in_place(func, args, kwargs)
    else:
        value = func(
            *with_pairs(args, primal_of), **dict(zip(kwargs, with_pairs(kwargs.values(), primal_of), strict=True))
        )
    recording = torch.is_grad_enabled()
    torch._C._set_grad_enabled(False)  # torch.no_grad() would be a tenth of the whole run
    try:
        tangent = rule(func, args, kwargs, value)
    finally:
        torch._C._set_grad_enabled(recording)
    if tangent is NotImplemented:
        return fall_back(func, args, kwargs)
    if tangent is None:
        return value
    same = bool(args) and type(args[0]) is Pair and value is args[0].primal  # as x.contiguous() often is x
    return args[0] if same else join(value, tangent)


def _without_rule(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if isinstance(func, torch._C.ScriptMethod):
        raise RuntimeError(refusal_of(func))
    name = func.__name__
    if name in PAST_PAIRS:
        raise RuntimeError(f"{name} shows pairs' values to code that cannot see tangents; use method='difference'")
    if isinstance(func, torch._ops.HigherOrderOperator):  # flex_attention
        raise RuntimeError(f"{name} has no forward mode in torch; use method='difference'")
    if func in BACKWARD:
        raise RuntimeError(f"{name} inside of a function that pairs follow; use method='difference'")
    if IN_PLACE.fullmatch(name) or kwargs.get("inplace") or kwargs.get("out") is not None:
        return _in_place(func, args, kwargs)
    if (whole := WHOLE.get(func)) is not None:
        return whole(*args, **kwargs)
    if name == "__get__" and not isinstance(value := func(*with_pairs(args, primal_of)), Tensor):
        return value  # a property such as is_cuda
    return fall_back(func, args, kwargs)


def _in_place(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """x.relu_(), x[0] = y and the like: x gets new contents, which is the same where no other tensor has its memory."""
    name = func.__name__
    target = args[0] if args else None
    if kwargs.get("out") is not None or not isinstance(target, Tensor) or name in UNLIKE:
        raise RuntimeError(f"in-place operation {name} under value_and_tangent; use method='difference'")
    if not _moves(target):
        return func(
            *with_pairs(args, primal_of), **dict(zip(kwargs, with_pairs(kwargs.values(), primal_of), strict=True))
        )
    if _shares_memory(target):
        raise RuntimeError(SHARED.format(name))
    dtype, kwargs = target.dtype, {k: v for k, v in kwargs.items() if k != "inplace"}
    result = Pair.__torch_function__(_out_of_place(func), (), args, kwargs)
    primal, tangent = (None if part is None else part.to(dtype) for part in parts_of(result))
    if primal is None or primal.shape != target.shape:
        raise RuntimeError(f"in-place operation {name} would change the shape; use method='func'")
    tangent = torch.zeros_like(primal) if tangent is None else tangent
    running = RUNNING.get()  # None where a checkpoint computes again
    if type(target) is Pair:
        target.primal, target.tangent, target.shares, entry = primal, tangent, False, target
    else:
        entry = _take(target, join(primal, tangent), name)
    if running is not None:
        running.changed.append(entry)
    return target


def _take(tensor: Tensor, pair: Tensor, name: str) -> Any:
    """A plain tensor to which something that moves is written is a pair from now on."""
    try:
        torch.utils.swap_tensors(tensor, pair)
    except RuntimeError as error:  # a graph refers to it
        raise RuntimeError(SHARED.format(name)) from error
    tensor.own = pair  # type: ignore
    return ref(tensor)  # type: ignore


def _out_of_place(func: Callable[..., Any]) -> Callable[..., Any]:
    """The function of the same result."""
    name = func.__name__
    if name in ASSIGNMENTS:
        return ASSIGNMENTS[name]
    if not IN_PLACE.fullmatch(name):  # inplace=True
        return func
    name = f"__{name[3:]}" if name.startswith("__i") else name.removesuffix("_")

    def on_a_copy(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return func(x.clone(), *args, **kwargs)

    on_a_copy.__name__ = func.__name__.strip("_")
    return getattr(Tensor, name, on_a_copy)


def assign(x: Tensor, index: Any, value: Any) -> Tensor:
    """x[index] = value, out of place."""
    x = x.clone()
    x[index] = value
    return x


def copy(x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """x.copy_(source), out of place."""
    return source.to(x, non_blocking=non_blocking).expand(x.shape).clone()


def zero(x: Tensor) -> Tensor:
    """x.zero_(), out of place."""
    return x.clone().zero_()


ASSIGNMENTS: dict[str, Callable[..., Tensor]] = {"__setitem__": assign, "copy_": copy, "zero_": zero}


def _shares_memory(tensor: Tensor) -> bool:
    """Whether another tensor has its memory, a view or an alias of any kind; what is not plain may have one.

    A pair has its value's, and a view that of what it views; this is no one's else where no pair, no view and no
    alias of it is left.
    """
    plain = tensor.primal if isinstance(tensor, Pair) else tensor
    if type(plain) is not Tensor or plain.layout is not torch.strided:
        return True
    users = torch._C._storage_Use_Count(plain.untyped_storage()._cdata) - 1  # one is the storage just asked for
    if type(tensor) is not Pair:  # somebody may hold what it views
        return plain._base is not None or users > 1
    return users > 1 + tensor.shares + (plain._base is not None)


def fall_back(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """One operation by torch.func.jvp; a single evaluation, so that a random one draws once."""
    inputs, pairs, still = (args, list(kwargs.values())), [], []
    with_pairs(inputs, pairs.append)

    def of_pairs(*duals: Tensor) -> Any:
        remaining = iter(duals)
        new_args, new_values = with_pairs(inputs, lambda _: next(remaining))
        found = func(*new_args, **dict(zip(kwargs, new_values, strict=True)))
        still.extend(y for y in tree_leaves(found) if _moves(y) and forward_ad.unpack_dual(y).tangent is None)
        return found

    try:
        with out_of_inference():
            primals, tangents = (tuple(map(usable, map(attrgetter(part), pairs))) for part in ("primal", "tangent"))
            found = torch.func.jvp(of_pairs, primals, tangents)
    except NotImplementedError as error:
        raise RuntimeError(f"{func.__name__} has no forward mode in torch; use method='difference'") from error
    if still:
        said = f"torch has no derivative of {func.__name__}: its part stands still, as in torch.func.jvp; "
        warnings.warn(f"{said}method='difference' differentiates it too", DetachWarning, stacklevel=4)
    else:
        said = f"no rule for {func.__name__}: its tangent is taken by torch.func.jvp, which is right and slower"
        warnings.warn(said, FallbackWarning, stacklevel=4)
    return tree_map(join, *found) if isinstance(found[0], dict) else join(*found)


def _moves(value: Any) -> bool:
    """Whether its kind of numbers can have a tangent."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


@contextmanager
def out_of_inference() -> Iterator[None]:
    """Where torch has a forward mode; within inference mode torch 2.11 says nothing and makes tangents of zero."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def usable(tensor: Tensor) -> Tensor:
    """One that forward mode may take, a copy where inference mode made it."""
    return tensor.clone() if tensor.is_inference() else tensor


def join(value: Any, tangent: Any) -> Any:
    """A pair, with a tangent of the value's shape and dtype; a sequence becomes a sequence of pairs."""
    if not isinstance(value, Tensor):
        return type(value)(map(join, value, tangent))
    if not _moves(value):
        return value
    if tangent.dtype is not value.dtype:
        tangent = tangent.to(value.dtype)
    if tangent.shape != value.shape:
        tangent = tangent.expand(value.shape)
    if not (torch._C._is_fwd_grad_enabled() or torch.is_inference_mode_enabled()):
        raise RuntimeError(
            "pairs cannot follow a custom autograd function inside; use method='difference', or give it jvp"
        )
    running = RUNNING.get()
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0  # seldom, and told fast
    if transformed and running is not None and depth() != running.depth:
        raise RuntimeError("pairs are lost in torch.func's transforms, such as vmap and grad; use method='func'")
    pair = Tensor._make_subclass(Pair, value)  # type: ignore
    pair.primal, pair.tangent = value, tangent.detach() if tangent.requires_grad else tangent
    pair.evaluation = _AGAIN if running is None and torch._C._current_graph_task_id() != -1 else running
    return pair


def with_pairs(items: Iterable[Any], replacement: Callable[[Pair], Any]) -> list[Any]:
    """`items` with every pair replaced, those in lists and tuples too."""
    return [
        replacement(a) if type(a) is Pair else type(a)(with_pairs(a, replacement)) if type(a) in SEQUENCES else a
        for a in items
    ]


def only_first(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether the first argument is a pair, and the only one."""
    kinds = [type(a) for a in args]
    return kinds[:1] == [Pair] and kinds.count(Pair) == 1 and not (kwargs and Pair in map(type, kwargs.values()))


def parts_of(a: Any) -> tuple[Any, Any]:
    """(value, tangent); None where it is no pair."""
    return (a.primal, a.tangent) if type(a) is Pair else (a, None)
