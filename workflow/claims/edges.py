"""Whether what was chosen is the last of its grid, so that a better one may lie beyond.

A rate is chosen by an arm's candidates, an arm or a way of sampling by the seeds of `choose_on`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from trigbench.workflow.claims.effects import Choice
from trigbench.workflow.study.study import Study

EDGE = 1e-6
"""Rates that agree so closely, relatively, are one."""
NATURAL = {"guidance": (1.0, None), "gamma": (0.0, 1.0), "eta": (0.0, 1.0), "churn": (0.0, None), "warmup": (0.0, None)}
"""Where a setting ends by itself, below and above, so that nothing was left out: 1 is no guidance."""
BESIDE = {"tuning", "samplers", "snapshots", "rate_of", "rate_steps", "microbatch", "sharded"}
"""Keys of an arm that decide none of its numbers."""


def rate_at_the_edge(arm: str, runs: pd.DataFrame, study: Study) -> str | None:
    """Of an arm whose rate was tuned, and is the least or the largest that was tried."""
    grid = sorted(study.arms[candidate].rate for candidate in study.candidates(arm)) if arm in study.arms else []
    if not grid:
        return None
    found = runs[(runs.arm == arm) & (runs.metric == "rate")].value.dropna()
    for end in (grid[0], grid[-1]):
        if len(found) and math.isclose(float(found.iloc[0]), end, rel_tol=EDGE):
            return f"the rate of {arm} is {end:g}, {_beside(grid)}"
    return None


def choice_at_the_edge(choice: Choice, study: Study) -> str | None:
    """Of what seeds chose: in each number among its settings it is held against those that differ in that alone.

    Names have no order, and one of a kind no edge.
    """
    places = [_place(way, study) for way in choice.ways]
    here = places[choice.which]
    for key in filter(lambda key: _is_number(here[key]), here):
        line = {
            place[key]: score
            for place, score in zip(places, choice.scores, strict=True)
            if _is_number(place.get(key)) and place | {key: None} == here | {key: None}
        }
        if _is_last(key, here[key], line):
            of = f" of {arm}" if (arm := choice.ways[choice.which]["arm"]) is not None else ""
            said = f"seed{'s' * (len(choice.seeds) > 1)} {', '.join(map(str, choice.seeds))}"
            return f"{_named(key)}{of}, chosen on {said}, is {here[key]:g}, {_beside(sorted(line))}"
    return None


def _is_last(key: str, value: float, line: Mapping[float, float]) -> bool:
    """Whether it ends the line of values, by their scores; one as good inside, or all as good, is no optimum there."""
    grid = sorted(line)
    as_good = [other for other, score in line.items() if score == line[value]]
    inside = any(grid[0] < other < grid[-1] for other in as_good)
    ends = zip((grid[0], grid[-1]), NATURAL.get(key, (None, None)), strict=True)
    last = any(value == end != natural for end, natural in ends)
    return last and not inside and len(as_good) < len(grid)


def _place(way: Mapping[str, Any], study: Study) -> dict[str, Any]:
    """All that an arm and a way of sampling are set to, number by number.

    More steps cost more, so their number is no grid to be searched, nor is a curve; times are held against as many.
    """
    arm, sampler = study.arms.get(str(way["arm"])), study.all_samplers.get(str(way.get("sampling")))
    beside = BESIDE | ({"rate"} if arm and arm.rate_of else set())
    trained = _flat(arm.model_dump(exclude=beside)) if arm else {"arm": way["arm"]}
    drawn = _flat(sampler.model_dump(include={"gamma", "settings"})) if sampler else {"sampling": way.get("sampling")}
    drawn |= {"sampler": way.get("sampler"), "guidance": way.get("guidance")}
    drawn |= {column: str(way.get(column)) for column in ("steps", "x")}
    times = json.loads(way["times"]) if "times" in way else [way["mid_time"]] if "mid_time" in way else []
    return trained | drawn | {f"middle time {number}": time for number, time in enumerate(times, start=1)}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """With those of its own kind beside the others."""
    own = settings.pop("settings", None) or {}
    return settings | own


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(key: str) -> str:
    return "the middle time" if key == "middle time 1" else f"the {key.replace('_', ' ')}"


def _beside(grid: Sequence[float]) -> str:
    return f"at the edge of its grid ({', '.join(f'{value:g}' for value in grid)})"
