"""The U-Net of EDM and EDM2: which blocks it has, and the walk through them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from trigbench.core.networks.images import Image, Output, Resampling


@dataclass(frozen=True)
class Place:
    """Where a block stands: named by its resolution and part, as tensors of public checkpoints are."""

    name: str
    resolution: int
    inputs: int
    outputs: int
    resampling: Resampling = "keep"
    attends: bool = False
    joins: bool = False
    """Takes the encoder's output as well, the newest first; its channels are in `inputs`."""


@dataclass(frozen=True)
class Plan:
    """The blocks of a U-Net in the order of the walk; `stem` names the convolution before them."""

    stem: str
    encoder: tuple[Place, ...]
    decoder: tuple[Place, ...]


def plan_of(
    resolution: int,
    stem: int,
    widths: Sequence[int],
    blocks: int,
    attention: Collection[int],
    decoder_attention: Literal["every", "last"],
) -> Plan:
    """Levels of `widths` channels, each at half the resolution of the one before.

    The encoder has `blocks` blocks a level, the decoder one more. At the resolutions in `attention`
    every encoder block attends, and in the decoder every block or only the level's last; so does the
    block in the middle. Raises ValueError when the resolution cannot be halved that often.
    """
    if resolution % 2 ** (len(widths) - 1):
        raise ValueError(f"{len(widths)} levels need a resolution divisible by {2 ** (len(widths) - 1)}: {resolution}")
    sides = [resolution >> level for level in range(len(widths))]
    encoder = tuple(_encoder(sides, stem, widths, blocks, attention))
    attends = range(blocks + 1) if decoder_attention == "every" else (blocks,)
    skips = [stem, *(place.outputs for place in encoder)]
    decoder = tuple(_decoder(sides, skips, widths, attention, attends))
    return Plan(f"{resolution}x{resolution}_conv", encoder, decoder)


def _encoder(
    sides: Sequence[int], channels: int, widths: Sequence[int], blocks: int, attention: Collection[int]
) -> Iterator[Place]:
    for side, width in zip(sides, widths, strict=True):
        if side != sides[0]:
            yield Place(f"{side}x{side}_down", side, channels, channels, "down")
        for i in range(blocks):
            yield Place(f"{side}x{side}_block{i}", side, channels, width, attends=side in attention)
            channels = width


def _decoder(
    sides: Sequence[int],
    skips: list[int],
    widths: Sequence[int],
    attention: Collection[int],
    attends: Collection[int],
) -> Iterator[Place]:
    channels, per_level = widths[-1], len(skips) // len(widths)
    for side, width in zip(sides[::-1], widths[::-1], strict=True):
        if side == sides[-1]:
            yield Place(f"{side}x{side}_in0", side, channels, channels, attends=True)
            yield Place(f"{side}x{side}_in1", side, channels, channels)
        else:
            yield Place(f"{side}x{side}_up", side, channels, channels, "up")
        for i in range(per_level):
            attending = side in attention and i in attends
            yield Place(f"{side}x{side}_block{i}", side, channels + skips.pop(), width, attends=attending, joins=True)
            channels = width


def walk(
    plan: Plan,
    encoder: nn.ModuleDict,
    decoder: nn.ModuleDict,
    x: Image,
    e: Float[Tensor, "batch embedding"],
    join: Callable[[Tensor, Tensor], Tensor],
) -> Output:
    """Down through the encoder, whose every output is kept, and up through the decoder that joins them again."""
    x = encoder[plan.stem](x)
    skips = [x]
    for place in plan.encoder:
        x = encoder[place.name](x, e)
        skips.append(x)
    for place in plan.decoder:
        x = decoder[place.name](join(x, skips.pop()) if place.joins else x, e)
    return x
