"""Gradients through checkpoints of a network that is given its weights, eagerly and traced as a compiled step is."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from trigbench.core.fields import bind
from trigbench.core.forward_mode import value_and_tangent


class Network(nn.Module):
    """Two blocks, checkpointed or not; the second has a checkpoint within."""

    def __init__(self, checkpointed: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.checkpointed = checkpointed

    def run(self, function: Any, *inputs: Any) -> Tensor:
        return checkpoint(function, *inputs, use_reentrant=False) if self.checkpointed else function(*inputs)  # type: ignore

    def half(self, h: Tensor) -> Tensor:
        return self.second(h.sin()).tanh()

    def forward(self, x: Tensor, t: Tensor, _: Any = None) -> Tensor:
        h = self.run(lambda x: self.first(x).tanh() * t[:, None], x)
        return x + self.run(lambda h: self.half(h) + self.run(self.half, h), h)


def setting() -> tuple[Network, Network, dict[str, Tensor], Any]:
    torch.manual_seed(0)
    plain, checkpointed = Network(False).double(), Network(True).double()
    weights = {name: torch.randn_like(p) for name, p in plain.named_parameters()}
    return plain, checkpointed, weights, torch.randn(2, 3, 4, dtype=torch.float64)


def gradients(network: nn.Module, weights: dict[str, Tensor], x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Of a loss of value and tangent, in the weights that are given."""
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    field, t = bind(network, leaves), torch.full((3,), 0.7, dtype=torch.float64)
    value, tangent = value_and_tangent(field, (x, t), (v, torch.ones_like(t)), "pairs")
    return torch.autograd.grad((value * (value.detach() + tangent)).sum(), list(leaves.values()))


def test_what_is_checkpointed_computes_again_with_the_weights_that_were_given() -> None:
    plain, checkpointed, weights, (x, v) = setting()
    assert all(not torch.equal(p, weights[name]) for name, p in checkpointed.named_parameters())
    before = {name: p.clone() for name, p in checkpointed.named_parameters()}
    torch.testing.assert_close(gradients(checkpointed, weights, x, v), gradients(plain, weights, x, v))
    torch.testing.assert_close(dict(checkpointed.named_parameters()), before)


def test_a_frozen_field_has_the_gradient_in_its_points_through_checkpoints() -> None:
    plain, checkpointed, weights, (x, _) = setting()
    leaf, t = x.requires_grad_(), torch.full((3,), 0.7, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad(bind(network, weights, frozen=True)(leaf, t).square().sum(), leaf)
        for network in (checkpointed, plain)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_traced_step_with_checkpoints_has_no_weight_in_it() -> None:
    plain, checkpointed, weights, (x, v) = setting()
    step = make_fx(lambda weights, x, v: gradients(checkpointed, weights, x, v))(weights, x, v)
    others = {name: 2 * w - 1 for name, w in weights.items()}
    torch.testing.assert_close(step(others, v, x), gradients(plain, others, v, x))
    assert not [node for node in step.graph.nodes if str(node.target).startswith("_param")]
    again = [node for node in step.graph.nodes if node.target is torch.ops.aten.tanh.default]
    assert len(again) == 6  # three, each computed twice
