"""Checkpoints of a training run: .safetensors with a JSON beside them, written last, that seals them.

A run of one process writes one file of tensors. Where several processes hold a part of each tensor, each
writes what it holds, and any number of processes reads it.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json, sha256, write_json
from trigbench.workflow.machine.tensors import write_tensors

SAVE_EVERY = 300.0
"""Seconds between two savings of what takes long and has no steps: features, samples."""
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a run after `step` optimiser steps."""

    step: int
    tensors: Mapping[str, Tensor]
    """Whole, and read one by one."""
    journal: dict[str, Any]
    """What the run has written down so far, as JSON."""


@dataclass(frozen=True)
class Piece:
    """What a process writes of a checkpoint: all of it, or its part of each tensor that several share out."""

    rank: int = 0
    of: int = 1
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Of the tensors that are shared out, flat, in the order of the processes; others are whole in every file."""
    gather: Callable[[str], list[str]] = lambda text: [text]
    """What every process says; returns when all have said it."""


@dataclass(frozen=True)
class _Seal:
    """What the JSON says; a key more or less makes it no seal."""

    step: int
    fingerprint: str
    files: dict[str, str]
    """Their digests by name."""
    shapes: dict[str, list[int]]
    journal: dict[str, Any]


def save(
    folder: Path,
    fingerprint: str,
    step: int,
    tensors: Mapping[str, Tensor],
    journal: dict[str, Any],
    part: Piece | None = None,
) -> None:
    """Write a checkpoint, then remove all but the newest two. Every process calls it that has a part."""
    part = part or Piece()
    stem = f"step-{step:08d}"
    names = (
        [f"{stem}.safetensors"] if part.of == 1 else [f"{stem}.{i}-of-{part.of}.safetensors" for i in range(part.of)]
    )
    own = folder / names[part.rank]
    write_tensors(own, tensors)
    digests = part.gather(sha256(own))
    if part.rank > 0:
        return
    files, shapes = dict(zip(names, digests, strict=True)), dict(part.shapes)
    seal = {"step": step, "fingerprint": fingerprint, "files": files, "shapes": shapes, "journal": journal}
    write_json(folder / f"{stem}.json", seal)
    for old in sorted(folder.glob("step-*.json"))[:-KEPT]:
        remove(old)


def newest(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The newest whole checkpoint of this fingerprint.

    A damaged one is named on stderr and set aside, and the one before it is taken: the run ends
    with the same bits, only later. One of another fingerprint belongs to another setting or to
    other mathematics: it is removed.
    """
    for seal_file in sorted(folder.glob("step-*.json"), reverse=True):
        try:
            seal = _read_seal(seal_file)
            if seal.fingerprint != fingerprint:
                of_other = (
                    f"checkpoint {seal_file.with_suffix('')} is of other settings, code, data or teacher; starting over"
                )
                print(of_other, file=sys.stderr)
                remove(seal_file)
                continue
            for name, digest in seal.files.items():
                path = folder / name
                if not path.is_file() or sha256(path) != digest:
                    raise BenchError("the checksum differs", file=path, remedy="set aside")
            return open_sealed(seal_file)
        except (BenchError, OSError, TypeError, AttributeError) as error:
            found = f"checkpoint {seal_file.with_suffix('.safetensors')} is damaged ({error})"
            print(f"{found}; set aside, taking the one before", file=sys.stderr)
            for file in (seal_file, *_tensor_files(seal_file)):
                if file.is_file():
                    file.replace(file.with_name(file.name + ".damaged"))
    return None


def at(folder: Path, step: int) -> Checkpoint:
    """The checkpoint after `step` steps, which another process has found whole. Raises BenchError without it."""
    return open_sealed(folder / f"step-{step:08d}.json")


def open_sealed(seal_file: Path) -> Checkpoint:
    """The checkpoint of a seal, its checksums not compared."""
    seal = _read_seal(seal_file)
    tensors = _Whole([seal_file.with_name(name) for name in seal.files], seal.shapes)
    return Checkpoint(seal.step, tensors, seal.journal)


def _read_seal(seal_file: Path) -> _Seal:
    return _Seal(**read_json(seal_file, "set aside"))


def remove(seal_file: Path) -> None:
    """Remove a checkpoint, its seal first."""
    seal_file.unlink(missing_ok=True)
    for file in _tensor_files(seal_file):
        file.unlink(missing_ok=True)


def remove_all(folder: Path) -> None:
    """Remove every checkpoint of a finished run, and what a process that was killed had written of one."""
    for seal_file in folder.glob("step-*.json"):
        remove(seal_file)
    for file in folder.glob("step-*.safetensors"):
        file.unlink(missing_ok=True)


def _tensor_files(seal_file: Path) -> list[Path]:
    """All that belong to it, whatever it says."""
    return sorted(seal_file.parent.glob(f"{seal_file.stem}*.safetensors"))


class _Whole(Mapping[str, Tensor]):
    """Tensors of several files by name, put together when they are asked for: a large state is not held twice."""

    def __init__(self, files: Sequence[Path], shapes: Mapping[str, Sequence[int]]) -> None:
        self.shapes = shapes
        try:
            self.files: list[Any] = [safe_open(path, framework="pt") for path in files]
        except (OSError, SafetensorError) as error:
            raise BenchError(f"not .safetensors: {error}", file=files[0], remedy="set aside") from error

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.shapes:
            return self.files[0].get_tensor(name)
        return torch.cat([file.get_tensor(name) for file in self.files]).reshape(list(self.shapes[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.files[0].keys())

    def __len__(self) -> int:
        return len(self.files[0].keys())
