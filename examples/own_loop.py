"""sCT on a network of one's own, in a plain loop: what to draw, what to watch, and how to sample in one step and two.

Eight Gaussians on a circle, less than a minute on one core:

    python examples/own_loop.py
"""

import argparse
import math

import torch
from torch import nn

from trigbench import (
    ContinuousSettings,
    Draws,
    Fields,
    bind,
    half_life_beta,
    largest_angle,
    sample_consistency,
    sct,
    tangent_warmup,
    update,
)  # fmt: skip

SIGMA_D = 0.5  # of the paper; data are divided by their own standard deviation, so that here it enters times alone


class Network(nn.Module):
    """Any module that is called (x, t, condition) will do; this one is told t by its cosine and sine."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: None) -> torch.Tensor:
        """F(x, t), in the dtype of x."""
        return self.layers(torch.cat([x, t.cos()[:, None], t.sin()[:, None]], 1))


def draw_data(count: int, generator: torch.Generator) -> torch.Tensor:
    """Points of unit variance in every direction."""
    angle = torch.randint(8, (count,), generator=generator) * (math.pi / 4)
    centres = 1.4 * torch.stack([angle.cos(), angle.sin()], 1)
    return centres + 0.14 * torch.randn(count, 2, generator=generator)


def train(steps: int, batch: int = 512) -> nn.Module:
    """A network of averaged parameters."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.99))
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    for step in range(1, steps + 1):
        x0 = draw_data(batch, generator)
        uniform = torch.rand(batch, generator=generator, dtype=torch.float64)
        draws = Draws(uniform=uniform, noise=torch.randn(x0.shape, generator=generator))
        # r grows from 0 to 1, so that the tangent's unstable part comes in late (the paper: over 10,000 steps)
        settings = ContinuousSettings(sigma_d=SIGMA_D, warmup=tangent_warmup(step - 1, steps // 2))
        found = sct(Fields(student=bind(network)), x0, draws, settings)
        optimiser.zero_grad()
        found.loss.backward()
        optimiser.step()
        average = update(average, dict(network.named_parameters()), half_life_beta(batch, half_life=50_000))
        if step % (steps // 10) == 0:  # the loss says little: its target moves. A norm that grows without end says more
            print(f"step {step}: loss {found.loss:.4f}, norm of the direction {found.direction_norm.mean():.3f}")
    network.load_state_dict(average)
    return network


def near(samples: torch.Tensor) -> float:
    """The share of samples within three standard deviations of a centre."""
    angle = torch.arange(8) * (math.pi / 4)
    centres = 1.4 * torch.stack([angle.cos(), angle.sin()], 1)
    return float((torch.cdist(samples, centres).amin(1) < 3 * 0.14).double().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    field = bind(train(parser.parse_args().steps).eval())
    for times in ([], [1.1]):
        noise = torch.randn(1 + len(times), 5000, 2, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            samples = sample_consistency(field, noise, [largest_angle(SIGMA_D), *times])
        print(f"{1 + len(times)} steps: {near(samples):.0%} of samples lie on one of the Gaussians")
