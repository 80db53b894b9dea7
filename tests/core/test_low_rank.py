"""Low-rank adapters: merged as added beside each layer, trained alone, and summed (lineage.md 1.4)."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trigbench.core import oracle
from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.low_rank import adapted_weights, interaction, merged, new_adapter
from trigbench.core.networks.ddpmpp import DDPMpp
from trigbench.core.networks.dit import DiT
from trigbench.core.networks.edm2 import EDM2, MPLayer
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives.latent_consistency import LCMSettings, lcm

RANK = 2


class Small(nn.Module):
    """A convolution, one in groups, and a linear layer between nonlinearities."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.grouped = nn.Conv2d(4, 4, 1, groups=2)
        self.norm = nn.GroupNorm(2, 4)
        self.last = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.grouped(torch.tanh(self.conv(x))))).flatten(1))


def small() -> tuple[Small, dict[str, Tensor], Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Small().double()
        return network, dict(network.named_parameters()), torch.randn(6, 3, 4, 4, dtype=torch.float64)


def some_adapter(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """As after training."""
    g = torch.Generator().manual_seed(seed)
    adapter = new_adapter(adapted_weights(network), RANK, g)
    return {
        name: torch.randn(part.shape, generator=g, dtype=part.dtype) if name.endswith(".up") else part
        for name, part in adapter.items()
    }


def added(network: nn.Module, adapters: list[tuple[dict[str, Tensor], float]], *given: Tensor) -> Tensor:
    """scale * up(down(input)) beside each layer, as it is evaluated without merging."""

    def beside(name: str) -> Callable[..., Tensor]:
        def hook(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            for adapter, scale in adapters:
                up, down = adapter[f"{name}.weight.up"], adapter[f"{name}.weight.down"]
                if isinstance(layer, nn.Linear):
                    output = output + scale * inputs[0] @ down.T @ up.T
                    continue
                kernel = down.reshape(RANK, *layer.weight.shape[1:])
                within = nn.functional.conv2d(inputs[0], kernel, stride=layer.stride, padding=layer.padding)
                output = output + scale * nn.functional.conv2d(within, up[:, :, None, None])
            return output

        return hook

    names = [name.removesuffix(".weight") for name in adapted_weights(network)]
    hooks = [network.get_submodule(name).register_forward_hook(beside(name)) for name in names]
    try:
        return network(*given)
    finally:
        for hook in hooks:
            hook.remove()


def test_merged_and_added_are_one_function() -> None:
    network, weights, x = small()
    one, other = some_adapter(network, 1), some_adapter(network, 2)
    assert set(adapted_weights(network)) == {"conv.weight", "last.weight"}
    for adapters in ([(one, 1.0)], [(one, 0.8), (other, 1.0)]):
        ours = functional_call(network, merged(weights, *adapters), (x,))
        torch.testing.assert_close(ours, added(network, adapters, x), rtol=0, atol=1e-13)
        assert (ours - network(x)).abs().max() > 0.1


def test_a_new_adapter_changes_nothing_and_only_an_adapter_learns() -> None:
    network, weights, x = small()
    adapter = new_adapter(adapted_weights(network), RANK, torch.Generator().manual_seed(0))
    assert torch.equal(functional_call(network, merged(weights, (adapter, 1.0)), (x,)), network(x))
    frozen = {name: weight.detach() for name, weight in weights.items()}
    trained = {name: part.requires_grad_() for name, part in some_adapter(network, 3).items()}
    loss = functional_call(network, merged(frozen, (trained, 0.5)), (x,)).square().mean()
    loss.backward()
    assert all(part.grad is not None and bool(part.grad.any()) for part in trained.values())
    assert all(weight.grad is None for weight in weights.values())


def test_two_adapters_add_to_first_order_and_no_further() -> None:
    """The rest shrinks with the product of their scales; what is linear in its weights has none."""
    network, weights, x = small()
    one, other = some_adapter(network, 1), some_adapter(network, 2)

    def rest(scale: float) -> float:
        found = interaction(lambda w: functional_call(network, dict(w), (x,)), weights, (one, scale), (other, scale))
        return float(found.detach().norm())

    sizes = [rest(scale) for scale in (0.02, 0.01, 0.005)]
    assert [math.log2(a / b) for a, b in pairwise(sizes)] == pytest.approx([2, 2], abs=0.1)
    linear = nn.Linear(4, 3).double()
    a, b = some_adapter(linear, 1), some_adapter(linear, 2)
    points = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one_layer = interaction(
        lambda w: functional_call(linear, dict(w), (points,)), dict(linear.named_parameters()), (a, 1.0), (b, 1.0)
    )
    assert one_layer.abs().max() < 1e-14


def test_lcm_trains_an_adapter_of_frozen_weights(unchecked: Callable) -> None:
    """As LCM-LoRA does, by the objective as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResidualMLP((2,), width=16, blocks=1).double()
    frozen = {name: weight.detach() for name, weight in network.named_parameters()}
    g = torch.Generator().manual_seed(0)
    adapter = {name: p.requires_grad_() for name, p in new_adapter(adapted_weights(network), 4, g).items()}
    optimiser = torch.optim.Adam(adapter.values(), 0.03)
    losses = []
    with unchecked():
        for _ in range(60):
            student = bind(network, merged(frozen, (adapter, 1.0)))
            fields = Fields(student, lambda x, t: oracle.gaussian_velocity(x, t, 0.5))
            x0, noise = (torch.randn(128, 2, generator=g, dtype=torch.float64) for _ in range(2))
            draws = Draws(torch.rand(128, generator=g, dtype=torch.float64), noise)
            loss = lcm(fields, 0.5 * x0, draws, LCMSettings(skip=100)).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])
    assert all(torch.equal(weight, frozen[name]) for name, weight in network.named_parameters())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: {f"other.{name}": part for name, part in a.items()}, "'other.conv.weight', which is none"),
        (lambda a: a | {"conv.weight.up": torch.zeros(3, RANK)}, r"of \(4, 3, 3, 3\), its adapter of 3 by 27"),
        (lambda a: dict(list(a.items())[1:]), "has '<weight>.up' and '<weight>.down' for each"),
    ],
)
def test_an_adapter_of_another_network_is_refused(change: Callable, expected: str) -> None:
    network, weights, _ = small()
    with pytest.raises(ValueError, match=expected):
        merged(weights, (change(some_adapter(network, 1)), 1.0))


@pytest.mark.parametrize(
    ("weights", "rank", "expected"),
    [({}, 1, "and 0 weights"), ({"w": torch.zeros(2, 2)}, 0, "got 0"), ({"b": torch.zeros(2)}, 1, "is no matrix")],
)
def test_what_cannot_be_adapted_is_refused(weights: dict[str, Tensor], rank: int, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        new_adapter(weights, rank, torch.Generator())


@pytest.mark.parametrize("make", [EDM2, DDPMpp, DiT])
@pytest.mark.parametrize("told", [(), ("scale",)])
def test_every_matrix_of_the_project_s_networks_is_adapted(make: Callable, told: tuple[str, ...]) -> None:
    with torch.device("meta"):
        network = make((3, 8, 8), classes=2, told=told)
    tables = {f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, nn.Embedding)}
    matrices = {name for name, weight in network.named_parameters() if weight.ndim > 1}
    assert set(adapted_weights(network)) == matrices - tables and len(matrices) > 20


def test_an_adapter_trains_edm2_and_turns_the_rows_of_its_layers() -> None:
    g = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EDM2((3, 8, 8), width=8, multipliers=(1, 1), blocks=1).double()
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    weights["out_gain"] = torch.ones((), dtype=torch.float64)
    given = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=g), torch.tensor([0.4, 1.1], dtype=torch.float64)

    def evaluate(changed: Mapping[str, Tensor]) -> Tensor:
        return functional_call(network, dict(changed), given)

    new = new_adapter(adapted_weights(network), RANK, g)
    assert torch.equal(evaluate(merged(weights, (new, 1.0))), evaluate(weights))
    one, other = some_adapter(network, 1), some_adapter(network, 2)
    trained = {name: part.requires_grad_() for name, part in one.items()}
    evaluate(merged(weights, (trained, 0.5))).square().mean().backward()
    assert all(part.grad is not None and bool(part.grad.any()) for part in trained.values())
    rests = [interaction(evaluate, weights, (one, e), (other, e)).detach().norm() for e in (2e-3, 1e-3)]
    assert math.log2(float(rests[0] / rests[1])) == pytest.approx(2, abs=0.1)

    layer = MPLayer(5, 4).double()
    x, adapter = torch.randn(3, 5, dtype=torch.float64, generator=g), some_adapter(layer, 3)
    at = [functional_call(layer, merged(dict(layer.named_parameters()), (adapter, s)), (x,)) for s in (0.0, 1.0, 2.0)]
    turned = layer.weight + adapter["weight.up"] @ adapter["weight.down"]
    torch.testing.assert_close(at[1], x @ nn.functional.normalize(turned, dim=1).T, rtol=1e-3, atol=1e-3)
    assert (at[2] - 2 * at[1] + at[0]).abs().max() > 0.01, "not linear in the scale"


class Own(nn.Module):
    """A matrix of its own beside a linear layer, or without one."""

    def __init__(self, linear: bool) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3, 4))
        self.last = nn.Linear(4, 2) if linear else None


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Own(linear=True), r"Own has 1 weights.* 1 others.*: table \(3, 4\); choose what to adapt by name"),
        (Own(linear=False), r"Own has 0 weights.*table \(3, 4\).*named_parameters"),
        (nn.LayerNorm(3), r"LayerNorm has 0 weights.* 0 others of two or more dimensions; choose"),
    ],
)
def test_a_network_of_which_a_part_would_be_trained_in_silence_is_refused(network: nn.Module, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        adapted_weights(network)
