"""Files that are either whole or absent: everything is written beside its place and moved there."""

import contextlib
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workflow.errors import BenchError

Arrays = dict[str, np.ndarray]


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary neighbour of `path`, flush it to disk and move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text)

    write_atomically(path, write)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; non-finite numbers become null, which every reader accepts."""
    write_text(path, json.dumps(_finite(content), indent=1, default=str, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """Read JSON, or raise BenchError that names the file."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BenchError(f"cannot read {path.name}: {error}", file=path, remedy=remedy) from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz atomically."""
    write_atomically(path, lambda p: np.savez_compressed(p, allow_pickle=False, **arrays))


def read_arrays(path: Path, remedy: str) -> Arrays:
    """Read a .npz without unpickling, or raise BenchError that names the file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zip, zlib and numpy each have their own
        raise BenchError(f"cannot read {path.name}: {error}", file=path, remedy=remedy) from error


def sha256(path: Path) -> str:
    """The file's digest."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def exclusive(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` for one process of this machine; a second one gets a BenchError at once.

    Guards against orphans of a killed workflow, which its own lock does not know. The lock goes
    with the process, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            remedy = f"wait for process {owner}, or end it with: kill {owner}"
            raise BenchError(f"another process is working on {what}", file=folder, remedy=remedy) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content
