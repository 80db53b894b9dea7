"""What of a network is kept in weights and checkpoints: its parameters, and the buffers that torch calls persistent.

A buffer may be state (spectral norm's vectors, batch norm's statistics) or a constant; both are kept as they are, and
no average is taken of them. A buffer that is not persistent is made anew with its network.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]
ODD = 0x5851F42D4C957F2D
"""Whose powers weigh a checksum's bytes; a multiplier of Knuth's MMIX generator."""


def buffers_of(network: nn.Module) -> Tensors:
    """The network's own persistent buffers by name. Asked for anew after a step: a network may replace them."""
    if next(network.buffers(), None) is None:
        return {}
    kept = network.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in network.named_buffers() if name in kept}


def copied(tensors: Mapping[str, Tensor]) -> Tensors:
    """Copies, each in memory of its own."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def kept_of(network: nn.Module) -> Tensors:
    """The network's own parameters and persistent buffers by name."""
    return {name: p.detach() for name, p in network.named_parameters()} | buffers_of(network)


def as_bytes(tensor: Tensor) -> Tensor:
    """Its bits, flat, whatever its type; not of sparse ones, of which none is kept (`unkept`)."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


@torch.no_grad()
def put(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give tensors the values of the same names and shapes, in place."""
    for name, tensor in own.items():
        value = values[name].to(tensor.device)
        if not torch.equal(as_bytes(tensor), as_bytes(value)):  # an expanded constant cannot be written to
            tensor.copy_(value)


@contextmanager
def replaced(network: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the network's parameters and buffers of these names are these tensors, which may have a gradient.

    As torch.func.functional_call puts them, which takes them out again before the backward pass. What it has under two
    names is one.
    """
    if not values:  # every step asks
        yield
        return
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    value_of = {id(own[name]): value for name, value in values.items()}
    places: list[tuple[dict[str, Any], str, Tensor, Tensor]] = [
        (place, name, tensor, value_of[id(tensor)])
        for module in network.modules()
        for place in cast(tuple[dict[str, Any], ...], (module._parameters, module._buffers))
        for name, tensor in place.items()
        if id(tensor) in value_of
    ]
    try:
        for place, name, _, value in places:
            place[name] = value
        yield
    finally:
        for place, name, tensor, _ in places:
            place[name] = tensor


def unkept(network: nn.Module) -> list[str]:
    """What the network's state holds that is no dense parameter or buffer, such as `get_extra_state`, by name."""
    parameters = (name for name, _ in network.named_parameters(remove_duplicate=False))
    buffers = (name for name, _ in network.named_buffers(remove_duplicate=False))
    known = {*parameters, *buffers}
    kept = network.state_dict(keep_vars=True)
    return [n for n, value in kept.items() if n not in known or getattr(value, "layout", None) != torch.strided]


def checksum(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    """A number of their bits and of each bit's place, as float64, which holds all its digits; the device goes on."""
    own = torch.cat([torch.empty(0, dtype=torch.uint8, device=device), *map(as_bytes, tensors)]).long() + 1
    powers = torch.full_like(own, ODD).cumprod(0)  # modulo 2**64, of which the highest 52 bits depend on all others
    return ((own * powers).sum() >> 12).double()
