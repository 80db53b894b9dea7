"""A residual multilayer perceptron with time conditioning: small enough for a laptop, complete in its parts."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trigbench.core.condition import Condition
from trigbench.core.constants import SIGMA_D
from trigbench.core.networks.conditioning import ToldNumbers, full_precision, labels_and_numbers, observation_apart
from trigbench.core.networks.embeddings import (
    FOURIER_SCALE,
    FourierEmbedding,
    NoiseCoordinate,
    PositionalEmbedding,
    noise_coordinate,
    pixel_norm,
)
from trigbench.core.trigflow import time_dtype

Conditioning = Literal["double", "adagn", "none"]


class ConditionedBlock(nn.Module):
    """h + W2 silu(W1 silu(y)), y conditioned on the embedding e.

    "double" is the paper's adaptive double normalisation, y = pnorm(h) * pnorm(s(e)) + pnorm(b(e));
    "adagn" is the ordinary y = pnorm(h) * (1 + s(e)) + b(e); "none" is y = h + b(e).
    """

    def __init__(self, width: int, conditioning: Conditioning) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.modulate = nn.Linear(width, width if conditioning == "none" else 2 * width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, h: Float[Tensor, "batch width"], e: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        with torch.autocast(h.device.type, enabled=False):
            modulation = self.modulate(e)
        if self.conditioning == "none":
            y = h + modulation
        else:
            scale, shift = modulation.chunk(2, dim=1)
            if self.conditioning == "double":
                y = pixel_norm(h) * pixel_norm(scale) + pixel_norm(shift)
            else:
                y = pixel_norm(h) * (1 + scale) + shift
        silu = nn.functional.silu
        return h + self.second(silu(self.first(silu(y))))


class ResidualMLP(nn.Module):
    """F(x, t, condition) for points of any `shape`, in unit variance.

    `classes` labels get an embedding each (and one more, index `classes`, for 'no label'). A network
    that is `told` numbers per sample, as ("scale", "target_time"), is given a Condition with these; a
    number adds nothing at 0, nor anywhere before training. One that is made for observations of the shape
    `observed` is given one a sample in the Condition, and embeds it beside the time, so that blocks are conditioned on
    both (FiLM, as in arXiv 2303.04137).
    The time path runs in the weights' dtype even under autocast, its embedding in float32 at least.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 128,
        blocks: int = 3,
        embedding: Literal["positional", "fourier"] = "positional",
        fourier_scale: float = FOURIER_SCALE,
        coordinate: NoiseCoordinate = "angle",
        conditioning: Conditioning = "double",
        classes: int = 0,
        sigma_d: float = SIGMA_D,
        told: Sequence[str] = (),
        observed: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.sigma_d, self.told = tuple(shape), sigma_d, tuple(told)
        self.coordinate: NoiseCoordinate = coordinate
        self.observed = None if observed is None else tuple(observed)
        size = math.prod(shape)
        self.embed_time = (
            PositionalEmbedding(width) if embedding == "positional" else FourierEmbedding(width, fourier_scale)
        )
        self.embed_label = nn.Embedding(classes + 1, width) if classes else None
        self.tell = ToldNumbers(told, width, width)
        self.see = None if observed is None else nn.Linear(math.prod(observed), width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.lift = nn.Linear(size, width)
        self.blocks = nn.ModuleList(ConditionedBlock(width, conditioning) for _ in range(blocks))
        self.project = nn.Linear(width, size)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(
        self,
        x: Float[Tensor, "batch *shape"],
        t: Float[Tensor, " batch"],
        condition: Condition | Tensor | None = None,
    ) -> Float[Tensor, "batch *shape"]:
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"the network was made for points of shape {self.shape}, got {tuple(x.shape[1:])}")
        seen, condition = observation_apart(condition, self.observed, len(x))
        labels, numbers = labels_and_numbers(condition, self.told)
        with full_precision(x):
            c = noise_coordinate(t.to(time_dtype(x)), self.coordinate, self.sigma_d)
            e = self.embed_time(c).to(self.lift.weight.dtype)
            if self.embed_label is not None:
                absent = torch.full_like(t, self.embed_label.num_embeddings - 1, dtype=torch.long)
                e = e + self.embed_label(absent if labels is None else labels)
            if self.see is not None and seen is not None:
                e = e + self.see(seen.flatten(1).to(e.dtype))
            e = self.mix(self.tell(e, numbers))
        h = self.lift(x.flatten(1))
        for block in self.blocks:
            h = block(h, e)
        return self.project(pixel_norm(h)).reshape(x.shape)
