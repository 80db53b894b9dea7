"""A network of one's own: any module called (x, t, condition), nothing to inherit but torch's Module.

snakemake --config study=examples/own_network.yaml
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Waves(nn.Module):
    """Sines of learned directions in space and time, mixed linearly."""

    def __init__(self, shape: Sequence[int], classes: int, sigma_d: float, waves: int = 64) -> None:
        super().__init__()
        size = math.prod(shape)
        self.directions = nn.Linear(size + 1, waves)
        self.hidden = nn.Linear(waves, waves)
        self.mix = nn.Linear(waves, size)
        self.labels = nn.Embedding(classes, waves) if classes else None
        nn.init.zeros_(self.mix.weight)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """F(x, t) in unit variance; x of (batch, *shape), t of (batch,)."""
        h = torch.sin(self.directions(torch.cat([x.flatten(1), t[:, None]], dim=1)))
        if self.labels is not None and condition is not None:
            h = h + self.labels(condition)
        return self.mix(torch.sin(self.hidden(h))).reshape(x.shape)
