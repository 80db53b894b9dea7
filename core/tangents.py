"""The tangent of the consistency map along the probability-flow ODE, and what is done to it.

Everything is in unit variance, so a tangent here is 1/sigma_d times the paper's; constants of the
paper that act on tangents are converted where they stand (arXiv 2410.11081, Sec. 4 and Alg. 1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.forward_mode import TangentMethod, draws_again, value_and_tangent
from trigbench.core.trigflow import Batch, Field, Times, cos_sin

Derivative = Callable[[Field, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(field, x, t, v, scale of (batch,)) -> F with its gradient, and scale * dF/dt along dx/dt = v without one."""
Number = float | Tensor
"""A number that moves from step to step: of shape () where a step is compiled (core.compiled)."""
Control = Callable[[Tensor], Tensor]
"""What is done to a direction before it becomes a target."""


@dataclass(frozen=True)
class Direction:
    """Where the recorded output F should move: the loss regresses F onto sg(F) + g."""

    F: Tensor
    """(batch, *shape), keeps its gradient."""
    g: Tensor
    """(batch, *shape), no gradient."""


@dataclass(frozen=True)
class Apart:
    """A field whose derivative is taken of another: the same network in another precision."""

    value: Field
    tangent: Field

    def __call__(self, x: Batch, t: Times) -> Batch:
        return self.value(x, t)


def derivative_along(
    field: Field, x: Batch, t: Times, v: Batch, scale: Times, method: TangentMethod = "auto"
) -> tuple[Batch, Batch]:
    """F and scale * dF/dt along dx/dt = v, the scale *inside* the tangents (Sec. 5.1).

    With scale = cos t sin t no intermediate tangent overflows in half precision, and central
    differences stay within the times that exist.

    A field that is Apart takes two passes, the tangent's first, before anything is recorded.
    """
    along = scale.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype) * v
    if not isinstance(field, Apart):
        return value_and_tangent(field, (x, t), (along, scale), method)
    with torch.no_grad(), draws_again((x, t)):
        _, tangent = value_and_tangent(field.tangent, (x, t), (along, scale), method)
    return field(x, t), tangent


def map_tangent(F: Batch, dF: Batch, x: Batch, v: Batch, t: Times) -> Batch:
    """df/dt = -cos(t) (F - v) - sin(t) (x + dF/dt) along dx/dt = v (Eq. 6); `dF` is dF/dt."""
    c, s = cos_sin(t, x)
    return -c * (F - v) - s * (x + dF)


def segment_direction(
    field: Field,
    x: Batch,
    t: Times,
    u: Times,
    v: Batch,
    r: Number = 1.0,
    derivative: Derivative = derivative_along,
) -> Direction:
    """The direction of the map from t down to the segment edge u <= t; u = 0 is sCM (Alg. 1).

    g = -c^2 (F - v) - r (c s x + c s dF/dt), c and s of t - u. At r = 1 and u = 0 this is
    cos(t) df/dt: the prior weight 1 / tan t is inside and must not be multiplied again. The
    warm-up r scales the sine term only, so that r = 0 is velocity matching.
    """
    elapsed = t - u
    c, s = cos_sin(elapsed, x)
    F, scaled_dF = derivative(field, x, t, v, torch.cos(elapsed) * torch.sin(elapsed))
    with torch.no_grad():
        return Direction(F, -c * c * (F - v) - r * (c * s * x + scaled_dF))


def normalise(g: Batch, constant: float, norm: Literal["l2", "rms"] = "l2") -> Batch:
    """g / (norm(g) + constant), per sample (Alg. 1).

    "l2" is the plain norm over all elements, as Algorithm 1 is written; "rms" divides it by
    sqrt(D), as some implementations do. The paper's constant 0.1 is 0.1 / sigma_d = 0.2 here.
    """
    size = g.flatten(1).norm(dim=1)
    if norm == "rms":
        size = size / g[0].numel() ** 0.5
    elif norm != "l2":
        raise ValueError(f"unknown norm {norm!r}; choose 'l2' or 'rms'")
    return g / (size + constant).reshape(-1, *[1] * (g.ndim - 1))


def clip(g: Batch, sigma_d: float, limit: float = 1.0) -> Batch:
    """The paper's element-wise clipping at +-limit (Sec. 4.2): sigma_d clip(g, +-limit / sigma_d) here."""
    return sigma_d * g.clamp(-limit / sigma_d, limit / sigma_d)


@dataclass(frozen=True)
class Clip:
    """`clip` as a control that can also say how much of a direction it changes."""

    sigma_d: float
    limit: float = 1.0

    def __call__(self, g: Batch) -> Batch:
        return clip(g, self.sigma_d, self.limit)

    def share(self, g: Batch) -> Float[Tensor, " batch"]:
        """Share of each sample's elements that are beyond the limit, from 0 to 1."""
        return (g.abs() > self.limit / self.sigma_d).flatten(1).double().mean(1)


def raw(g: Batch, sigma_d: float) -> Batch:
    """The uncontrolled tangent in the paper's units: sigma_d g."""
    return sigma_d * g
