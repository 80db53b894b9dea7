"""What a metric is: its label, and which way is better."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Quantity:
    """One metric of runs.csv."""

    label: str
    better: Literal["lower", "higher", "neither"]
    meaning: str
    signed: bool = False
    """Whether it may be zero or less: ratios of it mean nothing, and its axis is linear."""
    least: float = -math.inf
    """Where higher is better: no value is less."""
    unit: str = ""
    of: Literal["samples", "map", "training"] = "samples"
    """What is judged; samples give a number for each way in which they are drawn."""
    exact: bool = False
    """Whether it has no scatter over seeds, as a count of operations: claims on it have no interval, and no p."""
    floor: float | None = None
    ceiling: float | None = None
    """Values that nothing passes: arms that stand there are not told apart."""

    @property
    def title(self) -> str:
        """The label with its unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def worst(self) -> float:
        """What a diverged run is given: no run is worse."""
        return self.least if self.better == "higher" else math.inf
