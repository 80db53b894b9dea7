"""When training and sampling have to stop by themselves: shortly before their time limit, or when SIGTERM asks."""

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from trigbench.workflow.machine.cluster import seconds_left
from trigbench.workflow.machine.provenance import seconds_since_start

StopNow = Callable[[], str | None]
"""Says why to stop now, or None."""
SHARE, LEAST, MOST = 0.05, 20.0, 300.0
"""The margin's share of the limit, and its bounds in seconds."""


def margin(minutes: float) -> float:
    """Seconds before the limit at which to stop.

    They are for what the limit counts and this process may not see (a batch script, a container and the
    workflow engine start before it, and clear up after it), for the step under way, and for the checkpoint.

    >>> margin(1), margin(60), margin(24 * 60)
    (20.0, 180.0, 300.0)
    """
    return min(max(SHARE * 60 * minutes, LEAST), MOST)


@contextlib.contextmanager
def stopping(minutes: float | None = None) -> Iterator[StopNow]:
    """Within, SIGTERM waits for the end of it; the value, asked after every step, says why to stop now, or None.

    `minutes` is the limit of the whole process, whose start counts; None for no limit. The end of the Slurm
    job that it is in is one too. Outside the main thread, where Python takes no signals, limits alone count.
    """
    asked, ends = False, list[tuple[float, str]]()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    def reason() -> str | None:
        if asked:
            return "asked to stop (SIGTERM)"
        return next((why for end, why in ends if time.monotonic() > end), None)

    heeds = threading.current_thread() is threading.main_thread()
    if not heeds:
        print("this run is in a thread: SIGTERM ends it without a checkpoint", file=sys.stderr)
    before = signal.signal(signal.SIGTERM, ask) if heeds else None
    try:
        ends += _ends(minutes)  # Slurm may take its time to say
        yield reason
    finally:
        if heeds:
            signal.signal(signal.SIGTERM, before)
    if asked:  # too late for the last step
        signal.raise_signal(signal.SIGTERM)


def _ends(minutes: float | None) -> list[tuple[float, str]]:
    """(when on the monotonic clock to stop, why)."""
    now, left, ends = time.monotonic(), seconds_left(), []
    if minutes is not None:
        end = now - seconds_since_start() + 60 * minutes - margin(minutes)
        ends.append((end, f"near its time limit of {minutes:g} minutes"))
    if left is not None:
        ends.append((now + left - margin(min(minutes or math.inf, left / 60)), "near the end of its Slurm job"))
    return ends
