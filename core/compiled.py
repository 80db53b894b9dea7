"""A whole training step, loss and gradient, as one compiled function of all that moves.

Pairs act above torch's dispatcher, so that make_fx sees the operations of a step, its tangent and its gradient, as one
flat graph without any forward mode, which torch.compile then fuses. What is no input of a graph stays as it was when it
was traced. So every tensor that the function closes over becomes an input too, the very tensor, whose values are read
at each call; and all that is given beside tensors is a part of what a graph is made for.
"""

import dataclasses
import enum
import numbers
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trigbench.core.constants import MOST_GRAPHS
from trigbench.core.forward_mode import draws_again

Tensors = Mapping[str, Tensor]
Step = Callable[..., tuple[Tensor, dict[str, Tensor], Any]]
"""(parameters by name, *inputs) -> the loss, its gradients by name, and what is watched."""


@dataclass(frozen=True)
class Graph:
    """A function as a graph of torch's operations, for inputs of one kind."""

    module: Any
    """torch.fx.GraphModule: (tensors of the inputs, `held`) -> tensors of the outputs, all flat."""
    held: tuple[Tensor, ...]
    """What the function closes over."""
    output: Any
    """The nest that it returned, empty."""

    def __call__(self, *inputs: Any) -> Any:
        """The function of what inputs and `held` are now; nothing is recorded.

        The graph has the casts of the autocast that it was traced in, and gets no others.
        """
        with torch.no_grad(), ExitStack() as stack:
            for device in _autocast():
                stack.enter_context(torch.autocast(device, enabled=False))
            found = iter(self.module(*(a.detach() for a in (*tensors_of(inputs), *self.held))))
        return mapped(lambda _: next(found), self.output)


def compiled_step(loss: Callable[..., Any], backend: str = "inductor") -> Step:
    """The loss and its gradient in its parameters, as `compiled`.

    `loss` is a pure function: (parameters by name, *inputs) -> a Regression, or the loss of shape (), alone or with a
    nest of tensors to watch. A parameter that it does not depend on has a gradient of zeros.
    """
    return compiled(gradient_of(loss), backend)


def compiled(function: Callable[..., Any], backend: str = "inductor") -> Callable[..., Any]:
    """A function of nests of tensors, compiled by torch.compile's `backend` at the first call of each kind of inputs.

    Nests are dicts, lists, tuples and dataclasses such as Draws. Every number that moves is a tensor in one, the
    warm-up as `torch.tensor(r, dtype=torch.float64)`; what else stands there is compiled anew where it changes, for
    MOST_GRAPHS kinds of inputs, after which a ValueError says so. An autocast around the call is followed as eagerly,
    and is a part of the kind. Random draws come from torch's global generators as they are at the call, as eagerly.
    What the function writes to, an input or a batch norm's statistics, is written to once a call, the first one too.

    Of what it closes over, tensors alone are followed, and writes into them alone. These stay as they were when the
    first call of their kind traced them: a name or an attribute that is given another tensor later (the old one is
    read on), numbers, and a module's train() or eval(). Give what moves as an input, or call `compiled` again.

    Raises ValueError where there is no tensor among the inputs, or something that is neither of a nest nor a number,
    string, None, enum, dtype, device or callable; where the function closes over a tensor that requires a gradient,
    which would have none, or over numbers that change by themselves, or draws from a generator of its own; and what
    torch raises where it cannot follow: values that decide which operations there are, above all.
    """
    made: dict[Hashable, Graph] = {}

    def call(*inputs: Any) -> Any:
        kind = kind_of(inputs)
        if kind not in made:
            if len(made) == MOST_GRAPHS:
                problem = f"compiled for {MOST_GRAPHS} kinds of inputs, and there comes another"
                raise ValueError(f"{problem}: give what moves from step to step as a tensor")
            made[kind] = in_one(traced_twice(function, *inputs), backend)
        return made[kind](*inputs)

    return call


def gradient_of(loss: Callable[..., Any]) -> Step:
    """The loss with its gradient, recorded from fresh leaves; uncompiled."""

    def step(parameters: Tensors, *inputs: Any) -> tuple[Tensor, dict[str, Tensor], Any]:
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        with torch.enable_grad():
            found = loss(leaves, *inputs)
            value, watched = found if isinstance(found, tuple) else (getattr(found, "loss", found), found)
            gradients = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
        return value.detach(), dict(zip(leaves, gradients, strict=True)), mapped(Tensor.detach, watched)

    return step


def traced(function: Callable[..., Any], *inputs: Any) -> Graph:
    """A function as a graph that does its operations one by one; raises as `compiled` does.

    No tensor is other afterwards, nor any global generator; what else the function changes, it has changed once.
    """
    with _undone():
        return _traced(function, *inputs)


def traced_twice(function: Callable[..., Any], *inputs: Any) -> Graph:
    """As `traced`, of a function that nobody knows: raises ValueError where another graph comes of it again.

    Then it has a number that is another at each call, drawn by Python or NumPy or counted, which a graph would repeat.
    """
    with _undone():  # after both, as what the first one leaves may be a number of the second
        first, second = _traced(function, *inputs), _traced(function, *inputs)
    numbers = [[*graph.held, *_literals(graph.module)] for graph in (first, second)]
    alike = first.module.code == second.module.code and len(numbers[0]) == len(numbers[1])
    if not (alike and all(map(_same, *numbers))):
        problem = "traced again it is another graph: of numbers that Python or NumPy draws, or that it counts"
        raise ValueError(f"{problem}; draw by torch's generators, and give what moves as a tensor")
    return first


def _traced(function: Callable[..., Any], *inputs: Any) -> Graph:
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415 - seconds, for who compiles

    outputs: list[Any] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        given = iter(tensors)
        outputs.append(function(*mapped(lambda _: next(given), inputs)))
        return tensors_of(outputs[0])

    given = [a.detach() for a in tensors_of(inputs)]
    if not given:
        raise ValueError("there is no tensor among its inputs: give what moves from call to call as tensors")
    with draws_again(given):
        try:
            module = make_fx(flat, _INSTEAD)(*given)
        except NotImplementedError as error:  # before torch 2.13; since then it stands in the graph
            if "torch._C.Generator" not in str(error):
                raise
            raise ValueError(_OF_ITS_OWN) from None
    held = _lifted(module)
    if trained := [str(tuple(a.shape)) for a in held if a.requires_grad]:
        problem = f"it closes over {len(trained)} tensors that require a gradient, of {', '.join(trained[:3])}"
        raise ValueError(f"{problem}: give them as inputs, or say requires_grad_(False)")
    return Graph(module, held, mapped(lambda a: torch.empty_like(a, device="meta"), outputs[0]))


class _Writes(TorchDispatchMode):
    """Copies what operations write to, before they do."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[tuple[Tensor, Tensor]] = []
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, silent = dict(kwargs or {}), "batch_norm" in func._schema.name  # some of whose schemas do not say it
        for place, argument in enumerate(func._schema.arguments):
            if silent or (argument.alias_info is not None and argument.alias_info.is_write):
                self._copy(args[place] if place < len(args) else given.get(argument.name))
        return func(*args, **given)

    def _copy(self, written: Any) -> None:
        from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing  # noqa: PLC0415 - as in _traced

        for tensor in tensors_of(written):
            if id(tensor) not in self.seen:
                self.seen.add(id(tensor))  # which is no other's, as it is kept
                with disable_proxy_modes_tracing():
                    self.copies.append((tensor, tensor.detach().clone()))


@contextmanager
def _undone() -> Iterator[None]:
    """After it, every tensor has the values that it had before."""
    writes = _Writes()
    try:
        with writes:
            yield
    finally:
        for tensor, copy in reversed(writes.copies):  # of what shares memory, the first copy was made before all writes
            if not _same(tensor, copy):
                tensor.data.copy_(copy)


def in_one(graph: Graph, backend: str = "inductor") -> Graph:
    """The graph, compiled when it is first called."""
    options = {"options": {"fallback_random": True}} if backend == "inductor" else {}  # the same draws as eagerly
    made = torch.compile(graph.module, fullgraph=True, dynamic=False, backend=backend, **options)  # type: ignore
    return dataclasses.replace(graph, module=made)


def mapped(change: Callable[[Tensor], Any], item: Any) -> Any:
    """A nest with `change` of each tensor in its place."""
    if isinstance(item, Tensor):
        return change(item)
    if isinstance(item, dict):
        return {name: mapped(change, part) for name, part in item.items()}
    if type(item) in (list, tuple):
        return type(item)(mapped(change, part) for part in item)
    if _is_record(item):
        return dataclasses.replace(item, **{name: mapped(change, part) for name, part in _parts(item)})
    return item


def tensors_of(item: Any) -> list[Tensor]:
    """The tensors of a nest, in order."""
    found: list[Tensor] = []
    mapped(lambda a: found.append(a) or a, item)
    return found


def kind_of(item: Any) -> Hashable:
    """What of a nest a graph is made for: shapes and types of tensors, all else as it is, and the autocast around.

    Raises ValueError for what may hold tensors that nobody would find.
    """
    return tuple(_autocast().items()), _kind(item)


def _kind(item: Any) -> Hashable:
    if isinstance(item, Tensor):
        return item.shape, item.stride(), item.dtype, item.device
    if isinstance(item, dict):
        return tuple((name, _kind(part)) for name, part in item.items())
    if type(item) in (list, tuple):
        return type(item), tuple(map(_kind, item))
    if _is_record(item):
        return type(item), tuple((name, _kind(part)) for name, part in _parts(item))
    if isinstance(item, torch.Generator):
        raise ValueError(f"a torch.Generator is no input: {_DRAWN}")
    if not (isinstance(item, _PLAIN) or callable(item)):
        kinds = "a dict, a list, a tuple or a dataclass of tensors, a number, a string or a function"
        raise ValueError(f"{type(item).__module__}.{type(item).__qualname__} is no input: give {kinds}")
    return type(item), item


def _autocast() -> dict[str, Any]:
    """By device: the dtype of the autocast around, None where there is none."""
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    return {d: torch.get_autocast_dtype(d) if torch.is_autocast_enabled(d) else None for d in devices}


_PLAIN = (numbers.Number, str, bytes, type(None), enum.Enum, torch.dtype, torch.device)
_DRAWN = "draw from torch's global generators, or give what is drawn as a tensor"
_OF_ITS_OWN = f"it draws from a torch.Generator of its own: {_DRAWN}"


def _enlarged(x: Tensor, size: Sequence[int], *_: Any) -> Any:
    """upsample_nearest2d by whole numbers, to the same bits."""
    ways = [divmod(large, small) for large, small in zip(size, x.shape[-2:], strict=True)]
    if any(rest for _, rest in ways):
        return NotImplemented
    down, across = (times for times, _ in ways)
    *batch, height, width = x.shape
    shared = x.unsqueeze(-2).unsqueeze(-1).expand(*batch, height, down, width, across)
    return shared.reshape(*batch, height * down, width * across)


def _summed(gradient: Tensor, size: Sequence[int], shape: Sequence[int], *_: Any) -> Any:
    """Its backward."""
    ways = [divmod(large, small) for large, small in zip(size, shape[-2:], strict=True)]
    if any(rest for _, rest in ways):
        return NotImplemented
    down, across = (times for times, _ in ways)
    *batch, height, width = shape
    return gradient.reshape(*batch, height, down, width, across).sum((-3, -1))


_INSTEAD: Any = {
    torch.ops.aten.upsample_nearest2d.default: _enlarged,
    torch.ops.aten.upsample_nearest2d_backward.default: _summed,
}
"""Inductor 2.13 has got the gradient of the one wrong on a CPU, while the loss was right."""


_CHECKS = (torch.ops.aten.is_same_size.default, torch.ops.aten._has_same_storage_numel.default)
"""Of torch's own forward mode, to no effect in a graph, and refused by torch.compile as they return no tensor."""


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all()))


def _literals(module: Any) -> list[Tensor]:
    return [getattr(module, node.target) for node in module.graph.nodes if node.op == "get_attr"]


def _is_record(item: Any) -> bool:
    return dataclasses.is_dataclass(item) and not isinstance(item, type)


def _parts(record: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(record, field.name)) for field in dataclasses.fields(record)]


def _lifted(module: Any) -> tuple[Tensor, ...]:
    """Makes inputs of the tensors that a graph holds, and returns them; mends what torch.compile would refuse.

    Literals, which a graph copies, stay.
    """
    graph, held = module.graph, dict[int, tuple[Tensor, Any]]()
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        if all("lift_fresh" in str(user.target) for user in node.users):
            continue
        tensor = getattr(module, node.target)
        if isinstance(tensor, torch.Generator):
            raise ValueError(_OF_ITS_OWN)
        if id(tensor) not in held:
            with graph.inserting_after(last):
                last = graph.placeholder(f"held_{len(held)}")
            held[id(tensor)] = tensor, last
        node.replace_all_uses_with(held[id(tensor)][1])
        graph.erase_node(node)
    for node in [node for node in graph.nodes if node.target in _CHECKS and not node.users]:
        graph.erase_node(node)
    for node in graph.nodes:  # who compiles may lay a tensor out otherwise, a convolution's result say
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    module.recompile()
    return tuple(tensor for tensor, _ in held.values())
