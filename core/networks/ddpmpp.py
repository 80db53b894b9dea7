"""DDPM++, the U-Net of CIFAR-10 (arXiv 2011.13456; as in EDM, arXiv 2206.00364, Table 1), and sCM's change to it."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from trigbench.core.condition import Condition
from trigbench.core.constants import SIGMA_D
from trigbench.core.networks.conditioning import (
    CONDITIONINGS,
    Conditioning,
    ToldNumbers,
    check_choice,
    full_precision,
    labels_and_numbers,
    one_hot,
)
from trigbench.core.networks.dropout import Dropout
from trigbench.core.networks.embeddings import (
    FOURIER_SCALE,
    FourierEmbedding,
    NoiseCoordinate,
    PositionalEmbedding,
    noise_coordinate,
    pixel_norm,
)
from trigbench.core.networks.images import Image, Output, attend, check_shape, resample, square_side
from trigbench.core.networks.unet import Place, plan_of, walk
from trigbench.core.trigflow import time_dtype

PLAIN: Mapping[str, Any] = {"conditioning": "plain", "embedding": "edm"}
"""The network as EDM published it."""
CIFAR10: Mapping[str, Any] = {"shape": (3, 32, 32), "width": 128, "multipliers": (2, 2, 2), "blocks": 4}
PRESETS: Mapping[str, Mapping[str, Any]] = {"cifar10": CIFAR10, "cifar10-plain": {**CIFAR10, **PLAIN}}
"""Keyword arguments of `DDPMpp`."""

NEARLY_ZERO = 1e-5
Embedding = Literal["positional", "edm", "fourier"]
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class DDPMpp(nn.Module):
    """F(x, t, condition) for square images in unit variance; `t` is embedded as it is given.

    The angle for networks trained here; EDM's c_noise for its checkpoints (core.networks.teachers).
    With `coordinate` "log_noise_level" the angle is turned into EDM's c_noise first, which needs `sigma_d`.
    Levels have `width * multiplier` channels and `blocks` blocks; attention at the resolutions in
    `attention`. `classes` labels, none being index `classes` or None, and `told` numbers per sample
    are added to the time's embedding. Parameters are named as in EDM's checkpoints.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        told: Sequence[str] = (),
        width: int = 128,
        multipliers: Sequence[int] = (2, 2, 2),
        blocks: int = 4,
        attention: Collection[int] = (16,),
        dropout: float = 0.0,
        conditioning: Conditioning = "double",
        embedding: Embedding = "positional",
        coordinate: NoiseCoordinate = "angle",
        sigma_d: float = SIGMA_D,
    ) -> None:
        super().__init__()
        check_choice("conditioning", conditioning, CONDITIONINGS)
        check_choice("embedding", embedding, EMBEDDINGS)
        check_choice("coordinate", coordinate, get_args(NoiseCoordinate))
        self.coordinate: NoiseCoordinate = coordinate
        self.sigma_d = sigma_d
        self.shape, self.classes, self.told = tuple(shape), classes, tuple(told)
        widths = [width * multiplier for multiplier in multipliers]
        self.plan = plan_of(square_side(shape), width, widths, blocks, attention, decoder_attention="last")

        self.embed_time = EMBEDDINGS[embedding](width)
        self.map_label = _xavier(nn.Linear(classes, width)) if classes else None
        self.tell = ToldNumbers(told, width, width)
        self.map_layer0 = _xavier(nn.Linear(width, 4 * width))
        self.map_layer1 = _xavier(nn.Linear(4 * width, 4 * width))

        def block(place: Place) -> Block:
            return Block(place, 4 * width, dropout, conditioning)

        self.enc = nn.ModuleDict({self.plan.stem: _xavier(nn.Conv2d(shape[0], width, 3, padding=1))})
        self.enc.update({place.name: block(place) for place in self.plan.encoder})
        self.dec = nn.ModuleDict({place.name: block(place) for place in self.plan.decoder})
        self.out_norm = _group_norm(widths[0])
        self.out_conv = _xavier(nn.Conv2d(widths[0], shape[0], 3, padding=1), NEARLY_ZERO)

    def forward(self, x: Image, t: Float[Tensor, " batch"], condition: Condition | Tensor | None = None) -> Image:
        check_shape(x, self.shape)
        with full_precision(x):
            e = self.embed(t.to(time_dtype(x)), condition)
        h = walk(self.plan, self.enc, self.dec, x, e, join=lambda h, skip: torch.cat([h, skip], dim=1))
        return self.out_conv(silu(self.out_norm(h)))

    def embed(
        self, t: Float[Tensor, " batch"], condition: Condition | Tensor | None
    ) -> Float[Tensor, "batch embedding"]:
        """Of time and condition, for every block."""
        labels, numbers = labels_and_numbers(condition, self.told)
        e = self.embed_time(noise_coordinate(t, self.coordinate, self.sigma_d)).to(self.map_layer0.weight.dtype)
        if self.map_label is not None:
            e = e + self.map_label(one_hot(labels, self.classes, e) * math.sqrt(self.classes))
        e = self.tell(e, numbers)
        return silu(self.map_layer1(silu(self.map_layer0(e))))


class EDMEmbedding(nn.Module):
    """EDM's positional embedding: sin before cos, amplitude 1, frequencies from 1 down to exactly 1/10000."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frequencies_count = channels // 2

    def forward(self, c: Float[Tensor, " batch"]) -> Float[Tensor, "batch channels"]:
        exponents = torch.linspace(0, 1, self.frequencies_count, dtype=c.dtype, device=c.device)
        angles = c[:, None] * 10_000.0**-exponents
        return torch.cat([angles.sin(), angles.cos()], dim=1)


EMBEDDINGS: Mapping[Embedding, Callable[[int], nn.Module]] = {
    "positional": PositionalEmbedding,
    "edm": EDMEmbedding,
    "fourier": partial(FourierEmbedding, scale=FOURIER_SCALE),
}


class Block(nn.Module):
    """(skip(x) + conv(silu(y))) / sqrt 2, where y is conv(silu(norm(x))) conditioned on e; then attention likewise.

    "double" is norm(y) * pnorm(s(e)) + pnorm(b(e)) (arXiv 2410.11081, Sec. 4.1); "plain" is norm(y + b(e)).
    """

    def __init__(self, place: Place, embedding: int, dropout: float, conditioning: Conditioning) -> None:
        super().__init__()
        inputs, outputs = place.inputs, place.outputs
        self.place = place
        self.conditioning: Conditioning = conditioning
        self.norm0 = _group_norm(inputs)
        self.conv0 = _xavier(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.affine = _xavier(nn.Linear(embedding, 2 * outputs if conditioning == "double" else outputs))
        self.norm1 = _group_norm(outputs)
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.conv1 = _xavier(nn.Conv2d(outputs, outputs, 3, padding=1), NEARLY_ZERO)
        straight = inputs == outputs and place.resampling == "keep"
        self.skip = nn.Identity() if straight else _xavier(nn.Conv2d(inputs, outputs, 1))
        if place.attends:
            self.norm2 = _group_norm(outputs)
            self.qkv = _xavier(nn.Conv2d(outputs, 3 * outputs, 1), math.sqrt(0.2))
            self.proj = _xavier(nn.Conv2d(outputs, outputs, 1), NEARLY_ZERO)

    def forward(self, x: Image, e: Float[Tensor, "batch embedding"]) -> Output:
        y = self.conv0(resample(silu(self.norm0(x)), self.place.resampling))
        y = self.conv1(self.dropout(silu(self.condition(y, e))))
        x = (self.skip(resample(x, self.place.resampling)) + y) * math.sqrt(0.5)
        if self.place.attends:
            x = (x + self.proj(attend(self.qkv(self.norm2(x)), heads=1))) * math.sqrt(0.5)
        return x

    def condition(self, y: Image, e: Float[Tensor, "batch embedding"]) -> Image:
        """Normalise y and let the embedding modulate it."""
        with full_precision(y):
            modulation = self.affine(e)
        if self.conditioning == "plain":
            return self.norm1(y + modulation.to(y.dtype)[:, :, None, None])
        scale, shift = (pixel_norm(m).to(y.dtype)[:, :, None, None] for m in modulation.chunk(2, dim=1))
        return self.norm1(y) * scale + shift


def _group_norm(channels: int) -> nn.GroupNorm:
    """Groups of at least 4 channels, at most 32 groups."""
    return nn.GroupNorm(min(32, channels // 4), channels, eps=1e-6)


def _xavier(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with uniform Xavier weights times `gain`, and no bias."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
