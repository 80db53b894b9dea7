"""How much of the noise that comes in a consistency map leaves: what shows a student that is dead, as no loss does.

A map that has died at some time (F = 0, or F constant) returns cos(t - u) x: all of the noise, whatever its loss.
"""

import math

from jaxtyping import Float, Int
from torch import Tensor

from trigbench.core.trigflow import Batch, Field, Times, rotate

BINS = 4
"""Of time, even in the angle from 0 to pi/2."""
MIDDLES = tuple(math.pi / 2 * (number + 0.5) / BINS for number in range(BINS))
"""Their middles: 0.196, 0.589, 0.982 and 1.374."""
TELLS = 0.25
"""What a dead map leaves, less what the teacher's flow leaves: where it is less, the two are not told apart."""
COLLAPSED = 0.5
"""Half of the way from the teacher's flow to a dead map."""


def bin_of(t: Times) -> Int[Tensor, " batch"]:
    """The number of each angle's bin, from 0."""
    return (t * (BINS * 2 / math.pi)).long().clamp(0, BINS - 1)


def share_left(ends: Batch, other_ends: Batch, x: Batch, other: Batch) -> float:
    """||f(x) - f(x')|| / ||x - x'|| over all rows: x and x' differ in their noise alone.

    So x - x' = sin(t) (z - z'). NaN where the points do not differ.
    """
    put_in = (x - other).double().norm()
    return float((ends - other_ends).double().norm() / put_in) if bool(put_in > 0) else math.nan


def flow(field: Field, x: Batch, t: Times, u: Times, steps: int = 12) -> Batch:
    """The probability-flow ODE of a diffusion field from t to u <= t, by DDIM in `steps` equal angles."""
    for number in range(steps):
        now, then = (t + (u - t) * (place / steps) for place in (number, number + 1))
        x = rotate(x, field(x, now), now, then)
    return x


def collapse(left: float, taught: float, elapsed: float) -> float:
    """(left - taught) / (cos(elapsed) - taught): 0 for a map that leaves what the teacher's flow does, 1 for a dead.

    `elapsed` is t - u: cos(t - u) is what F = 0 leaves. Less than 0 for a map that leaves less than the flow does, as a
    denoiser. NaN where the two are closer than TELLS (broad data, or large t), which decides nothing.
    """
    dead = math.cos(elapsed)
    return (left - taught) / (dead - taught) if dead - taught >= TELLS else math.nan


def worst(collapses: Float[Tensor, " bins"]) -> float:
    """The largest of several; NaN where none decides."""
    decided = collapses[~collapses.isnan()]
    return float(decided.max()) if len(decided) else math.nan
