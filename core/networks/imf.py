"""iMF's DiT (improved MeanFlow, arXiv 2512.02012) out of its public tensors.

Read is the authors' PyTorch (Lyy-iiis/imeanflow, branch torch: models/imfDiT.py, mit.py before), whose names the layers
keep. The network is told the gap alone of the two times, and the scale and the interval of the guidance that it was
trained with: what it gives is guided so, and at a scale of 1 not at all. Tensors in, networks and maps out.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, scaled_dot_product_attention, silu

from trigbench.core.fields import Jump
from trigbench.core.layouts import State, check_layout, listed, shapes_of, single
from trigbench.core.map_conversions import jump_from_flow
from trigbench.core.networks.conditioning import full_precision
from trigbench.core.networks.dit import TIME_CHANNELS, Tokens
from trigbench.core.networks.embeddings import PositionalEmbedding, pixel_norm
from trigbench.core.networks.families import SIDE
from trigbench.core.networks.images import Image, check_shape, square_side
from trigbench.core.trigflow import time_dtype

CLASS_TOKENS = 8
TOLD = {"omega": ("omega_embedder", 4), "t_min": ("cfg_t_start_embedder", 2), "t_max": ("cfg_t_end_embedder", 2),
        "time": ("h_embedder", 4)}  # fmt: skip
"""Numbers, in the order of their tokens: (the layers that embed one, how many tokens it has)."""
PREFIX = CLASS_TOKENS + sum(count for _, count in TOLD.values())
BASE = 10_000.0
"""Of the rotations' frequencies."""
WHOLE = (0.0, 1.0)
"""All flow times."""
RENAMED = ((r"^net\.", ""), (r"\._flax_(linear|embedding)", ""), (r"\.(attn|mlp)_gate$", r".\1_scale"))
"""Published names to those here: patterns in their order. The gates' are those of mit.py."""
OF_VELOCITY = re.compile(r"v_heads\.\d+\.|v_final_layer\.")
"""The second head, a velocity that serves its training alone; published inference files have the last layer of it."""
STEM, LABELS = "x_embedder.proj.weight", "y_embedder.embedding_table.weight"
Rotation = tuple[Float[Tensor, "tokens pairs"], Float[Tensor, "tokens pairs"]]
"""Cosines and sines, for every pair of a head's channels."""
Numbers = Float[Tensor, " batch"]


class IMFDiT(nn.Module):
    """u(z, tau, rho), the average velocity of the flow from tau down to rho in data units, told labels or none.

    Of `own` blocks after the `shared` ones, which its training shares with a second head. Labels of `classes` are none.
    u is 0 before training. Raises ValueError where patches do not fit the side, or heads the width in pairs.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        width: int = 768,
        heads: int = 12,
        shared: int = 4,
        own: int = 8,
        patch: int = 2,
    ) -> None:
        super().__init__()
        side = square_side(shape)
        if side % patch or width % (2 * heads):
            problem = f"{patch}, {side}; {heads}, {width}"
            raise ValueError(f"patch must divide the side, and heads the width in pairs of channels: {problem}")
        self.shape, self.classes, self.patch, self.pairs = tuple(shape), classes, patch, width // heads // 2
        self.x_embedder = nn.Sequential(OrderedDict(proj=nn.Conv2d(shape[0], width, patch, stride=patch)))
        self.y_embedder = nn.Sequential(OrderedDict(embedding_table=nn.Embedding(classes + 1, width)))
        self.class_tokens = _tokens(CLASS_TOKENS, width)
        for name, (embedder, count) in TOLD.items():
            self.add_module(embedder, NumberEmbedding(width))
            self.register_parameter(f"{name}_tokens", _tokens(count, width))
        self.shared_blocks = nn.ModuleList(Block(width, heads) for _ in range(shared))
        self.u_heads = nn.ModuleList(Block(width, heads) for _ in range(own))
        project = nn.Linear(width, patch**2 * shape[0])
        self.u_final_layer = nn.Sequential(OrderedDict(norm=RMSNorm(width), linear=project))
        self.initialise(project)

    def forward(
        self,
        z: Image,
        tau: Numbers,
        rho: Numbers,
        labels: Tensor | None = None,
        scale: float = 1.0,
        interval: tuple[float, float] = WHOLE,
    ) -> Image:
        check_shape(z, self.shape)
        with full_precision(z):
            guidance = (torch.full_like(tau, number) for number in (1 - 1 / scale, *interval))
            prefix = self.prefix(labels, [*guidance, tau - rho])
        h = torch.cat([prefix.to(z.dtype), self.x_embedder(z).flatten(2).transpose(1, 2)], dim=1)
        rotation = rotations(h.shape[1], self.pairs, h)
        for block in (*self.shared_blocks, *self.u_heads):
            h = block(h, rotation)
        pixels = self.u_final_layer(h[:, PREFIX:]).unflatten(2, (self.patch**2, -1))  # channels innermost
        side = self.shape[1] // self.patch
        return pixel_shuffle(pixels.permute(0, 3, 2, 1).flatten(1, 2).unflatten(2, (side, side)), self.patch)

    def prefix(self, labels: Tensor | None, told: Sequence[Numbers]) -> Tokens:
        """The tokens of what it is told, before those of the image."""
        absent = torch.full_like(told[0], self.classes, dtype=torch.long)
        parts = [self.class_tokens + self.y_embedder(absent if labels is None else labels)[:, None]]
        for (name, (embedder, _)), number in zip(TOLD.items(), told, strict=True):
            parts.append(getattr(self, f"{name}_tokens") + getattr(self, embedder)(number)[:, None])
        return torch.cat(parts, dim=1)

    def initialise(self, project: nn.Linear) -> None:
        """As published: normal numbers, smaller in blocks, which have no biases and start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                gain = 0.32 if module.bias is None else 1.0
                nn.init.normal_(module.weight, std=gain / math.sqrt(module.in_features))
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.embedding_dim))
            elif isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.detach().flatten(1))  # a view
            if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.zeros_(project.weight)


class NumberEmbedding(nn.Module):
    """Of a number per sample: cosines and sines of amplitude 1, through a perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = PositionalEmbedding(TIME_CHANNELS)
        self.mlp = nn.Sequential(nn.Linear(TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, number: Numbers) -> Float[Tensor, "batch width"]:
        first = self.mlp[0]
        assert isinstance(first, nn.Linear)
        features = self.embed(number.to(time_dtype(first.weight))) / math.sqrt(2)
        return self.mlp(features.to(first.weight.dtype))


class Block(nn.Module):
    """Attention, then a gated perceptron, each on a norm and added through a vector of gates."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (RMSNorm(width) for _ in range(2))
        self.attn, self.mlp = RotaryAttention(width, heads), SwiGLU(width)
        self.attn_scale, self.mlp_scale = (nn.Parameter(torch.zeros(width)) for _ in range(2))

    def forward(self, h: Tokens, rotation: Rotation) -> Tokens:
        h = h + self.attn(self.norm1(h), rotation) * self.attn_scale
        return h + self.mlp(self.norm2(h)) * self.mlp_scale


class RotaryAttention(nn.Module):
    """Self-attention over tokens, queries and keys normalised for each head and rotated by their place."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.q_norm, self.k_norm = (RMSNorm(width // heads) for _ in range(2))

    def forward(self, h: Tokens, rotation: Rotation) -> Tokens:
        q, k, v = (
            project(h).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (rotated(norm(each), rotation).to(v.dtype) for norm, each in ((self.q_norm, q), (self.k_norm, k)))
        return self.out_proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class RMSNorm(nn.Module):
    """x / rms(x) over channels, times a weight each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch channels"]:
        return pixel_norm(x) * self.weight


class SwiGLU(nn.Module):
    """w2 (silu(w1 h) * w3 h) of 8/3 times the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(width * (8 / 3))
        self.w1, self.w3 = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.w2 = nn.Linear(hidden, width, bias=False)

    def forward(self, h: Tokens) -> Tokens:
        return self.w2(silu(self.w1(h)) * self.w3(h))


def rotations(tokens: int, pairs: int, like: Tensor) -> Rotation:
    """Of place n and pair i by the angle n 10000^(-i / pairs), in the dtype of `like`."""
    n, i = (torch.arange(count, dtype=time_dtype(like), device=like.device) for count in (tokens, pairs))
    angles = n[:, None] * BASE ** -(i / pairs)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotated(
    x: Float[Tensor, "batch heads tokens channels"], rotation: Rotation
) -> Float[Tensor, "batch heads tokens channels"]:
    """Channels (2i, 2i + 1) as a complex number, turned by the angle of their place."""
    (cos, sin), (a, b) = rotation, x.unflatten(3, (-1, 2)).unbind(4)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=4).flatten(3)


def imf_network(state: State) -> IMFDiT:
    """The network of a public checkpoint, its size and heads read off the tensors, for latents of ImageNet 256.

    Half precision becomes single. Raises ValueError when a name is missing or unexpected or a shape differs.
    """
    tensors = imf_tensors(state)
    network = _unfilled(tensors)
    network.load_state_dict(tensors, assign=True)
    return network


def imf_tensors(state: State) -> dict[str, Tensor]:
    """Those of u, checked, and named as here; of the second head there may be any. Raises as `imf_network` does."""
    named = dict[str, Tensor]()
    for published, tensor in state.items():
        name = published
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if not OF_VELOCITY.match(name):
            named[name] = single(tensor)
    if STEM not in named or named[STEM].ndim != 4:
        raise ValueError(f"no DiT of iMF's (x_embedder, omega_tokens, shared_blocks, u_heads ...): {listed(state)}")
    check_layout(named, shapes_of(_unfilled(named).state_dict()), "of iMF's DiT")
    return named


def imf_jump(
    network: IMFDiT,
    sigma_d: float,
    labels: Tensor | None = None,
    scale: float = 1.0,
    interval: tuple[float, float] = WHOLE,
) -> Jump:
    """The map, in unit variance, of a network whose latents have the standard deviation `sigma_d`.

    `scale` is that of the guidance (w of the paper, v_none + w (v - v_none)), in the flow times of `interval`, 0 at
    data. Raises ValueError for what no public network was trained with: a scale below 1, and an interval that begins
    above .5 or ends below; of scales above 8, which it was not trained with either, its authors sample at 10.5.
    """
    if not (scale >= 1 and 0 <= interval[0] <= 0.5 <= interval[1] <= 1):
        told = "of a scale from 1, within flow times from 0 to .5 until .5 to 1"
        raise ValueError(f"the network was trained with guidance {told}; got {scale:g} and {interval}")
    return jump_from_flow(lambda z, tau, rho: network(z, tau, rho, labels, scale, interval), sigma_d)


def _unfilled(named: State) -> IMFDiT:
    """A network of the tensors' size, without numbers."""
    width, channels, patch = named[STEM].shape[:3]
    table, norm = named.get(LABELS), next((named[name] for name in named if name.endswith(".q_norm.weight")), None)
    sizes: dict[str, Any] = {group: len({name.split(".")[1] for name in named if name.startswith(f"{blocks}.")})
                             for group, blocks in (("shared", "shared_blocks"), ("own", "u_heads"))}  # fmt: skip
    with torch.device("meta"):
        return IMFDiT(
            shape=(channels, SIDE, SIDE),
            classes=0 if table is None or table.ndim != 2 else len(table) - 1,
            width=width,
            heads=1 if norm is None else max(1, width // max(1, norm.numel())),
            patch=patch,
            **{group: max(1, count) for group, count in sizes.items()},
        )


def _tokens(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(count, width) / math.sqrt(width))
