"""EDM2, the magnitude-preserving U-Net of ImageNet (arXiv 2312.02696, configuration G), and sCM's change to it.

Every layer keeps the expected magnitude of its input, so activations stay near 1 without group
norms. Equation numbers are that paper's.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
from trigbench.core.networks.embeddings import NoiseCoordinate, PositionalEmbedding, noise_coordinate
from trigbench.core.networks.images import Image, Output, attend, check_shape, resample, square_side
from trigbench.core.networks.unet import Place, plan_of, walk
from trigbench.core.trigflow import time_dtype

PLAIN: Mapping[str, Any] = {"conditioning": "plain", "embedding": "fourier"}
"""The network as EDM2 published it."""
WIDTHS = {"xs": 128, "s": 192, "m": 256, "l": 320, "xl": 384, "xxl": 448}
SHAPES = {"img64": (3, 64, 64), "img512": (4, 64, 64)}
"""Pixels of ImageNet 64, latents of ImageNet 512."""
PRESETS: Mapping[str, Mapping[str, Any]] = {
    f"{data}-{size}": {"shape": shape, "classes": 1000, "width": width}
    for data, shape in SHAPES.items()
    for size, width in WIDTHS.items()
}
"""Keyword arguments of `EDM2`; add PLAIN for EDM2's own conditioning."""

Half = Literal["encoder", "decoder"]
CHANNELS_PER_HEAD = 64
BRANCH_BALANCE = 0.3
LARGEST = 256
DROPOUT_RESOLUTION = 16
"""Dropout acts at this resolution and below (arXiv 2410.11081, App. G)."""


class EDM2(nn.Module):
    """F(x, t, condition) for square images in unit variance; `t` is embedded as it is given.

    The angle for networks trained here; EDM's c_noise for EDM2's checkpoints (core.networks.teachers), which
    `coordinate` "log_noise_level" makes of the angle, and of the data's `sigma_d`.
    Levels have `width * multiplier` channels and `blocks` blocks; attention at the resolutions in
    `attention`. `classes` labels, none being index `classes` or None, are mixed into the time's
    embedding, and `told` numbers per sample are added. Parameters are named as in EDM2's checkpoints.
    F is 0 before training. EDM2's forced weight normalisation is `normalised_weights`, a step of its own.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        told: Sequence[str] = (),
        width: int = 192,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        blocks: int = 3,
        attention: Collection[int] = (16, 8),
        dropout: float = 0.0,
        conditioning: Conditioning = "double",
        embedding: Literal["positional", "fourier"] = "positional",
        coordinate: NoiseCoordinate = "angle",
        sigma_d: float = SIGMA_D,
    ) -> None:
        super().__init__()
        check_choice("conditioning", conditioning, CONDITIONINGS)
        check_choice("embedding", embedding, ("positional", "fourier"))
        check_choice("coordinate", coordinate, get_args(NoiseCoordinate))
        self.coordinate: NoiseCoordinate = coordinate
        self.sigma_d = sigma_d
        self.shape, self.classes, self.told = tuple(shape), classes, tuple(told)
        widths = [width * multiplier for multiplier in multipliers]
        self.plan = plan_of(square_side(shape), widths[0], widths, blocks, attention, decoder_attention="every")

        channels, embedded = widths[0], max(widths)
        self.emb_fourier = PositionalEmbedding(channels) if embedding == "positional" else FourierPhases(channels)
        self.emb_noise = MPLayer(channels, embedded)
        self.emb_label = MPLayer(classes, embedded) if classes else None
        self.tell = ToldNumbers(told, channels, embedded)

        def block(place: Place, part: Half) -> Block:
            return Block(place, part, embedded, dropout, conditioning)

        self.enc = nn.ModuleDict({self.plan.stem: MPLayer(shape[0] + 1, widths[0], kernel=3)})
        self.enc.update({place.name: block(place, "encoder") for place in self.plan.encoder})
        self.dec = nn.ModuleDict({place.name: block(place, "decoder") for place in self.plan.decoder})
        self.out_conv = MPLayer(widths[0], shape[0], kernel=3)
        self.out_gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Image, t: Float[Tensor, " batch"], condition: Condition | Tensor | None = None) -> Image:
        check_shape(x, self.shape)
        with full_precision(x):
            e = self.embed(t.to(time_dtype(x)), condition)
        bias = torch.ones_like(x[:, :1])  # layers have none; a channel of ones stands in
        h = walk(self.plan, self.enc, self.dec, torch.cat([x, bias], dim=1), e, join=mp_cat)
        return self.out_conv(h, self.out_gain)

    def embed(
        self, t: Float[Tensor, " batch"], condition: Condition | Tensor | None
    ) -> Float[Tensor, "batch embedding"]:
        """Of time and condition, for every block."""
        labels, numbers = labels_and_numbers(condition, self.told)
        told = noise_coordinate(t, self.coordinate, self.sigma_d)
        e = self.emb_noise(self.emb_fourier(told).to(self.emb_noise.weight.dtype))
        if self.emb_label is not None:
            e = mp_sum(e, self.emb_label(one_hot(labels, self.classes, e) * math.sqrt(self.classes)), 0.5)
        return mp_silu(self.tell(e, numbers))

    def normalised_weights(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Forced weight normalisation (Eq. 66): the MPLayers' weights among `parameters`, scaled to unit rows.

        For between optimiser steps; detached, and nothing is changed in place. Keeps the network's
        function and, unlike weight decay, the step's size relative to the weights.
        """
        forced = [f"{name}.weight" for name, module in self.named_modules() if isinstance(module, MPLayer)]
        return {name: unit_rows(parameters[name].detach()) for name in forced}


class FourierPhases(nn.Module):
    """sqrt 2 cos(2 pi (w c + p)), w normal and p uniform, fixed (Eq. 75); the same for every network made here."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name, draw in (("freqs", torch.randn), ("phases", torch.rand)):
            self.register_buffer(name, 2 * math.pi * draw(channels, generator=generator, device="cpu"))

    def forward(self, c: Float[Tensor, " batch"]) -> Float[Tensor, "batch channels"]:
        return math.sqrt(2) * (c[:, None] * self.freqs.to(c.dtype) + self.phases.to(c.dtype)).cos()


class Block(nn.Module):
    """x mixed with conv(silu(y)), where y is conv(silu(x)) conditioned on e; then with attention (Fig. 21).

    "double" is y = pnorm(y) * pnorm(s(e)) + pnorm(b(e)) (arXiv 2410.11081, Sec. 4.1), s and b from one
    layer of twice the channels; "plain" is y * (1 + gain s(e)).
    """

    def __init__(
        self,
        place: Place,
        part: Half,
        embedding: int,
        dropout: float,
        conditioning: Conditioning,
    ) -> None:
        super().__init__()
        inputs, outputs = place.inputs, place.outputs
        self.part: Half = part
        self.place = place
        self.conditioning: Conditioning = conditioning
        self.conv_skip = nn.Identity() if inputs == outputs else MPLayer(inputs, outputs, kernel=1)
        self.conv_res0 = MPLayer(outputs if part == "encoder" else inputs, outputs, kernel=3)
        self.emb_linear = MPLayer(embedding, 2 * outputs if conditioning == "double" else outputs)
        if conditioning == "plain":
            self.emb_gain = nn.Parameter(torch.zeros(()))
        self.dropout = Dropout(dropout) if dropout and place.resolution <= DROPOUT_RESOLUTION else nn.Identity()
        self.conv_res1 = MPLayer(outputs, outputs, kernel=3)
        if place.attends:
            self.heads = max(1, outputs // CHANNELS_PER_HEAD)
            self.attn_qkv = MPLayer(outputs, 3 * outputs, kernel=1)
            self.attn_proj = MPLayer(outputs, outputs, kernel=1)

    def forward(self, x: Image, e: Float[Tensor, "batch embedding"]) -> Output:
        x = resample(x, self.place.resampling)
        if self.part == "encoder":
            x = unit(self.conv_skip(x), dims=1)
        y = self.condition(self.conv_res0(mp_silu(x)), e)
        y = self.conv_res1(self.dropout(mp_silu(y)))
        if self.part == "decoder":
            x = self.conv_skip(x)
        x = mp_sum(x, y, BRANCH_BALANCE)
        if self.place.attends:
            y = self.attn_proj(attend(self.attn_qkv(x), self.heads, norm=partial(unit, dims=-1)))
            x = mp_sum(x, y, BRANCH_BALANCE)
        return x.clamp(-LARGEST, LARGEST)

    def condition(self, y: Image, e: Float[Tensor, "batch embedding"]) -> Image:
        """Let the embedding modulate y."""
        with full_precision(y):
            if self.conditioning == "plain":
                return y * (self.emb_linear(e, self.emb_gain) + 1).to(y.dtype)[:, :, None, None]
            scale, shift = (unit(m, dims=1).to(y.dtype)[:, :, None, None] for m in self.emb_linear(e).chunk(2, dim=1))
        return unit(y, dims=1) * scale + shift


class MPLayer(nn.Module):
    """A linear map, or a convolution with a kernel, without bias, whose outputs have their inputs' magnitude (Eq. 47).

    The weight is normalised at every use, each output's to mean square 1 (Eq. 66 does it in place as well:
    `EDM2.normalised_weights`), then divided by the square root of the number of its inputs.
    """

    low_rank = True
    """Its weight may have an adapter (core.low_rank)."""

    def __init__(self, inputs: int, outputs: int, kernel: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *([] if kernel is None else [kernel, kernel])))

    def forward(self, x: Float[Tensor, "batch inputs *image"], gain: Tensor | float = 1.0) -> Tensor:
        weight = unit_rows(self.weight) * (gain / math.sqrt(self.weight[0].numel()))
        if weight.ndim == 2:
            return nn.functional.linear(x, weight)
        return nn.functional.conv2d(x, weight, padding=weight.shape[-1] // 2)


def unit(x: Tensor, dims: int | tuple[int, ...], epsilon: float = 1e-4) -> Tensor:
    """x / (rms(x) + epsilon) over `dims`, the reduction in float32 at least (Eq. 66)."""
    wide = x if x.dtype == torch.float64 else x.float()
    # the tiny number gives the square root a derivative where x is 0
    rms = (wide.square().mean(dims, keepdim=True) + 1e-30).sqrt()
    return x / (rms + epsilon).to(x.dtype)


def unit_rows(weight: Tensor) -> Tensor:
    """A weight scaled so that the mean square of each output's part is 1."""
    return unit(weight, dims=tuple(range(1, weight.ndim)))


def mp_silu(x: Tensor) -> Tensor:
    """silu over its root mean square for normal x (Eq. 81)."""
    return nn.functional.silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, balance: float) -> Tensor:
    """(1 - balance) a + balance b at unit magnitude (Eq. 88)."""
    length = math.hypot(1 - balance, balance)
    return a * ((1 - balance) / length) + b * (balance / length)


def mp_cat(a: Float[Tensor, "batch m *image"], b: Float[Tensor, "batch n *image"]) -> Float[Tensor, "batch m+n *image"]:
    """Channels of a and b, each side weighted to contribute equally, at unit magnitude (Eq. 103, balance 1/2)."""
    m, n = a.shape[1], b.shape[1]
    return torch.cat([a * math.sqrt((m + n) / (2 * m)), b * math.sqrt((m + n) / (2 * n))], dim=1)
