"""The task, simulated: a point that goes among pillars to a goal, and an expert who shows several ways.

Pure and without chance: whatever is random is an argument. Episodes are rows of arrays, all of which go on at once. The
arena is the square from -1 to 1, whose edge must not be touched either.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

START, GOAL = (0.0, -0.9), (0.0, 0.9)
"""The middle of where episodes begin, and where they should end."""
BESIDE = 0.15
"""How far from that middle they begin, along x, at most."""
NEAR = 0.08
"""The goal's radius."""
SPEED = 0.06
"""The longest way of a step."""
LIMIT = 64
"""Steps of an episode."""
AHEAD = 0.03
"""A row counts as passed so far before it."""
INERTIA = 0.3
"""The share of its last movement that the expert keeps."""
UNDER_WAY, ARRIVED, CRASHED = 0, 1, 2
"""How an episode stands."""

Array = np.ndarray


@dataclass(frozen=True)
class Course:
    """Pillars in rows, and the ways between them."""

    pillars: Array
    """(pillars, 3): centre and radius."""
    ways: Array
    """(ways, rows, 2): of each way the middle of the gap that it takes in each row; all rows are met from below."""


@dataclass(frozen=True)
class State:
    """Of episodes, a row each."""

    position: Array
    """(episodes, 2)"""
    moved: Array
    """(episodes, 2): in the last step."""
    ended: Array
    """(episodes,): UNDER_WAY, ARRIVED or CRASHED."""


def begin(x: Array) -> State:
    """Episodes at rest, at these places (episodes,) along the lower edge."""
    position = np.stack([x, np.full(len(x), START[1])], 1)
    return State(position, np.zeros_like(position), np.full(len(x), UNDER_WAY))


def observe(state: State) -> Array:
    """What a policy sees, (episodes, 4): where the points are, and how they moved last."""
    return np.concatenate([state.position, state.moved], 1)


def step(course: Course, state: State, action: Array) -> State:
    """One step by an action (episodes, 2): the movement that is wanted, which is made no longer than SPEED.

    An episode ends where its way meets a pillar or the edge, and where it is then near the goal; it stays there.
    """
    length = np.linalg.norm(action, axis=1, keepdims=True)
    going = (state.ended == UNDER_WAY)[:, None]
    moved = np.where(going, action * np.minimum(1.0, SPEED / np.maximum(length, 1e-12)), 0.0)
    position = state.position + moved
    near = np.linalg.norm(position - GOAL, axis=1) <= NEAR
    now = np.where(hits(course, state.position, position), CRASHED, np.where(near, ARRIVED, UNDER_WAY))
    return State(position, moved, np.where(going[:, 0], now, state.ended))


def hits(course: Course, start: Array, end: Array) -> Array:
    """Whether the straight way from each start to its end (episodes, 2) meets a pillar or the edge."""
    along, centres, radii = (end - start)[:, None], course.pillars[None, :, :2], course.pillars[:, 2]
    share = ((centres - start[:, None]) * along).sum(2) / np.maximum((along**2).sum(2), 1e-12)
    nearest = start[:, None] + np.clip(share, 0.0, 1.0)[..., None] * along
    return (np.linalg.norm(nearest - centres, axis=2) < radii).any(1) | (np.abs(end) > 1).any(1)


def expert(course: Course, state: State, way: Array, aside: Array) -> Array:
    """The expert's action (episodes, 2) on its way (episodes,): to the next gap, `aside` (episodes, rows) of its
    middle, then to the goal, with some of its last movement kept."""
    gaps = course.ways[way].copy()
    gaps[..., 0] += aside
    places = np.concatenate([gaps, np.broadcast_to(GOAL, (len(way), 1, 2))], 1)
    passed = (gaps[..., 1] <= state.position[:, 1:] + AHEAD).sum(1)
    to = places[np.arange(len(way)), passed] - state.position
    wanted = to * np.minimum(1.0, SPEED / np.maximum(np.linalg.norm(to, axis=1, keepdims=True), 1e-12))
    return INERTIA * state.moved + (1 - INERTIA) * wanted


@dataclass(frozen=True)
class Episodes:
    """What happened, step for step."""

    observed: Array
    """(LIMIT + 1, episodes, 4): before each step, and at the end."""
    actions: Array
    """(LIMIT, episodes, 2): what was wanted in each step."""
    ended: Array
    """(LIMIT + 1, episodes)"""

    @property
    def positions(self) -> Array:
        """(LIMIT + 1, episodes, 2)"""
        return self.observed[..., :2]

    def rows(self, chosen: Array | slice) -> "Episodes":
        """Some of them."""
        return Episodes(self.observed[:, chosen], self.actions[:, chosen], self.ended[:, chosen])

    @property
    def arrived(self) -> Array:
        """(episodes,): whether each came to the goal."""
        return self.ended[-1] == ARRIVED


def follow(course: Course, state: State, plan: Callable[[State], Array]) -> Episodes:
    """Episodes by a plan: a state -> actions (steps, episodes, 2), all of which are done before it is asked again."""
    states, actions = [state], list[Array]()
    while len(actions) < LIMIT:
        for action in plan(states[-1])[: LIMIT - len(actions)]:
            actions.append(action)
            states.append(step(course, states[-1], action))
    return Episodes(np.stack([observe(s) for s in states]), np.stack(actions), np.stack([s.ended for s in states]))


def demonstrate(course: Course, x: Array, way: Array, aside: Array, gusts: Array) -> Episodes:
    """The expert's episodes from x (episodes,), in gusts (LIMIT, episodes, 2); actions are what it wants."""
    blown = iter(gusts)
    found = follow(course, begin(x), lambda state: (expert(course, state, way, aside) + next(blown))[None])
    return replace(found, actions=found.actions - gusts)


def jerk(episodes: Episodes) -> float:
    """Root mean square of the third difference of positions in time while under way, in SPEED; NaN of none."""
    third = np.diff(episodes.positions, n=3, axis=0)
    going = episodes.ended[2:-1] == UNDER_WAY
    return float(np.sqrt((third[going] ** 2).sum(1).mean())) / SPEED if going.any() else float("nan")


def ways_taken(course: Course, positions: Array) -> Array:
    """The way that each episode (steps, episodes, 2) takes, (episodes,): the one whose gap is nearest in every row; -1
    where it comes not to every row, or by gaps that no way joins."""
    passes = []
    for row in range(course.ways.shape[1]):
        gaps, height = np.unique(course.ways[:, row, 0]), course.ways[0, row, 1]
        above = positions[..., 1] >= height
        first = positions[above.argmax(0), np.arange(positions.shape[1]), 0]
        nearest = gaps[np.abs(first[:, None] - gaps).argmin(1)]
        passes.append(above.any(0)[:, None] & (nearest[:, None] == course.ways[:, row, 0]))
    whole = np.all(passes, 0)
    return np.where(whole.any(1), whole.argmax(1), -1)


def effective_number(ways: Array) -> float:
    """exp of the entropy of ways (episodes,), -1 left out: how many are taken, were they taken as often; 0 of none.

    To the entropy of the shares is added (ways seen - 1) / (2 episodes), by which it is too low on average (Miller
    1955): else who arrives less often would seem to take fewer ways.

    >>> effective_number(np.array([0, 1, 0, 1])) == 2 * math.exp(1 / 8)
    True
    """
    _, counts = np.unique(ways[ways >= 0], return_counts=True)
    if not len(counts):
        return 0.0
    shares = counts / counts.sum()
    return math.exp(-(shares * np.log(shares)).sum() + (len(counts) - 1) / (2 * counts.sum()))
