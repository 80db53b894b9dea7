"""What a run's student leaves of the noise, seen on a small held batch while it trains (core.noise_left).

No step of training draws that batch, and its evaluation changes no random stream, no buffer and no weight.
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trigbench.core.map_samplers import is_everywhere
from trigbench.core.noise_left import BINS, COLLAPSED, MIDDLES, collapse, flow, share_left
from trigbench.core.trigflow import Field, interpolate, lower_edge, rotate
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.live import warn
from trigbench.workflow.run.assembly import Modules, jump_of, student_field, teacher_of
from trigbench.workflow.run.batches import Batch, draw_batch
from trigbench.workflow.run.distributed import Layout
from trigbench.workflow.run.journal import Journal
from trigbench.workflow.run.log import LogRow, looks_of
from trigbench.workflow.run.settings import segment_edges
from trigbench.workflow.run.task import Task
from trigbench.workflow.study.schema import Arm

LOOKS = 10
"""In a run, and one at its end."""
NO_LOOK = [math.nan] * BINS
MOST_PAIRS, IMAGES_A_PAIR = 16, 6000
"""A pair of points costs 11 looks and 12 steps of the flow, two evaluations each, in each of four bins: about 200. A
step of training costs at least three evaluations an image: one pair for so many images is 1% of a run."""


def pairs_of(arm: Arm) -> int:
    """How many pairs of points a bin has; none in a run so short that looking would be more than 1% of it."""
    return min(MOST_PAIRS, arm.iterations * arm.batch // IMAGES_A_PAIR)


@dataclass(frozen=True)
class HeldBatch:
    """The batch: in each bin pairs of points of the same data and condition with two noises, at the bin's middle."""

    task: Task
    batch: Batch
    points: tuple[Tensor, Tensor]
    t: Tensor
    u: Tensor
    """Where the student's map goes to: 0, or the lower edge of a segment."""
    taught: list[float] | None = None
    """What the teacher's flow leaves, by bin; None where there is no teacher, or the student is no map."""

    def left(self, modules: Modules) -> list[float]:
        """What the student leaves now, by bin (share_left)."""
        with resting(modules.student):
            weights = modules.kept()
            return self._by_bin(lambda rows, x, t, u: rotate(x, self._student(modules, weights, rows, u)(x, t), t, u))

    def collapse(self, left: LogRow) -> list[float]:
        """From 0, as the teacher's flow, to 1, as a dead map; NaN where that cannot be told."""
        if self.taught is None:
            return [math.nan] * BINS
        known = zip(left, self.taught, self.elapsed, strict=True)
        return [math.nan if share is None else collapse(share, taught, passed) for share, taught, passed in known]

    def collapsed(self, before: Sequence[LogRow], left: LogRow, step: int) -> list[int]:
        """The bins in which the student has collapsed: at this look and the one before, as what is dead stays so.

        One that starts from nothing leaves all of the noise until it has learned: so a bin counts in the first half of
        training only where a look `before` saw it well.
        """
        seen = [self.collapse(row) for row in (*before, left)]
        late = 2 * step >= self.task.arm.iterations
        dead = [b for b in range(BINS) if len(seen) > 1 and all(look[b] >= COLLAPSED for look in seen[-2:])]
        return [b for b in dead if late or any(look[b] < COLLAPSED for look in seen)]

    def warning(self, before: Sequence[LogRow], left: LogRow, step: int) -> str | None:
        """That it has collapsed, in words, with what may help; None where it has not."""
        bins, taught = self.collapsed(before, left, step), self.taught or []
        if not bins:
            return None
        seen = [f"{left[b]:.2f} of it at t = {MIDDLES[b]:.2f} (the teacher's flow {taught[b]:.2f})" for b in bins]
        return (
            f"the student has collapsed by step {step}: it leaves the noise that comes in, {', '.join(seen)}; "
            "try a lower rate, a longer warm-up, or a teacher trained longer"
        )

    @property
    def elapsed(self) -> list[float]:
        """t - u of each bin."""
        return (self.t - self.u).reshape(BINS, -1)[:, 0].tolist()

    def _student(self, modules: Modules, weights: dict[str, Tensor], rows: Batch, u: Tensor) -> Field:
        arm = self.task.arm

        def told(condition: object) -> Field:
            return student_field(self.task, modules.student, weights, condition, arm.precision)  # type: ignore[arg-type]

        return jump_of(told, rows.condition)(u) if "target_time" in arm.told else told(rows.condition)

    def with_taught(self) -> "HeldBatch":
        """With what the teacher's flow leaves, if the student is a map and there is a teacher, or an exact velocity."""
        task = self.task
        taught = teacher_of(task) if task.arm.teacher else None
        exact = task.data.velocity
        may_collapse = is_everywhere(task.arm.method.sampler)
        if not may_collapse or (taught is None and exact is None):
            return self

        def ends(rows: Batch, x: Tensor, t: Tensor, u: Tensor) -> Tensor:
            field = taught(rows.condition) if taught is not None else exact
            assert field is not None
            return flow(field, x, t, u)

        return dataclasses.replace(self, taught=self._by_bin(ends))

    @torch.no_grad()
    def _by_bin(self, ends: Callable[[Batch, Tensor, Tensor, Tensor], Tensor]) -> list[float]:
        """share_left of a map by bin, evaluated in parts no larger than training's."""
        size = min(self.task.arm.microbatch or len(self.batch), len(self.batch))
        parts = [slice(first, first + size) for first in range(0, len(self.batch), size)]
        found = [
            torch.cat([ends(self.batch.rows(p.start, p.stop), x[p], self.t[p], self.u[p]) for p in parts])
            for x in self.points
        ]
        bins = zip(*(whole.chunk(BINS) for whole in (*found, *self.points)), strict=True)
        return [share_left(*both) for both in bins]


def hold(task: Task) -> HeldBatch | None:
    """The held batch of a run; None of one that is too short."""
    pairs, device = pairs_of(task.arm), task.device
    if not pairs:
        return None
    small = dataclasses.replace(task, arm=task.arm.model_copy(update={"batch": BINS * pairs}))
    batch = draw_batch(small, 0)  # steps of training count from 1
    other = torch.randn(batch.x0.shape, generator=generator(task.seed, 0, "other noise")).to(device)
    batch = batch.to(device)
    t = torch.tensor(MIDDLES, dtype=torch.float64, device=device).repeat_interleave(pairs)
    edges = segment_edges(task.arm, task.study.sigma_d)[:-1].to(device) if task.arm.segments else t.new_zeros(1)
    points = interpolate(batch.x0, batch.draws.noise, t), interpolate(batch.x0, other, t)
    return HeldBatch(task, batch, points, t, lower_edge(edges, t)).with_taught()


def look(held: HeldBatch | None, modules: Modules, layout: Layout, journal: Journal, step: int) -> list[float]:
    """What the student leaves of the noise, by bin; says once, while it trains, that it has collapsed.

    Every process calls it.
    """
    if held is None:
        return NO_LOOK
    with layout.gathered():
        left = held.left(modules)
    said = None if journal.warned else held.warning(looks_of(journal.rows), left, step)
    if said:
        journal.warned = True
        if layout.world.first:
            print(f"warning: {held.task.label}: {said}", file=sys.stderr, flush=True)
            warn(said)
    return left


@contextmanager
def resting(network: nn.Module) -> Iterator[None]:
    """The network out of training, and each of its parts back to where it was."""
    was = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in was:
            module.training = training
