"""Grids of methods in segments of time: their edges are points of the grid, or sampling asks for maps never trained."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.schedules import largest_angle, uniform_angles
from trigbench.core.trigflow import ProposalGrid, even_grid
from trigbench.core.two_angles import SAME

Edges = Float[Tensor, " edges"]


def grid_of_segments(segments: Edges, intervals: int, sigma_d: float, device: torch.device) -> ProposalGrid:
    """Even in the angle from 0 to t_max and as likely: of `intervals`, or of the next multiple of the segments."""
    return _even(-(-intervals // len(segments)) * len(segments), sigma_d, device)


def check_edges(grid: ProposalGrid, segments: Edges) -> None:
    """Raise ValueError unless the lower edge of every segment is a point of the grid."""
    if grid.angles.is_meta or segments.is_meta:  # no values to look at
        return
    edges = segments.to(grid.angles)
    lacking = edges[(edges[:, None] - grid.angles).abs().amin(1) > SAME].tolist()
    if lacking:
        shown, count = ", ".join(f"{edge:.6g}" for edge in lacking[:4]), len(grid.angles) - 1
        raise ValueError(
            f"{len(lacking)} of {len(edges)} segments start at no point of the grid of {count} intervals, at {shown}: "
            "their maps would be sampled and never trained; take even segments, and a multiple of them as intervals"
        )


@cache
def _even(intervals: int, sigma_d: float, device: torch.device) -> ProposalGrid:
    grid = even_grid(uniform_angles(intervals, largest_angle(sigma_d)))
    return ProposalGrid(grid.angles.to(device), grid.cumulative.to(device))
