"""The table of samplers of maps, which take few steps and each a long way: where each stands, and what it may do.

Plain data and no import of torch, as core.solvers, which has those of the probability-flow ODE. A further one is a
function in core/samplers/ and one entry here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from trigbench.core.constants import MID_TIME, SIGMA_MAX

Takes = Literal["times", "edges", "gamma", "boundary"]
MOST_HALVES = 128
"""Steps of `halves`: the finest that its paper (arXiv 2410.12557) has."""


@dataclass(frozen=True)
class MapSampler:
    """One way from noise to data by a map; of neither times nor evaluations, an arm's segments are its steps."""

    path: str
    """`module:function`: (map, standard normal noise, what it takes by name) -> samples in unit variance."""
    takes: tuple[Takes, ...]
    """Descending angles from t_max on, with a slice of noise for each; or the edges of the arm's segments, ascending
    from 0, with one slice in all; how much is re-noised; the angle at which the map is the identity."""
    told: bool = True
    """Whether its map is a core.fields.Jump, of a network that is told a target time; else a field, down to 0."""
    everywhere: bool = True
    """Whether the students of its methods are maps at every angle."""
    times: tuple[tuple[float, ...], ...] = ()
    """The middle angles of its usual samplings; a study gives lists of its own."""
    evaluations: tuple[int, ...] = ()
    """Their numbers of steps, where these say all; a study gives numbers of its own."""
    angles: Callable[[int, float], tuple[float, ...]] | None = None
    """(steps, sigma_d) -> the middle angles, where evaluations say all."""
    finest: int | None = None
    """The most steps, where their number is a power of two."""
    alone: str | None = None
    """What its first step alone is called, by which a method may be sampled too."""
    source: str = ""
    """Of its formula."""
    others: tuple[str, ...] = ()
    """By the names of other samplers, those whose methods it samples too."""


def halved_times(steps: int, sigma_d: float) -> tuple[float, ...]:
    """Angles between so many steps of one length in flow time sin / (cos + sin), from t_max down to 0.

    core.objectives.shortcut.halved_steps trains them; here without torch.

    >>> [round(time, 4) for time in halved_times(4, 0.5)]
    [1.2416, 0.7792, 0.3193]
    """
    whole = SIGMA_MAX / (SIGMA_MAX + sigma_d)
    return tuple(math.atan2(whole * left, steps - whole * left) for left in range(steps - 1, 0, -1))


CONSISTENCY, JUMPS = "trigbench.core.samplers.consistency", "trigbench.core.samplers.jumps:sample_jumps"
MAP_SAMPLERS: dict[str, MapSampler] = {
    "few": MapSampler(
        f"{CONSISTENCY}:sample_consistency", ("times", "boundary"), told=False, times=((), (MID_TIME,)), alone="one",
        others=("jumps",), source="arXiv 2303.01469, Alg. 1",
    ),
    "segments": MapSampler(
        f"{CONSISTENCY}:sample_segments", ("edges",), source="arXiv 2403.06807; 2410.11081, Table 6",
    ),
    "jumps": MapSampler(JUMPS, ("times", "gamma"), times=((), (MID_TIME,)), source="arXiv 2310.02279, Alg. 3"),
    "halves": MapSampler(
        JUMPS, ("times",), everywhere=False, evaluations=(1, 2), angles=halved_times, finest=MOST_HALVES,
        others=("jumps",), source="arXiv 2410.12557",
    ),
}  # fmt: skip


def hashed(name: str) -> dict[str, Any]:
    """What the table says of a sampler that decides numbers."""
    sampler = MAP_SAMPLERS[name]
    return {"path": sampler.path, "takes": sampler.takes, "told": sampler.told}


def usual(two_times: bool = False, segments: bool = False) -> str:
    """How a method is sampled that does not say, where its network is told a target time, the edges of segments."""
    return "segments" if segments else "jumps" if two_times else "few"


def whole_of(name: str) -> str:
    """The sampler whose first step alone has this name; else the name.

    >>> whole_of("one"), whole_of("jumps")
    ('few', 'jumps')
    """
    return next((whole for whole, sampler in MAP_SAMPLERS.items() if sampler.alone == name), name)


def by_edges(name: str) -> bool:
    """Whether it goes by the edges of segments."""
    return name in MAP_SAMPLERS and "edges" in MAP_SAMPLERS[name].takes


def is_everywhere(name: str) -> bool:
    """Whether the students of methods that are so sampled are maps at every angle."""
    return name in MAP_SAMPLERS and MAP_SAMPLERS[name].everywhere
