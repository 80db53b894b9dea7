"""How far the runs of a study are: made, at work, failed, to come; read from files, while others write them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trigbench.workflow.claims.tables import is_fresh
from trigbench.workflow.machine.live import Live, read_live, trouble
from trigbench.workflow.study.study import Run, Study

State = Literal["done", "diverged", "at work", "starting", "silent", "killed", "stopped", "failed", "to come"]
AT_WORK: tuple[State, ...] = ("at work", "starting", "silent")
OVER: tuple[State, ...] = ("done", "diverged")
STARTS = 60.0
"""Seconds for which a job that says nothing yet may be starting: libraries are read."""
TAIL = 50_000
"""Bytes at the end of a job's log in which its error stands."""
ERROR = re.compile(r"^(?:slurmstepd: )?error: (.+)|^((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)\b.*)")
STOPPED = re.compile(r"stopped (?:at step|in drawing)")
"""What a run says that ends in time to go on later."""


@dataclass(frozen=True)
class RunView:
    """Where one run stands."""

    run: Run
    state: State
    live: Live | None = None
    """What its process says, or said last."""
    note: str = ""
    """Why it failed, diverged or is missed."""
    log: Path | None = None
    """Where more of that stands."""

    @property
    def name(self) -> str:
        return f"{self.run.arm} seed {self.run.seed}"


@dataclass(frozen=True)
class StudyView:
    """Where a study stands."""

    label: str
    runs: tuple[RunView, ...]

    def of(self, *states: State) -> list[RunView]:
        """The runs in these states."""
        return [view for view in self.runs if view.state in states]

    @property
    def is_over(self) -> bool:
        """Whether every run has a result."""
        return len(self.of(*OVER)) == len(self.runs)


@dataclass
class Watcher:
    """Looks at one study again and again; a result that has not changed is read once."""

    study: Study
    seen: dict[Path, tuple[int, RunView | None]] = field(default_factory=dict)

    def look(self, now: float) -> StudyView:
        """Where it stands at that time (of the clock on the wall)."""
        return StudyView(self.study.label, tuple(self._look_at(run, now) for run in self.study.runs()))

    def _look_at(self, run: Run, now: float) -> RunView:
        live = read_live(self.study.files(run).live)
        if live is not None and (why := trouble(live, now)) != "":
            state: State = "silent" if why.startswith("no sign") else "killed"
            if state == "killed" and (made := self._made(run)) and made.state in OVER:
                return made  # it was killed when its record was written
            return RunView(run, state, live, why, self._log(run))
        if live is not None:
            return RunView(run, "at work", live)
        return self._made(run) or self._ended(run, now)

    def _made(self, run: Run) -> RunView | None:
        """By its record, where that is of today's settings."""
        path = self.study.files(run).metrics
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            return None
        if self.seen.get(path, (None, None))[0] != changed:
            self.seen[path] = changed, self._read(run, path)
        return self.seen[path][1]

    def _read(self, run: Run, path: Path) -> RunView | None:
        if not is_fresh(self.study, run):
            return None
        try:
            said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # whoever needs it will name it
            return None
        if said.get("status") == "diverged":
            return RunView(run, "diverged", note=said.get("reason") or "")
        return RunView(run, "done")

    def _ended(self, run: Run, now: float) -> RunView:
        """By what its last job printed."""
        log = self.study.files(run).printed
        try:
            written = log.stat().st_mtime
        except OSError:
            return RunView(run, "to come")
        error = last_error(log)
        if error is not None:
            return RunView(run, "stopped" if STOPPED.search(error) else "failed", note=error, log=log)
        record = self.study.files(run).metrics
        is_new = now - written < STARTS and not (record.is_file() and record.stat().st_mtime >= written)
        return RunView(run, "starting" if is_new else "to come", log=log if is_new else None)

    def _log(self, run: Run) -> Path | None:
        log = self.study.files(run).printed
        return log if log.is_file() else None


def last_error(log: Path) -> str | None:
    """The last line of a job's log that tells of an error: one of the project's own, or of an exception."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - TAIL))
            lines = handle.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next(_errors(reversed(lines)), None)


def _errors(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if found := ERROR.match(line):
            yield (found[1] or found[2]).strip()
