"""A whole training step, loss and gradient, as one compiled function of all that moves.

Pairs act above torch's dispatcher, so that make_fx sees the operations of a step, its tangent and its gradient, as one
flat graph without any forward mode, which torch.compile then fuses. What is no input of a graph would stay as it was
when it was traced. So every tensor that the function closes over becomes an input too, read at each call where it
stands, and all that is given beside tensors is a part of what a graph is made for.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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
        """The function of what inputs and `held` are now; nothing is recorded."""
        with torch.no_grad():
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
    MOST_GRAPHS kinds of inputs, after which a ValueError says so. Random draws come from torch's generators as they are
    at the call, as eagerly; modes, of modules and of autocast, are as the function itself sets them.

    Raises ValueError where the function closes over a tensor that requires a gradient, which would have none, or over
    numbers that change by themselves, and what torch raises where it cannot follow: values that decide which operations
    there are, above all.
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

    What the function changes beside what it returns, it changes now, once.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415 - seconds, for who compiles

    outputs: list[Any] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        given = iter(tensors)
        outputs.append(function(*mapped(lambda _: next(given), inputs)))
        return tensors_of(outputs[0])

    given = [a.detach() for a in tensors_of(inputs)]
    with draws_again(given):
        module = make_fx(flat, _INSTEAD)(*given)
    held = _lifted(module)
    if trained := [str(tuple(a.shape)) for a in held if a.requires_grad]:
        problem = f"it closes over {len(trained)} tensors that require a gradient, of {', '.join(trained[:3])}"
        raise ValueError(f"{problem}: give them as inputs, or say requires_grad_(False)")
    return Graph(module, held, mapped(lambda a: torch.empty_like(a, device="meta"), outputs[0]))


def traced_twice(function: Callable[..., Any], *inputs: Any) -> Graph:
    """As `traced`, of a function that nobody knows: raises ValueError where another graph comes of it again.

    Then it has a number that is another at each call, drawn by Python or NumPy or counted, which a graph would repeat.
    """
    first, second = traced(function, *inputs), traced(function, *inputs)
    numbers = [[*graph.held, *_literals(graph.module)] for graph in (first, second)]
    alike = first.module.code == second.module.code and len(numbers[0]) == len(numbers[1])
    if not (alike and all(map(_same, *numbers))):
        problem = "traced again it is another graph: of numbers that Python or NumPy draws, or that it counts"
        raise ValueError(f"{problem}; draw by torch's generators, and give what moves as a tensor")
    return first


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
    """What of a nest a graph is made for: shapes and types of tensors, and all else as it is."""
    if isinstance(item, Tensor):
        return item.shape, item.stride(), item.dtype, item.device
    if isinstance(item, dict):
        return tuple((name, kind_of(part)) for name, part in item.items())
    if type(item) in (list, tuple):
        return type(item), tuple(map(kind_of, item))
    if _is_record(item):
        return type(item), tuple((name, kind_of(part)) for name, part in _parts(item))
    return type(item), item


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


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all()))


def _literals(module: Any) -> list[Tensor]:
    return [getattr(module, node.target) for node in module.graph.nodes if node.op == "get_attr"]


def _is_record(item: Any) -> bool:
    return dataclasses.is_dataclass(item) and not isinstance(item, type)


def _parts(record: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(record, field.name)) for field in dataclasses.fields(record)]


def _lifted(module: Any) -> tuple[Tensor, ...]:
    """Makes inputs of the tensors that a graph holds, and returns them. Literals, which it copies, stay."""
    graph, held = module.graph, dict[int, tuple[Tensor, Any]]()
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        if all("lift_fresh" in str(user.target) for user in node.users):
            continue
        tensor = getattr(module, node.target)
        if id(tensor) not in held:
            with graph.inserting_after(last):
                last = graph.placeholder(f"held_{len(held)}")
            held[id(tensor)] = tensor, last
        node.replace_all_uses_with(held[id(tensor)][1])
        graph.erase_node(node)
    for node in graph.nodes:  # who compiles may lay a tensor out otherwise, a convolution's result say
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    module.recompile()
    return tuple(tensor for tensor, _ in held.values())
