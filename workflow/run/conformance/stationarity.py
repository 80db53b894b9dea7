"""Whether an objective rests where it should: at the exact solution of a Gaussian, and moves back from beside it.

The mean gradient of the loss is estimated from batches, in some directions in which a student may leave the exact
field. A Gaussian is symmetric, so that what normalising a noisy direction biases (sCT's) does not show.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.fields import Draws, Fields, Jump
from trigbench.core.objectives.regression import Regression
from trigbench.core.trigflow import Field
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.run.conformance.finding import Fault, Unfit

Objective = Callable[[Fields, Tensor, Draws], Regression]
STD = 0.4
"""Of the data, in unit variance."""
BATCHES, BATCH = 32, 512
NOISE = 5.0
"""Standard errors within which a mean is zero: by chance one in a million is farther."""
RESIDUE = 0.02
"""What a discretisation may leave of the gradient that another field has."""
BESIDE = ((0.3, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.3))
"""By how much of x, and by which constant, a student is moved that should move back."""


def draw(shape: tuple[int, ...], rows: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Draws]:
    """Data of N(0, STD^2), and all randomness of a step."""
    g = generator("conformance", "draws", seed)

    def uniform() -> Tensor:
        return 0.02 + 0.96 * torch.rand(rows, generator=g, dtype=torch.float64)

    def normal() -> Tensor:
        return torch.randn(rows, *shape, generator=g, dtype=torch.float64).to(dtype)

    x0, score, fake = STD * normal(), Draws(uniform(), normal()), Draws(uniform(), normal())
    drawn = Draws(uniform(), normal(), start=normal(), score=score, fake=fake, lower=uniform(), middle=uniform())
    return x0, drawn


def exact_jump(u: Tensor) -> Field:
    """The field of the Gaussian's exact map from t down to u (to 0: core.oracle.gaussian_consistency_map).

    At u = t, where a map does not move, it is the velocity.
    """

    def field(x: Tensor, t: Tensor) -> Tensor:
        now, then = ((t_.cos().square() * STD**2 + t_.sin().square()).sqrt()[:, None] for t_ in (t, u.to(t)))
        gap = (t - u)[:, None]
        safe = torch.where(gap == 0, 1.0, gap.sin())
        return torch.where(gap == 0, exact_velocity(x, t), (gap.cos() - then / now) / safe * x)

    return field


def exact_velocity(x: Tensor, t: Tensor) -> Tensor:
    """Of the same Gaussian."""
    return oracle.gaussian_velocity(x, t, STD)


SOLUTIONS: dict[str, Jump] = {"the exact consistency map": exact_jump, "the exact velocity": lambda u: exact_velocity}
"""Where an objective of maps, and one of diffusion, rests."""


def rests(objective: Objective) -> str:
    """Where it rests, and how it moves back. Raises Fault where it does not, Unfit where nothing moves it."""
    pulls = {name: _gradients(objective, jump) for name, jump in SOLUTIONS.items()}
    zs = {name: float(_z(every).abs().max()) for name, every in pulls.items()}
    sizes = {name: float(every.mean(0).norm()) for name, every in pulls.items()}
    said, largest = ", ".join(f"at {name} z = {z:.1f}" for name, z in zs.items()), max(sizes.values())
    found = [name for name in SOLUTIONS if zs[name] < NOISE or sizes[name] < RESIDUE * largest]
    if len(found) == len(SOLUTIONS):
        raise Unfit(f"its mean gradient is within noise wherever it was looked at ({said})")
    if not found:
        remedy = "check signs, weights and what is detached; a student that is no field F has no exact solution here"
        raise Fault(f"on a Gaussian it rests at no known solution: {said}", remedy)
    (where,) = found
    back = _moves_back(objective, where)
    left = "" if zs[where] < NOISE else f"; {sizes[where] / largest:.1%} is left, as of a discretisation"
    return f"on a Gaussian: {said}{left}; from beside {where} it moves back, z = {back:.1f}"


def _moves_back(objective: Objective, where: str) -> float:
    """The smallest z-score of the gradient along what the student is moved by."""
    back = math.inf
    for start in BESIDE:
        along = (_gradients(objective, SOLUTIONS[where], start) * torch.tensor(start, dtype=torch.float64)).sum(1)
        back = min(back, float(_z(along)))
    if back < NOISE:
        remedy = "check the sign of the direction: a loss is least where its student should be"
        raise Fault(f"it rests at {where}, and from beside it does not move back (z = {back:.1f})", remedy)
    return back


def _z(every: Tensor) -> Tensor:
    """Mean over standard error."""
    return every.mean(0) / (every.std(0) / math.sqrt(len(every))).clamp(min=1e-15)


def _gradients(objective: Objective, jump: Jump, start: tuple[float, ...] = (0.0,) * 4) -> Tensor:
    """(BATCHES, 4): of the loss in a student's shift, where the shift is `start`."""
    found = []
    for batch in range(BATCHES):
        shift = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        student_to = partial(_shifted, jump, shift)
        fields = Fields(to_data(student_to), exact_velocity, fake=exact_velocity, student_to=student_to)
        loss = objective(fields, *draw((2,), BATCH, torch.float64, seed=1000 + batch)).loss
        (gradient,) = torch.autograd.grad(loss, shift, allow_unused=True)
        found.append(torch.zeros_like(shift) if gradient is None else gradient)
    return torch.stack(found)


def _shifted(jump: Jump, shift: Tensor, u: Tensor) -> Field:
    """The field with more or less of x, by the time, and a constant."""
    exact = jump(u)

    def field(x: Tensor, t: Tensor) -> Tensor:
        of_x = shift[0] + shift[1] * t.cos()[:, None] + shift[2] * (2 * t).sin()[:, None]
        return exact(x, t) + of_x * x + shift[3]

    return field


def to_data(jump: Jump) -> Field:
    """The jump's field to 0."""
    return lambda x, t: jump(torch.zeros_like(t))(x, t)
