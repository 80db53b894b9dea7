"""Grey digits painted: a palette of one luminance, which colour a digit has, and how far pictures are from both.

As every colour has the same luminance, the grey of a picture tells its shape and nothing of its colour; and as no two
pictures of different digits are alike, it tells the digit. So the colours that it may have, given its grey, have
exactly the probabilities LAW of its digit.
"""

from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trigbench.core.operators import LUMINANCE, bases, colour
from trigbench.workflow.data.kinds.coloured.dimensions import LAW

LIGHT = 0.5
"""Luminance of full ink."""
AWAY, TURN = 0.7, 1.073
"""How far colours are from the grey of that luminance, and the hue of the first: as far as red, green and blue within
[0, 1] go."""
Levels = Float[Tensor, "batch height width"]
"""From 0, which is black, to 1."""
Pictures = Float[Tensor, "batch 3 height width"]
"""Red, green and blue, from 0 to 1."""
Numbers = Int[Tensor, " batch"]
"""Of digits, or of colours in the palette."""


@cache
def _hues() -> tuple[Float[Tensor, "colours 2"], Float[Tensor, "2 3"]]:
    """Directions from grey, evenly around it, and orthonormal rows that span the plane of one luminance; float64."""
    turn = TURN + 2 * torch.pi * torch.arange(len(LAW[0]), dtype=torch.float64) / len(LAW[0])
    return torch.stack([turn.cos(), turn.sin()], 1), bases(colour((3,)))[1]


def palette() -> Float[Tensor, "colours 3"]:
    """Full ink in each colour, float64: all of one luminance, and equally far from grey."""
    hues, plane = _hues()
    return LIGHT / sum(LUMINANCE) + AWAY * hues @ plane


def painted(levels: Levels, colours: Numbers) -> Pictures:
    """Ink of these levels on black, a picture in one colour."""
    return levels[:, None] * palette().to(levels)[colours][:, :, None, None]


def drawn_colours(digits: Numbers, g: torch.Generator) -> Numbers:
    """A colour for each digit, by LAW."""
    uniform = torch.rand(len(digits), 1, generator=g, dtype=torch.float64)
    steps = torch.tensor(LAW, dtype=torch.float64).cumsum(1)[digits]
    return (uniform >= steps).sum(1).clamp(max=len(LAW[0]) - 1)


def scale(levels: Levels, digits: Numbers) -> tuple[float, float]:
    """Mean and standard deviation of channels of these digits over all colours that they may have."""
    shares = torch.tensor(LAW, dtype=torch.float64)[digits]
    powers = (palette() ** power @ torch.full((3,), 1 / 3, dtype=torch.float64) for power in (1, 2))
    mean, square = (
        float((levels.double() ** power).mean((1, 2)) @ (shares @ channel) / len(digits))
        for power, channel in zip((1, 2), powers, strict=True)
    )
    return mean, (square - mean**2) ** 0.5


def levels_of(pictures: Pictures) -> Levels:
    """The levels of ink that their luminance says."""
    return torch.einsum("bchw,c->bhw", pictures, pictures.new_tensor(LUMINANCE)) / LIGHT


def nearest_colours(pictures: Pictures, levels: Levels) -> tuple[Numbers, Float[Tensor, " batch"]]:
    """Of pictures whose ink should have these levels, the nearest colour of the palette, and the distance to it.

    The distance is of what luminance does not say, over that of the grey picture to any colour: 0 where all ink is of
    one colour, 1 of a grey picture, and of colours that are laid beside the ink about 1 or more.
    """
    hues, plane = (part.to(levels) for part in _hues())
    grey = LIGHT / sum(LUMINANCE) * levels[:, None] * plane.sum(1)[:, None, None]
    away = (torch.einsum("bchw,dc->bdhw", pictures, plane) - grey) / AWAY
    ink = levels.square().sum((1, 2)).clamp(min=torch.finfo(levels.dtype).tiny)
    along = torch.einsum("bdhw,bhw->bd", away, levels) @ hues.T
    best, chosen = along.max(1)
    squares = away.square().sum((1, 2, 3)) - 2 * best + ink
    return chosen, (squares.clamp(min=0) / ink).sqrt()


def variation(colours: Numbers, digits: Numbers) -> float:
    """Total variation between the colours that pictures of each digit have and LAW, mean over the digits there are.

    Of so many exact draws it is not 0: shares of n draws scatter by about 1 / sqrt(n).
    """
    there = digits.unique()
    law = torch.tensor(LAW, dtype=torch.float64)
    shares = [colours[digits == one].bincount(minlength=len(LAW[0])).double() / (digits == one).sum() for one in there]
    return float(0.5 * (torch.stack(shares) - law[there]).abs().sum(1).mean())
