"""Forks a process for every client that may have one; begins with its imports when the first one calls.

It lives as long as its stdin is open: with whoever started it, however that ends. What is under way then is asked to
stop, by SIGTERM. Forks die with it, and with their client.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

CLIENT = runpy.run_path(str(Path(__file__).with_name("client.py")))  # this file is no part of a package where it serves
about_start, exactly = CLIENT["about_start"], CLIENT["exactly"]
START = json.loads(json.dumps(about_start(os.environ)))
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Server:
    """Clients that wait, each for a process. `root` is what trigbench is imported from, nothing where it is not."""

    def __init__(self, listener: int, root: str, preload: Sequence[str]) -> None:
        self.root, self.preload = root, preload
        self.listener = socket.socket(fileno=listener)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, self.called)
        self.selector.register(0, selectors.EVENT_READ, self.closed)
        self.children = dict[int, int]()
        self.places: dict[str, str] | None = None
        self.sources = dict[str, tuple[int, ...]]()
        self.process = os.getpid()

    def serve(self) -> dict[str, Any] | None:
        """What a forked process is asked for; None in the server itself, at its end."""
        while self.children or self.listener.fileno() >= 0:
            for key, _ in self.selector.select():
                if self.selector.get_map().get(key.fd) is not key:  # closed by what came before it
                    continue
                asked = key.data(key.fileobj)
                if asked:
                    return asked
        return None

    def closed(self, stdin: int) -> None:
        for held in (stdin, self.listener):
            self.selector.unregister(held)
        self.listener.close()
        for handle in self.children.values():
            signal.pidfd_send_signal(handle, signal.SIGTERM)

    def called(self, listener: socket.socket) -> dict[str, Any] | None:
        try:
            connection, _ = listener.accept()
        except OSError:  # as many files are open as may be: it waits for what is under way
            time.sleep(0.1)
            return None
        connection.settimeout(10)
        streams: list[int] = []
        try:
            size, streams, _, _ = socket.recv_fds(connection, 4, 3)
            if len(streams) < 3:
                raise OSError("no room for them")
            asked = json.loads(exactly(connection, int.from_bytes(size, "big")))
            child = os.fork() if self.forks(asked) and waits(connection) else None
        except (ValueError, OSError):  # a client that was killed as it called
            child = asked = None
        if child == 0:
            try:
                self.leave(connection, streams)
            except BaseException:  # no process may go on as a second server
                os._exit(1)
            return asked
        for stream in streams:
            os.close(stream)
        if not (child and self.waits_for(child, connection)):
            tell(connection, 0)
            connection.close()
        return None

    def forks(self, asked: dict[str, Any]) -> bool:
        """Whether a fork would do as a new process: it finds the same modules, as they are now, and settings alike."""
        unbuffered = asked["arguments"][:1] == ["-u"]  # as torchrun starts what it starts
        if asked["arguments"][unbuffered:][:1] != ["-m"] or asked["start"] != START:
            return False
        if self.places is None:
            self.prepare()
        return self.sources == dict(sources(self.root)) and not self.meets_another(asked) and is_plain()

    def prepare(self) -> None:
        self.sources = dict(sources(self.root))  # before they are read
        sys.path[:0] = [self.root] if self.root else []
        for said in self.preload:
            module, _, function = said.partition(":")
            found = importlib.import_module(module)
            if function:
                getattr(found, function)()
        if self.root:
            sys.path.remove(self.root)
        gc.freeze()
        files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if "." not in name}
        self.places = {name: file for name, file in files.items() if file and name != "__main__"}

    def meets_another(self, asked: dict[str, Any]) -> bool:
        """Whether Python would first find another module by the name of one that is imported."""
        for place in [asked["cwd"], *paths_of(asked)]:
            there = entries(place)  # of hundreds of names few are there
            for name, file in (self.places or {}).items():
                for found in (f"{place}/{name}.py", f"{place}/{name}/__init__.py") if name in there else ():
                    if os.path.exists(found) and not os.path.samefile(found, file):
                        return True
        return False

    def leave(self, connection: socket.socket, streams: Sequence[int]) -> None:
        """In a forked process: take the client's streams for one's own, and hold nothing else."""
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != self.process:
            os._exit(1)
        os.setpgid(0, 0)
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

    def waits_for(self, child: int, connection: socket.socket) -> bool:
        """Whether the client has a handle of the process, by which it knows it however soon that ends."""

        def ended(_: int) -> None:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            self.forget(child, connection)
            tell(connection, status)
            connection.close()

        def left(_: socket.socket) -> None:  # a client that was killed, as its process group may have been
            self.selector.unregister(connection)
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)

        with suppress(OSError):  # it may have ended
            os.setpgid(child, child)
        try:
            handle = self.children[child] = os.pidfd_open(child)
            self.selector.register(handle, selectors.EVENT_READ, ended)
            self.selector.register(connection, selectors.EVENT_READ, left)
            socket.send_fds(connection, [child.to_bytes(4, "big")], [handle])
        except OSError:  # the client is gone, or the system has no room for a handle: others go on
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            self.forget(child, connection)
            return False
        return True

    def forget(self, child: int, connection: socket.socket) -> None:
        """Wait for neither of them; a process that was waited for has a handle."""
        with suppress(KeyError):
            self.selector.unregister(connection)
        handle = self.children.pop(child, None)
        if handle is not None:
            with suppress(KeyError):
                self.selector.unregister(handle)
            os.close(handle)


def sources(root: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What is imported, or would be, by when it was last written: the project's, and which packages there are."""
    for folder, folders, files in os.walk(f"{root}/trigbench", followlinks=True) if root else ():
        folders[:] = [name for name in folders if name != "__pycache__"]
        for file in (f"{folder}/{name}" for name in files if name.endswith(".py")):
            about = os.stat(file)
            yield file, (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    packages = sysconfig.get_path("purelib")
    yield packages, (os.stat(packages).st_mtime_ns,)


def waits(connection: socket.socket) -> bool:
    """Whether the client is there still; it does not wait for ever for imports."""
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    finally:
        connection.setblocking(True)


def is_plain() -> bool:
    """Whether this process can be forked: it has one thread, and has asked for no GPU."""
    torch = sys.modules.get("torch")
    return len(os.listdir("/proc/self/task")) == 1 and not (torch and torch.cuda.is_initialized())


def tell(connection: socket.socket, number: int) -> None:
    """A client, if it is there still."""
    with suppress(OSError):
        connection.sendall(number.to_bytes(4, "big", signed=True))


def entries(folder: str) -> set[str]:
    """What a folder holds, modules without their suffix."""
    with suppress(OSError):
        return {name.removesuffix(".py") for name in os.listdir(folder)}
    return set()


def paths_of(asked: dict[str, Any]) -> list[str]:
    """The places that PYTHONPATH names."""
    return [path for path in asked["env"].get("PYTHONPATH", "").split(os.pathsep) if path]


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
    os.sched_setaffinity(0, asked["cores"])
    os.umask(asked["umask"])
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    tempfile.tempdir = None  # is asked of the environment
    if "numpy.random" in sys.modules:  # Python's own generator does so itself
        sys.modules["numpy.random"].seed()
    importlib.invalidate_caches()
    sys.path[:1] = [asked["cwd"], *paths_of(asked)]
    name, *arguments = asked["arguments"][1 + unbuffered :]  # of a module that others import, and have
    sys.argv = ["-m", *arguments]
    sys.executable = python
    sys.dont_write_bytecode = bool(asked["env"].get("PYTHONDONTWRITEBYTECODE"))
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


def main() -> None:
    """Serve, or be what was forked."""
    said = json.loads(sys.argv[1])
    sys.dont_write_bytecode = False  # starts that are not warm find it compiled
    asked = None
    try:
        asked = Server(said["listener"], said["root"], said["preload"]).serve()
    except Exception as error:  # of an import, say: a new process meets it too
        print(f"jobs start cold: {error}", file=sys.stderr)
    if asked:
        become(asked, said["python"])
    shutil.rmtree(said["folder"], ignore_errors=True)


if __name__ == "__main__":
    main()
