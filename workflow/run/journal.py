"""What a run writes down as it trains."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from trigbench.core.noise_left import BINS
from trigbench.workflow.machine.devices import busy_clock


@dataclass
class Journal:
    """Plain data, so that a resumed run goes on with it."""

    rows: list[list[float | None]] = field(default_factory=list)
    """Of log.csv; None is an empty cell."""
    window: list[list[float | None]] = field(default_factory=list)
    """Loss, direction norm, gradient norm and what is noted beside, of every step since the last row."""
    seconds: float = 0.0
    data_seconds: float = 0.0
    """Of these, waiting for batches."""
    busy_seconds: float | None = 0.0
    """And those in which the device was at work; None where nobody can tell."""
    last_direction_norm: float | None = None
    warned: bool = False
    """Whether it was said that the student has collapsed."""
    compiled: bool | None = None
    """Whether its steps are to be compiled; None before the first."""
    fell_back: str | None = None
    """Why steps that are to be compiled are not, of a process at least."""

    def add_busy(self, seconds: float | None) -> None:
        known = seconds is not None and self.busy_seconds is not None
        self.busy_seconds = self.busy_seconds + seconds if known else None  # type: ignore[operator]

    def note(self, loss: float, direction_norm: float, gradient_norm: float, beside: Sequence[float]) -> None:
        """What one step was; `beside` are the numbers of gradients.watched_of after the first two."""
        self.window.append([loss, direction_norm, gradient_norm, *map(_number, beside)])
        self.last_direction_norm = direction_norm

    def close_window(self, step: int, rate: float, left: Sequence[float]) -> list[float | None]:
        """The new row of means, and the largest norms, over the steps since the last row; and of a look, what is left.

        Where there was no look, `left` is NaN.
        """
        columns = list(zip(*self.window, strict=True))
        loss, norm, gradient = (sum(column) / len(column) for column in columns[:3])  # type: ignore[arg-type]
        row = [step, loss, norm, max(columns[1]), gradient, max(columns[2]), rate]  # type: ignore[type-var]
        clipped, clamped, *bins = columns[3:]
        row += [*_active(clipped), *_active(clamped)]
        row += [_mean_in_bin(norms, counts) for norms, counts in zip(bins[:BINS], bins[BINS:], strict=True)]
        self.rows.append(row + [_number(share) for share in left])
        self.window = []
        return self.rows[-1]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _active(shares: Sequence[float | None]) -> list[float | None]:
    """The mean share over steps, and the share of steps in which it was not 0."""
    known = [share for share in shares if share is not None]
    if len(known) < len(shares):
        return [None, None]
    return [sum(known) / len(known), sum(share > 0 for share in known) / len(known)]


def _mean_in_bin(norms: Sequence[float | None], counts: Sequence[float | None]) -> float | None:
    """Over the samples of all steps that were in the bin; None where there were none."""
    count = sum(share or 0.0 for share in counts)
    return None if None in norms or not count else sum(norm or 0.0 for norm in norms) / count


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
