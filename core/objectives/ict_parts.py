"""iCT (arXiv 2310.14189) with one of its parts as CM (2303.01469) has it, for what each part is worth.

Apart from the table's `ict`: at one number of intervals, and with the boundary at noise level 0.
"""

import math
from dataclasses import dataclass

import torch

from trigbench.core.constants import SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.lineage import PSEUDO_HUBER
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import Batch, ProposalGrid, consistency_map, cos_sin, draw_interval, even_grid, interpolate

PARTS = ("pseudo_huber", "lognormal", "weights")
"""Sec. 3.3, 3.5 and 3.1 of iCT; in CM the mean square, intervals drawn evenly, and no weights."""


@dataclass(frozen=True)
class PartSettings:
    """Of `ict_without`."""

    grid: ProposalGrid
    """The intervals of this step, drawn from as it says."""
    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    without: str = ""
    """One of PARTS; empty for all of iCT's parts."""


def ict_without(fields: Fields, x0: Batch, draws: Draws, settings: PartSettings) -> Regression:
    """Consistency training with all parts of iCT but one. Raises ValueError for a part that is none of PARTS."""
    without = settings.without
    if without and without not in PARTS:
        raise ValueError(f"iCT has no part {without!r}: one of {', '.join(PARTS)}")
    grid = even_grid(settings.grid.angles) if without == "lognormal" else settings.grid
    t, u = draw_interval(grid, draws.uniform)
    x, x_u = interpolate(x0, draws.noise, t), interpolate(x0, draws.noise, u)
    F = fields.student(x, t)
    c, s = cos_sin(t, x)
    with torch.no_grad():
        target = torch.where((u > 0).reshape(s.shape), consistency_map(fields.student, x_u, u), x_u)
        gap = c * x - s * F - target
        slope = torch.ones_like(t) if without == "weights" else 1 / (torch.tan(t) - torch.tan(u))
        if without != "pseudo_huber":
            constant = PSEUDO_HUBER * math.sqrt(gap[0].numel()) / settings.sigma_d
            slope = slope * gap[0].numel() / (2 * (gap.flatten(1).square().sum(1) + constant**2).sqrt())
        g = slope.to(x).reshape(s.shape) * s * gap
    return regress(Direction(F, g), t)
