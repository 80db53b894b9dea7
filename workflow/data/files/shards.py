"""Rows of a data set in memory-mapped .npy files: written once, checked by their digests, read at random.

A folder holds shards, labels and manifest.json, which is written anew after each shard: what was
interrupted goes on with the first one that is missing.
"""

import contextlib
import fcntl
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.cores import cores_here
from trigbench.workflow.machine.files import read_json, write_atomically, write_json
from trigbench.workflow.machine.files import sha256 as sha256_of
from trigbench.workflow.machine.progress import Progress
from trigbench.workflow.study.places import RESULTS

SHARDS = RESULTS / "shards"
"""Where shards lie, by what they are made from: studies and budgets on the same images share them."""
SHARD_BYTES = 2**27
BLOCK = 256
"""Rows between two lines of progress."""


class Shard(BaseModel):
    """One file of rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    rows: int
    sha256: str


class Manifest(BaseModel):
    """What a folder of shards holds, or will hold: `shards` grow until their rows are `rows`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str
    rows: int
    shape: tuple[int, ...]
    dtype: str
    classes: tuple[str, ...]
    """Names of the labels; empty for data without."""
    rows_of_class: dict[str, int]
    labels: Shard | None
    shards: tuple[Shard, ...]

    @property
    def written(self) -> int:
        return sum(shard.rows for shard in self.shards)


@dataclass(frozen=True)
class Shards:
    """Rows that are there, read on demand."""

    manifest: Manifest
    maps: tuple[np.ndarray, ...]
    labels: np.ndarray | None

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """The chosen rows, in their order, as (len(chosen), *shape)."""
        starts = np.cumsum([0, *(shard.rows for shard in self.manifest.shards)])
        which = np.searchsorted(starts, chosen, side="right") - 1
        out = np.empty((len(chosen), *self.manifest.shape), self.manifest.dtype)
        for i in np.unique(which):
            here = which == i
            out[here] = self.maps[i][chosen[here] - starts[i]]
        return out

    def __len__(self) -> int:
        return self.manifest.rows


def write_shards(
    folder: Path,
    source: str,
    shape: Sequence[int],
    dtype: str,
    labels: np.ndarray | None,
    classes: Sequence[str],
    rows: int,
    make: Callable[[Sequence[int]], np.ndarray],
    shard_bytes: int = SHARD_BYTES,
) -> str:
    """Make rows 0 to `rows` by `make`, where they are not there yet; return the digest of the manifest.

    `make` gets at most 256 row numbers and returns (len, *shape) of `dtype`. `source` says what the rows
    are made from; it is part of the manifest. A second process waits for the first.
    """
    per_shard = max(1, shard_bytes // (int(np.prod(shape)) * np.dtype(dtype).itemsize))
    counts: Counter[int] = Counter([] if labels is None else labels.tolist())
    empty = Manifest(
        source=source, rows=rows, shape=tuple(shape), dtype=dtype, classes=tuple(classes),
        rows_of_class={name: counts[i] for i, name in enumerate(classes)}, labels=None, shards=(),
    )  # fmt: skip
    with _alone(folder):
        manifest = _begun(folder, empty)
        if labels is not None:
            manifest = manifest.model_copy(update={"labels": _write(folder, "labels.npy", labels)})
        progress = Progress(f"{folder}: rows", rows, manifest.written)
        for first in range(manifest.written, rows, per_shard):
            here = range(first, min(first + per_shard, rows))
            block = np.empty((len(here), *shape), dtype)
            for start in range(0, len(here), BLOCK):
                block[start : start + BLOCK] = make(here[start : start + BLOCK])
                progress.update(first + min(start + BLOCK, len(here)))
            shard = _write(folder, f"{len(manifest.shards):05d}.npy", block)
            manifest = manifest.model_copy(update={"shards": (*manifest.shards, shard)})
            write_json(folder / "manifest.json", manifest.model_dump())
        write_json(folder / "manifest.json", manifest.model_dump())
    return sha256_of(folder / "manifest.json")


def open_shards(folder: Path, digest: str, remedy: str) -> Shards:
    """The rows of a finished folder whose manifest has this digest. Raises BenchError naming the file that differs."""
    path = folder / "manifest.json"
    manifest = _read_manifest(path, remedy)
    if sha256_of(path) != digest:
        raise BenchError("the manifest is not the one that was prepared", file=path, remedy=remedy)
    if manifest.written != manifest.rows:
        raise BenchError(f"only {manifest.written} of {manifest.rows} rows are there", file=path, remedy=remedy)
    maps = tuple(
        _map(folder, shard, (shard.rows, *manifest.shape), manifest.dtype, remedy) for shard in manifest.shards
    )
    labels = manifest.labels and _map(folder, manifest.labels, (manifest.rows,), "int64", remedy)
    return Shards(manifest, maps, labels)


def in_parallel(read: Callable[[int], np.ndarray]) -> Callable[[Sequence[int]], np.ndarray]:
    """`make` of rows that are read one by one: decoding images leaves Python's lock, so threads help."""
    workers = cores_here()

    def make(rows: Sequence[int]) -> np.ndarray:
        with ThreadPoolExecutor(workers) as pool:
            return np.stack(list(pool.map(read, rows)))

    return make


def check_file(path: Path, sha256: str, remedy: str) -> Path:
    """The path. Raises BenchError when the file is not there or has another digest; looks once a process."""
    try:
        found = path.stat()
        digest = _known_digest(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise BenchError(f"cannot read {path.name}: {error}", file=path, remedy=remedy) from error
    if digest != sha256:
        raise BenchError("the file is damaged: its checksum differs", file=path, remedy=remedy)
    return path


@cache
def _known_digest(path: Path, size: int, modified: int) -> str:
    return sha256_of(path)


def _map(folder: Path, shard: Shard, shape: tuple[int, ...], dtype: str, remedy: str) -> np.ndarray:
    path = check_file(folder / shard.file, shard.sha256, remedy)
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    if rows.shape != shape or rows.dtype != dtype:
        problem = f"expected {dtype} of {shape}, found {rows.dtype} of {rows.shape}"
        raise BenchError(problem, file=path, remedy=remedy)
    return rows


def _begun(folder: Path, empty: Manifest) -> Manifest:
    """What an earlier process has written of the same rows, up to the first shard that is missing or damaged."""
    path = folder / "manifest.json"
    if not path.is_file():
        return empty
    try:
        found = _read_manifest(path, "made again")
    except BenchError as error:
        print(f"starting over: {error}", file=sys.stderr)
        return empty
    if found.model_copy(update={"shards": (), "labels": None}) != empty:
        return empty
    kept: list[Shard] = []
    for shard in found.shards:
        file = folder / shard.file
        if not file.is_file() or sha256_of(file) != shard.sha256:
            print(f"{file} is missing or damaged; made again", file=sys.stderr)
            break
        kept.append(shard)
    return found.model_copy(update={"shards": tuple(kept)})


def _write(folder: Path, name: str, rows: np.ndarray) -> Shard:
    write_atomically(folder / name, lambda p: np.save(p, rows, allow_pickle=False))
    return Shard(file=name, rows=len(rows), sha256=sha256_of(folder / name))


def _read_manifest(path: Path, remedy: str) -> Manifest:
    try:
        return Manifest.model_validate(read_json(path, remedy))
    except ValidationError as error:
        raise BenchError(f"not a manifest: {error.errors()[0]['msg']}", file=path, remedy=remedy) from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine writes to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
