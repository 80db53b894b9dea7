"""The table of samplers of maps, which take few steps and each a long way: what says how many, and what each may do.

Plain data and no import of torch, as core.solvers, which has those of the probability-flow ODE. A further one is an
entry here and its call in workflow/run/sampling.py.
"""

from dataclasses import dataclass
from typing import Literal

from trigbench.core.constants import MID_TIME

SampledBy = Literal["few", "one", "segments", "jumps", "halves", "heun", "ddim_even"]
"""How a method is sampled unless told: a map from every angle, from t_max alone, by segments, by jumps between any
angles or those of one length in flow time, as an ODE, or in its own even steps."""


@dataclass(frozen=True)
class MapSampler:
    """One way from noise to data by a map; of neither times nor evaluations, an arm's segments are its steps."""

    times: tuple[tuple[float, ...], ...] = ()
    """The middle angles of its usual samplings; a study gives lists of its own."""
    evaluations: tuple[int, ...] = ()
    """Their numbers of steps, where these say all; a study gives numbers of its own."""
    gamma: bool = False
    """Whether it may be told how much is re-noised between steps."""
    others: tuple[str, ...] = ()
    """Ways that sample its methods too."""
    told: bool = True
    """Whether the network has to be told a target time."""


MAP_SAMPLERS = {
    "few": MapSampler(times=((), (MID_TIME,)), told=False),
    "segments": MapSampler(),
    "jumps": MapSampler(times=((), (MID_TIME,)), gamma=True, others=("few", "halves")),
    "halves": MapSampler(evaluations=(1, 2)),
}
