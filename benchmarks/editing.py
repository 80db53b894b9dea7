"""Few steps of zero-shot editing do not sample the posterior, even by the exact map: the picture of docs/editing.md.

  python benchmarks/editing.py results/published/benchmarks/editing.svg

Of points of a mixture the first coordinate is seen. Edits of it by CM's Algorithm 4 (arXiv 2303.01469), with the
mixture's exact map in 1, 4 and 40 steps, over the exact density of the second coordinate.
"""

import math
import sys
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from trigbench.core import oracle, posterior
from trigbench.core.operators import mask
from trigbench.core.samplers.editing import edit
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import cos_sin
from trigbench.workflow.report.style import apply_style, save

STEPS, SEEN, SIGMA_D = (1, 4, 40), (-1.1, 0.4), 0.5
MIXTURE = oracle.standardised(
    oracle.Mixture(
        torch.tensor([0.4, 0.3, 0.3], dtype=torch.float64),
        torch.tensor([[-1.0, -1.0], [1.0, -0.2], [-0.4, 1.4]], dtype=torch.float64),
        torch.tensor([0.45, 0.35, 0.45], dtype=torch.float64),
    )
)


def exact_field(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """F of the exact consistency map f = cos(t) x - sin(t) F."""
    c, s = cos_sin(t, x)
    return (c * x - oracle.consistency_map(MIXTURE, x, t, 24)) / s


def density(seen: float, grid: torch.Tensor) -> torch.Tensor:
    """Of the second coordinate given the first."""
    operator = mask(torch.tensor([True, False]))
    exact = posterior.given(MIXTURE, operator, torch.tensor([[seen]], dtype=torch.float64))
    away = (grid[:, None] - exact.means[0, :, 1]) / exact.stds
    return (exact.weights[0] / exact.stds * torch.exp(-away.square() / 2)).sum(1) / math.sqrt(2 * math.pi)


def draw(path: Path, count: int = 4000) -> None:
    """Write the picture, as .svg and as .png."""
    apply_style()
    shape = (len(SEEN), len(STEPS))
    figure, axes = plt.subplots(*shape, figsize=(9.4, 4.4), sharex=True, sharey="row", layout="constrained")
    grid, g = torch.linspace(-3.5, 3.5, 400, dtype=torch.float64), torch.Generator().manual_seed(0)
    operator, top = mask(torch.tensor([True, False])), largest_angle(SIGMA_D)
    for row, seen in zip(axes, SEEN, strict=True):
        observation = torch.full((count, 1), seen, dtype=torch.float64)
        row[0].set_ylabel(f"density, {seen} seen")
        for ax, steps in zip(row, STEPS, strict=True):
            noise = torch.randn(steps, count, 2, generator=g, dtype=torch.float64)
            times = [top * (steps - step) / steps for step in range(steps)]
            edits = edit(exact_field, operator, observation, noise, times)
            ax.hist(
                edits[:, 1].numpy(),
                bins=60,
                range=(-3.5, 3.5),
                density=True,
                histtype="stepfilled",
                color="#0072B2",
                alpha=0.45,
            )
            ax.plot(grid, density(seen, grid), color="#222222", linewidth=1.4)
    for ax, steps in zip(axes[0], STEPS, strict=True):
        ax.set_title(f"{steps} step{'s' * (steps > 1)}", fontsize=11)
    for ax in axes[-1]:
        ax.set_xlabel("what is not seen")
    save(figure, path.with_suffix(""))


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "editing.svg"))
