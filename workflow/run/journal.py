"""What a run writes down as it trains."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from trigbench.workflow.machine.devices import busy_clock


@dataclass
class Journal:
    """Plain data, so that a resumed run goes on with it."""

    rows: list[list[float]] = field(default_factory=list)
    """Of log.csv."""
    window: list[list[float]] = field(default_factory=list)
    """Loss, direction norm and gradient norm of every step since the last row."""
    seconds: float = 0.0
    data_seconds: float = 0.0
    """Of these, waiting for batches."""
    busy_seconds: float | None = 0.0
    """And those in which the device was at work; None where nobody can tell."""
    last_direction_norm: float | None = None

    def add_busy(self, seconds: float | None) -> None:
        known = seconds is not None and self.busy_seconds is not None
        self.busy_seconds = self.busy_seconds + seconds if known else None  # type: ignore[operator]

    def note(self, loss: float, direction_norm: float, gradient_norm: float) -> None:
        """What one step was."""
        self.window.append([loss, direction_norm, gradient_norm])
        self.last_direction_norm = direction_norm

    def close_window(self, step: int, rate: float) -> list[float]:
        """The new row of means, and the largest norms, over the steps since the last row."""
        columns = list(zip(*self.window, strict=True))
        loss, norm, gradient = (sum(column) / len(column) for column in columns)
        self.rows.append([step, loss, norm, max(columns[1]), gradient, max(columns[2]), rate])
        self.window = []
        return self.rows[-1]


@dataclass(frozen=True)
class Clock:
    """Of a run's training, which goes on where the journal stopped."""

    started: float
    busy: Callable[[], float | None]
    """Seconds in which the device was at work since it was asked last."""

    @staticmethod
    def from_now(journal: Journal, device: torch.device) -> "Clock":
        return Clock(time.monotonic() - journal.seconds, busy_clock(device))

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def note(self, journal: Journal) -> None:
        """Write down the time so far."""
        journal.seconds = self.seconds()
        journal.add_busy(self.busy())
