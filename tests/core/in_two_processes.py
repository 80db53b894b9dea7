"""What test_tangent_everywhere.py runs twice at a time: python -m tests.core.in_two_processes RANK FILE."""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from trigbench.core.forward_mode import value_and_tangent

STEPS = 2  # a static graph is found in the first


class Network(nn.Module):
    """Some blocks, and a layer that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.idle = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))

    def forward(self, x: Tensor, t: Tensor) -> dict[str, Tensor]:
        h = self.first(x).sin() + t[:, None]
        for block in self.blocks:
            h = h + block(h).tanh()
        return {"out": self.last(h) * x, "unused": h}


def network(idle: bool = True) -> Network:
    torch.manual_seed(0)
    made = Network().double()
    if not idle:
        del made.idle
    return made


def sharded(module: Network) -> nn.Module:
    for block in module.blocks:
        fully_shard(block)
    return fully_shard(module)  # type: ignore


CASES: dict[str, Callable[[], Any]] = {
    "DDP": lambda: DistributedDataParallel(network(idle=False)),
    "DDP, find_unused_parameters": lambda: DistributedDataParallel(network(), find_unused_parameters=True),
    "DDP, static_graph": lambda: DistributedDataParallel(network(), static_graph=True),
    "FSDP2, whole": lambda: fully_shard(network()),
    "FSDP2, by blocks": lambda: sharded(network()),
}


def gradients(module: nn.Module, inputs: Any, along: Any, method: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Value, tangent, and the gradient of a loss of both by backward()."""
    module.zero_grad()
    value, tangent = (found["out"] for found in value_and_tangent(module, inputs, along, method))
    (value * (value.detach() - tangent)).mean().backward()
    found = {name.removeprefix("module."): p.grad for name, p in module.named_parameters() if p.grad is not None}
    return value.detach(), tangent, {name: getattr(g, "full_tensor", lambda g=g: g)() for name, g in found.items()}


def check(rank: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x, v = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    t = torch.rand(6, generator=generator, dtype=torch.float64)
    value, tangent, expected = gradients(network(), (x, t), (v, torch.ones_like(t)), "func")
    own = slice(3 * rank, 3 * rank + 3)
    for name, make in CASES.items():
        module = make()
        for method in ("pairs", "auto")[:STEPS]:
            found = gradients(module, (x[own], t[own]), (v[own], torch.ones(3).double()), method)
            torch.testing.assert_close(found[:2], (value[own], tangent[own]), rtol=1e-12, atol=1e-12)
            assert {key for key, g in found[2].items() if g.any()} == set(expected), name
            for key, gradient in expected.items():
                torch.testing.assert_close(found[2][key], gradient, rtol=1e-12, atol=1e-12)
        print(name, flush=True)  # the first that is not said failed


if __name__ == "__main__":
    rank = int(sys.argv[1])
    dist.init_process_group("gloo", f"file://{sys.argv[2]}", rank=rank, world_size=2, timeout=timedelta(seconds=100))
    check(rank)
    dist.destroy_process_group()
