"""Noise that belongs to the sample, not to the batch."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def noise_of_samples(
    generators: Sequence[torch.Generator], steps: int, shape: Sequence[int]
) -> Float[Tensor, "steps batch ..."]:
    """Standard normal noise (steps, batch, *shape), one generator per sample.

    Equal generators give equal draws bit for bit, whatever batch they are drawn in. Raises ValueError without a
    generator or a step.
    """
    if not generators or steps < 1:
        raise ValueError(f"need a generator and a step at least, got {len(generators)} and {steps}")
    return torch.stack([torch.randn(steps, *shape, generator=g, device=g.device) for g in generators], dim=1)
