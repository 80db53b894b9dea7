"""DINOv2's vision transformer (arXiv 2304.07193), for features alone; parameters are named as in its releases.

Written out here because the authors' code is fetched by torch.hub when it is used, which runs what it
fetches. The giant size, whose perceptron is gated, is not read.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

HEAD = 64
"""Channels of an attention head, at every size."""
SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OFFSET = 0.1
"""Added by the authors to the number of patches when they resize the positions."""


class DINOv2(nn.Module):
    """Images of (n, 3, side, side), normalised -> the class token after the last norm, (n, channels)."""

    def __init__(self, channels: int, depth: int, patch: int, positions: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, channels))
        self.mask_token = nn.Parameter(torch.zeros(1, channels))  # unused, but in the released files
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, channels, patch, patch)})
        self.blocks = nn.ModuleList([Block(channels) for _ in range(depth)])
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n channels"]:
        patches = self.patch_embed["proj"](x)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches.flatten(2).mT], dim=1)
        tokens = tokens + self.positions(patches.shape[-1])
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens[:, 0])

    def positions(self, side: int) -> Tensor:
        """The learned positions, resized to a grid of side x side patches."""
        own, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        trained = round(grid.shape[1] ** 0.5)
        if trained == side:
            return self.pos_embed
        square = grid.reshape(1, trained, trained, -1).permute(0, 3, 1, 2)
        scale = (side + OFFSET) / trained
        resized = nn.functional.interpolate(square, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([own, resized.flatten(2).mT], dim=1)


class Block(nn.Module):
    """Attention, then a perceptron, each after a norm and scaled by a learned number per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(channels, 3 * channels), "proj": nn.Linear(channels, channels)})
        self.ls1 = nn.ParameterDict({"gamma": torch.ones(channels)})
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(channels, 4 * channels), "fc2": nn.Linear(4 * channels, channels)})
        self.ls2 = nn.ParameterDict({"gamma": torch.ones(channels)})

    def forward(self, x: Float[Tensor, "n tokens channels"]) -> Tensor:
        n, tokens, channels = x.shape
        qkv = self.attn["qkv"](self.norm1(x)).reshape(n, tokens, 3, channels // HEAD, HEAD)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, channels)
        x = x + self.ls1["gamma"] * self.attn["proj"](y)
        y = self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))
        return x + self.ls2["gamma"] * y


def dinov2_of(tensors: Mapping[str, Tensor]) -> DINOv2:
    """The network that released tensors are of. Raises ValueError when they are not DINOv2's."""
    try:
        channels, patch = tensors["cls_token"].shape[-1], tensors["patch_embed.proj.weight"].shape[-1]
        positions = tensors["pos_embed"].shape[1]
    except KeyError as error:
        raise ValueError(f"no tensor {error} in it") from error
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    with torch.device("meta"):
        network = DINOv2(channels, depth, patch, positions)
    try:
        network.load_state_dict(dict(tensors), strict=True, assign=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return network.eval().requires_grad_(False)


def normalised(pixels: Tensor) -> Tensor:
    """uint8 of (n, 3, h, w) -> 224 pixels by antialiased bicubic, less ImageNet's mean, over its deviation."""
    x = nn.functional.interpolate(pixels.float(), (SIDE, SIDE), mode="bicubic", antialias=True) / 255
    mean, std = (torch.tensor(numbers, device=x.device)[:, None, None] for numbers in (MEAN, STD))
    return (x - mean) / std
