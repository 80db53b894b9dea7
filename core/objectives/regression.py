"""The one loss of the whole family: regress the recorded output onto itself plus a direction.

An objective computes a Direction; `regress` turns it into the loss. Diffusion, sCD, sCT and the
discrete methods differ in the direction alone.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, get_type_hints

from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import NORMALISER, PROPOSAL_MEAN, PROPOSAL_STD, SIGMA_D
from trigbench.core.samplers import Step
from trigbench.core.tangents import Clip, Control, Derivative, Direction, Number, derivative_along, normalise
from trigbench.core.trigflow import ProposalGrid, TimeFunction

NORMALISED: Control = partial(normalise, constant=NORMALISER / SIGMA_D)
"""The paper's c = 0.1 divided by sigma_d = 0.5: 0.2."""


@dataclass(frozen=True)
class Settings:
    """What an objective of one's own is told unless it names a dataclass of its own; those here have theirs.

    A field of any such dataclass is filled by its name: with what an arm says, or what is made of that. The defaults
    are the paper's, in unit variance.
    """

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0; noise level sigma is at tan t = sigma / sigma_d."""
    proposal_mean: float = PROPOSAL_MEAN
    """P_mean: the mean of ln sigma of the drawn t."""
    proposal_std: float = PROPOSAL_STD
    """P_std: its standard deviation, greater than 0."""
    warmup: Number = 1.0
    """r of this step (core.schedules.tangent_warmup)."""
    control: Control = NORMALISED
    """What is done to the direction g in unit variance; the paper's is g / (|g| + 0.1 / sigma_d)."""
    derivative: Derivative = derivative_along
    """Takes F and its derivative along the flow in one call."""
    grid: ProposalGrid | None = None
    """Discrete objectives only; holds the proposal already split over its intervals."""
    solver: Step | None = None
    """The teacher's step in dsCD; None is the paper's DDIM, whose velocity needs no (rounded) difference."""
    log_weight_max: float | None = None
    """Upper bound of w(t); None leaves it free, as the paper does."""
    segments: Float[Tensor, " edges"] | None = None
    """Lower edges of the segments of multi-step sCD, ascending from 0."""
    stage: int = 0
    """Of ECT's schedule: how often the gap between its two noise levels was halved."""


def settings_for(objective: Callable[..., Any], **values: Any) -> Any:
    """What an objective is told: the dataclass that its `settings` are annotated as, or Settings.

    Its fields, and those of a dataclass within it that has a default, are filled by name from `values`. Raises
    ValueError where a field has neither a value nor a default.

    >>> settings_for(lambda fields, x0, draws, settings: None, sigma_d=1.0, unknown=0).sigma_d
    1.0
    """
    return _filled(settings_class(objective), values)


def settings_class(objective: Callable[..., Any]) -> Any:
    """The dataclass that the objective's `settings` are annotated as, or Settings."""
    hint = _hints(objective).get("settings")
    return hint if dataclasses.is_dataclass(hint) else Settings


def _filled(kind: Any, values: Mapping[str, Any]) -> Any:
    hints, given = _hints_of_fields(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in values:
            given[field.name] = values[field.name]
        elif field.default_factory is not dataclasses.MISSING:
            if dataclasses.is_dataclass(hints.get(field.name)):
                given[field.name] = _filled(hints[field.name], values)
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"the objective is told {field.name!r} in its {kind.__name__}, and nothing gives it")
    return kind(**given)


def _hints(of: Any) -> dict[str, Any]:
    try:
        return get_type_hints(of)
    except NameError:  # of names that only a type checker knows
        return {}


_hints_of_fields = lru_cache(maxsize=64)(_hints)
"""Of a dataclass, which is asked for at every step."""


@dataclass(frozen=True)
class Regression:
    """A loss and what is worth watching beside it."""

    loss: Float[Tensor, ""]
    direction_norm: Float[Tensor, " batch"]
    """L2 norm of the direction before any control; the loss value itself does not measure progress."""
    t: Float[Tensor, " batch"] | None = None
    """The angles at which these directions are; None where an objective does not say."""
    clipped: Float[Tensor, " batch"] | None = None
    """Share of the direction's elements that clipping changed; None where nothing clips."""
    clamped: Float[Tensor, " batch"] | None = None
    """1 where the adaptive weight was beyond its bound, else 0; None where it has none."""


def regress(
    direction: Direction,
    t: Float[Tensor, " batch"],
    log_weight: TimeFunction | None = None,
    log_weight_max: float | None = None,
    control: Control | None = None,
) -> Regression:
    """mean of e^w(t) / D * ||F - sg(F) - g||^2 - w(t) (arXiv 2410.11081, Eq. 8 and App. D).

    Its gradient in F is -2 e^w g / D per sample. Without `log_weight`, w = 0.
    """
    g = direction.g if control is None else control(direction.g)
    residual = (direction.F - direction.F.detach() - g).flatten(1).square().mean(1)
    norm = direction.g.flatten(1).norm(dim=1)
    clipped = control.share(direction.g) if isinstance(control, Clip) else None
    if log_weight is None:
        return Regression(residual.mean(), norm, t, clipped)
    w, clamped = log_weight(t), None
    if log_weight_max is not None:
        clamped = (w.detach() > log_weight_max).double()
        w = w.clamp(max=log_weight_max)
    return Regression((w.exp() * residual - w).mean(), norm, t, clipped, clamped)
