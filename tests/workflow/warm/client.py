"""Called as Python is: hands `[-u] -m module ...` over to the server, passes signals on, and ends as that ends.

Whatever the server could not do as this process would (other options, limits, or settings that Python reads as it
starts) is left to Python itself.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # a start takes no longer than it must
    from collections.abc import Mapping
    from typing import Any

PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)
AT_START = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "OPENBLAS_", "MPL", "CUDA_", "TORCH_", "LD_", "TZ")
"""Of variables that libraries or Python read as they start."""
LATER = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "CUDA_VISIBLE_DEVICES")
"""Of these, what a fork sets as Python does, or is read when a GPU is first asked for."""
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_RSS"]
"""Linux knows none of what is resident; jobs of Slurm have one all the same."""


def about_start(environment: Mapping[str, str]) -> list[Any]:
    """What has to be alike for a fork to be as good as a start."""
    said = {key: value for key, value in environment.items() if key.startswith(AT_START) and key not in LATER}
    usual = {"MPLBACKEND": "Agg", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}  # by the server and by steps; by torchrun
    said = {key: value for key, value in said.items() if usual.get(key) != value}
    said = {key: value for key, value in said.items() if not (key.endswith("_NUM_THREADS") and value == "1")}
    return [said, [resource.getrlimit(limit) for limit in LIMITS]]


def meets_another(cwd: str, environment: Mapping[str, str], checkout: str) -> bool:
    """Whether Python would look for the project, or for what it is called in a checkout, elsewhere first."""
    for place in filter(None, [cwd, *environment.get("PYTHONPATH", "").split(os.pathsep)]):
        for name in ("trigbench", "core", "workflow"):
            found = os.path.realpath(f"{place}/{name}")
            if os.path.exists(found) and found != os.path.realpath(f"{checkout}/{name}"):
                return True
    return False


def exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        more = connection.recv(count - len(received))
        if not more:
            sys.exit("the server of warm processes has ended")
        received += more
    return received


def number(connection: socket.socket) -> int:
    return int.from_bytes(exactly(connection, 4), "big", signed=True)


def main() -> None:
    real, folder, checkout, *arguments = sys.argv[1:]
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(f"{folder}/{'bare' if meets_another(os.getcwd(), os.environ, checkout) else 'project'}")
    asked = {"arguments": arguments, "cwd": os.getcwd(), "env": dict(os.environ), "start": about_start(os.environ)}
    message = json.dumps(asked).encode()
    socket.send_fds(connection, [len(message).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(message)
    child = number(connection)
    if child == 0:
        os.execv(real, [real, *arguments])
    for which in PASSED:
        signal.signal(which, lambda which, _: os.kill(child, which))
    status = number(connection)
    if status < 0:  # by a signal
        if -status in PASSED:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
