"""DiT, the diffusion transformer (arXiv 2212.09748), with adaLN-Zero or sCM's adaptive double normalisation."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, scaled_dot_product_attention, silu

from trigbench.core.condition import Condition
from trigbench.core.networks.conditioning import (
    CONDITIONINGS,
    Conditioning,
    Told,
    ToldNumbers,
    check_choice,
    full_precision,
    labels_and_numbers,
)
from trigbench.core.networks.embeddings import PositionalEmbedding, pixel_norm
from trigbench.core.networks.images import Image, check_shape, square_side
from trigbench.core.trigflow import time_dtype

SIZES: Mapping[str, Mapping[str, int]] = {
    "s": {"width": 384, "depth": 12, "heads": 6},
    "b": {"width": 768, "depth": 12, "heads": 12},
    "l": {"width": 1024, "depth": 24, "heads": 16},
    "xl": {"width": 1152, "depth": 28, "heads": 16},
}
"""Table 1 of the paper."""
PRESETS: Mapping[str, Mapping[str, Any]] = {
    f"{size}-{patch}": {"shape": (4, 32, 32), "classes": 1000, "patch": patch, **settings}
    for size, settings in SIZES.items()
    for patch in (2, 4, 8)
}
"""Keyword arguments of `DiT` for latents of ImageNet 256; another shape can take their place."""

TIME_CHANNELS = 256
Tokens = Float[Tensor, "batch tokens width"]
Embedding = Float[Tensor, "batch width"]


class DiT(nn.Module):
    """F(x, t, condition) for square images in unit variance, t the angle.

    Patches of `patch` pixels squared become tokens. `classes` labels get an embedding each (and one more,
    index `classes`, for no label), added to the time's, and so do `told` numbers per sample. Unlike the
    paper's it predicts no variance. F is 0 before training.
    """

    positions: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        told: Sequence[str] = (),
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        patch: int = 2,
        conditioning: Conditioning = "double",
    ) -> None:
        super().__init__()
        check_choice("conditioning", conditioning, CONDITIONINGS)
        side = square_side(shape)
        if side % patch or width % heads:
            raise ValueError(f"patch must divide the side and heads the width: {patch}, {side}; {heads}, {width}")
        self.shape, self.told, self.patch, self.tokens = tuple(shape), tuple(told), patch, side // patch
        self.conditioning: Conditioning = conditioning

        self.embed_time = PositionalEmbedding(TIME_CHANNELS)
        self.mix = nn.Sequential(nn.Linear(TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_label = nn.Embedding(classes + 1, width) if classes else None

        self.lift = nn.Conv2d(shape[0], width, patch, stride=patch)
        self.register_buffer("positions", grid_embedding(self.tokens, width), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads, conditioning) for _ in range(depth))
        self.norm = _layer_norm(width)
        self.modulate = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, patch**2 * shape[0])
        self.initialise()
        self.tell = ToldNumbers(told, TIME_CHANNELS, width)

    def forward(self, x: Image, t: Float[Tensor, " batch"], condition: Condition | Tensor | None = None) -> Image:
        check_shape(x, self.shape)
        with full_precision(x):
            e = self.embed(t.to(time_dtype(x)), condition)
            scale, shift = self.modulate(e).chunk(2, dim=1)
            scale, shift = scale_and_shift(scale, shift, self.conditioning)
        h = self.lift(x).flatten(2).transpose(1, 2) + self.positions.to(x.dtype)
        for block in self.blocks:
            h = block(h, e)
        h = self.project(self.norm(h) * scale + shift)
        return pixel_shuffle(h.transpose(1, 2).unflatten(2, (self.tokens, self.tokens)), self.patch)

    def embed(self, t: Float[Tensor, " batch"], condition: Told) -> Embedding:
        """Of time and condition, for every block."""
        labels, numbers = labels_and_numbers(condition, self.told)
        e = self.mix(self.embed_time(t).to(self.modulate.weight.dtype))
        if self.embed_label is not None:
            absent = torch.full_like(t, self.embed_label.num_embeddings - 1, dtype=torch.long)
            e = e + self.embed_label(absent if labels is None else labels)
        return silu(self.tell(e, numbers))

    def initialise(self) -> None:
        """As in the paper: blocks start as the identity, by gates of zero, and F as zero.

        Plain scales and shifts start at zero as well; those of "double" cannot, as a norm divides them.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.detach().flatten(1))  # a view
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.embed_label is not None:
            nn.init.normal_(self.embed_label.weight, std=0.02)
        zeroed = [self.project]
        for block in self.blocks:
            assert isinstance(block, Block)
            zeroed += [block.gate] if self.conditioning == "double" else [block.gate, block.modulate]
        for layer in zeroed if self.conditioning == "double" else [*zeroed, self.modulate]:
            nn.init.zeros_(layer.weight)


class Block(nn.Module):
    """Attention, then a perceptron, each on a norm modulated by the embedding, each added through a gate of it.

    "double" modulates by norm(h) * pnorm(s(e)) + pnorm(b(e)) (arXiv 2410.11081, Sec. 4.1), "plain" by
    norm(h) * (1 + s(e)) + b(e).
    """

    def __init__(self, width: int, heads: int, conditioning: Conditioning) -> None:
        super().__init__()
        self.heads = heads
        self.conditioning: Conditioning = conditioning
        self.modulate = nn.Linear(width, 4 * width)
        self.gate = nn.Linear(width, 2 * width)
        self.norm = _layer_norm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, h: Tokens, e: Embedding) -> Tokens:
        with full_precision(h):
            s1, b1, s2, b2 = self.modulate(e).chunk(4, dim=1)
            first, second = scale_and_shift(s1, b1, self.conditioning), scale_and_shift(s2, b2, self.conditioning)
            gates = self.gate(e)[:, None].chunk(2, dim=2)
        h = h + gates[0] * self.attend(self.norm(h) * first[0] + first[1])
        return h + gates[1] * self.mlp(self.norm(h) * second[0] + second[1])

    def attend(self, h: Tokens) -> Tokens:
        """Self-attention over tokens."""
        q, k, v = self.qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def scale_and_shift(scale: Embedding, shift: Embedding, conditioning: Conditioning) -> tuple[Tensor, Tensor]:
    """What multiplies and what is added to normalised tokens: (batch, 1, width) each."""
    if conditioning == "double":
        scale, shift = pixel_norm(scale), pixel_norm(shift)
    else:
        scale = 1 + scale
    return scale[:, None], shift[:, None]


def grid_embedding(side: int, width: int) -> Float[Tensor, "tokens width"]:
    """Of the places of side x side tokens: half the channels for the row, half for the column, of amplitude 1."""
    axis = PositionalEmbedding(width // 2)(torch.arange(side, dtype=torch.float32)) / math.sqrt(2)
    row, column = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    return torch.cat([row, column], dim=2).flatten(0, 1)


def _layer_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
