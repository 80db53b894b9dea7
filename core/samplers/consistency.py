"""Few-step sampling with a consistency map (arXiv 2303.01469, Alg. 1, in TrigFlow)."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.samplers import Callback
from trigbench.core.trigflow import Field, check_angles, check_floating, consistency_map, interpolate, rotate


def sample_consistency(
    field: Field,
    noise: Float[Tensor, "steps batch *shape"],
    times: Sequence[float],
    boundary: float = 0.0,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *shape"]:
    """One map a step: from noise at times[0], then re-noised to each later time and mapped again.

    `noise` is standard normal, one slice a step, all of it in unit variance: re-noising is
    cos(t) x + sin(t) z. `boundary` is the angle at which the field's map is the identity: 0, or
    arctan(sigma_min / sigma_d) of CM's (core.conversions.field_with_boundary), whose samples already are
    at sigma_min, so that its Alg. 1 adds sqrt(sigma^2 - sigma_min^2) z and not sigma z. `callback` gets each step
    with its re-noised point and what that is mapped to (core.samplers.Callback).

    Raises ValueError unless there is one slice per time and times are angles that descend in
    [boundary, pi/2]; 1.57080 counts as pi/2. A noise level is no angle: angle_from_noise_level makes one.
    """
    check_floating(noise)
    if len(times) != len(noise):
        raise ValueError(f"need one noise slice per time, got {len(noise)} for descending times {list(times)}")
    check_angles(times, "descending")
    if not 0 <= boundary <= times[-1]:
        raise ValueError(f"times must not go below the map's boundary {boundary:.6g}, got {list(times)}")
    sample = torch.zeros_like(noise[0])
    for step, (z, time) in enumerate(zip(noise, times, strict=True)):
        t = torch.full((len(z),), time, dtype=torch.float64, device=z.device)
        if step and boundary:
            z = _lacking(time, boundary) * z  # noqa: PLW2901
        # the first point is pure noise: x = sin(t_max) z, sigma_max cos(t_max) in EDM's terms
        x = interpolate(sample, z, t)
        sample = consistency_map(field, x, t)
        if callback is not None:
            callback(step, t, x, sample)
    return sample


def _lacking(t: float, boundary: float) -> float:
    """sqrt(1 - (tan(boundary) / tan(t))^2): the share of sin(t) z that a sample at the boundary lacks."""
    ratio = math.tan(boundary) * math.cos(t) / math.sin(t)  # no pole at pi/2
    return math.sqrt(max(0.0, 1 - ratio**2))


def sample_segments(
    field_to: Callable[[Tensor], Field],
    noise: Float[Tensor, "batch *shape"],
    edges: Float[Tensor, " edges"],
    callback: Callback | None = None,
) -> Float[Tensor, "batch *shape"]:
    """Multi-step sCD: one deterministic map a segment, from edges[-1] down to edges[0] = 0 in unit variance.

    `field_to(u)` is the student that maps down to u. Nothing is re-noised. `callback` gets each segment with the
    points at both its ends (core.samplers.Callback). Raises ValueError unless edges are angles that ascend from 0
    within [0, pi/2].
    """
    check_angles(edges, "ascending", at_least=2)
    if not edges.is_meta and edges[0] != 0:
        raise ValueError(f"segments end at 0, where data are; the lowest edge is {float(edges[0]):.6g}")
    x = torch.sin(edges[-1]).to(noise.dtype) * noise
    for step, (t, u) in enumerate(itertools.pairwise(edges.flip(0))):
        now, then = t.expand(len(x)), u.expand(len(x))
        lower = rotate(x, field_to(then)(x, now), now, then)
        if callback is not None:
            callback(step, now, x, lower)
        x = lower
    return x
