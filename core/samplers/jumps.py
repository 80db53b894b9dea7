"""Sampling with a map of two times: from any angle down to any other, as CTM has it (arXiv 2310.02279)."""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.fields import Jump
from trigbench.core.samplers import Callback
from trigbench.core.trigflow import check_angles, check_floating, interpolate, rotate


def sample_jumps(
    student_to: Jump,
    noise: Float[Tensor, "slices batch *shape"],
    times: Sequence[float],
    gamma: float = 0.0,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *shape"]:
    """One map a step: from noise at times[0] by way of each later time down to 0, in unit variance.

    On the way to the angle t the map goes down to s, tan s = sqrt(1 - gamma^2) tan t, and noise brings it up to t:
    x_t = cos(t) / cos(s) x_s + gamma sin(t) z, which keeps the variance (CTM's Alg. 3). With gamma 0 s is t and nothing
    is re-noised, so that the first slice of `noise` is enough; with gamma 1 s is 0, as in sample_consistency.

    Raises ValueError unless times are angles that descend in (0, pi/2], gamma is in [0, 1], and there are as many
    slices of standard normal noise as are used. `callback` gets each step with the points at both ends of its map
    (core.samplers.Callback).
    """
    check_floating(noise)
    check_angles(times, "descending")
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma is from 0 (nothing is re-noised) to 1, got {gamma:.6g}")
    if times[-1] <= 0:
        raise ValueError(f"the last map goes from above 0 down to 0, got times {list(times)}")
    if len(noise) < (len(times) if gamma else 1):
        raise ValueError(f"need one noise slice per time to re-noise at, got {len(noise)} for times {list(times)}")

    def everywhere(angle: float) -> Float[Tensor, " batch"]:
        return torch.full((noise.shape[1],), angle, dtype=torch.float64, device=noise.device)

    x = interpolate(torch.zeros_like(noise[0]), noise[0], everywhere(times[0]))
    for step, (time, after) in enumerate(itertools.pairwise((*times, 0.0))):
        kept = math.sqrt(1 - gamma**2) * math.sin(after)
        now, then = everywhere(time), everywhere(math.atan2(kept, math.cos(after)) if gamma else after)
        lower = rotate(x, student_to(then)(x, now), now, then)
        if callback is not None:
            callback(step, now, x, lower)
        x = lower
        if gamma and after:  # cos(t) / cos(s) is the length of (cos t, sqrt(1 - gamma^2) sin t)
            x = math.hypot(kept, math.cos(after)) * x + gamma * math.sin(after) * noise[step + 1]
    return x
