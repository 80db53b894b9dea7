"""A digest of tensors, which the .safetensors format itself lacks."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CHECKSUM = "checksum"
"""Where a file's metadata have it."""


def checksum(tensors: "Mapping[str, Tensor]") -> str:
    """Of names, types, shapes and bits; of tensors on the CPU."""
    import torch  # noqa: PLC0415 - the name of the key is asked for without it

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
