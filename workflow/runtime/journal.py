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
    last_direction_norm: float | None = None

    def close_window(self, step: int, rate: float) -> None:
        """One row of means, and the largest norms, over the steps since the last row."""
        columns = list(zip(*self.window, strict=True))
        loss, norm, gradient = (sum(column) / len(column) for column in columns)
        self.rows.append([step, loss, norm, max(columns[1]), gradient, max(columns[2]), rate])
        self.window = []
