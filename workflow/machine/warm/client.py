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
OF_A_JOB = (
    "SLURM", "SRUN_", "SBATCH_", "SNAKEMAKE_", "TORCHELASTIC_", "GROUP_", "ROLE_", "PYTEST_", "TRIGBENCH_",
    "_TORCHINDUCTOR_",
)  # fmt: skip
"""How variables begin that jobs, and who compiled, have each their own of, and no library reads as it starts."""
HARMLESS = {
    *"_ PWD OLDPWD SHLVL PS1 PS2 COLUMNS LINES PATH HOSTNAME ENVIRONMENT EDITOR TMPDIR TMP TEMP TEMPDIR".split(),
    *"RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT".split(),
    *"PYTHONPATH PYTHONDONTWRITEBYTECODE CUDA_VISIBLE_DEVICES".split(),
    *"TORCHINDUCTOR_CACHE_DIR TRITON_CACHE_DIR TORCHINDUCTOR_COMPILE_THREADS".split(),
}
"""Others that may differ: of a shell and a batch system, of torchrun, and what a fork sets as Python does, or is read
when a GPU is first asked for."""
USUAL = {
    "MPLBACKEND": "Agg", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "VECLIB_MAXIMUM_THREADS": "1",
    "KMP_DUPLICATE_LIB_OK": "True", "KMP_INIT_AT_FORK": "FALSE",
}  # fmt: skip
"""Set by steps themselves; by torchrun; by Snakemake; by scikit-learn as it is imported."""
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_RSS"]
"""Linux knows none of what is resident; jobs of Slurm have one all the same."""
PATIENCE = 120.0
"""Seconds in which the server has imported what it forks with."""


def about_start(environment: Mapping[str, str]) -> list[Any]:
    """What has to be alike for a fork to be as good as a start."""
    proper = {key for key in environment if key.isidentifier()}  # some shells pass on no others
    said = {key: environment[key] for key in proper - HARMLESS if not key.startswith(OF_A_JOB)}
    said = {key: value for key, value in said.items() if USUAL.get(key) != value}
    one = {key for key, value in said.items() if key.endswith("_NUM_THREADS") and value == "1"} - {"OMP_NUM_THREADS"}
    said = {key: value for key, value in said.items() if key not in one}  # without them, that one counts
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


def forked(connection: socket.socket) -> int | None:
    """A handle of the process that the server forked, which may have ended by now; None where it forked none."""
    told, handles, _, _ = socket.recv_fds(connection, 4, 1, socket.MSG_CMSG_CLOEXEC)
    if not told:
        raise ConnectionError
    return handles[0] if any(told) else None  # IndexError where there is no room for one: no job may run twice


def called(place: str, arguments: list[str]) -> tuple[socket.socket, int] | None:
    """The connection to the server, and a handle of the process that it forked; None where it forks none."""
    asked = {"arguments": arguments, "cwd": os.getcwd(), "env": dict(os.environ), "start": about_start(os.environ)}
    asked["cores"] = sorted(os.sched_getaffinity(0))  # a job of Slurm is bound to some
    asked["umask"] = os.umask(0)
    os.umask(asked["umask"])
    message, connection = json.dumps(asked).encode(), socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(place)
        socket.send_fds(connection, [len(message).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(message)
        handle = forked(connection)
    except OSError:  # the server is gone
        handle = None
    if handle is None:
        connection.close()
        return None
    connection.settimeout(None)
    return connection, handle


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
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    asked = [which for which in passed if which not in (signal.SIGTSTP, signal.SIGCONT)]
    return -asked[-1] if asked else None


def main() -> None:
    """Be called."""
    python, place, *arguments = sys.argv[1:]
    found = called(place, arguments)
    status = ended(*found) if found else None
    if status is None:
        os.execv(python, [python, *arguments])
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
