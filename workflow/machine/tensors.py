"""Tensors in .safetensors files; apart from workflow.machine.files, which must not import torch."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trigbench._checksum import CHECKSUM, checksum
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import write_atomically


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Write .safetensors atomically, with `about` and a checksum of names and tensors as its metadata."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomically(path, lambda p: _save(p, plain, about or {}))


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read .safetensors, or raise BenchError that names the file.

    A file without a checksum is taken as it is: others, and earlier versions, write none.
    """
    try:
        with safe_open(path, "pt") as archive:
            said = (archive.metadata() or {}).get(CHECKSUM)
        tensors = safetensors.torch.load_file(path)
    except Exception as error:  # safetensors, torch and the disk each have their own
        raise BenchError(f"{path.name} is damaged: {error}", file=path, remedy=remedy) from error
    if said not in (None, checksum(tensors)):
        raise BenchError(f"{path.name} is damaged: its checksum differs", file=path, remedy=remedy)
    return tensors


def names_in(path: Path) -> list[str]:
    """Of the tensors in a .safetensors file; none where it cannot be read, as who opens it in earnest says."""
    try:
        with safe_open(path, "pt") as archive:
            return list(archive.keys())
    except (SafetensorError, OSError):
        return []


def read_metadata(path: Path) -> dict[str, str]:
    """What a readable .safetensors says beside its tensors."""
    with safe_open(path, "pt") as archive:
        return archive.metadata() or {}


def _save(path: Path, tensors: dict[str, Tensor], about: Mapping[str, str]) -> None:
    """Write; an error of the disk, which safetensors tells in words alone, is the OSError that it was."""
    try:
        safetensors.torch.save_file(tensors, path, metadata={**about, CHECKSUM: checksum(tensors)})
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
