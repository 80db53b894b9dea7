"""What TensorBoard shows of runs: the columns of their logs over the step, and samples: of runs that are made, and of
snapshots along training, where an arm keeps any.

The package is asked for when a writer is opened, and nowhere else.
"""

import csv
import io
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure

from trigbench.workflow.errors import BenchError
from trigbench.workflow.report.pictures import Drawn, picture_of, pictures
from trigbench.workflow.report.style import apply_style
from trigbench.workflow.report.watching import RunView, StudyView
from trigbench.workflow.study.study import Run, Study

SUFFIX = ".trigbench"
"""Of the files that this writes; those of an earlier watching are written anew."""


class Writer(Protocol):
    """Of torch.utils.tensorboard.SummaryWriter what is used."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def add_figure(self, tag: str, figure: Any, global_step: int) -> None: ...

    def close(self) -> None: ...


Snapshots = Callable[[Study, Run, Collection[int]], Iterator[tuple[int, Drawn]]]
"""(step, samples) of the snapshots that a run has by now, but those of these steps."""


def no_snapshots(study: Study, run: Run, known: Collection[int]) -> Iterator[tuple[int, Drawn]]:
    """For whoever does not want to draw any."""
    return iter(())


@dataclass
class _Written:
    writer: Writer
    rows: list[list[float | None]] = field(default_factory=list)
    samples: int | None = None
    """Of which file, by its time."""
    snapshots: set[int] = field(default_factory=set)


@dataclass
class Board:
    """A folder for TensorBoard, a run of it for each run of a study; it grows with every `update`."""

    folder: Path
    open_writer: Callable[[Path], Writer]
    snapshots: Snapshots = no_snapshots
    runs: dict[Path, _Written] = field(default_factory=dict)

    def update(self, study: Study, view: StudyView) -> None:
        """Write what is new since the last time."""
        apply_style()
        for seen in view.runs:
            head, rows = _log(study, seen.run)
            if rows:
                self._add(study, seen, head, rows)

    def close(self) -> None:
        """Finish all files."""
        for written in self.runs.values():
            written.writer.close()

    def _add(self, study: Study, seen: RunView, head: list[str], rows: list[list[float | None]]) -> None:
        place = self.folder / study.label / seen.run.arm / f"seed-{seen.run.seed}"
        written = self.runs.get(place)
        common = 0 if written is None else min(len(written.rows), len(rows))
        if written is None or written.rows[:common] != rows[:common]:  # of other settings: made anew
            if written is not None:
                written.writer.close()
            written = self.runs[place] = _Written(self.open_writer(place))
        for row in rows[len(written.rows) :]:
            for name, value in zip(head[1:], row[1:], strict=True):
                if value is None:
                    continue
                written.writer.add_scalar(f"training/{name}", value, int(row[0] or 0))
        if len(rows) > len(written.rows):
            written.rows = rows
        if study.arms[seen.run.arm].snapshots:
            self._add_snapshots(study, seen, written)
        if seen.state == "done":
            _add_samples(study, seen.run, written)

    def _add_snapshots(self, study: Study, seen: RunView, written: _Written) -> None:
        try:
            for step, drawn in self.snapshots(study, seen.run, written.snapshots):
                written.snapshots.add(step)
                _add_figure(written, "snapshots", picture_of(study, drawn, real=False), step)
        except (OSError, BenchError) as error:  # a checkpoint that was replaced meanwhile, say
            print(f"no snapshots of {seen.name} this time: {error}", file=sys.stderr)


def open_writer(place: Path) -> Writer:
    """TensorBoard's own, in that folder, without what an earlier one has written there."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - of an extra

    for old in place.glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()
    return SummaryWriter(str(place), filename_suffix=SUFFIX)


def _log(study: Study, run: Run) -> tuple[list[str], list[list[float | None]]]:
    """(columns, rows) of what the run logs now, or logged when it was trained."""
    files = study.files(run)
    for path in (files.growing_log, files.log):
        try:
            head, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
            return head, [[float(value) if value else None for value in row] for row in rows]
        except (OSError, ValueError):  # none, or a damaged one, which whoever needs it will name
            continue
    return [], []


def _add_samples(study: Study, run: Run, written: _Written) -> None:
    """The house's own picture of its samples, where they can be seen, and where they are new."""
    path = study.files(run).samples
    try:
        made = path.stat().st_mtime_ns
        if made == written.samples:
            return
        written.samples = made
        figure = pictures(study, [run], real=False)
    except (OSError, BenchError):  # deleted meanwhile
        return
    _add_figure(written, "samples", figure, study.arms[run.arm].iterations)


def _add_figure(written: _Written, name: str, figure: Figure | None, step: int) -> None:
    if figure is not None:
        written.writer.add_figure(name, figure, step)
