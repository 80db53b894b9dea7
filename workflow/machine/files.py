"""Files that are either whole or absent: everything is written beside its place and moved there."""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from trigbench._checksum import CHECKSUM
from trigbench.workflow.errors import BenchError

if TYPE_CHECKING:
    import numpy as np  # the plan, which writes and reads no arrays, does without

Arrays: TypeAlias = "dict[str, np.ndarray]"
ROOM = "make room there, or move the results to a larger disk, and start the workflow again: it goes on from there"
RIGHTS = "make the folder writable for you, or start the workflow where you may write"
REMEDIES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EROFS: RIGHTS,
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
}
"""What helps against the errors of a disk that are the user's to mend."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make errors of a full or closed disk a BenchError that names `path`, and those of what stands in the way."""
    try:
        yield
    except OSError as error:
        for place in (path, *path.parents):
            if os.path.islink(place) and not os.path.exists(place):
                problem = f"{place.name} is a link to {place.readlink()}, which is not there"
                remedy = "make that folder, or mount the disk that it is on; or remove the link"
                raise BenchError(problem, file=place, remedy=remedy) from error
            if place != path and os.path.isfile(place):
                remedy = "move it: a folder belongs there"
                raise BenchError(f"{place.name} is a file", file=place, remedy=remedy) from error
        remedy = REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        problem = f"cannot write {path.name}: {error.strerror}"
        raise BenchError(problem, file=path, remedy=remedy, again=True) from error


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary neighbour of `path`, flush it to disk and move it into place.

    Raises BenchError where the disk is full or may not be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Make the folder, and raise BenchError unless files can be made in it."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def replace_text(path: Path, text: str) -> None:
    """Write text of the moment: a reader has the old one or the new, and nobody waits until the disk holds it."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, an object with a checksum of itself.

    Non-finite numbers become null, which every reader accepts.
    """
    plain = json.loads(json.dumps(_finite(content), default=str, allow_nan=False))
    if isinstance(plain, dict):
        plain.pop(CHECKSUM, None)
        plain[CHECKSUM] = _checksum(plain)
    write_text(path, json.dumps(plain, indent=1) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """Read JSON, without its checksum; raise BenchError that names the file if it is damaged.

    An object without a checksum is taken as it is: earlier versions wrote none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        again = isinstance(error, OSError)
        raise BenchError(f"cannot read {path.name}: {error}", file=path, remedy=remedy, again=again) from error
    if isinstance(content, dict) and CHECKSUM in content and content.pop(CHECKSUM) != _checksum(content):
        raise BenchError(f"{path.name} is damaged: its checksum differs", file=path, remedy=remedy)
    return content


def write_arrays(path: Path, arrays: "Mapping[str, np.ndarray]") -> None:
    """Write a .npz atomically; the format carries a checksum of each array.

    It is not compressed: samples would hardly be smaller for it, and take a minute a gigabyte.
    """
    import numpy as np  # noqa: PLC0415

    write_atomically(path, lambda p: np.savez(p, allow_pickle=False, **arrays))


def read_arrays(path: Path, remedy: str, names: Collection[str] | None = None) -> Arrays:
    """Read a .npz, or of it what has these names, without unpickling; or raise BenchError that names the file."""
    import numpy as np  # noqa: PLC0415

    with _archive(path, remedy) as archive:
        arrays = {name: archive[name] for name in archive.files if names is None or name in names}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("a zip of something else than arrays")
    return arrays


def names_of_arrays(path: Path, remedy: str) -> list[str]:
    """What a .npz holds, by its directory; or raise BenchError that names the file."""
    with _archive(path, remedy) as archive:
        return archive.files


@contextlib.contextmanager
def _archive(path: Path, remedy: str) -> "Iterator[np.lib.npyio.NpzFile]":
    import numpy as np  # noqa: PLC0415

    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            yield archive
    except MemoryError:
        raise
    except Exception as error:  # zip, zlib and numpy each have their own
        again = isinstance(error, OSError)
        raise BenchError(f"cannot read {path.name}: {error}", file=path, remedy=remedy, again=again) from error


def sha256(path: Path) -> str:
    """The file's digest."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def identity(path: Path) -> str | None:
    """A digest of a file's content; None where there is none.

    What carries digests of its parts (.npz: CRCs, .safetensors: a checksum) is known by these.
    """
    try:
        known = path.stat()
        return _identity(path.resolve(), known.st_size, known.st_mtime_ns)
    except OSError:
        return None


@cache
def _identity(path: Path, size: int, modified: int) -> str:
    if path.suffix == ".npz":
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return _checksum([[member.filename, member.file_size, member.CRC] for member in archive.infolist()])
    if path.suffix == ".safetensors":
        with path.open("rb") as handle, contextlib.suppress(ValueError, AttributeError):
            header = json.loads(handle.read(min(int.from_bytes(handle.read(8), "little"), size)))
            said = header.get("__metadata__", {}).get(CHECKSUM)
            if said:
                return said
    return sha256(path)


def identity_of_arrays(path: Path, names: Collection[str]) -> str | None:
    """The same of some arrays of an .npz; of all of it where no name is given, or where it is damaged."""
    members = {f"{name}.npy" for name in names}
    with contextlib.suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        said = [[m.filename, m.file_size, m.CRC] for m in archive.infolist() if m.filename in members]
        return _checksum(said) if said else identity(path)
    return identity(path)


def content_of(path: Path) -> dict[str, Any]:
    """The object in a file of JSON; nothing where there is none, or a damaged one: the step that reads it names it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def mark_of(content: Any) -> str:
    """A short digest of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


@contextlib.contextmanager
def exclusive(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` for one process of this machine; a second one gets a BenchError at once.

    Guards against orphans of a killed workflow, which its own lock does not know. The lock goes
    with the process, however it ends. What a killed process has left half-written is removed.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("ab+", buffering=0)
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            owner = handle.read().decode().strip() or "unknown"
            remedy = f"wait for process {owner}, or end it with: kill {owner}"
            problem = f"another process is working on {what}"
            raise BenchError(problem, file=folder, remedy=remedy, again=True) from error
        with writing(folder / "lock"):
            handle.truncate(0)
            handle.write(str(os.getpid()).encode())
            for half_written in filter(Path.is_file, folder.glob(".*")):
                half_written.unlink()
        yield


def _checksum(content: Any) -> str:
    """Of what was read from JSON, whatever its layout, or could be."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content
