"""Forward mode by operator overloading, the value recorded by autograd and the tangent not.

A pair walks through an unmodified function in place of a tensor. Each operation on it runs once on
values, as it would without us, and once for the tangent, by a rule from `RULES`; what has no rule
goes to torch.func.jvp for that one operation, with a FallbackWarning. Cheaper than torch.func.jvp of the
whole function because weights have no tangents to add and the tangent's graph is never recorded.
"""

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import attrgetter
from types import FunctionType
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from core.attention import attention_with_tangent
from core.holdings import held_by, refusal_of, refuse_scripts

Rule = Callable[[Callable[..., Any], Sequence[Any], dict[str, Any], Any], Any]
"""(operation, args, kwargs, its value) -> its tangent; None if it has none, NotImplemented if not covered."""

IN_PLACE = re.compile(r".*[^_]_|__(set|setitem|delitem|i(?!nvert).*)__")
_SEQUENCES = (list, tuple)
_AT_ONCE = 2**20
"""Numbers that are stored at once where there would be one for each dimension of each pair of points."""
_primal = attrgetter("primal")


@dataclass(eq=False)
class Evaluation:
    """What pairs of one evaluation share."""

    changed: list[Any] = field(default_factory=list)
    """Those that were changed in place; tensors that became pairs so are only referred to."""
    kept: bool = False
    """Whether a pair was made an attribute of a module."""
    over: bool = False
    """Then its pairs are their values, wherever they were kept, but where a checkpoint computes again."""


_running: ContextVar[Evaluation | None] = ContextVar("_running", default=None)
_AGAIN = Evaluation(over=True)
"""That of pairs that a checkpoint makes when it computes again."""


class FallbackWarning(UserWarning):
    """Something that torch.func.jvp takes in place of a rule, an operation or all: right, but slower."""


class DetachWarning(UserWarning):
    """A detached part counts as standing still, as in torch.func.jvp, though its numbers move with the input."""


class NestingError(RuntimeError):
    """Of pairs within pairs: two directions would mix."""


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
        if _has_kept(args, kwargs):
            return _of_values(func, args, kwargs)
        rule = RULES.get(func)
        return _without_rule(func, args, kwargs) if rule is None else _apply(func, rule, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore
        raise TypeError(f"pairs cannot follow {func} here; use method='func', or 'difference' where func fails too")

    @property
    def _is_param(self) -> bool:
        """What a module asks of a tensor that becomes its attribute."""
        if (running := _running.get()) is not None:
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
        if _has_kept(args, kwargs or {}):
            return _of_values(func, args, kwargs or {})
        raise RuntimeError(
            "a checkpointed part computes again from what was changed in place, maybe since; write it out of place, "
            "or use method='func'"
        )


def evaluate(function: Callable[..., Any], primals: Sequence[Tensor], tangents: Sequence[Tensor]) -> tuple[Any, Any]:
    """function(*primals), recorded, and its derivative along `tangents`, not recorded.

    What torch.compile has made of a part of the function runs eagerly, and what the function leaves in modules or in
    tensors that it did not make is left there without a tangent. Raises RuntimeError when `function` itself comes
    here (pairs of two directions would mix), changes in place what shares memory with other tensors, holds
    TorchScript, or hides operations in a torch.autograd.Function (their values would lose the gradient).
    """
    if _running.get() is not None:
        raise NestingError("pairs do not nest; evaluate the outer function with method='func'")
    running = Evaluation()
    token = _running.set(running)
    try:
        with _eager():
            output = function(*map(_join, primals, tangents))
        return map_tensors(_value_of, output), map_tensors(_tangent_of, output)
    except Exception as error:
        if "TorchScript" in str(error):  # by the name of what the function holds
            refuse_scripts(held_by(function))
        if "method=" not in str(error):
            error.add_note(
                "pairs took the place of tensors here; method='func' may do, and 'difference' where that fails"
            )
        raise
    finally:
        _running.reset(token)
        output = None
        running.over = True
        _leave_plain(function, running)


def map_tensors(change: Callable[..., Tensor], *outputs: Any) -> Any:
    """`change` of each tensor of an output, or of several alike: tensors, or tuples, lists or dicts of them."""

    def one(*parts: Any) -> Tensor:
        if not isinstance(parts[0], Tensor):
            raise ValueError(
                f"the function returns {type(parts[0]).__name__} where a tensor is expected, or tuples, lists or dicts "
                "of tensors; choose from what it returns, as in lambda *inputs: function(*inputs)[0]"
            )
        return change(*parts)

    return one(*outputs) if isinstance(outputs[0], Tensor) else tree_map(one, *outputs)


def _value_of(output: Tensor) -> Tensor:
    return output.primal if isinstance(output, Pair) else output


def _tangent_of(output: Tensor) -> Tensor:
    return output.tangent if isinstance(output, Pair) and not _is_over(output) else torch.zeros_like(_value_of(output))


def _is_over(pair: Pair) -> bool:
    return pair.evaluation is not None and pair.evaluation.over


def _has_kept(args: Iterable[Any], kwargs: dict[str, Any]) -> bool:
    """Whether there are pairs of an evaluation that is over, kept by the network; no checkpoint's, in a backward."""
    for a in (*args, *kwargs.values()) if kwargs else args:
        kind = type(a)
        if kind is Pair or kind is Spent:
            if _is_over(a):
                return torch._C._current_graph_task_id() == -1
        elif kind in _SEQUENCES and _has_kept(a, {}):
            return True
    return False


def _of_values(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The operation on values of pairs that were kept, beside what else there is."""

    def now(a: Any) -> Any:
        if isinstance(a, Pair):
            return a.primal if _is_over(a) else a
        return type(a)(map(now, a)) if type(a) in _SEQUENCES else a

    return func(*map(now, args), **{name: now(a) for name, a in kwargs.items()})


def _leave_plain(function: Callable[..., Any], evaluation: Evaluation) -> None:
    """What was changed in place is left as it is for checkpoints and others; a module's attributes are tensors."""
    while evaluation.changed:
        entry = evaluation.changed.pop()
        if isinstance(entry, Pair):
            entry.__class__ = Spent
        elif (pair := entry()) is not None:
            del entry  # what is weakly referred to is not swapped
            _return(pair)
    if evaluation.kept:
        for module in held_by(function).modules:
            for place in (vars(module), module._buffers):
                place.update({name: value.primal for name, value in place.items() if isinstance(value, Pair)})


def _return(pair: Tensor) -> None:
    """A tensor that was taken as a pair is a tensor again, with what was written to it."""
    primal, own = pair.primal, pair.own  # type: ignore
    try:
        torch.utils.swap_tensors(pair, own)
    except RuntimeError:  # others refer to it
        pair.__class__ = Spent
    else:
        pair.copy_(primal)


def _eager() -> AbstractContextManager:
    # only who has compiled something pays for looking; the import alone takes seconds
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _apply(func: Callable[..., Any], rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if not kwargs:
        value = func(*_replace(args, _primal))
    elif kwargs.get("inplace") or kwargs.get("out") is not None:
        return _in_place(func, args, kwargs)
    else:
        value = func(*_replace(args, _primal), **dict(zip(kwargs, _replace(kwargs.values(), _primal), strict=True)))
    recording = torch.is_grad_enabled()
    torch._C._set_grad_enabled(False)  # torch.no_grad() would be a tenth of the whole run
    try:
        tangent = rule(func, args, kwargs, value)
    finally:
        torch._C._set_grad_enabled(recording)
    if tangent is NotImplemented:
        return _fallback(func, args, kwargs)
    if tangent is None:
        return value
    same = bool(args) and type(args[0]) is Pair and value is args[0].primal  # as x.contiguous() often is x
    return args[0] if same else _join(value, tangent)


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
    if name == "__get__" and not isinstance(value := func(*_replace(args, _primal)), Tensor):
        return value  # a property such as is_cuda
    return _fallback(func, args, kwargs)


def _in_place(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """x.relu_(), x[0] = y and the like: x gets new contents, which is the same where no other tensor has its memory."""
    name = func.__name__
    target = args[0] if args else None
    if kwargs.get("out") is not None or not isinstance(target, Tensor) or name in UNLIKE:
        raise RuntimeError(f"in-place operation {name} under value_and_tangent; use method='difference'")
    if not (target.is_floating_point() or target.is_complex()):
        return func(*_replace(args, _primal), **dict(zip(kwargs, _replace(kwargs.values(), _primal), strict=True)))
    if _shares_memory(target):
        raise RuntimeError(SHARED.format(name))
    dtype, kwargs = target.dtype, {k: v for k, v in kwargs.items() if k != "inplace"}
    result = Pair.__torch_function__(_out_of_place(func), (), args, kwargs)
    primal, tangent = (None if part is None else part.to(dtype) for part in _parts(result))
    if primal is None or primal.shape != target.shape:
        raise RuntimeError(f"in-place operation {name} would change the shape; use method='func'")
    tangent = torch.zeros_like(primal) if tangent is None else tangent
    running = _running.get()  # None where a checkpoint computes again
    if type(target) is Pair:
        target.primal, target.tangent, target.shares, entry = primal, tangent, False, target
    else:
        entry = _take(target, _join(primal, tangent), name)
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


def _assign(x: Tensor, index: Any, value: Any) -> Tensor:
    """x[index] = value, out of place."""
    x = x.clone()
    x[index] = value
    return x


def _copy(x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """x.copy_(source), out of place."""
    return source.to(x, non_blocking=non_blocking).expand(x.shape).clone()


def _zero(x: Tensor) -> Tensor:
    """x.zero_(), out of place."""
    return x.clone().zero_()


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


def _fallback(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """One operation by torch.func.jvp; a single evaluation, so that a random one draws once."""
    said = f"no rule for {func.__name__}: its tangent is taken by torch.func.jvp, which is right and slower"
    warnings.warn(said, FallbackWarning, stacklevel=4)
    inputs, pairs = (args, list(kwargs.values())), []
    _replace(inputs, pairs.append)

    def of_pairs(*duals: Tensor) -> Any:
        remaining = iter(duals)
        new_args, new_values = _replace(inputs, lambda _: next(remaining))
        return func(*new_args, **dict(zip(kwargs, new_values, strict=True)))

    try:
        found = torch.func.jvp(of_pairs, tuple(p.primal for p in pairs), tuple(p.tangent for p in pairs))
    except NotImplementedError as error:
        raise RuntimeError(f"{func.__name__} has no forward mode in torch; use method='difference'") from error
    return _join(*found)


def _join(value: Any, tangent: Any) -> Any:
    """A pair, with a tangent of the value's shape and dtype; a sequence becomes a sequence of pairs."""
    if not isinstance(value, Tensor):
        return type(value)(map(_join, value, tangent))
    if not (value.is_floating_point() or value.is_complex()):
        return value
    if tangent.dtype is not value.dtype:
        tangent = tangent.to(value.dtype)
    if tangent.shape != value.shape:
        tangent = tangent.expand(value.shape)
    if not (torch._C._is_fwd_grad_enabled() or torch.is_inference_mode_enabled()):
        raise RuntimeError(
            "pairs cannot follow a torch.autograd.Function; use method='difference', or 'func' where it defines jvp"
        )
    pair = Tensor._make_subclass(Pair, value)  # type: ignore
    pair.primal, pair.tangent = value, tangent.detach() if tangent.requires_grad else tangent
    running = _running.get()
    pair.evaluation = _AGAIN if running is None and torch._C._current_graph_task_id() != -1 else running
    return pair


def _replace(items: Iterable[Any], replacement: Callable[[Pair], Any]) -> list[Any]:
    """`items` with every pair replaced, those in lists and tuples too."""
    return [
        replacement(a) if type(a) is Pair else type(a)(_replace(a, replacement)) if type(a) in _SEQUENCES else a
        for a in items
    ]


def _only_first(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    kinds = [type(a) for a in args]
    return kinds[:1] == [Pair] and kinds.count(Pair) == 1 and not (kwargs and Pair in map(type, kwargs.values()))


def _parts(a: Any) -> tuple[Any, Any]:
    return (a.primal, a.tangent) if type(a) is Pair else (a, None)


def _plain(func, args, kwargs, value):
    return None


def _detached(func, args, kwargs, value):
    warnings.warn(
        "detach cuts the tangent as it cuts the gradient, as in torch.func.jvp; where the detached part moves with the "
        "input, method='difference' differentiates it too",
        DetachWarning,
        stacklevel=4,
    )
    return value.new_zeros(())  # still a pair, so that who writes to it or asks for its gradient is refused


def _assigned(func, args, kwargs, value):
    (_, moving), index, (_, tangent) = _parts(args[0]), args[1], _parts(args[2])
    return func(torch.zeros_like(value) if moving is None else moving, index, 0 if tangent is None else tangent)


def _copied(func, args, kwargs, value):
    tangent = _parts(args[1])[1]
    return torch.zeros_like(value) if tangent is None else func(value, tangent)


def _jointly_linear(func, args, kwargs, value):
    """Linear in all tensors but indices together; what does not move counts as zeros."""

    into_a_part = func.__name__.endswith("_scatter")  # where integers are no index
    source = kwargs.get("src", args[1] if len(args) > 1 else None) if into_a_part else None

    def moving(a: Any) -> Any:
        if type(a) is Pair:
            return a.tangent
        return torch.zeros_like(a) if _of_numbers(a) or (a is source and a is not None) else a

    return func(*map(moving, args), **dict(zip(kwargs, map(moving, kwargs.values()), strict=True)))


def _scattered(func, args, kwargs, value):
    """Linear in the input and a tensor `src`; a number, and a tensor that does not move, count as zero."""
    options = dict(zip(("dim", "index", "src"), args[1:], strict=False)) | kwargs
    if not args or len(args) > 4 or "reduce" in options or "input" in options:
        return NotImplemented
    moving, along = _parts(args[0])[1], _parts(options.get("src", options.get("value")))[1]
    moving = torch.zeros_like(value) if moving is None else moving
    return func(moving, options["dim"], options["index"], 0 if along is None else along)


def _of_numbers(a: Any) -> bool:
    return isinstance(a, Tensor) and (a.is_floating_point() or a.is_complex())


def _masked_fill(func, args, kwargs, value):
    return func(args[0].tangent, args[1], 0) if _only_first(args, kwargs) and len(args) == 3 else NotImplemented


def _distances(func, args, kwargs, value):
    """cdist, of differences, as a sum of products would lose digits where points are close; some rows at a time."""
    options = dict(zip(("p", "compute_mode"), args[2:], strict=False)) | kwargs
    p = float(options.get("p", 2.0))
    if len(args) < 2 or not 1 <= p < math.inf:
        return NotImplemented
    (x, dx), (y, dy) = map(_parts, args[:2])
    x, y, dy = x.to(value.dtype), y.to(value.dtype), None if dy is None else dy.to(value.dtype)
    rows = max(1, _AT_ONCE // max(1, value[..., :1, :].numel() * x.shape[-1]))
    moving = [None] * len(x.split(rows, -2)) if dx is None else dx.to(value.dtype).split(rows, -2)
    parts = zip(x.split(rows, -2), moving, value.split(rows, -2), strict=True)
    return torch.cat([_distances_of_rows(p, x, dx, y, dy, value) for x, dx, value in parts], -2)


def _distances_of_rows(p, x, dx, y, dy, value):
    apart = x.unsqueeze(-2) - y.unsqueeze(-3)
    moved = 0 if dx is None else dx.unsqueeze(-2)
    moved = moved if dy is None else moved - dy.unsqueeze(-3)
    weights = apart if p == 2 else apart.sign() * apart.abs() ** (p - 1)
    return ((weights * moved).sum(-1) / value ** (p - 1)).masked_fill(value == 0, 0)


def _sampled(func, args, kwargs, value):
    """Linear in the input; in the grid its own backward kernel, of one channel at a time, is its derivative."""
    options = dict(zip(("mode", "padding_mode", "align_corners"), args[2:], strict=False)) | kwargs
    mode, padding = options.get("mode", "bilinear"), options.get("padding_mode", "zeros")
    corners = bool(options.get("align_corners"))
    if len(args) < 2:
        return NotImplemented
    (image, moved), (grid, shift) = map(_parts, args[:2])
    along = None if moved is None else func(moved, grid, mode=mode, padding_mode=padding, align_corners=corners)
    if shift is None:
        return along
    batch, channels = image.shape[:2]
    each = image.reshape(batch * channels, 1, *image.shape[2:])
    shared = grid.repeat_interleave(channels, 0)
    backward = aten.grid_sampler_2d_backward if image.ndim == 4 else aten.grid_sampler_3d_backward
    modes = ("bilinear", "nearest", "bicubic").index(mode), ("zeros", "border", "reflection").index(padding)
    ones = torch.ones_like(value).reshape(batch * channels, 1, *value.shape[2:])
    slope = backward(ones, each, shared, *modes, corners, [False, True])[1]
    shifted = (slope * shift.repeat_interleave(channels, 0)).sum(-1).reshape(value.shape)
    return shifted if along is None else along + shifted


def _view(func, args, kwargs, value):
    """The tangent may be laid out otherwise than the value."""
    if not _only_first(args, kwargs) or any(isinstance(a, torch.dtype) for a in (*args, *kwargs.values())):
        return NotImplemented
    return args[0].tangent.reshape(value.shape)


def _linear(func, args, kwargs, value):
    if _only_first(args, kwargs):
        return args[0].tangent if value is args[0].primal else func(args[0].tangent, *args[1:], **kwargs)
    plain = bool(args) and type(args[0]) is not Pair  # as in x.to(pair), where the pair lends its dtype only
    return None if plain else NotImplemented


def _like(func, args, kwargs, value):
    """Linear in the first argument; the second lends its shape or dtype."""
    if type(args[0]) is not Pair:
        return None
    return func(args[0].tangent, *_replace(args[1:], _primal), **kwargs)


def _view_as(func, args, kwargs, value):
    return args[0].tangent.reshape(value.shape) if type(args[0]) is Pair else None


def _linear_in_list(func, args, kwargs, value):
    if not args or type(args[0]) not in _SEQUENCES:
        return NotImplemented
    return func([a.tangent if type(a) is Pair else torch.zeros_like(a) for a in args[0]], *args[1:], **kwargs)


def _affine(func, args, kwargs, value):
    """func(x, weight, bias, ...), linear in x; the bias does not move."""
    if not _only_first(args, kwargs) or len(args) < 2:
        return NotImplemented
    return func(args[0].tangent, args[1], None, *args[3:], **{k: v for k, v in kwargs.items() if k != "bias"})


def _two(combine: Callable[..., Any], reflected: bool = False) -> Rule:
    """The rule of a function of two arguments; `combine` gets (func, (a, da), (b, db), value), da or db None if plain.

    `reflected` functions take b first.
    """

    def rule(func, args, kwargs, value):
        if kwargs or len(args) != 2:
            return NotImplemented
        a, b = args[::-1] if reflected else args
        return combine(func, *_parts(a), *_parts(b), value)

    return rule


def _bilinear(func, a, da, b, db, value):
    if db is None:
        return func(da, b)
    return func(a, db) if da is None else func(da, b) + func(a, db)


def _multiply(func, a, da, b, db, value):
    if db is None:
        return da * b
    return a * db if da is None else torch.addcmul(da * b, a, db)


def _add(func, a, da, b, db, value):
    return da if db is None else db if da is None else da + db


def _subtract(func, a, da, b, db, value):
    return da if db is None else -db if da is None else da - db


def _divide(func, a, da, b, db, value):
    if db is None:
        return da / b
    return -(value * db) / b if da is None else (da - value * db) / b


def _hypotenuse(func, a, da, b, db, value):
    moved = 0 if da is None else a * da
    return (moved if db is None else moved + b * db) / value


def _elementwise(push: Callable[..., Any]) -> Rule:
    """The rule of a function of one tensor; `push` gets (dx, x, y, remaining arguments) and returns dy."""

    def rule(func, args, kwargs, value):
        if not _only_first(args, kwargs):
            return NotImplemented
        x, dx = args[0].primal, args[0].tangent
        if x.is_complex():  # backward kernels conjugate
            return NotImplemented
        if x.dtype is not value.dtype:  # autocast runs some functions in a wider type
            x, dx = x.to(value.dtype), dx.to(value.dtype)
        return push(dx, x, value, *args[1:], **kwargs)

    return rule


def _power(dx, x, y, exponent=None):
    if not isinstance(exponent, int | float):
        return NotImplemented
    return dx * (exponent * x ** (exponent - 1)) if exponent else torch.zeros_like(dx)


def _softmax(dx, x, y, dim=None, *_, **__):
    if dim is None:
        return NotImplemented
    moved = y * dx
    return moved - y * moved.sum(dim, keepdim=True)


def _where(func, args, kwargs, value):
    if kwargs or len(args) != 3 or type(args[0]) is Pair:
        return NotImplemented
    sides = [_parts(side)[1] for side in args[1:]]
    zero = value.new_zeros(())
    return func(args[0], *(zero if side is None else side for side in sides))


def _einsum(func, args, kwargs, value):
    """Multilinear: the sum over operands, each in its turn replaced by its tangent."""
    equation, *operands = args
    operands = list(operands[0]) if len(operands) == 1 and type(operands[0]) in _SEQUENCES else operands
    if not isinstance(equation, str):
        return NotImplemented
    plain = [_parts(operand)[0] for operand in operands]
    moved = [(i, operand.tangent) for i, operand in enumerate(operands) if type(operand) is Pair]
    return sum(func(equation, *plain[:i], tangent, *plain[i + 1 :]) for i, tangent in moved)


def _pad(func, args, kwargs, value):
    if not _only_first(args, kwargs):
        return NotImplemented
    constant = (args[2] if len(args) > 2 else kwargs.get("mode", "constant")) == "constant"
    if not constant:
        return _linear(func, args, kwargs, value)
    return func(args[0].tangent, args[1] if len(args) > 1 else kwargs["pad"])


# Without its weights a norm has a symmetric Jacobian, so that its backward kernel is its derivative.


def _wide(norm: Callable[..., Any]) -> Callable[..., Any]:
    """Half precision is reduced in float32, with float32's epsilon, as torch does for the value."""

    def widened(dx, x, *args, **kwargs):
        half = x.itemsize < 4
        return norm(dx.float() if half else dx, x.float() if half else x, *args, **kwargs)

    return widened


def _layer_norm(dx, x, y, shape, weight=None, bias=None, eps=1e-5):
    _, mean, scale = aten.native_layer_norm(x, shape, None, None, eps)
    moved = aten.native_layer_norm_backward(dx, x, shape, mean, scale, None, None, [True, False, False])[0]
    return moved if weight is None else moved * weight


def _group_norm(dx, x, y, num_groups, weight=None, bias=None, eps=1e-5):
    sizes = (x.shape[0], x.shape[1], x[0, 0].numel(), num_groups)
    x, dx = x.contiguous(), dx.contiguous()
    _, mean, scale = aten.native_group_norm(x, None, None, *sizes, eps)
    moved = aten.native_group_norm_backward(dx, x, mean, scale, None, *sizes, [True, False, False])[0]
    return moved if weight is None else moved * weight.view(-1, *[1] * (x.ndim - 2))


def _rms_norm(dx, x, y, shape, weight=None, eps=None):
    dims = tuple(range(-len(shape), 0))
    scale = torch.rsqrt(x.square().mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    x_hat = x * scale
    moved = scale * (dx - x_hat * (x_hat * dx).mean(dims, keepdim=True))
    return moved if weight is None else moved * weight


def _batch_norm(dx, x, y, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    column = (-1, *[1] * (x.ndim - 2))
    dims = [0, *range(2, x.ndim)]
    if training:
        var, mean = torch.var_mean(x, dims, correction=0)
    scale = torch.rsqrt(var + eps).view(column)
    if training:
        x_hat = (x - mean.view(column)) * scale
        dx = dx - dx.mean(dims, keepdim=True) - x_hat * (dx * x_hat).mean(dims, keepdim=True)
    return dx * (scale if weight is None else scale * weight.view(column))


def _dropout(func: Callable[..., Any]) -> Callable[..., Any]:
    """One mask for value and tangent, as drawn for an input of ones."""

    def both(input, p=0.5, training=True, inplace=False):
        if not (p and training):
            return input
        with torch.no_grad():
            mask = func(torch.ones_like(input.primal), p, training)
            tangent = input.tangent * mask
        return _join(input.primal * mask, tangent)

    return both


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    if dropout_p or type(attn_mask) is Pair:  # unfused, as that draws once for value and tangent
        with sdpa_kernel(SDPBackend.MATH):
            options = {"scale": scale, "enable_gqa": enable_gqa}
            inputs = (query, key, value, attn_mask, dropout_p, is_causal)
            return _fallback(functional.scaled_dot_product_attention, inputs, options)
    if enable_gqa:  # a head of k and v serves several of q
        key, value = (a.repeat_interleave(query.shape[-3] // a.shape[-3], -3) for a in (key, value))
    (q, tq), (k, tk), (v, tv) = map(_parts, (query, key, value))
    return _join(*attention_with_tangent(q, k, v, tq, tk, tv, attn_mask, is_causal, scale))


def _written_out(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of torch's that is a composition in Python, so that pairs walk through its operations."""
    seen = {**function.__globals__, "has_torch_function": lambda _: False}
    return FunctionType(function.__code__, seen, function.__name__, function.__defaults__, function.__closure__)


def _method(func, rule):
    """A method of pairs, which skips the dispatch."""

    def method(*args: Any, **kwargs: Any) -> Any:
        return _of_values(func, args, kwargs) if _has_kept(args, kwargs) else _apply(func, rule, args, kwargs)

    return method


WHOLE: dict[Any, Callable[..., Any]] = {
    functional.scaled_dot_product_attention: _attention,
    functional.multi_head_attention_forward: _written_out(functional.multi_head_attention_forward),
    **{f: _dropout(f) for f in (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d)},
}
"""What makes value and tangent together, called on pairs in place of the function."""

PAST_PAIRS = frozenset({"data_ptr", "untyped_storage", "numpy", "__array__", "__dlpack__"})
"""What a kernel or another library reads a tensor by."""

ASSIGNMENTS: dict[str, Callable[..., Tensor]] = {"__setitem__": _assign, "copy_": _copy, "zero_": _zero}
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
aten = torch.ops.aten
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "silu": lambda dx, x, y, **_: aten.silu_backward.default(dx, x),
    "gelu": lambda dx, x, y, **kwargs: aten.gelu_backward.default(dx, x, **kwargs),
    "relu": lambda dx, x, y, **_: dx * (y > 0),
    "tanh": lambda dx, x, y: aten.tanh_backward.default(dx, y),
    "sigmoid": lambda dx, x, y: aten.sigmoid_backward.default(dx, y),
    "exp": lambda dx, x, y: dx * y,
    "log": lambda dx, x, y: dx / x,
    "sin": lambda dx, x, y: dx * x.cos(),
    "cos": lambda dx, x, y: -dx * x.sin(),
    "tan": lambda dx, x, y: dx * (1 + y * y),
    "sqrt": lambda dx, x, y: 0.5 * dx / y,
    "rsqrt": lambda dx, x, y: -0.5 * dx * y / x,
    "square": lambda dx, x, y: dx * (x + x),
    "reciprocal": lambda dx, x, y: -dx * y * y,
    "pow __pow__": _power,
    "clamp clip clamp_min clamp_max": lambda dx, x, y, *_, **__: dx.masked_fill(x != y, 0),
    "softmax": _softmax,
}
LINEAR = """
    reshape flatten unflatten squeeze unsqueeze expand broadcast_to permute transpose swapaxes swapdims t
    movedim moveaxis chunk split split_with_sizes tensor_split unbind narrow select index_select gather
    __getitem__ diagonal
    repeat repeat_interleave tile flip roll tril triu unfold clone contiguous neg negative __neg__ positive __pos__
    sum mean cumsum trace to float double half bfloat16 cpu cuda view_as_complex view_as_real real imag
    pixel_shuffle pixel_unshuffle interpolate avg_pool1d avg_pool2d avg_pool3d
"""
PLAIN = """
    size stride dim ndimension numel nelement element_size storage_offset get_device __len__ __bool__
    __int__ __float__ __index__ __contains__ item tolist is_floating_point is_complex is_contiguous is_nonzero
    eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ equal allclose isclose isnan isinf isfinite
    logical_and logical_or logical_not argmax argmin argsort long int bool
    register_hook retain_grad
    zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor
"""
_NAMED: dict[str, Rule] = {
    LINEAR: _linear,
    PLAIN: _plain,
    "view": _view,
    "view_as": _view_as,
    "type_as expand_as reshape_as": _like,
    "cat concat concatenate stack": _linear_in_list,
    "linear conv1d conv2d conv3d": _affine,
    "mul multiply __mul__ __rmul__": _two(_multiply),
    "matmul __matmul__ __rmatmul__ mm bmm mv dot outer": _two(_bilinear),
    "add __add__ __radd__": _two(_add),
    "sub subtract __sub__": _two(_subtract),
    "rsub __rsub__": _two(_subtract, reflected=True),
    "div divide true_divide __truediv__": _two(_divide),
    "__rdiv__ __rtruediv__": _two(_divide, reflected=True),
    "hypot": _two(_hypotenuse),
    "einsum": _einsum,
    "pad": _pad,
    "detach": _detached,
    "masked_fill": _masked_fill,
    "index_put index_add index_copy scatter_add slice_scatter select_scatter diagonal_scatter": _jointly_linear,
    "scatter": _scattered,
    "cdist": _distances,
    "grid_sample": _sampled,
    **{names: _elementwise(push) for names, push in ELEMENTWISE.items()},
}
RULES: dict[Any, Rule] = {getattr(Tensor, name).__get__: _linear for name in ("T", "mT", "real", "imag")}
RULES |= {Tensor.data.__get__: _detached, _assign: _assigned, _copy: _copied, _zero: _plain}  # type: ignore
for _names, _rule in _NAMED.items():
    for _name in _names.split():
        _functions = [getattr(space, _name, None) for space in (torch, Tensor, functional)]
        RULES.update({function: _rule for function in _functions if callable(function)})
        if callable(_functions[1]) and not _name.startswith("__r"):  # a method of pairs skips the dispatch
            setattr(Pair, _name, _method(_functions[1], _rule))

for _norm in (_layer_norm, _group_norm, _rms_norm, _batch_norm):
    RULES[getattr(functional, _norm.__name__[1:])] = _elementwise(_wide(_norm))
RULES[torch.where] = _where  # the method has its arguments in another order
