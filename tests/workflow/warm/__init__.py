"""Processes of the workflow that find torch, pandas and Snakemake imported, where a test is not about their start.

Most of what a step takes in a test is the import of libraries. So a process that has imported them forks for every
`python -m ...`: each is a process of its own still, and ends as any Python does. Where it would find this checkout's
project, that has been imported too; where a test has a copy or a `core` of its own, it imports what it finds. Tests of
signals, limits, memory and starts use Python itself.
"""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2].resolve()
PYTHON = "TRIGBENCH_TESTS_WARM"


@contextmanager
def server() -> Iterator[None]:
    """Processes are warm within it, also those of this process's children; where none can fork, none is."""
    if not sys.platform.startswith("linux"):
        yield
        return
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="warm-"))
        client = Path(folder) / "python"
        command = [sys.executable, "-IS", str(HERE / "client.py"), sys.executable, folder, str(ROOT)]
        client.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        workflow = Path(folder) / "snakemake"  # as is installed beside a Python
        workflow.write_text(f'#!/bin/sh\nexec {client} -m snakemake "$@"\n')
        for program in (client, workflow):
            program.chmod(0o755)
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", "PYTHONPATH": ""}
        for kind, checkout in (("bare", ""), ("project", str(ROOT))):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(f"{folder}/{kind}")
            listener.listen(64)  # from here on clients may call
            place = listener.fileno()
            command = [sys.executable, str(HERE / "server.py"), str(place), str(client), checkout]
            process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, pass_fds=[place])
            stack.enter_context(process)  # which closes its stdin, and waits
            listener.close()  # the server's alone: where that dies, who calls is told
        os.environ[PYTHON] = str(client)
        try:
            yield
        finally:
            del os.environ[PYTHON]


def python() -> str:
    """The Python to start: one that is warm, where there is one."""
    return os.environ.get(PYTHON, sys.executable)
