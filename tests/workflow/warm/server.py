"""Forks a process for every client; begins with its imports when the first one calls, and ends when stdin is closed.

Where it is given a checkout, it has imported that too, for clients that would find it.
"""

import atexit
import gc
import importlib
import json
import os
import pathlib
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from client import about_start, exactly  # beside this file

IMPORTED = (
    "torch", "torch.func", "numpy", "pandas", "scipy.stats", "matplotlib.pyplot", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg", "PIL.Image", "seaborn", "pydantic.main", "pydantic.json_schema",
    "pydantic.types", "pydantic.functional_validators", "yaml", "jinja2", "safetensors.torch", "jaxtyping",
    "faulthandler", "snakemake.cli", "snakemake.workflow", "snakemake.executors.local",
)  # fmt: skip
WITH_TRITON = ("trigbench.core.attention_triton", "trigbench.workflow.run.operations")
"""These take triton, which at the end of each process lists what it leaks; who imports them does it by itself."""
START = json.loads(json.dumps(about_start(os.environ)))


class Server:
    """Clients that wait, each for a process."""

    def __init__(self, listener: int, project: str) -> None:
        self.project = project
        self.listener = socket.socket(fileno=listener)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, self.called)
        self.selector.register(0, selectors.EVENT_READ, self.closed)
        self.ready = False

    def serve(self) -> dict[str, Any] | None:
        """What a forked process is asked for; None in the server itself, at its end."""
        while True:
            for key, _ in self.selector.select():
                done = key.data(key.fileobj)
                if done:
                    return None if done is True else done

    def closed(self, _: int) -> bool:
        self.listener.close()
        return True

    def called(self, listener: socket.socket) -> dict[str, Any] | None:
        connection, _ = listener.accept()
        try:
            size, streams, _, _ = socket.recv_fds(connection, 4, 3)
            asked = json.loads(exactly(connection, int.from_bytes(size, "big")))
        except (SystemExit, ValueError, OSError):  # a client that was killed as it called
            connection.close()
            return None
        child = 0
        unbuffered = asked["arguments"][:1] == ["-u"]  # as torchrun starts what it starts
        if asked["arguments"][unbuffered:][:1] == ["-m"] and asked["start"] == START:
            self.prepare()
            child = os.fork()
            if child == 0:
                self.leave(connection, streams)
                return asked
            os.setpgid(child, child)
            self.wait_for(child, connection)
        tell(connection, child)
        if child == 0:
            connection.close()
        for stream in streams:
            os.close(stream)
        return None

    def prepare(self) -> None:
        if not self.ready:
            os.environ["MPLBACKEND"] = "Agg"
            sys.dont_write_bytecode = False  # starts that are not warm find it compiled
            for name in IMPORTED:
                importlib.import_module(name)
            self.first_call()
            if self.project:
                import_project(self.project)
            gc.freeze()
            self.ready = True

    def first_call(self) -> None:
        """The first call of forward mode scripts torch's decompositions, which torch says it will not always do."""
        import torch  # noqa: PLC0415 - only where somebody calls

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))

    def leave(self, connection: socket.socket, streams: Sequence[int]) -> None:
        """In a forked process: take the client's streams for one's own, and hold nothing else."""
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
            os.close(stream)
        connection.close()
        for held in [key.fileobj for key in self.selector.get_map().values()]:
            if isinstance(held, socket.socket):
                held.close()
            elif isinstance(held, int) and held != 0:
                os.close(held)
        self.selector.close()

    def wait_for(self, child: int, connection: socket.socket) -> None:
        handle = os.pidfd_open(child)

        def ended(_: int) -> None:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            self.selector.unregister(handle)
            os.close(handle)
            with suppress(KeyError):
                self.selector.unregister(connection)
            tell(connection, status)
            connection.close()

        def left(_: socket.socket) -> None:  # a client that was killed, as its process group may have been
            self.selector.unregister(connection)
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)

        self.selector.register(handle, selectors.EVENT_READ, ended)
        self.selector.register(connection, selectors.EVENT_READ, left)


def import_project(checkout: str) -> None:
    """All of it but commands, and the syntax of what runs hash: a new process would find the same."""
    sys.path.insert(0, checkout)
    import trigbench.core  # noqa: PLC0415 - only where somebody calls
    import trigbench.workflow  # noqa: PLC0415
    from trigbench.workflow.study.fingerprint import FOLLOWED, syntax_digest  # noqa: PLC0415

    for name in WITH_TRITON:
        sys.modules[name] = None  # type: ignore[assignment] - so that importing it fails
    for package in (trigbench.core, trigbench.workflow):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.startswith("trigbench.workflow.steps."):
                continue
            try:
                module = importlib.import_module(found.name)
            except ImportError as error:
                if error.name not in WITH_TRITON:
                    raise
                continue
            if found.name.startswith(FOLLOWED) and module.__file__:
                syntax_digest(pathlib.Path(module.__file__), found.name)
    for name in WITH_TRITON:
        del sys.modules[name]
    sys.path.remove(checkout)


def tell(connection: socket.socket, number: int) -> None:
    with suppress(OSError):
        connection.sendall(number.to_bytes(4, "big", signed=True))


def reopened(stream: Any) -> Any:
    """The same stream, of which nothing is known yet: whether it can seek, or is a terminal."""
    place = stream.fileno()
    mode, lines = ("r", -1) if place == 0 else ("w", 1 if place == 2 or os.isatty(place) else -1)
    return open(place, mode, lines, encoding=stream.encoding, errors=stream.errors, closefd=False)


def become(asked: dict[str, Any], python: str) -> None:
    """Do as `python -m` does, once it has started."""
    unbuffered = asked["arguments"][0] == "-u"
    sys.stdin, sys.stdout, sys.stderr = (reopened(stream) for stream in (sys.stdin, sys.stdout, sys.stderr))
    sys.stdout.reconfigure(write_through=unbuffered)
    sys.stderr.reconfigure(write_through=unbuffered)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    paths = [path for path in asked["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [asked["cwd"], *paths]
    name, *arguments = asked["arguments"][1 + unbuffered :]  # of a module that others import, and have
    sys.argv = ["-m", *arguments]
    sys.executable = python
    sys.dont_write_bytecode = bool(asked["env"].get("PYTHONDONTWRITEBYTECODE"))
    del sys.modules["client"]
    warnings.filterwarnings("ignore", f"'{name}' found in sys.modules", RuntimeWarning)
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        end(error.code)
    end(None)


def end(code: object) -> NoReturn:
    """As Python does, but for taking apart what the server had imported: that takes as long as most steps."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined] - waits for them
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit((code or 0) & 0xFF if code is None or isinstance(code, int) else 1)


if __name__ == "__main__":
    listener, python, project = sys.argv[1:]
    asked = Server(int(listener), project).serve()
    if asked:
        become(asked, python)
