"""Dropout whose mask belongs to the sample: the same in any batch, on any device, and at every evaluation of a step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_keys: list[Tensor | None] = [None]
"""The innermost last. Of all threads: a checkpoint computes again in autograd's, on a GPU."""


@contextmanager
def masks(keys: Int[Tensor, " batch"] | None) -> Iterator[None]:
    """Inside, every Dropout draws each sample's mask from that sample's key; without keys, from torch's generator.

    A network with checkpointed parts computes them again in its backward pass, which then has to be inside too.
    """
    _keys.append(keys)
    try:
        yield
    finally:
        _keys.pop()


class Dropout(nn.Dropout):
    """torch's, unless it is called inside `masks`."""

    number: int = 0
    """Among the network's own, so that layers have different masks."""

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        keys = _keys[-1]
        if keys is None or not (self.training and self.p):
            return super().forward(x)
        return x * mask(keys, x, self.p, self.number)


def number_layers(network: nn.Module) -> None:
    """Tell every Dropout of a network its number."""
    for number, layer in enumerate(module for module in network.modules() if isinstance(module, Dropout)):
        layer.number = number


def mask(
    keys: Int[Tensor, " batch"], like: Float[Tensor, "batch *shape"], p: float, number: int = 0
) -> Float[Tensor, "batch *shape"]:
    """0 with probability p, else 1 / (1 - p), from a hash of (key, layer's number, place in the sample).

    Raises ValueError unless there is one key for each of `like`'s samples.
    """
    if keys.shape != like.shape[:1]:
        raise ValueError(f"dropout needs one key per sample: {tuple(keys.shape)} keys, points {tuple(like.shape)}")
    places = torch.arange(like.shape[1:].numel(), dtype=torch.int32, device=like.device)
    hashed = _mixed(_mixed(places + _mixed_number(number)) ^ keys[:, None].to(like.device))
    kept = (hashed & 0x7FFFFFFF) >= round(p * 2**31)
    return (kept.to(like.dtype) / (1 - p)).reshape(like.shape)


def _mixed(h: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """MurmurHash3's finaliser of 32 bits; products wrap around."""
    h = h ^ (h >> 16 & 0xFFFF)
    h = h * -0x7A143595
    h = h ^ (h >> 13 & 0x7FFFF)
    h = h * -0x3D4D51CB
    return h ^ (h >> 16 & 0xFFFF)


def _mixed_number(number: int) -> int:
    """Far apart for neighbouring layers: multiples of 2^32 over the golden ratio, as a signed 32-bit number."""
    return (number * 0x9E3779B9 + 2**31) % 2**32 - 2**31
