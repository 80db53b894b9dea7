"""Steps that start warm: their processes are forked by one that has imported what they need.

Of a run of ten seconds three are the import of libraries, and one the syntax of what its fingerprint is of. So the
workflow starts a server on its own machine, which imports them once, and puts a `python` first on PATH that asks it for
a fork. To Snakemake nothing changes: a job is a process of its own still, with its arguments, folder, environment,
streams, signals and exit status. Several runs in one process would be no simpler: Snakemake would see one job, lose
all of them with one, and could make none of them alone.

Whatever a fork would not do as a new process does starts cold, as without a server: another environment, but for what
each job has its own of (a job with GPUs has more threads), other limits, sources that were edited, modules that are
found elsewhere. So does all where the server has ended, and what it had under way goes on from its checkpoint.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from trigbench._places import PACKAGE

HERE = Path(__file__).parent
COLD = "TRIGBENCH_COLD"
"""A variable that, set to anything, lets every process start by itself."""


def possible() -> bool:
    """Whether processes can be forked so here, nobody forbids it, and a job's `python` is this one."""
    python = shutil.which("python")
    same = python is not None and Path(python).parent == Path(sys.executable).parent
    return sys.platform.startswith("linux") and same and not os.environ.get(COLD)


def put_first(folder: Path) -> None:
    """From here on `python` is that of the folder, for this process's children."""
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


@contextmanager
def serving(
    preload: Sequence[str],
    python: str = sys.executable,
    root: Path | None = PACKAGE.parent,
    within: bool = False,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Path]:
    """A folder that only this user may enter, whose `python` starts warm while this lasts, and cold after it.

    `preload` names modules, and functions of them (`module:function`) that are called; `root` is where trigbench is
    imported from, and `python` what starts cold. A warm process takes that for its own Python, or, `within`, the warm
    one. `variables` are what the environment of warm processes has otherwise than this one's. Raises OSError where
    there can be no such folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="trigbench-"))
    program, place = folder / "python", f"{folder}/socket"
    try:
        command = [sys.executable, "-IS", str(HERE / "client.py"), python, place]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        program.chmod(0o700)
        if not os.access(program, os.X_OK):
            raise OSError(f"nothing can be executed in {folder.parent}")
        with socket.socket(socket.AF_UNIX) as listener:  # closed here: who calls when the server has ended is told so
            listener.bind(place)
            listener.listen(64)  # from here on clients may call
            about = {"listener": listener.fileno(), "root": "" if root is None else str(root), "folder": str(folder)}
            about |= {"preload": list(preload), "python": str(program) if within else python}
            process = subprocess.Popen(
                [sys.executable, str(HERE / "server.py"), json.dumps(about)],
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", **variables},
                stdin=subprocess.PIPE, pass_fds=[listener.fileno()], start_new_session=True,
            )  # fmt: skip
        with process:  # which closes its stdin, and waits
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
