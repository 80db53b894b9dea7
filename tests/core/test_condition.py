"""What networks are told: a Condition, its null, and target times that derivatives pass through."""

import pytest
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from trigbench.core.condition import UNTOLD, Condition, given_to, parts_of, takes_condition
from trigbench.core.fields import Jump, bind
from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.networks.conditioning import NUMBERS
from trigbench.core.networks.ddpmpp import DDPMpp
from trigbench.core.networks.dit import DiT
from trigbench.core.networks.edm2 import EDM2
from trigbench.core.networks.mlp import ResidualMLP

SHAPE = (2, 8, 8)
SMALL = {"width": 16, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}
NETWORKS = {
    "mlp": lambda: ResidualMLP(SHAPE, 16, 1, classes=3, told=NUMBERS),
    "ddpmpp": lambda: DDPMpp(SHAPE, 3, NUMBERS, **SMALL),
    "edm2": lambda: EDM2(SHAPE, 3, NUMBERS, **SMALL),
    "dit": lambda: DiT(SHAPE, 3, NUMBERS, width=24, depth=1, heads=2),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def awake(network: nn.Module) -> nn.Module:
    """In float64, with no weights at zero."""
    network = network.double()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.add_(0.2 * normal(*parameter.shape, seed=number))
    return network


@pytest.mark.parametrize("observed", [(3,), (2, 2)])
def test_an_observation_is_heard_by_its_network_and_refused_by_every_other(observed):
    network = awake(ResidualMLP((4,), 16, 1, observed=observed))
    x, t, seen = normal(2, 4), torch.tensor([0.4, 1.2]).double(), normal(2, *observed, seed=1)
    seen.requires_grad_()
    value = bind(network, condition=Condition(observation=seen))(x, t)
    (gradient,) = torch.autograd.grad(value[0].sum(), seen)
    assert gradient[0].abs().min() > 0
    assert not gradient[1].any(), "of each sample its own"
    told = Condition(observation=seen.detach())
    along = normal(2, 4, seed=2), torch.tensor([0.3, -1.0]).double()
    value, tangent = value_and_tangent(bind(network, condition=told), (x, t), along)
    exact = torch.func.jvp(bind(network, condition=told), (x, t), along)
    torch.testing.assert_close((value, tangent), exact, rtol=1e-12, atol=1e-12)
    for wrong in (UNTOLD, Condition(observation=seen[:, :1]), Condition(observation=seen[:1])):
        with pytest.raises(ValueError, match="the network is told observations"):
            bind(network, condition=wrong)(x, t)
    with pytest.raises(ValueError, match="told observations: none"):
        bind(ResidualMLP((4,), 16, 1), condition=told)(x.float(), t)


def jump(network: nn.Module, condition: Condition, **how) -> Jump:
    return lambda u: bind(network, condition=Condition(condition.label, condition.scale, u), **how)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", NETWORKS)
def test_derivatives_pass_through_the_target_time_as_through_point_and_time(name):
    """Over (x, t, u), in float64: the fast path, without falling back, and torch.func.jvp of the same network."""
    network = awake(NETWORKS[name]())
    student_to = jump(network, Condition(torch.tensor([0, 3]), torch.tensor([1.0, 1.5], dtype=torch.float64)))
    whole = lambda x, t, u: student_to(u)(x, t)  # noqa: E731
    x, t, u = normal(2, *SHAPE), torch.tensor([0.4, 1.2]).double(), torch.tensor([0.1, 0.9]).double()
    along = (normal(*x.shape, seed=1), torch.tensor([0.3, -1.0]).double(), torch.tensor([0.7, 0.2]).double())
    value, tangent = value_and_tangent(whole, (x, t, u), along)
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no forward mode
        exact, reference = torch.func.jvp(whole, (x, t, u), along)[:2]
    torch.testing.assert_close(value, exact, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, reference, rtol=1e-12, atol=1e-12)
    only_u = (torch.zeros_like(x), torch.zeros_like(t), along[2])
    through_u = value_and_tangent(whole, (x, t, u), only_u)[1]
    assert through_u.norm() > 1e-3 * tangent.norm()
    step = 1e-5
    difference = (whole(x, t, u + step * along[2]) - whole(x, t, u - step * along[2])) / (2 * step)
    torch.testing.assert_close(through_u, difference.detach(), rtol=1e-6, atol=1e-8)


def test_a_condition_is_a_tree_of_what_is_told():
    told = Condition(torch.tensor([1, 2]), target_time=torch.tensor([0.1, 0.2]))
    leaves, tree = pytree.tree_flatten(told)
    assert len(leaves) == 2 and pytree.tree_leaves(UNTOLD) == [] and parts_of(UNTOLD) == {}
    again = pytree.tree_unflatten(leaves, tree)
    assert again.scale is None and again.label is told.label and again.target_time is told.target_time
    assert [str(path[0]) for path, _ in pytree.tree_flatten_with_path(told)[0]] == [".label", ".target_time"]
    network = awake(NETWORKS["mlp"]())
    x, t = normal(4, *SHAPE), torch.linspace(0.2, 1.4, 4).double()
    batch = Condition(torch.arange(4), t + 1, t / 2)
    one = lambda x, t, c: network(x[None], t[None], pytree.tree_map(lambda part: part[None], c))[0]  # noqa: E731
    torch.testing.assert_close(torch.func.vmap(one)(x, t, batch), network(x, t, batch))
    tangent = torch.func.jvp(lambda c: network(x, t, c), *[(Condition(None, t, t),)] * 2)[1]
    assert tangent.shape == x.shape and tangent.any()


class OfLabels(nn.Module):
    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        return x if condition is None else x + condition[:, None]


class OfConditions(nn.Module):
    def forward(self, x: Tensor, t: Tensor, told: "Condition | None") -> Tensor:
        assert isinstance(told, Condition)
        return x + sum(part[:, None] for part in parts_of(told).values())


def test_a_network_of_labels_goes_on_being_given_labels_and_refuses_what_it_would_not_hear():
    x, t, labels = torch.zeros(2, 3), torch.ones(2), torch.tensor([1, 2])
    assert not takes_condition(OfLabels) and takes_condition(OfConditions) and takes_condition(ResidualMLP)
    assert takes_condition(OfConditions()) and not takes_condition(lambda x, t, c: x) and not takes_condition(len)
    for condition in (labels, Condition(labels)):
        for network in (OfLabels(), OfConditions()):
            assert bind(network, condition=condition)(x, t)[:, 0].tolist() == [1, 2]
    assert given_to(OfLabels(), UNTOLD) is None
    assert bind(OfConditions(), condition=Condition(labels, t))(x, t)[:, 0].tolist() == [2, 3]
    for more in ("scale", "target_time", "observation"):
        with pytest.raises(ValueError, match=f"OfLabels takes labels alone and would not hear of its {more}: annotate"):
            bind(OfLabels(), condition=Condition(labels, **{more: t}))


def test_a_frozen_field_has_a_gradient_in_its_points_and_none_in_its_parameters():
    network = awake(NETWORKS["mlp"]())
    condition = Condition(torch.tensor([0, 1]), torch.ones(2).double(), torch.zeros(2).double())
    x, t = normal(2, *SHAPE).requires_grad_(), torch.tensor([0.4, 1.2]).double()
    free, frozen = (bind(network, condition=condition, frozen=still) for still in (False, True))
    assert torch.equal(free(x, t), frozen(x, t))
    towards = [torch.autograd.grad(field(x, t).square().sum(), x)[0] for field in (free, frozen)]
    assert torch.equal(*towards) and towards[0].any()
    given = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
    for field in (frozen, bind(network, given, condition, frozen=True)):
        gradients = torch.autograd.grad(
            field(x, t).sum(), [*network.parameters(), *given.values()], allow_unused=True, materialize_grads=False
        )
        assert all(gradient is None for gradient in gradients)
    with torch.no_grad():
        before = frozen(x, t)
        next(network.parameters()).mul_(2)
        assert not torch.equal(frozen(x, t), before), "it is of the parameters as they are now"


class Counting(nn.Module):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        self.calls.add_(1)
        return x


def test_a_frozen_evaluation_leaves_the_module_s_buffers_alone():
    network = Counting()
    bind(network, frozen=True)(torch.zeros(2, 3), torch.ones(2))
    assert network.calls == 0
    bind(network)(torch.zeros(2, 3), torch.ones(2))
    assert network.calls == 1
