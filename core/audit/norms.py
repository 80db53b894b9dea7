"""How a loss is split into a direction, a norm and a weight of time."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trigbench.core.audit.probe import NOISE, Given, Gradient, Student
from trigbench.core.audit.split import TOLERANCE


@dataclass(frozen=True)
class Norm:
    """What |g| is divided by, up to a factor that depends on time alone."""

    shape: str
    """flat (not normalised), plus: |g| + c, root: sqrt(|g|^2 + c^2), or limit: max(|g|, c)."""
    lengths: Tensor
    """(batch,): what it is divided by."""
    constant: float
    before: dict[str, int] | None
    """Powers of the weight that g has before it is divided; None where its constant is some function of time."""


def _lengths(shape: str, size: Tensor, constant: Tensor) -> Tensor:
    if shape == "plus":
        return size + constant
    return torch.hypot(size, constant) if shape == "root" else torch.maximum(size, constant)


BEFORE: tuple[tuple[int, int], ...] = ((0, 0), (-1, 0), (1, -1), (0, -1))
"""Powers of cos t and sin t that g may be weighted by before it is normalised: not at all, df/dt, the prior weight of
either."""


def fit_norm(sizes: Sequence[Tensor], inverse: Tensor, t: Tensor) -> Norm | None:
    """`inverse` = |g| / length, as a function of |g|, whose weight is free at every time and whose constant is one."""
    times, group = t.unique(return_inverse=True)
    count = torch.zeros_like(times).index_add_(0, group, torch.ones_like(t))

    def mean(values: Tensor) -> Tensor:
        """By time, along the last dimension."""
        total = torch.zeros(*values.shape[:-1], len(times), dtype=values.dtype)
        return total.index_add_(-1, group, values) / count

    def misfit(lengths: Tensor) -> Tensor:
        ratio = inverse / lengths
        return (ratio / mean(ratio)[..., group] - 1).abs().amax(dim=-1)

    enough = TOLERANCE / 10
    if float(misfit(torch.ones_like(inverse))) < enough:
        return Norm("flat", torch.ones_like(inverse), math.inf, {})
    found: list[tuple[float, Norm]] = []
    for powers, shape, size in itertools.product(BEFORE, ("plus", "root", "limit"), sizes):
        before = torch.cos(t) ** powers[0] * torch.sin(t) ** powers[1]
        constants = _constants(shape, size, inverse, before, group, mean)
        misfits = misfit(_lengths(shape, size, constants[:, None] / before))
        best = int(misfits.argmin())
        if float(misfits[best]) < enough:
            constant = constants[best]
            named = {name: power for name, power in zip(("cos t", "sin t"), powers, strict=True) if power}
            lengths = _lengths(shape, size, constant / before)
            found.append((float(misfits[best]), Norm(shape, lengths, float(constant), named)))
            if powers == (0, 0) and float(misfits[best]) < NOISE:
                break
    if found:
        least = min(error for error, _ in found)
        return next(norm for error, norm in found if error <= 3 * least + NOISE)
    size = sizes[0]
    off = size - mean(size)[group]
    slope = mean(off * inverse) / mean(off * off).clamp(min=1e-300)
    start = mean(inverse) - slope * mean(size)
    fits = ((start[group] + slope[group] * size) / inverse - 1).abs().max() < enough
    if bool(fits) and bool((slope > 0).all()):
        return Norm("plus", size + (start / slope)[group], float((start / slope).median()), None)
    return None


def _constants(
    shape: str, size: Tensor, inverse: Tensor, before: Tensor, group: Tensor, mean: Callable[[Tensor], Tensor]
) -> Tensor:
    """What the constant may be, from each time alone."""
    if shape == "limit":
        least = torch.full_like(mean(size), torch.inf).scatter_reduce(0, group, inverse / size, "amin")[group]
        return torch.cat([inverse / least * before, size * before])
    u, v = (size, inverse) if shape == "plus" else (size.square(), inverse.square())
    slope = mean((u - mean(u)[group]) * v) / mean((u - mean(u)[group]) ** 2).clamp(min=1e-300)
    start = mean(v) - slope * mean(u)
    constant = (start / slope).nan_to_num(0.0, 0.0, 0.0).clamp(min=0)
    constant = constant if shape == "plus" else constant.sqrt()
    return torch.cat([constant * mean(before), constant.new_zeros(1)])


def shape_of(gradient: Gradient) -> tuple[str, Tensor]:
    """(squared, linear, length: a function of the residual's length, or other; the weight of the residual by sample).

    A squared loss has the same second derivative in all directions of a sample, its weight; a function of the
    residual's length has another one along the residual than across it.
    """
    n, d = gradient.total.flatten(1), gradient.direction.flatten(1)
    nothing = torch.full_like(n[:, 0], torch.nan)
    if gradient.across is None or gradient.along is None:
        return "other", nothing
    second, across = gradient.along.flatten(1), gradient.across.flatten(1)
    if not bool(second.any()) and not bool(across.any()):
        return "linear", nothing
    b = (n * second).sum(1) / n.square().sum(1)
    a = (d * across).sum(1) / d.square().sum(1)
    straight = (second - b[:, None] * n).norm(dim=1) <= NOISE * a.abs() * n.norm(dim=1)
    straight &= (across - a[:, None] * d).norm(dim=1) <= NOISE * a.abs() * d.norm(dim=1)
    if not bool(straight.all()) or not bool((a > 0).all()):
        return "other", nothing
    same = bool(((a - b).abs() <= NOISE * a).all())
    return ("squared" if same else "length"), a


def _beside(gradient: Gradient, output: Tensor) -> float:
    """What the loss's value holds beside what its gradient says, such as a learned weight's logarithm; nan: unknown."""
    n = gradient.total.flatten(1)
    shape, weight = shape_of(gradient)
    if shape == "squared":
        value = float((n.square().sum(1) / weight).sum() / 2)
    elif shape == "linear":
        value = -float((n * output.flatten(1)).sum())
    else:
        return math.nan
    beside = gradient.value - value
    return 0.0 if abs(beside) <= NOISE * (abs(value) + abs(gradient.value)) else beside


def weights_of(
    gradient: Gradient, student: Student, given: Given, later: Callable[[], tuple[Gradient | str, Tensor]]
) -> str:
    """Where the weights of time come from: fixed, learned, both (learned beside the prior weight), or unknown.

    A learned weight e^w stands beside -w in the loss. Between t and a later time that shows how w changes, and the
    second derivative shows how the whole weight does.
    """
    output = student(given.x / given.sigma_d)
    beside = _beside(gradient, output)
    shape, weight = shape_of(gradient)
    if beside == 0 and (shape != "squared" or _constant(weight)):
        return "fixed"
    if shape != "squared":
        return "unknown"
    after, t = later()
    if isinstance(after, str) or shape_of(after)[0] != "squared":
        return "unknown"
    change = _beside(after, output) - beside
    if beside == change == 0:  # at one time alone logarithms may cancel
        return "fixed"
    whole, prior = float((shape_of(after)[1] / weight).log().sum()), float((given.t.tan() / t.tan()).log().sum())
    for mean in (1 / len(t), 1.0):
        for words, other in (("learned", 0.0), ("both", prior)):
            if abs(change + mean * (whole - other)) <= 1e-4 * mean * (abs(whole) + abs(prior)):
                return words
    return "unknown"


def moves(shape: str, norm: Norm | None, inverse: Tensor, t: Tensor, sigma_d: float) -> bool:
    """Whether the second derivative shows that g moves with F: then the residual is no function of |g| that fits."""
    if shape == "length":
        return norm is None or norm.before is None
    if norm is None or norm.shape != "flat" or _constant(torch.cos(t)):
        return False
    return any(_constant(inverse / (1 + factor * torch.cos(t) ** 2)) for factor in (1.0, sigma_d))


def _constant(values: Tensor) -> bool:
    return bool((values / values.mean() - 1).abs().max() < TOLERANCE / 10)
