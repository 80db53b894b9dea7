"""A network of one's own: any torch module that is called (x, t, condition).

trigbench check mine.py:Network --shape 2                         points
trigbench check mine.py:Network --shape 1,8,8 --classes 10        images with labels

A study names it by its path: `sizes: {own: {network: "mine:Network", settings: {width: 64}}}`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Given what it takes of shape, classes and sigma_d of the data; further parameters are the study's settings."""

    def __init__(self, shape: Sequence[int], classes: int = 0, width: int = 64) -> None:
        super().__init__()
        size = math.prod(shape)
        self.enter = nn.Linear(size, width)
        self.time = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width) if classes else None  # the last is for no label
        self.hidden = nn.Linear(width, width)
        self.leave = nn.Linear(width, size)
        nn.init.zeros_(self.leave.weight)  # F starts at 0
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """F(x, t) of x's shape and dtype; x of (batch, *shape) in unit variance, t of (batch,) from 0 to pi / 2.

        `condition` are labels, (batch,) whole numbers, or None. Annotate it as trigbench.Condition to be told more.
        """
        h = self.enter(x.flatten(1)) + self.time(torch.stack([t.cos(), t.sin()], 1))
        if self.label is not None:
            none = torch.full_like(t, self.label.num_embeddings - 1, dtype=torch.long)
            h = h + self.label(none if condition is None else condition)
        h = h + self.hidden(nn.functional.silu(h))
        return self.leave(nn.functional.silu(h)).reshape(x.shape)
