"""What a run writes down as it trains."""

from dataclasses import dataclass, field


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
