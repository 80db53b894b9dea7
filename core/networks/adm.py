"""ADM's U-Net (arXiv 2105.05233), that of CM's and CTM's ImageNet 64, as EDM writes it, and sCM's change to it."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from trigbench.core.condition import Condition
from trigbench.core.constants import SIGMA_D
from trigbench.core.networks.conditioning import (
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

PLAIN: Mapping[str, Any] = {"conditioning": "plain", "embedding": "adm"}
"""The network as EDM published it."""
IMAGENET64: Mapping[str, Any] = {
    "shape": (3, 64, 64), "classes": 1000, "width": 192, "multipliers": (1, 2, 3, 4), "blocks": 3,
}  # fmt: skip
LSUN256: Mapping[str, Any] = {"shape": (3, 256, 256), "width": 256, "multipliers": (1, 1, 2, 2, 4, 4), "blocks": 2}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "imagenet64": IMAGENET64,
    "imagenet64-plain": {**IMAGENET64, **PLAIN},
    "lsun256": LSUN256,
    "lsun256-shift": {**LSUN256, **PLAIN, "conditioning": "shift"},
}
"""Keyword arguments of `ADM`; CM's networks of LSUN are told the time by a shift alone."""

CHANNELS_PER_HEAD = 64
Embedding = Literal["positional", "adm", "fourier"]
Conditioning = Literal["double", "plain", "shift"]


class ADM(nn.Module):
    """F(x, t, condition) for square images in unit variance; `t` is embedded as it is given.

    The angle for networks trained here; EDM's c_noise for checkpoints (core.networks.teachers), which `coordinate`
    "log_noise_level" makes of the angle, and of the data's `sigma_d`. It is multiplied by `time_scale` first: 1000 in
    the networks of CM's authors. Levels have `width * multiplier` channels and `blocks` blocks; attention at the
    resolutions in `attention`, in heads of 64 channels, or in one where there are fewer. `classes` labels, none being
    index `classes` or None, and `told` numbers per sample are added to the time's embedding. Parameters are named as in
    EDM's checkpoints. F is 0 before training. Raises ValueError for channels that are no whole number of heads.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        told: Sequence[str] = (),
        width: int = 192,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        blocks: int = 3,
        attention: Collection[int] = (32, 16, 8),
        dropout: float = 0.0,
        conditioning: Conditioning = "double",
        embedding: Embedding = "positional",
        coordinate: NoiseCoordinate = "angle",
        time_scale: float = 1.0,
        sigma_d: float = SIGMA_D,
    ) -> None:
        super().__init__()
        check_choice("conditioning", conditioning, get_args(Conditioning))
        check_choice("embedding", embedding, EMBEDDINGS)
        check_choice("coordinate", coordinate, get_args(NoiseCoordinate))
        self.coordinate: NoiseCoordinate = coordinate
        self.time_scale, self.sigma_d = time_scale, sigma_d
        self.shape, self.classes, self.told = tuple(shape), classes, tuple(told)
        widths = [width * multiplier for multiplier in multipliers]
        self.plan = plan_of(square_side(shape), widths[0], widths, blocks, attention, decoder_attention="every")

        embedded = 4 * width
        self.embed_time = EMBEDDINGS[embedding](width)
        self.map_layer0 = nn.Linear(width, embedded)
        self.map_layer1 = nn.Linear(embedded, embedded)
        self.map_label = nn.Linear(classes, embedded, bias=False) if classes else None
        if self.map_label is not None:
            nn.init.normal_(self.map_label.weight)
        self.tell = ToldNumbers(told, width, embedded)

        def block(place: Place) -> Block:
            return Block(place, embedded, dropout, conditioning)

        self.enc = nn.ModuleDict({self.plan.stem: nn.Conv2d(shape[0], widths[0], 3, padding=1)})
        self.enc.update({place.name: block(place) for place in self.plan.encoder})
        self.dec = nn.ModuleDict({place.name: block(place) for place in self.plan.decoder})
        self.out_norm = _group_norm(widths[0])
        self.out_conv = _zero(nn.Conv2d(widths[0], shape[0], 3, padding=1))

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
        c = self.time_scale * noise_coordinate(t, self.coordinate, self.sigma_d)
        e = self.map_layer1(silu(self.map_layer0(self.embed_time(c).to(self.map_layer0.weight.dtype))))
        if self.map_label is not None:
            e = e + self.map_label(one_hot(labels, self.classes, e))
        return silu(self.tell(e, numbers))


class ADMEmbedding(nn.Module):
    """ADM's positional embedding: the positional one, of amplitude 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embed = PositionalEmbedding(channels)

    def forward(self, c: Float[Tensor, " batch"]) -> Float[Tensor, "batch channels"]:
        return self.embed(c) / math.sqrt(2)


EMBEDDINGS: Mapping[Embedding, Callable[[int], nn.Module]] = {
    "positional": PositionalEmbedding,
    "adm": ADMEmbedding,
    "fourier": partial(FourierEmbedding, scale=FOURIER_SCALE),
}


class Block(nn.Module):
    """skip(x) + conv(silu(y)), where y is conv(silu(norm(x))) conditioned on e; then attention likewise.

    "double" is norm(y) * pnorm(s(e)) + pnorm(b(e)) (arXiv 2410.11081, Sec. 4.1); "plain" is ADM's adaptive group
    norm, norm(y) * (1 + s(e)) + b(e); "shift" is norm(y + b(e)), as before ADM.
    """

    def __init__(self, place: Place, embedding: int, dropout: float, conditioning: Conditioning) -> None:
        super().__init__()
        inputs, outputs = place.inputs, place.outputs
        self.place = place
        self.conditioning: Conditioning = conditioning
        self.norm0 = _group_norm(inputs)
        self.conv0 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.affine = nn.Linear(embedding, outputs if conditioning == "shift" else 2 * outputs)
        self.norm1 = _group_norm(outputs)
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.conv1 = _zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        if place.attends:
            self.heads = heads_of(outputs)
            self.norm2 = _group_norm(outputs)
            self.qkv = nn.Conv2d(outputs, 3 * outputs, 1)
            self.proj = _zero(nn.Conv2d(outputs, outputs, 1))

    def forward(self, x: Image, e: Float[Tensor, "batch embedding"]) -> Output:
        y = self.conv0(resample(silu(self.norm0(x)), self.place.resampling))
        y = self.conv1(self.dropout(silu(self.condition(y, e))))
        x = self.skip(resample(x, self.place.resampling)) + y
        if self.place.attends:
            x = x + self.proj(attend(self.qkv(self.norm2(x)), self.heads))
        return x

    def condition(self, y: Image, e: Float[Tensor, "batch embedding"]) -> Image:
        """Normalise y and let the embedding modulate it."""
        with full_precision(y):
            modulation = self.affine(e)
        if self.conditioning == "shift":
            return self.norm1(y + modulation.to(y.dtype)[:, :, None, None])
        scale, shift = modulation.chunk(2, dim=1)
        scale, shift = (1 + scale, shift) if self.conditioning == "plain" else (pixel_norm(scale), pixel_norm(shift))
        return self.norm1(y) * scale.to(y.dtype)[:, :, None, None] + shift.to(y.dtype)[:, :, None, None]


def heads_of(channels: int) -> int:
    """Heads of attention. Raises ValueError for channels that are no whole number of them."""
    if channels > CHANNELS_PER_HEAD and channels % CHANNELS_PER_HEAD:
        raise ValueError(f"{channels} channels are no whole number of heads of {CHANNELS_PER_HEAD}")
    return max(1, channels // CHANNELS_PER_HEAD)


def _group_norm(channels: int) -> nn.GroupNorm:
    """Groups of at least 4 channels, at most 32 groups."""
    return nn.GroupNorm(min(32, channels // 4), channels)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
