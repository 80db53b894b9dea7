"""Files that `trigbench export` writes, read with what the core needs: torch, numpy, jaxtyping and safetensors."""

import json
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from torch import nn

from trigbench._checksum import CHECKSUM, checksum
from trigbench.core.exported import Exported, exported

CARD = "card"
"""Where the metadata of a file have its card, as JSON."""


def load_exported(path: Path | str, network: Callable[..., nn.Module] | None = None) -> Exported:
    """A trained network out of a .safetensors file that `trigbench export` wrote: frozen, on the CPU.

    `network` is the class or function of a network of one's own, which is never imported by its name in a file. Raises
    ValueError for a file without a card, a damaged one, and as core.exported.exported does.
    """
    with safe_open(path, "pt") as file:
        said = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    if CARD not in said:
        raise ValueError(f"{path} has no card: it is no file that `trigbench export` wrote")
    if said.get(CHECKSUM) != checksum(tensors):
        raise ValueError(f"{path} is damaged: its checksum differs")
    return exported(json.loads(said[CARD]), tensors, network)
