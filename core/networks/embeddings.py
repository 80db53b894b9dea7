"""How a network is told the time, and the norms of conditioning (arXiv 2410.11081, Sec. 4.1)."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trigbench.core.trigflow import inside

FOURIER_SCALE = 16.0
"""NCSN++'s (arXiv 2011.13456), which sCM's Fig. 4 holds against the positional embedding."""
NoiseCoordinate = Literal["angle", "log_noise_level"]


def noise_coordinate(t: Float[Tensor, " batch"], kind: NoiseCoordinate, sigma_d: float) -> Float[Tensor, " batch"]:
    """c_noise(t): the angle itself (the paper's), or EDM's ln(sigma)/4, whose derivative diverges at pi/2.

    At 0 and pi/2 ln(sigma) is that of the nearest angle between them: finite.
    """
    if kind == "angle":
        return t
    if kind == "log_noise_level":
        return (sigma_d * torch.tan(inside(t))).log() / 4
    raise ValueError(f"unknown noise coordinate {kind!r}; choose 'angle' or 'log_noise_level'")


def pixel_norm(x: Float[Tensor, "*batch channels"], epsilon: float = 1e-6) -> Float[Tensor, "*batch channels"]:
    """x / rms(x) over channels, the reduction in float32 at least."""
    wide = x if x.dtype == torch.float64 else x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)).to(x.dtype)


def _half(channels: int) -> int:
    if channels % 2:
        raise ValueError(f"an embedding needs an even number of channels, got {channels}")
    return channels // 2


class PositionalEmbedding(nn.Module):
    """cos and sin of c * 10000^(-i / half), i < half; no parameters (Fourier features of scale about 0.02)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frequencies_count = _half(channels)

    def forward(self, c: Float[Tensor, " batch"]) -> Float[Tensor, "batch channels"]:
        exponents = torch.arange(self.frequencies_count, dtype=c.dtype, device=c.device) / self.frequencies_count
        angles = c[:, None] * 10_000.0**-exponents
        return math.sqrt(2) * torch.cat([angles.cos(), angles.sin()], dim=1)


class FourierEmbedding(nn.Module):
    """cos and sin of 2 pi scale w c with fixed normal w; derivative grows with scale (Sec. 4.1).

    Without a generator, w is the same for every network.
    """

    frequencies: Tensor

    def __init__(self, channels: int, scale: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        frequencies = (
            torch.randn(_half(channels), generator=generator or torch.Generator().manual_seed(0)) * scale * 2 * math.pi
        )
        self.register_buffer("frequencies", frequencies)

    def forward(self, c: Float[Tensor, " batch"]) -> Float[Tensor, "batch channels"]:
        angles = c[:, None] * self.frequencies.to(c.dtype)
        return math.sqrt(2) * torch.cat([angles.cos(), angles.sin()], dim=1)
