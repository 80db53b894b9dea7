"""Tensors in .safetensors files; apart from workflow.runtime.files, which must not import torch."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from workflow.errors import BenchError
from workflow.runtime.files import write_atomically


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write .safetensors atomically."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomically(path, lambda p: safetensors.torch.save_file(plain, p))


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read .safetensors, or raise BenchError that names the file."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise BenchError(f"{path.name} is damaged: {error}", file=path, remedy=remedy) from error
