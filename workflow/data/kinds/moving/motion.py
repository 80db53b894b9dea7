"""Shapes that move evenly in a box and are thrown back by its walls: drawn exactly, and measured.

A place is where a shape's first row and column are, in pixels, from 0 to TRAVEL both ways. Between pixels a shape is
spread bilinearly, which moves its centre of mass by exactly as much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trigbench.workflow.data.kinds.moving.dimensions import FRAMES, SHAPES, SIDE, SPRITE, TRAVEL

Videos = Float[Tensor, "videos frames rows columns"]
"""Grey levels from 0 to 1."""
Places = Float[Tensor, "videos frames 2"]
Planar = Float[Tensor, "videos 2"]
COARSE = 0.5
"""Pixels between places that are tried first."""
STARTS, SPEEDS, CLOSEST = 29, 41, 8
"""Even motions that are tried first, along each side, and how many of them are gone on with."""


def sprites(names: Sequence[str]) -> Float[Tensor, "shapes 5 5"]:
    """The shapes of these names, 1 where they are."""
    levels = [[[float(cell == "#") for cell in row] for row in SHAPES[name]] for name in names]
    return torch.tensor(levels, dtype=torch.float64)


def reflected(free: Tensor) -> Tensor:
    """Places of what moved freely, thrown back by walls at 0 and TRAVEL.

    >>> reflected(torch.tensor([-1.0, 3.0, 8.0, 15.0])).tolist()
    [1.0, 3.0, 6.0, 1.0]
    """
    return TRAVEL - (free.remainder(2 * TRAVEL) - TRAVEL).abs()


def tracks(start: Planar, velocity: Planar) -> Places:
    """The places of each frame of even motions, velocities in pixels a frame."""
    times = torch.arange(FRAMES, dtype=start.dtype)
    return reflected(start[:, None] + times[:, None] * velocity[:, None])


def rendered(sprite: Float[Tensor, "videos 5 5"], places: Places) -> Videos:
    """Videos of each one's shape at its places."""
    cells = places[..., None] + torch.arange(SPRITE, dtype=places.dtype)
    spread = (1 - (torch.arange(SIDE, dtype=places.dtype)[:, None] - cells[..., None, :]).abs()).clamp(min=0)
    rows, columns = spread.unbind(2)  # (videos, frames, SIDE, SPRITE) each
    return torch.einsum("vfik,vkl,vfjl->vfij", rows, sprite.to(places), columns)


@dataclass(frozen=True)
class Seen:
    """What is seen in videos."""

    shape: Int[Tensor, "videos frames"]
    """Of each frame the shape that it shows best."""
    places: Places
    """Of that shape."""
    missed: Float[Tensor, "videos frames"]
    """Root of the squared difference between a frame and that shape there, over the side of a shape, for all shapes
    alike: 0 for exactly one, some 0.2 where noise of 0.1 is added, 0.36 or more for none, 0.4 for four pixels more."""


def seen(videos: Videos, names: Sequence[str]) -> Seen:
    """Which shape every frame shows best, and where: the nearest of all shapes at COARSE places, and then the centre of
    mass about it. Exact for frames that `rendered` draws; levels outside 0 to 1 are clipped.
    """
    frames = videos.double().clamp(0, 1).flatten(0, 1)
    shapes, corners, templates = _tried(tuple(names))
    scores = frames.flatten(1) @ templates.T - templates.square().sum(1) / 2  # nearest is largest
    best = scores.argmax(1)
    shape, corner = shapes[best], corners[best]
    middle = (SPRITE - 1) / 2
    near = (torch.arange(SIDE, dtype=torch.float64) - (corner + middle)[..., None]).abs() <= middle + 1.5
    rows, columns = near.double().unbind(1)
    about = frames * rows[:, :, None] * columns[:, None]
    mass, pixels = about.sum((1, 2)), torch.arange(SIDE, dtype=torch.float64)
    centre = torch.stack([about.sum(2) @ pixels, about.sum(1) @ pixels], 1) / mass.clamp(min=1e-6)[:, None]
    places = torch.where((mass > 1)[:, None], centre - middle, corner).clamp(0, TRAVEL)
    wanted = rendered(sprites(names)[shape], places[:, None])[:, 0]
    missed = (frames - wanted).flatten(1).norm(dim=1) / SPRITE
    return Seen(
        shape.unflatten(0, videos.shape[:2]), places.unflatten(0, videos.shape[:2]), missed.view(videos.shape[:2])
    )


@cache
def _tried(names: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of shapes, corners and pictures of every shape at every coarse place."""
    axis = torch.arange(0, TRAVEL + COARSE / 2, COARSE, dtype=torch.float64)
    corners = torch.cartesian_prod(axis, axis)
    shapes = torch.arange(len(names)).repeat_interleave(len(corners))
    corners = corners.repeat(len(names), 1)
    return shapes, corners, rendered(sprites(names)[shapes], corners[:, None]).flatten(1)


def nearest_even(places: Places, fastest: float) -> tuple[Float[Tensor, " videos"], Float[Tensor, " videos"]]:
    """How far each track is from the nearest even motion that walls throw back, and the speed of that.

    The distance is the root of the mean square over frames, in pixels, and the speed in pixels a frame. Along each side
    by itself: of a grid of motions no faster than `fastest` the CLOSEST are gone on with, and of these, and of lines of
    least squares through the track with their reflections undone, the nearest is taken.
    """
    axes = places.double().transpose(1, 2).flatten(0, 1)  # (videos * 2, frames)
    start = torch.linspace(0, TRAVEL, STARTS, dtype=torch.float64)
    speed = torch.linspace(-fastest, fastest, SPEEDS, dtype=torch.float64)
    tried = torch.cartesian_prod(start, speed)
    free = tried[:, :1] + tried[:, 1:] * torch.arange(FRAMES, dtype=torch.float64)
    closest = free[torch.cdist(axes, reflected(free)).topk(CLOSEST, largest=False).indices]
    again = _refitted(
        axes[:, None], _refitted(axes[:, None], closest)
    )  # the first may unfold a frame at a wall wrongly
    fitted = torch.cat([closest, again], 1)  # (videos * 2, 2 * CLOSEST, frames)
    squares, chosen = (axes[:, None] - reflected(fitted)).square().mean(2).min(1)
    best = fitted[torch.arange(len(axes)), chosen]
    return squares.view(-1, 2).sum(1).sqrt(), (best[:, 1] - best[:, 0]).view(-1, 2).norm(dim=1)


def _refitted(axes: Tensor, free: Tensor) -> Tensor:
    """The lines of least squares through tracks (..., frames), unfolded as free motions of that shape are."""
    turns = torch.div(free, TRAVEL, rounding_mode="floor")
    back = turns.remainder(2) == 1
    unfolded = torch.where(back, (turns + 1) * TRAVEL - axes, turns * TRAVEL + axes)
    times = torch.arange(FRAMES, dtype=axes.dtype) - (FRAMES - 1) / 2
    slope = (unfolded * times).sum(-1, keepdim=True) / times.square().sum()
    return unfolded.mean(-1, keepdim=True) + slope * times
