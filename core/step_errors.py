"""What a known error of a map becomes over several steps of sampling: theory beside trained maps."""

from collections.abc import Callable, Sequence

import torch

from trigbench.core.fields import Jump
from trigbench.core.oracle import Points
from trigbench.core.samplers.jumps import sample_jumps
from trigbench.core.trigflow import Field, Times, cos_sin

Map = Callable[[Points, Times, Times], Points]
"""(x, t, u) -> where x at t is at u."""


def erring(exact: Map, error: float) -> Jump:
    """The map exact(x, t, u) (1 + error sin(t - u)): no error where it does not move, and the same at every t.

    Align Your Flow (arXiv 2506.14603), Theorem 3.1, is of any consistency model of Gaussian data that is near its
    optimum, and not at it: from some number of steps on its samples get worse. This error is our choice of one.
    """

    def to(u: Times) -> Field:
        def field(x: Points, t: Times) -> Points:
            c, s = cos_sin(t - u, x)
            return (c * x - (1 + error * s) * exact(x, t, u)) / s

        return field

    return to


def gaussian_excess(std: float, error: float, times: Sequence[float], gamma: float) -> float:
    """Standard deviation of samples over the data's, less 1, where data are N(0, std^2) and the map errs.

    All maps are linear, so that this is the root of the summed squares of what each slice of noise alone becomes. With
    all re-noised (gamma 1) it may fall at first, as from one even step to two, and grows after.
    Raises ValueError for times or a gamma that sample_jumps refuses.
    """

    def spread(t: Times) -> Points:
        return ((torch.cos(t) * std).square() + torch.sin(t).square()).sqrt()[:, None]

    jump = erring(lambda x, t, u: spread(u) / spread(t) * x, error)
    slices = torch.eye(len(times), dtype=torch.float64)[:, :, None]
    alone = sample_jumps(jump, slices, times, gamma)
    return float(alone.square().sum().sqrt()) / std - 1
