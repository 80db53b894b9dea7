"""Several processes that train one run, started by torchrun: what each of them holds, and what they add up.

Every process evaluates the objective on its rows of the batch, and the gradients are summed in so many
words. torch's wrappers do that in hooks around a module's forward and backward pass, and forward mode
can go through neither DistributedDataParallel's nor FSDP2's; to call the `.module` inside skips the sum
without an error. Here no evaluation can escape it. The sums are those of DDP, and of FSDP2 with
parameters that stay gathered from forward to backward (tests/workflow/test_devices.py holds both against torch's).
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trigbench.workflow.machine.checkpoints import Piece
from trigbench.workflow.run.weights import checksum

BUCKET = 2**25
"""Numbers that are summed in one message."""
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class World:
    """The processes that train one run together, seen from one of them."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and talks."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """The rows of a batch that are this process's."""
        return range(self.rank * batch // self.size, (self.rank + 1) * batch // self.size)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size == 1:
            return values
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    def wait(self) -> None:
        """Until every process is here."""
        self.total(torch.zeros(1, device=self.device)).item()

    def from_first(self, number: int) -> int:
        """What the first process says."""
        said = torch.tensor(number, device=self.device)
        if self.size > 1:
            dist.broadcast(said, 0)
        return int(said)

    def agreed(self, reason: str | None) -> str | None:
        """A reason to stop that is everybody's, if any process has one."""
        if self.size == 1:
            return reason
        others = self.total(torch.tensor(int(reason is not None), device=self.device)).item()
        return reason or ("another process has to stop" if others else None)

    def marks(self, tensors: Iterable[Tensor]) -> Tensor:
        """To be summed with what is summed anyway: all alike where every process holds the same bits in these."""
        if self.size == 1:
            return torch.empty(0, dtype=torch.float64, device=self.device)
        own = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        own[self.rank] = checksum(tensors, self.device)
        return own

    def gather(self, text: str) -> list[str]:
        """What every process says, all of one length; as bytes, since torch pickles other things."""
        said = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.device)
        heard = [said] if self.size == 1 else [torch.empty_like(said) for _ in range(self.size)]
        if self.size > 1:
            dist.all_gather(heard, said)
        return [bytes(letters.tolist()).decode() for letters in heard]


def by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return dist.is_torchelastic_launched()


def is_first() -> bool:
    """Whether this process is alone, or the first of those that torchrun started."""
    return not by_torchrun() or os.environ["RANK"] == "0"


@contextmanager
def world_of(device: torch.device, patience: float) -> Iterator[World]:
    """All processes that torchrun started, connected; a process that it did not start is alone.

    A process waits twice `patience` minutes for the others, one of which may write a file or draw more samples.

    After an error the connection is left to the end of the process, as others may be waiting in it.
    """
    if not by_torchrun():
        yield World(device)
        return
    connects = not dist.is_initialized()
    if connects:
        cuda = device.type == "cuda"
        timeout = timedelta(minutes=2 * patience)  # who hangs says so first (progress.end_if_hung)
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timeout, device_id=device if cuda else None)
    yield World(device, dist.get_rank(), dist.get_world_size())
    if connects:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Replicated:
    """Every process holds all parameters, and all that is kept beside them: data parallel training as DDP's."""

    world: World
    parameters: Tensors
    """The modules' own."""

    @contextmanager
    def gathered(self) -> Iterator[list[Tensor]]:
        """Inside, the modules can be called; yields their parameters."""
        yield list(self.parameters.values())

    @torch.no_grad()
    def replace(self, values: Tensors) -> None:
        """Inside `gathered`: give the parameters of these names these values, which are whole."""
        for name, whole in values.items():
            self.parameters[name].copy_(whole)

    def summed(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of `gathered`, summed over the processes, of what this one holds."""
        if self.world.size == 1:
            return list(gradients)
        found: list[Tensor] = []
        for bucket in _buckets(gradients):
            flat = self.world.total(torch.cat([gradient.flatten() for gradient in bucket]))
            parts = flat.split([gradient.numel() for gradient in bucket])
            found += [part.view(gradient.shape) for part, gradient in zip(parts, bucket, strict=True)]
        return found

    def norm(self, gradients: Sequence[Tensor]) -> float:
        """Of all summed gradients together."""
        return torch.nn.utils.get_total_norm(gradients).item()

    def piece(self, whole: Tensor) -> Tensor:
        """What this process holds of a tensor like a parameter."""
        return whole

    def whole(self, tensors: Tensors) -> Tensors:
        """Whole tensors from what every process holds of them; named as parameters, or `<anything>/<parameter>`.

        What has no parameter's name, as a buffer, is whole on every process.
        """
        return tensors

    def part(self, names: Iterable[str]) -> Piece | None:
        """What this process writes of a checkpoint in which tensors of these names are held as parameters are."""
        return Piece() if self.world.first else None


@dataclass(frozen=True)
class Sharded:
    """Every process holds an equal part of each parameter, and of all that is kept beside it (FSDP2).

    Parameters are flat, and FSDP2's (`fully_shard`): it keeps the parts, and gathers all of them in one
    message. Between steps the modules' own are empty.
    """

    world: World
    parameters: Tensors
    """Parts, flat; what FSDP2 gathers from, so that they are updated in place."""
    modules_own: Tensors
    shapes: dict[str, torch.Size]
    store: Any
    """The module whose parameters FSDP2 shares out."""
    mesh: Any

    @classmethod
    def of(cls, world: World, parameters: Tensors) -> "Sharded":
        """Share the modules' parameters out."""
        from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415 - a second, for few runs
        from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

        mesh = init_device_mesh(world.device.type, (world.size,))
        store: Any = fully_shard(_Store(parameters.values()), mesh=mesh)
        made = cls(world, {}, parameters, {name: p.shape for name, p in parameters.items()}, store, mesh)
        with made.gathered():  # the first time decides what FSDP2 gathers from
            pass
        held = zip(parameters, store.parameters(), strict=True)
        made.parameters.update({name: part.detach().to_local() for name, part in held})
        return made

    @contextmanager
    def gathered(self) -> Iterator[list[Tensor]]:
        """As Replicated.gathered."""
        own = list(self.modules_own.values())
        self.store.unshard()
        for parameter, flat, shape in zip(own, self.store.parameters(), self.shapes.values(), strict=True):
            parameter.data = flat.detach().view(shape)
        try:
            yield own
        finally:
            for parameter in own:
                parameter.data = parameter.data.new_empty(0)
            self.store.reshard()

    @torch.no_grad()
    def replace(self, values: Tensors) -> None:
        """As Replicated.replace."""
        for name, whole in values.items():
            self.modules_own[name].copy_(whole)
            self.parameters[name].copy_(self.piece(whole))

    @torch.no_grad()
    def summed(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """As Replicated.summed; each process receives the sums of its own parts alone."""
        from torch.distributed.tensor import DTensor, Partial, Shard  # noqa: PLC0415

        found: list[Tensor] = []
        lengths = iter([part.numel() for part in self.parameters.values()])
        for bucket in _buckets(gradients):
            rows = [self._rows(gradient) for gradient in bucket]
            mine = DTensor.from_local(torch.cat(rows, dim=1), self.mesh, [Partial()]).redistribute(
                placements=[Shard(0)]
            )
            parts = mine.to_local()[0].split([row.shape[1] for row in rows])
            found += [part[: next(lengths)] for part in parts]
        return found

    def norm(self, gradients: Sequence[Tensor]) -> float:
        """As Replicated.norm."""
        own = torch.nn.utils.get_total_norm(gradients).double()
        return math.sqrt(self.world.total(own.square()).item())

    def piece(self, whole: Tensor) -> Tensor:
        """As Replicated.piece."""
        length = -(-whole.numel() // self.world.size)
        return whole.reshape(-1)[self.world.rank * length : (self.world.rank + 1) * length]

    @torch.no_grad()
    def whole(self, tensors: Tensors) -> Tensors:
        """As Replicated.whole."""
        from torch.distributed.tensor import DTensor, Shard  # noqa: PLC0415

        found = {}
        for name, part in tensors.items():
            shape = self.shapes.get(name.rsplit("/", 1)[-1])
            if shape is None:
                found[name] = part
                continue
            row = nn.functional.pad(part, (0, -(-shape.numel() // self.world.size) - part.numel()))
            gathered = DTensor.from_local(row, self.mesh, [Shard(0)]).full_tensor()
            found[name] = gathered[: shape.numel()].view(shape)
        return found

    def part(self, names: Iterable[str]) -> Piece | None:
        """As Replicated.part."""
        owners = {name: name.rsplit("/", 1)[-1] for name in names}
        shapes = {name: list(self.shapes[own]) for name, own in owners.items() if own in self.shapes}
        return Piece(self.world.rank, self.world.size, shapes, self.world.gather)

    def _rows(self, gradient: Tensor) -> Tensor:
        """(processes, length): the parts of each, padded to one length, as FSDP2 splits what is flat."""
        count = self.world.size
        length = -(-gradient.numel() // count)
        return nn.functional.pad(gradient.flatten(), (0, count * length - gradient.numel())).view(count, length)


Layout = Replicated | Sharded


def lay_out(world: World, parameters: Tensors, sharded: bool) -> Layout:
    """How the processes hold the modules' parameters; a single one holds them all in any case."""
    return Sharded.of(world, parameters) if sharded and world.size > 1 else Replicated(world, parameters)


class _Store(nn.Module):
    """Nothing but flat parameters: FSDP2 splits along the first axis, which may be 1 long, or missing."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__()
        for index, parameter in enumerate(parameters):
            self.register_parameter(str(index), nn.Parameter(parameter.detach().reshape(-1)))


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The gradients in order, in lists of about BUCKET numbers."""
    bucket: list[Tensor] = []
    held = 0
    for gradient in gradients:
        bucket.append(gradient)
        held += gradient.numel()
        if held >= BUCKET:
            yield bucket
            bucket, held = [], 0
    if bucket:
        yield bucket
