"""Few-step sampling with a consistency map (arXiv 2303.01469, Alg. 1, in TrigFlow)."""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from core.trigflow import Field, consistency_map, interpolate, rotate

MID_TIME = 1.1
"""The paper's middle angle of two-step sampling, for every data set (arXiv 2410.11081, App. G)."""


def sample_consistency(
    field: Field, noise: Float[Tensor, "steps batch *shape"], times: Sequence[float]
) -> Float[Tensor, "batch *shape"]:
    """One map a step: from noise at times[0], then re-noised to each later time and mapped again.

    `noise` is standard normal, one slice a step, all of it in unit variance: re-noising is
    cos(t) x + sin(t) z. Raises ValueError unless there is one slice per time and times descend.
    """
    if len(times) != len(noise) or any(a <= b for a, b in itertools.pairwise(times)):
        raise ValueError(f"need one noise slice per time and descending times, got {len(noise)} for {list(times)}")
    sample = torch.zeros_like(noise[0])
    for z, time in zip(noise, times, strict=True):
        t = torch.full((len(z),), time, dtype=torch.float64, device=z.device)
        # the first point is pure noise: x = sin(t_max) z, sigma_max cos(t_max) in EDM's terms
        sample = consistency_map(field, interpolate(sample, z, t), t)
    return sample


def sample_segments(
    field_to: Callable[[Tensor], Field], noise: Float[Tensor, "batch *shape"], edges: Float[Tensor, " edges"]
) -> Float[Tensor, "batch *shape"]:
    """Multi-step sCD: one deterministic map a segment, from edges[-1] down to edges[0] = 0 in unit variance.

    `field_to(u)` is the student that maps down to u. Nothing is re-noised.
    """
    x = torch.sin(edges[-1]).to(noise.dtype) * noise
    for t, u in itertools.pairwise(edges.flip(0)):
        now, then = t.expand(len(x)), u.expand(len(x))
        x = rotate(x, field_to(then)(x, now), now, then)
    return x
