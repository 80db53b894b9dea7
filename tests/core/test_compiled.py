"""core.compiled: a step as a graph follows everything that moves, is the eager step, and says what it cannot follow."""

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from trigbench.core import compiled as module
from trigbench.core.compiled import compiled, compiled_step, gradient_of, in_one, kind_of, traced
from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.networks.dit import DiT
from trigbench.core.networks.dropout import Dropout, masks
from trigbench.core.networks.log_weight import LogWeight
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives.continuous import ContinuousSettings, scd, sct

BATCH, SHAPE = 4, (1, 2, 2)


class Student(nn.Module):
    """With dropout, and a buffer that the forward pass writes to."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.dropout = ResidualMLP(SHAPE, width=8, blocks=1), Dropout(0.3)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        self.scale.mul_(1.5)
        return self.dropout(self.inner(x, t, condition)) * self.scale


@dataclass(frozen=True)
class Moving:
    """All inputs of a step but its parameters; the teacher's weights are closed over."""

    buffers: dict[str, Tensor]
    target: dict[str, Tensor]
    x0: Tensor
    draws: Draws
    keys: Tensor
    r: Tensor
    factor: Tensor


def _awake(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


class Case:
    """An sCD step with an adaptive weight and an average of the student beside."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.student, self.weight = _awake(Student()), _awake(LogWeight())
        self.teacher = _awake(ResidualMLP(SHAPE, width=8, blocks=1)).requires_grad_(False)
        self.parameters = {f"student.{n}": p.detach().clone() for n, p in self.student.named_parameters()}
        self.parameters |= {f"weight.{n}": p.detach().clone() for n, p in self.weight.named_parameters()}
        average = {n: p.detach() + 0.1 for n, p in self.student.named_parameters()}
        x0, noise = torch.randn(2, BATCH, *SHAPE)
        draws = Draws(torch.rand(BATCH, dtype=torch.float64), noise)
        keys, r, factor = torch.arange(BATCH, dtype=torch.int32), _number(0.4), _number(3.0)
        self.moving = Moving({"scale": torch.tensor(0.7)}, average, x0, draws, keys, r, factor)
        self.graph = traced(gradient_of(self.loss), self.parameters, self.moving)

    def loss(self, parameters: dict[str, Tensor], moving: Moving) -> tuple[Tensor, Any]:
        own: dict[str, dict[str, Tensor]] = {"student": {}, "weight": {}}
        for name, value in parameters.items():
            part, _, rest = name.partition(".")
            own[part][rest] = value
        weight = lambda t: torch.func.functional_call(self.weight, own["weight"], (t,))  # noqa: E731
        with masks(moving.keys):
            target = bind(self.student, moving.target | moving.buffers)(moving.x0, torch.ones(BATCH))
            fields = Fields(bind(self.student, own["student"] | moving.buffers), bind(self.teacher), weight)
            settings = dataclasses.replace(ContinuousSettings(), warmup=moving.r)
            found = scd(fields, moving.x0, moving.draws, settings)
            value = moving.factor * (
                found.loss + (target.detach() - fields.student(moving.x0, torch.ones(BATCH))).square().mean()
            )
        return value, {"norm": found.direction_norm}

    def both(self, moving: Moving) -> tuple[Tensor, Tensor]:
        """(of the graph, eagerly): loss, gradients and what is watched, in a row."""
        return tuple(_row(step(self.parameters, moving)) for step in (self.graph, gradient_of(self.loss)))  # type: ignore


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _row(found: Any) -> Tensor:
    loss, gradients, watched = found
    return torch.cat([a.flatten().double() for a in (loss, *gradients.values(), *watched.values())])


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


CHANGES: dict[str, Any] = {
    "buffers": {"scale": torch.tensor(1.3)},
    "x0": torch.linspace(-2, 2, 16).reshape(BATCH, *SHAPE),
    "keys": torch.arange(100, 100 + BATCH, dtype=torch.int32),
    "r": _number(0.9),
    "factor": _number(5.0),
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", [*CHANGES, "draws.uniform", "draws.noise", "target", "parameters", "teacher"])
def test_a_graph_follows_each_input_that_changes_alone(name: str, case: Case) -> None:
    before, eager = case.both(case.moving)
    torch.testing.assert_close(before, eager, rtol=0, atol=0)
    moving, draws = case.moving, case.moving.draws
    changed = {
        "draws.uniform": {"draws": dataclasses.replace(draws, uniform=1 - draws.uniform)},
        "draws.noise": {"draws": dataclasses.replace(draws, noise=-draws.noise)},
        "target": {"target": {n: p * 1.1 for n, p in moving.target.items()}},
    }.get(name, {name: CHANGES.get(name)})
    if name in ("parameters", "teacher"):
        tensors = list(case.parameters.values() if name == "parameters" else case.teacher.parameters())
        for tensor in tensors:
            last = _row(case.graph(case.parameters, moving))
            tensor.data.mul_(1.2).add_(0.05)
            assert not torch.equal(_row(case.graph(case.parameters, moving)), last)
        torch.testing.assert_close(*case.both(moving), rtol=0, atol=0)
        return
    after, wanted = case.both(dataclasses.replace(moving, **changed))
    torch.testing.assert_close(after, wanted, rtol=0, atol=0)
    assert not torch.equal(after, before)


def test_buffers_that_a_step_is_given_stay_as_they_were(case: Case) -> None:
    scale = case.moving.buffers["scale"].clone()
    case.both(case.moving)
    assert torch.equal(case.moving.buffers["scale"], scale)
    assert isinstance(case.student, Student) and float(case.student.scale) == 1.0


def test_what_is_closed_over_and_would_be_trained_is_refused() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"closes over 2 tensors that require a gradient, of \(2, 2\), \(2,\).*inputs"):
        traced(gradient_of(lambda p, x: layer(x * p["a"]).sum()), {"a": torch.ones(2)}, torch.ones(1, 2))
    layer.requires_grad_(False)
    assert traced(gradient_of(lambda p, x: layer(x * p["a"]).sum()), {"a": torch.ones(2)}, torch.ones(1, 2)).held


def test_what_decides_the_operations_by_its_value_is_refused_by_torch() -> None:
    with pytest.raises(RuntimeError, match="value out of a tracing tensor"):
        traced(lambda x: x if x.sum() > 0 else -x, torch.ones(2))


def test_another_value_beside_tensors_is_traced_anew_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GRAPHS", 2)
    _uncompiled(monkeypatch)
    step = compiled(lambda x, n: x * n)
    assert [float(step(torch.ones(()), n)) for n in (0, 1, 0, 1)] == [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"2 kinds of inputs.*as a tensor"):
        step(torch.ones(()), 2)
    assert float(step(torch.ones(()), 1)) == 1
    assert kind_of((1, True)) != kind_of((True, 1))
    assert kind_of({"a": torch.ones(2, 3)}) != kind_of({"a": torch.ones(3, 2).mT})


def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "in_one", lambda graph, backend: graph)


def test_what_a_function_writes_to_is_written_to_once_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    _uncompiled(monkeypatch)
    norms = [nn.BatchNorm1d(3).requires_grad_(False) for _ in range(2)]
    losses = [lambda p, x, norm=norm: norm(x * p["a"]).square().sum() + p["a"].sum() for norm in norms]
    ours, eager = compiled_step(losses[0]), gradient_of(losses[1])
    for count in (1, 2):
        x = torch.randn(4, 3)
        for step in (ours, eager):
            step({"a": torch.ones(3)}, x)
        assert norms[0].num_batches_tracked == count
        for found, wanted in zip(norms[0].buffers(), norms[1].buffers(), strict=True):
            torch.testing.assert_close(found, wanted)
    given, held = torch.zeros(2), torch.zeros(4)
    adding = compiled(lambda x: held[1:3].add_(x.add_(1)) + held[1:].add_(1)[:2])  # of one memory
    for wanted in ([0, 2, 2, 1], [0, 5, 5, 2]):
        adding(given)
        assert held.tolist() == wanted
    assert given.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="tracing tensor"):
        traced(lambda x: held.add_(1) if x.add_(1).sum() > 0 else x, given)
    assert given.tolist() == [2, 2]
    traced(lambda x: x.add_(held.zero_()[0]), given)
    assert given.tolist() == [2, 2] and held.tolist() == [0, 5, 5, 2]


def test_an_autocast_around_the_call_is_followed_as_eagerly_and_applied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _uncompiled(monkeypatch)
    a, b, product = *torch.randn(2, 8, 8), compiled(torch.matmul)

    def exactly(a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return a @ b

    exact = compiled(exactly)
    for _ in range(2):  # the kinds are two, whichever came first
        assert torch.equal(product(a, b), a @ b) and torch.equal(exact(a, b), a @ b)
        with torch.autocast("cpu", torch.bfloat16):
            assert product(a, b).dtype == torch.bfloat16 and torch.equal(product(a, b), a @ b)
            assert torch.equal(exact(a, b), exactly(a, b)) and exact(a, b).dtype == torch.float32
    graph = traced(torch.matmul, a, b)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(graph(a, b), exactly(a, b))


class Pair(NamedTuple):
    """No nest: its tensors would be nobody's."""

    first: Tensor


def test_what_may_hold_tensors_that_nobody_finds_is_no_input() -> None:
    for item in (SimpleNamespace(a=torch.ones(2)), Pair(torch.ones(2)), {torch.ones(2)}, [object()]):
        with pytest.raises(ValueError, match="is no input: give a dict"):
            kind_of((torch.ones(2), item))
    assert kind_of((None, 1, 2.0, True, "a", b"a", torch.float32, torch.device("cpu"), torch.sin, Draws, {"a": []}))


def test_own_generators_and_no_tensors_are_refused_in_words() -> None:
    generator = torch.Generator()
    with pytest.raises(ValueError, match=r"torch\.Generator of its own: draw from torch's global"):
        traced(lambda x: x + torch.randn(2, generator=generator), torch.ones(2))
    with pytest.raises(ValueError, match=r"torch\.Generator is no input: draw"):
        compiled(lambda x, g: x + torch.randn(2, generator=g))(torch.ones(2), generator)
    with pytest.raises(ValueError, match="no tensor among its inputs"):
        compiled(lambda n: torch.ones(2) * n)(2)


def test_what_is_stale_is_what_the_docstring_says(monkeypatch: pytest.MonkeyPatch) -> None:
    _uncompiled(monkeypatch)
    held = {"weight": torch.ones(2), "rate": 1.0}
    step, x = compiled(lambda x: x * held["weight"] * held["rate"]), torch.ones(2)
    assert step(x).tolist() == [1, 1]
    held["weight"].mul_(2)  # followed
    assert step(x).tolist() == [2, 2]
    held["rate"], held["weight"] = 5.0, torch.zeros(2)  # not
    assert step(x).tolist() == [2, 2]


def test_a_parameter_that_nothing_depends_on_has_a_gradient_of_zeros() -> None:
    loss, gradients, watched = traced(
        gradient_of(lambda p: p["a"].square().sum()), {"a": torch.ones(2), "b": torch.ones(3)}
    )({"a": torch.full((2,), 3.0), "b": torch.ones(3)})
    assert float(loss) == 18 and gradients["a"].tolist() == [6, 6] and gradients["b"].tolist() == [0, 0, 0]
    assert float(watched) == 18


@pytest.mark.parametrize("ways", [{"scale_factor": (2, 3)}, {"size": (5, 4)}])
def test_enlarging_is_the_same_bits_in_a_graph_and_its_gradient_right(ways: dict[str, Any]) -> None:
    x, weights = torch.randn(2, 3, 4, 4), torch.randn(2, 3, *ways.get("size", (8, 12)))
    step = gradient_of(
        lambda p, w: ((large := nn.functional.interpolate(p["x"], mode="nearest", **ways)) * w).sum() + 0 * large.sum()
    )
    (loss, gradients, _), (wanted, others, _) = (
        traced(step, {"x": x}, weights)({"x": x}, weights),
        step({"x": x}, weights),
    )
    assert torch.equal(loss, wanted)
    torch.testing.assert_close(gradients["x"], others["x"])
    names = {str(node.target) for node in traced(step, {"x": x}, weights).module.graph.nodes}
    assert any("upsample" in name for name in names) == ("size" in ways)


def test_draws_of_a_graph_are_those_of_torch_s_generator_at_the_call() -> None:
    step = gradient_of(lambda p: (nn.functional.dropout(p["a"], 0.5) * torch.arange(64.0)).sum())
    graph, parameters = traced(step, {"a": torch.ones(64)}), {"a": torch.ones(64)}
    for seed in (1, 2):
        torch.manual_seed(seed)
        wanted = step(parameters)[0]
        torch.manual_seed(seed)
        assert torch.equal(graph(parameters)[0], wanted)
    assert not torch.equal(graph(parameters)[0], graph(parameters)[0])
    torch.manual_seed(2)
    traced(step, {"a": torch.ones(64)})
    assert torch.equal(graph(parameters)[0], wanted)


class Enlarging(nn.Module):
    """What inductor got wrong: it enlarges; and torch's own dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.dropout = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 1, 2, stride=2), nn.Dropout(0.5)

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        h = nn.functional.interpolate(self.one(x) * t.to(x.dtype)[:, None, None, None].sin(), scale_factor=2)
        return self.other(self.dropout(nn.functional.silu(h)))


@pytest.mark.slow
def test_a_graph_of_a_transformer_holds_for_what_lays_a_convolution_s_result_out_otherwise() -> None:
    network = _awake(DiT((3, 8, 8), width=16, depth=1, heads=2, patch=2))

    def loss(parameters: dict[str, Tensor], x0: Tensor, draws: Draws) -> Any:
        return sct(Fields(bind(network, parameters)), x0, draws, ContinuousSettings())

    x0, noise = torch.randn(2, 8, 3, 8, 8)
    inputs = dict(network.named_parameters()), x0, Draws(torch.rand(8, dtype=torch.float64), noise)
    graph = traced(gradient_of(loss), *inputs)
    given = [a.detach() for a in (*module.tensors_of(inputs), *graph.held)]
    with FakeTensorMode() as fake:
        found = graph.module(*map(fake.from_tensor, given))
    assert [a.shape for a in found[1 : 1 + len(inputs[0])]] == [p.shape for p in inputs[0].values()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_s_gradients_are_eager_ones_and_its_draws_torch_s() -> None:
    torch.manual_seed(0)
    network, teacher = _awake(Enlarging()), _awake(Enlarging()).requires_grad_(False).eval()

    def loss(parameters: dict[str, Tensor], x0: Tensor, draws: Draws) -> Any:
        return scd(Fields(bind(network, parameters), bind(teacher)), x0, draws, ContinuousSettings())

    parameters, step = dict(network.named_parameters()), compiled_step(loss)
    for seed in (1, 2):
        x0, noise = torch.randn(2, 2, 1, 4, 4)
        inputs, found = (x0, Draws(torch.rand(2, dtype=torch.float64), noise)), []
        for way in (step, gradient_of(loss)):
            torch.manual_seed(seed)
            found.append(torch.cat([g.flatten() for g in way(parameters, *inputs)[1].values()]))
        assert float((found[0] - found[1]).norm() / found[1].norm()) < 2e-6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_s_own_forward_mode_compiles_too_in_which_an_operation_without_a_rule_is_taken() -> None:
    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        value, tangent = value_and_tangent(lambda x: (x @ parameters["a"]).erf(), (x,), (torch.ones_like(x),), "func")
        return (value - tangent.detach()).square().sum()

    inputs = {"a": torch.randn(3, 2)}, torch.randn(4, 3)
    found, wanted = (step(*inputs)[1]["a"] for step in (compiled_step(loss, "aot_eager"), gradient_of(loss)))
    torch.testing.assert_close(found, wanted)


def test_a_compiled_graph_is_called_as_the_traced_one() -> None:
    graph = in_one(traced(lambda x: {"y": (2 * x, x + 1)}, torch.ones(2)), "eager")
    assert [a.tolist() for a in graph(torch.tensor([1.0, 2.0]))["y"]] == [[2, 4], [2, 3]]
