"""When training has to stop by itself: shortly before its time limit, or when SIGTERM asks it to."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from workflow.runtime.provenance import seconds_since_start

SHARE, LEAST, MOST = 0.05, 20.0, 300.0
"""The margin's share of the limit, and its bounds in seconds."""


def margin(minutes: float) -> float:
    """Seconds before the limit at which to stop.

    They are for what the limit counts and this process cannot see (a batch script, a container and the
    workflow engine start before it, and clear up after it), for the step under way, and for the checkpoint.

    >>> margin(1), margin(60), margin(24 * 60)
    (20.0, 180.0, 300.0)
    """
    return min(max(SHARE * 60 * minutes, LEAST), MOST)


@contextlib.contextmanager
def stopping(minutes: float | None = None) -> Iterator[Callable[[], str | None]]:
    """Within, SIGTERM ends nothing; the value, asked after every step, says why to stop now, or None.

    `minutes` is the limit of the whole process, whose start counts; None for no limit.
    """
    end = None if minutes is None else time.monotonic() - seconds_since_start() + 60 * minutes - margin(minutes)
    asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    def reason() -> str | None:
        if asked:
            return "asked to stop (SIGTERM)"
        if end is not None and time.monotonic() > end:
            return f"near its time limit of {minutes:g} minutes"
        return None

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield reason
    finally:
        signal.signal(signal.SIGTERM, before)
