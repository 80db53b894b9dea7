"""A step's loss and gradients: of the whole batch, or of its parts one after the other."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from trigbench.core.networks.dropout import masks
from trigbench.core.noise_left import BINS, bin_of
from trigbench.core.objectives.regression import Regression
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.assembly import (
    Modules,
    Tensors,
)
from trigbench.workflow.run.batches import Batch
from trigbench.workflow.run.distributed import World
from trigbench.workflow.run.task import Task
from trigbench.workflow.run.weights import as_bytes, copied, put
from trigbench.workflow.study.schema import Arm

WATCHED = 4 + 2 * BINS
"""Numbers of `watched_of`."""


Differentiate = Callable[..., tuple[Tensor, Sequence[Tensor]]]
"""As `differentiated`, whose arguments it takes."""


def differentiated(
    objective: Callable[..., Regression],
    step: int,
    part: Batch,
    target: Tensors,
    parameters: Sequence[Tensor],
    factor: float | Tensor,
    modules: Modules,
) -> tuple[Tensor, Sequence[Tensor]]:
    """What is watched of these rows, and the gradients of `factor` times their loss."""
    with modules.adapted():
        regression = objective(step, target, part)
        with masks(part.keys):  # a network's checkpointed parts compute again
            found = torch.autograd.grad(factor * regression.loss, parameters, materialize_grads=True)
    return watched_of(regression), found


def evaluate_step(
    objective: Callable[..., Regression],
    step: int,
    batch: Batch,
    target: Tensors,
    parameters: list[Tensor],
    task: Task,
    modules: Modules,
    differentiate: Differentiate = differentiated,
) -> tuple[Tensor, list[Tensor]]:
    """What is `watched` of these rows, and gradients, each part weighted by its share of the whole batch.

    Every loss here is a mean over samples of what depends on the sample alone, so that the sum over all parts and
    processes is the whole batch's. Of an objective of one's own that is for its author to see to.
    """
    watched = torch.zeros(WATCHED, dtype=torch.float64, device=batch.x0.device)
    arm = task.arm
    gradients: list[Tensor] = []
    scale = loss_scale(arm, batch.x0[0].numel())
    for part in _parts(batch, task, modules):
        share = len(part) / arm.batch
        seen, found = differentiate(objective, step, part, target, parameters, scale * share, modules)
        if scale != 1:
            found = [gradient / scale for gradient in found]
        if gradients:
            for summed, gradient in zip(gradients, found, strict=True):
                summed.add_(gradient)
        else:  # autograd may give one tensor for two parameters: to be added to, each has its own
            gradients = list(found) if len(part) == len(batch) else [gradient.clone() for gradient in found]
        watched += share * seen
    return watched, gradients


@torch.no_grad()
def watched_of(regression: Regression) -> Tensor:
    """Loss, direction norm, shares clipped and clamped (NaN where there are none), and by bin of time the mean over
    samples of (norm if the sample is in the bin, else 0) and of (1, else 0): of each, parts add up to the whole."""
    norm = regression.direction_norm.double()
    shares = [norm.new_tensor(math.nan) if s is None else s.mean() for s in (regression.clipped, regression.clamped)]
    first = torch.stack([regression.loss.detach().double(), regression.direction_norm.mean().double(), *shares])
    if regression.t is None:
        return torch.cat([first, norm.new_zeros(2 * BINS)])
    inside = bin_of(regression.t)[:, None] == torch.arange(BINS, device=norm.device)
    return torch.cat([first, torch.where(inside, norm[:, None], 0.0).mean(0), inside.double().mean(0)])


def _parts(batch: Batch, task: Task, modules: Modules) -> Iterator[Batch]:
    """The parts, each to be evaluated from the buffers that the first one found, as the whole batch would be.

    Raises BenchError where a part leaves other bits in them than the first one did.
    """
    first, *others = batch.parts(task.arm.microbatch)
    found = copied(modules.buffers()) if others else {}
    yield first
    left = copied(modules.buffers()) if others else {}
    for part in others:
        put(modules.buffers(), found)
        yield part
        now = modules.buffers()
        other = [name for name, value in left.items() if not torch.equal(as_bytes(value), as_bytes(now[name]))]
        if other:
            raise other_buffers(task, f"its buffers end as other values: {', '.join(other[:5])}")


def other_buffers(task: Task, how: str) -> BenchError:
    """Of buffers that depend on how the batch was divided."""
    problem = f"what the network keeps in buffers depends on which samples it sees, so that with parts of a batch {how}"
    remedy = "let buffers depend on parameters alone, or train in one process without 'microbatch'"
    return BenchError(problem, file=task.study.file, key=task.network_key, remedy=remedy)


def loss_scale(arm: Arm, numbers: int) -> float:
    """What the loss is multiplied by, and its gradients divided by, so that none vanishes in float16.

    At the output they are 2 e^w g / (D B), which at ImageNet's D B = 3e7 is below float16's smallest number. A power
    of two, which changes no other bit; a sixteenth of D B leaves room for g e^w up to 5e5. Other precisions need none.
    """
    return 2.0 ** max(0, math.floor(math.log2(numbers * arm.batch)) - 4) if arm.precision == "fp16" else 1.0


def check_parts(task: Task, modules: Modules, world: World) -> None:
    """Raise BenchError where the batch is evaluated in parts and the result would depend on which."""
    arm, file, key = task.arm, task.study.file, f"arms.{task.run.arm}"
    if arm.batch < world.size:
        problem = f"{world.size} processes cannot share a batch of {arm.batch}"
        raise BenchError(problem, file=file, key=f"{key}.batch", remedy="start fewer processes")
    if world.size == 1 and (arm.microbatch is None or arm.microbatch >= arm.batch):
        return
    if arm.tangent_method == "difference":
        problem = "central differences take one step for all samples, so that parts of a batch give another tangent"
        remedy = "choose 'auto', or train in one process without 'microbatch'"
        raise BenchError(problem, file=file, key=f"{key}.tangent_method", remedy=remedy)
    if any(isinstance(layer, _BatchNorm) for layer in modules.student.modules()):
        problem = "the network's batch norm mixes samples, so that parts of a batch give another result"
        remedy = "use another norm, or train in one process without 'microbatch'"
        raise BenchError(problem, file=file, key=task.network_key, remedy=remedy)
