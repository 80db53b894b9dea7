"""Processes of the workflow that find torch, pandas and Snakemake imported, where a test is not about their start.

Most of what a step takes in a test is the import of libraries. So a process that has imported them, and nothing of
the project, forks for every `python -m ...`: each is a process of its own still, reads the project's modules from its
own PYTHONPATH, and ends as any Python does. Tests of signals, limits, memory and starts use Python itself.
"""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
PYTHON = "TRIGBENCH_TESTS_WARM"


@contextmanager
def server() -> Iterator[None]:
    """Processes are warm within it, also those of this process's children; where none can fork, none is."""
    if not sys.platform.startswith("linux"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="warm-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/socket")
        listener.listen(64)  # from here on clients may call
        client = Path(folder) / "python"
        command = shlex.join([sys.executable, "-IS", str(HERE / "client.py"), sys.executable, f"{folder}/socket"])
        client.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        client.chmod(0o755)
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", "PYTHONPATH": ""}
        command = [sys.executable, str(HERE / "server.py"), str(listener.fileno()), str(client)]
        with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, pass_fds=[listener.fileno()]):
            os.environ[PYTHON] = str(client)
            try:
                yield
            finally:
                del os.environ[PYTHON]


def python() -> str:
    """The Python to start: one that is warm, where there is one."""
    return os.environ.get(PYTHON, sys.executable)
