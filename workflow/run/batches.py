"""What a step of training draws: a function of (seed, step, purpose) and of the sample's place in the batch.

So it depends on no device, no number of processes and no number of parts. A batch is drawn in blocks of
BLOCK samples: a process draws the blocks that its rows lie in, and keeps its rows.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.core.fields import Draws
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.run.task import Task

BLOCK = 512
"""Changing it changes the draws of every arm of a larger batch."""


@dataclass(frozen=True)
class Batch:
    """Rows of one step's batch, one row a sample."""

    first: int
    """Its first row's place in the whole batch."""
    x0: Tensor
    condition: Condition
    """What the student is told: labels, what was observed, and the guidance scale."""
    keys: Tensor
    """Of dropout's masks (core.networks.dropout)."""
    draws: Draws

    def __len__(self) -> int:
        return len(self.x0)

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; through page-locked memory to a GPU, which need not wait for the copy."""
        if device.type == "cpu":  # where it is drawn
            return self
        locked = mapped(Tensor.pin_memory, self) if device.type == "cuda" else self
        return mapped(lambda value: value.to(device, non_blocking=True), locked)

    def parts(self, size: int | None) -> Iterator["Batch"]:
        """Parts of at most `size` rows, in order; None is the whole."""
        size = size or len(self)
        for first in range(0, len(self), size):
            yield self.rows(first, first + size)

    def rows(self, first: int, last: int) -> "Batch":
        """Those from first up to last."""
        if first == 0 and last >= len(self):
            return self
        return dataclasses.replace(mapped(lambda value: value[first:last], self), first=self.first + first)


def draw_batch(task: Task, step: int, rows: range | None = None) -> Batch:
    """The whole batch of a step, or some consecutive rows of it, on the CPU."""
    batch = task.arm.batch
    rows = range(batch) if rows is None else rows

    def draw(block: int) -> Batch:
        before = block * BLOCK
        drawn = _draw_block(task, step, block, min(BLOCK, batch - before))
        return drawn.rows(max(rows.start - before, 0), rows.stop - before)

    first, *others = range(rows.start // BLOCK, -(-rows.stop // BLOCK))
    drawn = draw(first)
    if not others:
        return drawn
    # room for all of it first: a batch that memory cannot hold ends here, and not after many draws
    whole, done = mapped(lambda value: value.new_empty(len(rows), *value.shape[1:]), drawn), 0
    for part in itertools.chain([drawn], map(draw, others)):
        mapped(Tensor.copy_, whole.rows(done, done + len(part)), part)
        done += len(part)
    return whole


def ahead(draw: Callable[[int], Batch], steps: range) -> Iterator[Batch]:
    """draw(step) for every step, each made in a thread while the device works on the one before."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = pool.submit(draw, steps.start) if steps else None
        for step in steps:
            assert pending is not None
            batch = pending.result()
            if step + 1 in steps:
                pending = pool.submit(draw, step + 1)
            yield batch


def batches(draw: Callable[[int], Batch], steps: range, device: torch.device) -> Iterable[Batch]:
    """draw(step) for every step; ahead of time where that costs the device nothing."""
    return map(draw, steps) if device.type == "cpu" else ahead(draw, steps)


def mapped(change: Callable[..., Tensor], first: Any, *others: Any) -> Any:
    """A dataclass of tensors, with each replaced by change(it, and those in its place in the others)."""
    if isinstance(first, Tensor):
        return change(first, *others)
    if not dataclasses.is_dataclass(first):
        return first
    names = [field.name for field in dataclasses.fields(first)]
    values = {n: mapped(change, getattr(first, n), *(getattr(other, n) for other in others)) for n in names}
    return dataclasses.replace(first, **values)  # type: ignore[type-var]


def _draw_block(task: Task, step: int, block: int, size: int) -> Batch:
    arm, dataset = task.arm, task.data

    def draws_for(purpose: str) -> torch.Generator:
        return generator(task.seed, step, purpose, *([block] if block else []))  # the first as before there were others

    x0, condition = dataset.draw(draws_for("data"), size)
    if condition.label is not None and arm.label_dropout:
        lost = torch.rand(size, generator=draws_for("label dropout")) < arm.label_dropout
        condition = dataclasses.replace(condition, label=torch.where(lost, dataset.classes, condition.label))
    if arm.guidance_max is not None:  # s ~ U[1, guidance_max]
        scale = 1 + (arm.guidance_max - 1) * torch.rand(size, generator=draws_for("guidance"))
        condition = dataclasses.replace(condition, scale=scale)
    keys = torch.randint(2**31, (size,), generator=draws_for("dropout"), dtype=torch.int32)

    def normal(purpose: str) -> Tensor:
        return torch.randn(x0.shape, generator=draws_for(purpose))

    def draws(prefix: str) -> Draws:
        uniform = torch.rand(size, generator=draws_for(f"{prefix}time"), dtype=torch.float64)
        return Draws(uniform, normal(f"{prefix}noise"))

    drawn = draws("")
    if arm.method.two_times:
        lower, middle = (
            torch.rand(size, generator=draws_for(purpose), dtype=torch.float64) for purpose in ("lower", "middle")
        )
        drawn = dataclasses.replace(drawn, lower=lower, middle=middle)
    if arm.method.fake:
        drawn = dataclasses.replace(drawn, start=normal("start"), score=draws("score "), fake=draws("fake "))
    return Batch(block * BLOCK, x0, condition, keys, drawn)
