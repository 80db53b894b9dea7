"""Linear observations of data: orthogonal coordinates, some of which are seen (arXiv 2303.01469, Alg. 4: A and Omega).

As the coordinates are orthogonal, the pseudo-inverse of what is seen is its transpose, and what is not seen is its null
space. So a point is brought to agree with an observation by the nearest change: `replace`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trigbench.core.trigflow import Batch, check_floating

Observation = Float[Tensor, "batch observed"]
LUMINANCE = (0.2989, 0.5870, 0.1140)
"""What red, green and blue give to grey, as CM's code has it (ITU-R BT.601)."""


@dataclass(frozen=True)
class Operator:
    """Points (batch, *shape) are seen by some of their coordinates."""

    shape: tuple[int, ...]
    seen: Bool[Tensor, "..."]
    """Which coordinates are: 1 - Omega."""
    coordinates: Callable[[Tensor], Tensor]
    """A, orthogonal: (batch, *shape) -> (batch, *seen.shape)."""
    points: Callable[[Tensor], Tensor]
    """A^-1: (batch, *seen.shape) -> (batch, *shape)."""

    @property
    def observed(self) -> int:
        """Numbers in an observation."""
        return int(self.seen.sum())


def observe(operator: Operator, x: Batch) -> Observation:
    """The coordinates that are seen. Raises ValueError for points of another shape, or of integers."""
    _check_points(operator, x)
    return operator.coordinates(x)[:, operator.seen.to(x.device)]


def fill(operator: Operator, observation: Observation) -> Batch:
    """The point with that observation whose other coordinates are 0: pseudo-inverse and adjoint of `observe`.

    Raises ValueError unless the observation is (batch, operator.observed), of floating point.
    """
    check_floating(observation)
    if observation.ndim != 2 or observation.shape[1] != operator.observed:
        raise ValueError(f"need an observation (batch, {operator.observed}), got {tuple(observation.shape)}")
    coordinates = observation.new_zeros(len(observation), *operator.seen.shape)
    coordinates[:, operator.seen.to(observation.device)] = observation
    return operator.points(coordinates)


def replace(operator: Operator, x: Batch, observation: Observation) -> Batch:
    """The nearest point to x that has that observation: A^-1 [(A y) (1 - Omega) + (A x) Omega] of CM's Alg. 4.

    What a mask sees is the observation bit for bit; of other coordinates it is to rounding. Raises ValueError as
    `observe` and `fill`, and for another number of observations than of points.
    """
    _check_points(operator, x)
    if len(observation) != len(x):
        raise ValueError(f"need one observation a point, got {len(observation)} for {len(x)}")
    given, own = operator.coordinates(fill(operator, observation).to(x)), operator.coordinates(x)
    return operator.points(torch.where(operator.seen.to(x.device), given, own))


def bases(operator: Operator) -> tuple[Float[Tensor, "observed size"], Float[Tensor, "unobserved size"]]:
    """Orthonormal rows that span what is seen, and its null space, of flattened points in float64."""
    size = math.prod(operator.shape)
    every = (
        operator.coordinates(torch.eye(size, dtype=torch.float64).reshape(size, *operator.shape)).reshape(size, -1).T
    )
    seen = operator.seen.flatten().cpu()
    return every[seen], every[~seen]


def mask(seen: Bool[Tensor, "*shape"]) -> Operator:
    """Parts of a point as they are, as the known pixels of inpainting. Raises ValueError unless `seen` is of bools."""
    if seen.dtype is not torch.bool or not seen.ndim:
        raise ValueError(f"a mask is of bools of a point's shape, got {seen.dtype} of {tuple(seen.shape)}")
    return Operator(tuple(seen.shape), seen, _same, _same)


def colour(shape: Sequence[int], weights: Sequence[float] = LUMINANCE) -> Operator:
    """One weighted sum of the channels, (channels, *any): the grey of a picture, as of colourisation.

    The sum is over the length of `weights`, so that it has the scale of a channel. Raises ValueError unless there is a
    weight for each channel, and one that is not 0.
    """
    shape = tuple(shape)
    if not shape or len(weights) != shape[0]:
        raise ValueError(f"need one weight per channel, got {len(weights)} for points of {shape}")
    to, back = _turned(torch.tensor(list(weights), dtype=torch.float64))
    seen = torch.zeros(shape, dtype=torch.bool)
    seen[0] = True
    return Operator(shape, seen, lambda x: _along(x, 1, to), lambda x: _along(x, 1, back))


def averages(shape: Sequence[int], patch: int) -> Operator:
    """The mean of each patch x patch square of (channels, height, width), times `patch`: as of super-resolution.

    Raises ValueError unless the patches tile the picture, and hold more than a pixel.
    """
    shape = tuple(shape)
    if len(shape) != 3 or patch < 2 or shape[1] % patch or shape[2] % patch:
        raise ValueError(
            f"patches of {patch} x {patch} pixels, 2 x 2 at least, must tile (channels, h, w), got {shape}"
        )
    channels, height, width = shape
    tiles = (channels, height // patch, patch, width // patch, patch)
    to, back = _turned(torch.ones(patch * patch, dtype=torch.float64))

    def coordinates(x: Tensor) -> Tensor:
        cut = x.reshape(len(x), *tiles).permute(0, 1, 2, 4, 3, 5)
        return _along(cut.reshape(len(x), channels, tiles[1], tiles[3], patch * patch), 4, to)

    def points(coordinates: Tensor) -> Tensor:
        cut = _along(coordinates, 4, back).reshape(len(coordinates), channels, tiles[1], tiles[3], patch, patch)
        return cut.permute(0, 1, 2, 4, 3, 5).reshape(len(coordinates), *shape)

    seen = torch.zeros(channels, tiles[1], tiles[3], patch * patch, dtype=torch.bool)
    seen[..., 0] = True
    return Operator(shape, seen, coordinates, points)


def rearranged(
    operator: Operator, shape: Sequence[int], to: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]
) -> Operator:
    """The same seen of points (batch, *shape), which hold the operator's numbers in another order.

    `to` gives them its order, (batch, *shape) -> (batch, *operator.shape), and `back` their own: as pixels folded into
    channels, for which these are `pixel_shuffle` and `pixel_unshuffle`.
    """
    return Operator(
        tuple(shape), operator.seen, lambda x: operator.coordinates(to(x)), lambda x: back(operator.points(x))
    )


def _same(x: Tensor) -> Tensor:
    return x


def _turned(first: Float[Tensor, " n"]) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
    """An orthogonal matrix whose first row is along `first`, and its inverse, by Householder's reflection."""
    length = first.norm()
    if not bool(first.isfinite().all()) or not float(length) > 0:
        raise ValueError(f"weights must be finite and not all 0, got {first.tolist()}")
    normal = first / length
    normal[0] -= 1
    size = normal.square().sum()
    turned = torch.eye(len(first), dtype=first.dtype)
    turned = turned - 2 * torch.outer(normal, normal) / size if float(size) else turned
    return turned, turned.T


def _along(x: Tensor, dimension: int, matrix: Float[Tensor, "n n"]) -> Tensor:
    """The matrix applied to every row of numbers along one dimension."""
    return torch.movedim(torch.movedim(x, dimension, -1) @ matrix.T.to(x), -1, dimension)


def _check_points(operator: Operator, x: Batch) -> None:
    check_floating(x)
    if tuple(x.shape[1:]) != operator.shape:
        raise ValueError(f"need points (batch, {', '.join(map(str, operator.shape))}), got {tuple(x.shape)}")
