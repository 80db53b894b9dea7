"""Checkpoints of a training run: .safetensors with a JSON beside it, written last, that seals it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from workflow.errors import BenchError
from workflow.runtime.files import read_json, sha256, write_json
from workflow.runtime.tensors import read_tensors, write_tensors

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a run after `step` optimiser steps."""

    step: int
    tensors: dict[str, Tensor]
    journal: dict[str, Any]
    """What the run has written down so far, as JSON."""


@dataclass(frozen=True)
class _Seal:
    """What the JSON says; a key more or less makes it no seal."""

    step: int
    fingerprint: str
    sha256: str
    journal: dict[str, Any]


def save(folder: Path, fingerprint: str, step: int, tensors: Mapping[str, Tensor], journal: dict[str, Any]) -> None:
    """Write a checkpoint, then remove all but the newest two."""
    path = folder / f"step-{step:08d}.safetensors"
    write_tensors(path, tensors)
    seal = {"step": step, "fingerprint": fingerprint, "sha256": sha256(path), "journal": journal}
    write_json(path.with_suffix(".json"), seal)
    for old in sorted(folder.glob("step-*.json"))[:-KEPT]:
        remove(old)


def newest(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The newest whole checkpoint of this fingerprint.

    A damaged one is named on stderr and set aside, and the one before it is taken: the run ends
    with the same bits, only later. One of another fingerprint belongs to another setting or to
    other mathematics: it is removed.
    """
    for seal_file in sorted(folder.glob("step-*.json"), reverse=True):
        path = seal_file.with_suffix(".safetensors")
        try:
            seal = _Seal(**read_json(seal_file, "set aside"))
            if seal.fingerprint != fingerprint:
                print(f"checkpoint {path} is of other settings or other code; starting over", file=sys.stderr)
                remove(seal_file)
                continue
            if not path.is_file() or sha256(path) != seal.sha256:
                raise BenchError("the checksum differs", file=path, remedy="set aside")
            return Checkpoint(seal.step, read_tensors(path, "set aside"), seal.journal)
        except (BenchError, OSError, TypeError) as error:
            print(f"checkpoint {path} is damaged ({error}); set aside, taking the one before", file=sys.stderr)
            for file in (seal_file, path):
                if file.is_file():
                    file.replace(file.with_name(file.name + ".damaged"))
    return None


def remove(seal_file: Path) -> None:
    """Remove a checkpoint, its seal first."""
    seal_file.unlink(missing_ok=True)
    seal_file.with_suffix(".safetensors").unlink(missing_ok=True)


def remove_all(folder: Path) -> None:
    """Remove every checkpoint of a finished run."""
    for seal_file in folder.glob("step-*.json"):
        remove(seal_file)
