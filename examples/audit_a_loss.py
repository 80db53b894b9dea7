"""Is your sCM loss right? Ask the audit: it takes the loss apart and names what is wrong.

This loss has a mistake that is easy to make and invisible at sigma_d = 1. Run it, mend it, run it again:

    python examples/audit_a_loss.py
"""

import torch
from torch import nn

from trigbench import ResidualMLP, audit_loss, bind

SIGMA_D = 0.5


def my_loss(field, teacher, x0, z, t, r):
    """Algorithm 1 as one might type it; field and teacher take (x_t / sigma_d, t)."""
    c, s = (f(t)[:, None, None, None] for f in (torch.cos, torch.sin))
    x = c * x0 + s * z
    with torch.no_grad():
        v = SIGMA_D * teacher(x / SIGMA_D, t)
    F, dF = torch.func.jvp(field, (x / SIGMA_D, t), (c * s * v, torch.cos(t) * torch.sin(t)))[:2]
    g = -c * c * (SIGMA_D * F.detach() - v) - r * (c * s * x + dF.detach())
    g = g / (g.flatten(1).norm(dim=1)[:, None, None, None] + 0.1)
    return (F - F.detach() - g).square().mean()


def random_network(seed: int):
    """Any network will do, as long as its output is not zero."""
    torch.manual_seed(seed)
    network = ResidualMLP((3, 8, 8), width=32, blocks=2).double()
    nn.init.normal_(network.project.weight, std=0.3)
    return bind(network)


if __name__ == "__main__":
    draw = torch.Generator().manual_seed(0)
    t = torch.tensor([0.1, 0.5, 1.0, 1.4], dtype=torch.float64).repeat_interleave(5)
    x0, z = (SIGMA_D * torch.randn(20, 3, 8, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    print(audit_loss(my_loss, random_network(0), x0, z, t, SIGMA_D, teacher=random_network(1)))
