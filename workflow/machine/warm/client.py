"""Called as Python is: lets the server fork for `[-u] -m module ...`, passes signals on, and ends as the fork ends.

Whatever a fork would not do as a new process does, and all where the server is gone, is left to Python itself. Imports
nothing of the project, nor what takes long: it is started for every job.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType
    from typing import Any

PASSED = [getattr(signal, f"SIG{name}") for name in "INT TERM HUP QUIT USR1 USR2 TSTP CONT".split()]
AT_START = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "OPENBLAS_", "MPL", "CUDA_", "TORCH_", "PYTORCH_", "LD_", "TZ")
"""Of variables that libraries or Python read as they start."""
LATER = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "CUDA_VISIBLE_DEVICES")
"""Of these, what a fork sets as Python does, or is read when a GPU is first asked for."""
USUAL = {"MPLBACKEND": "Agg", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
"""Set by steps themselves; by torchrun."""
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_RSS"]
"""Linux knows none of what is resident; jobs of Slurm have one all the same."""
PATIENCE = 120.0
"""Seconds in which the server has imported what it forks with."""


def about_start(environment: Mapping[str, str]) -> list[Any]:
    """What has to be alike for a fork to be as good as a start."""
    said = {key: value for key, value in environment.items() if key.startswith(AT_START) and key not in LATER}
    said = {key: value for key, value in said.items() if USUAL.get(key) != value}
    said = {key: value for key, value in said.items() if not (key.endswith("_NUM_THREADS") and value == "1")}
    return [said, [list(resource.getrlimit(limit)) for limit in LIMITS], os.getpriority(os.PRIO_PROCESS, 0)]


def exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes; ConnectionError where the other side is gone."""
    received = b""
    while len(received) < count:
        more = connection.recv(count - len(received))
        if not more:
            raise ConnectionError
        received += more
    return received


def number(connection: socket.socket) -> int:
    """The next whole number."""
    return int.from_bytes(exactly(connection, 4), "big", signed=True)


def called(place: str, arguments: list[str]) -> tuple[socket.socket, int, int] | None:
    """The connection to the server, the process that it forked, and a handle of that; None where it forks none."""
    asked = {"arguments": arguments, "cwd": os.getcwd(), "env": dict(os.environ), "start": about_start(os.environ)}
    asked["cores"] = sorted(os.sched_getaffinity(0))  # a job of Slurm is bound to some
    message, connection = json.dumps(asked).encode(), socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(place)
        socket.send_fds(connection, [len(message).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(message)
        child = number(connection)
        handle = os.pidfd_open(child) if child else 0
    except OSError:  # the server is gone, or the process is, and its end not told
        connection.close()
        return None
    connection.settimeout(None)
    return (connection, child, handle) if child else None


def ended(connection: socket.socket, handle: int) -> int | None:
    """How the process has ended, which had the signals passed on meanwhile; None where the server is gone, and it with
    that."""
    passed = list[int]()

    def pass_on(which: int, _: FrameType | None) -> None:
        passed.append(which)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGSTOP if which == signal.SIGTSTP else which)
        if which == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)

    for which in PASSED:
        if signal.getsignal(which) != signal.SIG_IGN:
            signal.signal(which, pass_on)
    try:
        return number(connection)
    except OSError:
        while not select.select([handle], [], [], 0.1)[0]:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    asked = [which for which in passed if which not in (signal.SIGTSTP, signal.SIGCONT)]
    return -asked[-1] if asked else None


def main() -> None:
    """Be called."""
    python, place, *arguments = sys.argv[1:]
    found = called(place, arguments)
    status = ended(found[0], found[2]) if found else None
    if status is None:
        os.execv(python, [python, *arguments])
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
