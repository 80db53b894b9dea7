"""What a measurement returns."""

from dataclasses import dataclass, field

from trigbench.workflow.study.records import Value


@dataclass(frozen=True)
class Row:
    """One number, and what it is of."""

    value: Value
    arm: str | None = None
    """An arm of the study, whose settings fill the row's other columns; or what stands in place of one, as `exact`."""
    seed: int | None = None
    """Empty for every seed of the study."""
    objective: str | None = None
    """Where the number is of a method and of no arm."""


@dataclass(frozen=True)
class Strip:
    """Images in a row of the experiment's picture."""

    part: str
    """Strips of one part stand together: first images as they are, then what is seen of them, then their edits."""
    images: list
    """Of each its rows of levels from 0 to 255, in grey or as [red, green, blue]; -1 where nothing is known."""
    arm: str | None = None
    sampler: str | None = None
    evaluations: int | None = None


@dataclass(frozen=True)
class Scene:
    """Where paths run."""

    pillars: list
    """Of each [x, y, radius], which no path may touch."""
    goal: list
    """[x, y, radius], to which they should come."""


@dataclass(frozen=True)
class Paths:
    """Paths from one start, a panel of the experiment's picture."""

    points: list
    """Of each its [x, y], step for step."""
    arrived: list
    """Whether each came to the goal."""
    arm: str
    sampler: str
    evaluations: int | None = None


@dataclass(frozen=True)
class Measured:
    """Rows for runs.csv, and for curves.csv (their values have `x`), and what a picture beside the figure shows: strips
    of images, or paths in a scene."""

    runs: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)
    strips: list[Strip] = field(default_factory=list)
    paths: list[Paths] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
