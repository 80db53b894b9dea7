"""Progress with the time that is left, of a loop in one process and of a whole workflow; the end of what hangs."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.live import say


@dataclass
class _Life:
    signs: int = 0


_LIFE = _Life()
LOOKS = 10
"""In how many parts the watchdog waits."""


def sign_of_life() -> None:
    """Say that this process does not hang; costs next to nothing."""
    _LIFE.signs += 1
    say()


def end_if_hung(patience: float, study: Path) -> threading.Thread:
    """Watch from a thread, and end this process with status 2 after `patience` minutes without a sign of life.

    Where every thread stands is printed first. The flock of workflow.machine.files goes with the
    process, and its checkpoints stay. Time in which the process is suspended does not count.
    """

    def loop() -> None:
        quiet = 0
        while quiet < LOOKS:
            seen = _LIFE.signs
            time.sleep(60 * patience / LOOKS)
            quiet = quiet + 1 if _LIFE.signs == seen else 0
        faulthandler.dump_traceback()
        problem = (
            f"no sign of life for {duration(60 * patience)}: the process hangs; where its threads stand is said above"
        )
        remedy = "mend what it waits for, and start again: it goes on from its checkpoint; or give it more minutes"
        error = BenchError(problem, file=study, key="resources.patience", remedy=remedy)
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)

    thread = threading.Thread(target=loop, daemon=True, name="watchdog")
    thread.start()
    return thread


def duration(seconds: float) -> str:
    """A length of time for people: 42 s, 3 min 05 s, 2 h 10 min.

    >>> duration(42.4), duration(185), duration(7800)
    ('42 s', '3 min 05 s', '2 h 10 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Prints at most one line every few seconds: what, how far, how long still."""

    def __init__(self, what: str, total: int, done: int = 0, every: float = 5.0) -> None:
        self.what, self.total, self.first, self.every = what, total, done, every
        self.started = self.printed = time.monotonic()

    def update(self, done: int, note: str = "", **numbers: float) -> None:
        """Say that `done` of the total are done; `numbers` are for whoever looks (workflow.machine.live.Live)."""
        _LIFE.signs += 1
        now = time.monotonic()
        left = (now - self.started) / max(done - self.first, 1) * (self.total - done)
        say(done=done, total=self.total, seconds_left=left, **numbers)
        if now - self.printed < self.every and done < self.total:
            return
        self.printed = now
        ending = "done" if done >= self.total else f"about {duration(left)} left"
        print(f"{self.what}: {done}/{self.total} {note} {ending}", file=sys.stderr, flush=True)


def watch(outputs: Sequence[Path], every: float = 20.0) -> threading.Thread:
    """Print from a background thread how many of `outputs` have been written since now, and the time left, as each is.

    For a workflow engine that shows counts but no time left; ends when all are there.
    """

    def loop() -> None:
        progress, done, begun = Progress("runs", len(outputs), every=0), 0, False
        while done < len(outputs) and threading.main_thread().is_alive():
            time.sleep(every)
            if not begun and any(is_new(path.parent) for path in outputs):
                begun, progress.started = True, time.monotonic()  # data were prepared before
            before, done = done, sum(is_new(path) for path in outputs)
            if done > before:  # between two ends the time that is left would only grow
                progress.update(done)

    def is_new(path: Path) -> bool:
        return path.exists() and path.stat().st_mtime >= began

    began = time.time()
    thread = threading.Thread(target=loop, daemon=True, name="progress")
    thread.start()
    return thread
