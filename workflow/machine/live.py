"""What a process that works on a run says of itself while it works: a small file, gone when it ends.

Whoever looks (`trigbench watch`) reads it at any moment. What a killed process has left is known by its process, which
is gone, or by its last sign of life.
"""

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from trigbench.workflow.machine.files import replace_text

EVERY = 2.0
"""Seconds between two writings; what changes in between is not seen."""
SILENT = 60.0
"""Seconds without a sign of life after which one is missed; a long evaluation may take them."""


@dataclass(frozen=True)
class Live:
    """What a process said last. Times are of the clock on the wall."""

    phase: str
    """`waiting for a GPU`, `compiling`, `training`, `sampling` or `evaluating`."""
    since: float
    """When the phase began."""
    said: float
    """The last sign of life."""
    host: str
    pid: int
    born: int | None = None
    """When the process was started, as its machine counts; a later one of that number is another."""
    done: int | None = None
    """Steps, or samples."""
    total: int | None = None
    seconds_left: float | None = None
    loss: float | None = None
    direction_norm: float | None = None
    images_per_second: float | None = None
    warning: str | None = None
    """What is wrong with the run, though it goes on."""


@dataclass
class _Own:
    file: Path | None = None
    state: Live | None = None
    written: float = field(default=-math.inf)


_OWN = _Own()


@contextlib.contextmanager
def live(file: Path, phase_now: str) -> Iterator[None]:
    """Keep `file` up to date with what `say` is told until this ends, by an error too; then it is gone."""
    now = time.time()
    pid = os.getpid()
    state = Live(phase_now, now, now, socket.gethostname(), pid, _born(pid))
    _OWN.file, _OWN.state, _OWN.written = file, state, -math.inf
    _write()
    try:
        yield
    finally:
        _OWN.file = _OWN.state = None
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def phase(name: str) -> None:
    """Another phase has begun; the numbers of the last one are not its own."""
    if _OWN.state is not None:
        now, old = time.time(), _OWN.state
        changed = Live(name, now, now, old.host, old.pid, old.born, warning=old.warning)
        _OWN.state, _OWN.written = changed, -math.inf
        _write()


def warn(text: str) -> None:
    """Something is wrong with the run, though it goes on: shown until the process ends, in every phase."""
    if _OWN.state is not None:
        _OWN.state = replace(_OWN.state, warning=text)
        _write()


def say(**numbers: float | None) -> None:
    """A sign of life, with numbers of Live; written at most every EVERY seconds, and only where `live` is entered."""
    if _OWN.state is not None and time.monotonic() - _OWN.written >= EVERY:
        known = {name: v for name, v in numbers.items() if v is not None and math.isfinite(v)}
        _OWN.state = replace(_OWN.state, said=time.time(), **known)
        _OWN.written = time.monotonic()
        _write()


def read_live(file: Path) -> Live | None:
    """What stands there; None where nothing does, or what no version of this wrote."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return Live(**{name: said[name] for name in (f.name for f in fields(Live)) if name in said})
    except (OSError, ValueError, TypeError):
        return None


def trouble(state: Live, now: float) -> str:
    """Why it may no longer be at work, in words; nothing while it is."""
    quiet = now - state.said
    gone = state.host == socket.gethostname() and not _is_there(state)
    if gone:
        return f"process {state.pid} is gone"
    return "no sign of life" if quiet > SILENT else ""


def _is_there(state: Live) -> bool:
    born = _born(state.pid)
    if born is not None or state.born is not None:
        return born == state.born
    try:
        os.kill(state.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _born(pid: int) -> int | None:
    """Where there is /proc; of a process that ended and that nobody asked about (a zombie), none."""
    try:
        about = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if about[0] in "ZX" else int(about[19])


def _write() -> None:
    """Beside its place, and moved there. A disk that takes no more ends no run here: a checkpoint would say so."""
    file, state = _OWN.file, _OWN.state
    if file is None or state is None:
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, json.dumps(_plain(asdict(state))) + "\n")


def _plain(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}
