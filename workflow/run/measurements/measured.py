"""What a measurement returns."""

from dataclasses import dataclass, field

from trigbench.workflow.study.records import Value


@dataclass(frozen=True)
class Row:
    """One number, and what it is of."""

    value: Value
    arm: str | None = None
    """An arm of the study; its settings fill the row's other columns."""
    seed: int | None = None
    """Empty for every seed of the study."""
    objective: str | None = None
    """Where the number is of a method and of no arm."""


@dataclass(frozen=True)
class Measured:
    """Rows for runs.csv, and for curves.csv (their values have `x`)."""

    runs: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)
