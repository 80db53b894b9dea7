"""The courses: where pillars stand, which ways an expert takes between them, and how much is planned and observed.

Takes no torch and no numpy.
"""

from dataclasses import dataclass

ACTIONS = 16
"""Of a chunk, each a movement in the plane."""
OBSERVED = 4
"""Numbers in an observation: where the point is, and how it moved last."""


@dataclass(frozen=True)
class Plan:
    """A course in plain numbers."""

    pillars: tuple[tuple[float, float, float], ...]
    """Of each its centre and radius."""
    ways: tuple[tuple[tuple[float, float], ...], ...]
    """Of each the middle of the gap that it takes in each row, from below."""


def _row(y: float, *pillars: tuple[float, float]) -> tuple[tuple[float, float, float], ...]:
    """Pillars (x, radius) with their centres at one height, on both sides."""
    both = [(side * x, y, radius) for x, radius in pillars for side in (-1, 1)]
    return tuple(dict.fromkeys((abs(x) and x, y, radius) for x, y, radius in both))


OUTER, LOW, MIDDLE, HIGH = 0.6, -0.45, 0.05, 0.5
"""Of the hard course: a gap of its middle row, and the heights of its rows."""
ASIDE = 0.35
"""Of it: the gaps of its other rows."""
COURSES = {
    "easy": Plan(_row(0.0, (0.0, 0.35)), (((-0.55, 0.0),), ((0.55, 0.0),))),
    "hard": Plan(
        (
            *_row(LOW, (0.0, 0.22), (0.73, 0.27)),
            *_row(MIDDLE, (0.3, 0.19), (0.87, 0.16)),
            *_row(HIGH, (0.0, 0.22), (0.73, 0.27)),
        ),
        tuple(
            ((low, LOW), (middle, MIDDLE), (high, HIGH))
            for low, middle, high in (
                (-ASIDE, -OUTER, -ASIDE), (-ASIDE, 0.0, -ASIDE), (-ASIDE, 0.0, ASIDE),
                (ASIDE, 0.0, -ASIDE), (ASIDE, 0.0, ASIDE), (ASIDE, OUTER, ASIDE),
            )
        ),
    ),
}  # fmt: skip
"""One pillar, passed on either side; three rows whose gaps are a ninth of the arena wide, passed in six ways."""
