"""The log of a run: a row of means every few steps, to read while it trains.

It grows beside the checkpoints, where the workflow clears nothing when a job ends; when training has ended it is
log.csv of the run's folder.
"""

from collections.abc import Sequence
from pathlib import Path

from trigbench.core.noise_left import BINS
from trigbench.workflow.machine.files import replace_text, writing

LogRow = Sequence[float | None]
"""None is an empty cell: of what was not measured then, or is not the arm's."""

NORMS = tuple(f"direction_norm_{number + 1}" for number in range(BINS))
LEFT = tuple(f"noise_left_{number + 1}" for number in range(BINS))
"""By bin of time; what is left is looked at a few times in a run."""
ACTIVE = ("clipped_share", "clipped_steps", "clamped_share", "clamped_steps")
LOG_COLUMNS = (
    "step", "loss", "direction_norm", "direction_norm_max", "gradient_norm", "gradient_norm_max", "rate",
    *ACTIVE, *NORMS, *LEFT,
)  # fmt: skip


def log_text(rows: Sequence[LogRow]) -> str:
    """The whole file: a head and one line for each of Journal.rows."""
    return "".join([",".join(LOG_COLUMNS) + "\n", *map(_line, rows)])


def looks_of(rows: Sequence[LogRow]) -> list[LogRow]:
    """What was left at each look, by bin."""
    left = [row[-BINS:] for row in rows]
    return [row for row in left if any(number is not None for number in row)]


class GrowingLog:
    """The file as it grows: whole lines at any moment, and after a kill those of an undisturbed run.

    It begins with the rows of the checkpoint that is gone on from; what a killed process wrote after these comes again.
    Nothing waits for the disk. Of several processes one has a file. Raises BenchError where the disk is full.
    """

    def __init__(self, file: Path | None, rows: Sequence[LogRow]) -> None:
        self.file = file
        if file is None:
            return
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_text(file, log_text(rows))

    def append(self, row: LogRow) -> None:
        """Add a row, by one write."""
        if self.file is None:
            return
        with writing(self.file), self.file.open("ab", buffering=0) as handle:
            handle.write(_line(row).encode())


def _line(row: LogRow) -> str:
    return ",".join("" if number is None else repr(number) for number in row) + "\n"
