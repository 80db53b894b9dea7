"""The files that data are prepared from, and whether they are the same today. Imports nothing heavy."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.cores import cores_here
from trigbench.workflow.machine.files import content_of, mark_of, sha256, write_json
from trigbench.workflow.study.kinds import kind_named
from trigbench.workflow.study.places import REPORTS, RESULTS
from trigbench.workflow.study.study import Study

MADE = (RESULTS, REPORTS)
"""Folders of the workflow's own; a data set may stand in one, and hold one, but is not made from it."""


def places_of(data: Mapping[str, Any]) -> list[Path]:
    """The files and folders that a data set's settings (Study.data_specification) name, and that are there; of one's
    own data, any setting may."""
    named = [*map(str, places_named(data)), *(value for _, value in _strings(data.get("settings") or {}))]
    return [path for path in map(Path, dict.fromkeys(named)) if path.exists()]


def places_named(data: Mapping[str, Any]) -> list[Path]:
    """What its kind takes for files and folders, there or not."""
    places = kind_named(data["kind"]).places
    return [Path(value) for value in dict.fromkeys(value for key, value in _strings(data) if key in places)]


def source_of(study: Study, data: str) -> dict[str, Any] | None:
    """What a data set is prepared from: its files by name, size and time, and by content; None where it reads none."""
    files = _files(_places(study, data))
    return {"files": len(files), "listing": _listing(files), "content": _content(files)} if files else None


def same_source(source: Mapping[str, Any] | None, study: Study, data: str) -> bool:
    """By names, sizes and times; by content where these differ. What is not there at all is not compared."""
    files = _files(_places(study, data))
    if source is None or not files:
        return source is None or not _places(study, data)
    listing, seen = _listing(files), study.data_file(data).with_name(f".{data}.seen.json")
    if listing in (source["listing"], content_of(seen).get("listing")):
        return True
    if len(files) != source["files"] or _content(files) != source["content"]:
        return False
    with contextlib.suppress(OSError, BenchError):  # spares the next plan the reading; a plan needs no writing
        write_json(seen, {"listing": listing})
    return True


def _places(study: Study, data: str) -> list[Path]:
    return places_of(study.data_specification(data)["data"])


def _files(places: Iterable[Path]) -> dict[str, tuple[Path, int, int]]:
    """Name -> (file, its size, its time) below these places; what is hidden or the workflow's own is no data."""
    found: dict[str, tuple[Path, int, int]] = {}
    made = frozenset(_inode(folder) for folder in MADE if folder.is_dir())
    for number, place in enumerate(places):
        for path in [place] if place.is_file() else _below(place, made):
            with contextlib.suppress(OSError):  # a dangling link
                known = path.stat()
                found[f"{number}/{path.relative_to(place).as_posix()}"] = (path, known.st_size, known.st_mtime_ns)
    return dict(sorted(found.items()))


def _below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """The files below a folder; links are followed, but not in circles."""
    here = _inode(folder)
    if here in above or folder.name == "__pycache__":
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _below(Path(entry.path), above | {here})
            else:
                yield Path(entry.path)


def _inode(folder: Path) -> tuple[int, int]:
    known = folder.stat()
    return known.st_dev, known.st_ino


def _listing(files: Mapping[str, tuple[Path, int, int]]) -> str:
    return mark_of([[name, size, modified] for name, (_, size, modified) in files.items()])


def _content(files: Mapping[str, tuple[Path, int, int]]) -> str:
    with ThreadPoolExecutor(cores_here()) as pool:
        digests = pool.map(sha256, (path for path, _, _ in files.values()))
        return mark_of([[name, found] for name, found in zip(files, digests, strict=True)])


def _strings(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, Mapping):
            yield from _strings(value)
