"""What is asked of somebody's code: what it evaluates, and what its loss does to the output that learns."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trigbench.core.pairs import Pair
from trigbench.core.trigflow import Field

Tangent = Callable[[Field, Tensor, Tensor, Tensor, float], Tensor]
"""(field, x_t, t, dx_t/dt, r) -> the tangent g, before it is normalised; field takes (x_t / sigma_d, t)."""
Loss = Callable[[Field, Field | None, Tensor, Tensor, Tensor, float], Tensor]
"""(field, teacher or None, x0, z, t, r) -> the loss of a batch; x0 and z carry sigma_d."""
NOISE = 1e-6
"""A coefficient is known no better than this times |g| / |part|."""
STEP = 1e-5
"""Of our central differences, as an angle; in time never above a thousandth of the way to 0 or pi/2."""
MIN_ELEMENTS = 12
MIN_SAMPLES = 4
MAX_CALLS = 16


@dataclass(frozen=True)
class Given:
    """Where the audit looks."""

    field: Field
    x: Tensor
    t: Tensor
    sigma_d: float
    velocity: Tensor
    data: Tensor | None = None
    """The velocity of the data's path, where a teacher gives another."""
    notes: tuple[str, ...] = ()
    """Of how the teacher was called."""


@dataclass(frozen=True)
class Call:
    """One evaluation of a field by somebody's code."""

    state: Tensor
    """Of torch's generator before it, so that it can be repeated with its dropout mask."""
    point: Tensor
    time: Tensor


@dataclass(frozen=True)
class Student:
    """The function of (x / sigma_d, t) that somebody's code evaluates: the field with a mask, a clock and a scale."""

    field: Field
    scale: float
    """Of the points that the field is called at, over x / sigma_d."""
    times: tuple[Tensor, Tensor, Tensor]
    """At which it is called when the time is t, t + h and t - h."""
    step: Tensor
    """h."""
    rate: Tensor | None
    """d(time of the field)/dt; None where the field's time is t."""

    def __call__(self, points: Tensor, moment: int = 0) -> Tensor:
        return self.field(self.scale * points, self.times[moment])


@dataclass(frozen=True)
class Gradient:
    """The gradient of a loss in F, and how it changes with F."""

    total: Tensor
    """Minus the gradient: the direction that F is moved in."""
    recorded: int
    """The evaluation that it comes through."""
    leak: bool
    value: float
    across: Tensor | None
    """The second derivative along `direction`, across the gradient; None where it cannot be had."""
    along: Tensor | None
    """The second derivative along `total`."""
    direction: Tensor


def check(
    field: Field, batches: dict[str, Tensor], t: Tensor, sigma_d: float, r: float | Sequence[float]
) -> tuple[float, ...]:
    """The values of r, the one nearest to 1 first: there a missing warm-up does not show."""
    values = (r,) if isinstance(r, int | float) else tuple(r) if isinstance(r, list | tuple) else ()
    if not values or not all(isinstance(value, int | float) and math.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"r must be positive, got {r}: at 0 the derivatives have no part in the tangent")
    if not (math.isfinite(sigma_d) and sigma_d > 0):
        raise ValueError(f"sigma_d must be positive, got {sigma_d}")
    _check_tensors(batches, t)
    x = next(iter(batches.values()))
    outputs = []
    for points in (x, half_changed(x)):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs.append(field(points / sigma_d, t))
        check_output("the field", outputs[-1], x)
    if not bool(outputs[0].flatten(1).any(1).all()):
        raise ValueError("the field is zero, as networks are at their start: train it a little or draw its weights")
    if coupled_samples(*outputs):
        raise ValueError("the field mixes the samples of a batch (batch norm in training?): audit it in eval mode")
    return tuple(sorted(values, key=lambda value: abs(math.log(value))))


def _check_tensors(batches: dict[str, Tensor], t: Tensor) -> None:
    (name, x), *others = batches.items()
    for other, tensor in others:
        if tensor.shape != x.shape:
            raise ValueError(f"{name} of {tuple(x.shape)} and {other} of {tuple(tensor.shape)} must have one shape")
    if x.ndim < 2 or t.shape != x.shape[:1] or not len(t):
        raise ValueError(f"{name} must be (batch, *shape) and t (batch,), got {tuple(x.shape)} and {tuple(t.shape)}")
    for other, tensor in {**batches, "t": t}.items():
        if tensor.dtype != torch.float64 or tensor.device.type != "cpu":
            raise ValueError(f"audits need float64 on CPU, got {other} of {tensor.dtype} on {tensor.device}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{other} holds what is not a number, or infinite")
    if x[0].numel() < MIN_ELEMENTS:
        raise ValueError(f"audits need {MIN_ELEMENTS} elements a sample to tell the parts apart, got {x[0].numel()}")
    if not bool(((t > 0) & (t < math.pi / 2)).all()):
        raise ValueError("times must lie inside (0, pi/2)")


def check_samples(t: Tensor) -> None:
    """Raise ValueError unless every time is there for several samples."""
    if min(int((t == time).sum()) for time in t.unique()) < MIN_SAMPLES:
        raise ValueError(f"give at least {MIN_SAMPLES} samples of each time: their norms tell weights from normalising")


def check_output(whose: str, value: object, like: Tensor) -> None:
    """Raise ValueError unless `value` is a tensor of this shape and type, finite, and of no transform that traces."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{whose} must give a tensor, gave {type(value).__name__}")
    if value.shape != like.shape or value.dtype != like.dtype:
        got = f"{value.dtype} of {tuple(value.shape)}"
        raise ValueError(f"{whose} must give {like.dtype} of {tuple(like.shape)}, gave {got}")
    try:
        finite = bool(_plain(value).isfinite().all())
    except RuntimeError as error:
        raise ValueError(f"{whose} is traced, as by torch.func.linearize: audit with torch.func.jvp") from error
    if not finite:
        raise ValueError(f"{whose} gives what is not a number, or infinite")


def half_changed(x: Tensor) -> Tensor:
    """Every second sample is another one."""
    changed = x.clone()
    changed[1::2] = 3 * x[1::2]
    return changed


def coupled_samples(before: Tensor, after: Tensor) -> list[str]:
    """A problem, if samples that were not changed came out differently."""
    before, after = before[::2].flatten(1), after[::2].flatten(1)
    if len(before) < 1 or float((after - before).abs().max()) <= NOISE * float(before.abs().max()):
        return []
    factor = (before * after).sum(1, keepdim=True) / before.square().sum(1, keepdim=True)
    if bool(((after - factor * before).norm(dim=1) <= NOISE * after.norm(dim=1)).all()):
        return ["the samples of a batch scale each other: a norm or root mean is taken over the batch, not by sample"]
    return ["the samples of a batch depend on each other"]


def _plain(x: Tensor) -> Tensor:
    """The value, outside of every transform that follows derivatives."""
    if isinstance(x, Pair):
        x = x.primal
    return torch.func.debug_unwrap(torch.func.debug_unwrap(x).detach())


def watched(
    field: Field, name: str, like: Tensor, t: Tensor, calls: list[Call], leaves: Sequence[Sequence[Tensor]] = ()
) -> Field:
    """The field, with every evaluation noted in `calls`.

    Of each pair of leaves, all zero, the first is added to an output, so that its gradient is the loss's gradient in
    F; the second is added times the way that point and time move, so that its gradient shows what flows through
    derivatives. They are made outside: inside torch.func.jvp they would belong to it.
    """

    def watched(x: Tensor, time: Tensor) -> Tensor:
        if len(calls) == MAX_CALLS:
            raise ValueError(f"more than {MAX_CALLS} evaluations of {name} for one tangent")
        if x.shape != like.shape or time.shape != t.shape:
            wanted, got = (tuple(like.shape), tuple(t.shape)), (tuple(x.shape), tuple(time.shape))
            raise ValueError(
                f"{name} is for points and times of {wanted}, called with {got}; call it twice, or audit one chunk"
            )
        point, moment = _plain(x), _plain(time)
        if not moment.is_floating_point():
            raise ValueError(f"{name} is called with times of {moment.dtype}: times must be float64")
        number = len(calls)
        calls.append(Call(torch.get_rng_state(), point, moment))
        value = field(x, time)
        check_output(name, value, like)
        if leaves:
            offset, slope = leaves[number]
            value = value + offset + slope * ((x - point) + column(time - moment, like))
        return value

    return watched


def noted(teacher: Field, like: Tensor, t: Tensor, calls: list[Call]) -> Field:
    """The teacher, which may be called with anything; its evaluations of this batch are noted in `calls`."""

    def noted(x: Tensor, time: Tensor) -> Tensor:
        ours = x.shape == like.shape and time.shape == t.shape
        if ours:
            calls.append(Call(torch.get_rng_state(), _plain(x), _plain(time)))
        value = teacher(x, time)
        if ours:
            check_output("the teacher", value, like)
        return value

    return noted


def gradient_of(
    value: object, calls: Sequence[Call], leaves: Sequence[Sequence[Tensor]], at: Tensor, t: Tensor, twice: bool
) -> Gradient | str:
    """The gradient of `value` in F; a problem in words where there is none."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"the loss of a batch must be a tensor of one number, got {got}: take its mean or sum")
    if not bool(value.isfinite()):
        raise ValueError(f"the loss is {float(value.detach())}")
    if not calls:
        return "the loss never called the field"
    if not value.requires_grad:
        return "the loss has no gradient"
    used = [leaf for pair in leaves[: len(calls)] for leaf in pair]
    found = torch.autograd.grad(value.sum(), used, allow_unused=True, create_graph=twice, retain_graph=True)
    plain = [torch.zeros_like(leaf) if g is None else g.detach() for g, leaf in zip(found, used, strict=True)]
    offsets, slopes = plain[::2], plain[1::2]
    through = [i for i, g in enumerate(offsets) if bool(g.any())]
    if not through:
        return "the loss has no gradient in F"
    if not all(bool(g.isfinite().all()) for g in plain):
        raise ValueError("the gradient of the loss in F holds what is not a number, or infinite")
    chosen = [i for i in through if torch.equal(calls[i].point, at) and torch.equal(calls[i].time, t)] or through
    recorded = chosen[-1]
    graph, total = found[2 * recorded], -offsets[recorded]
    largest = max(float(offsets[i].abs().max()) for i in through)
    leak = len(through) > 1 or any(float(g.abs().max()) > NOISE * largest for g in slopes)
    draw = torch.Generator().manual_seed(0)
    direction = torch.randn(total.shape, generator=draw, dtype=total.dtype)
    own = (direction * total).flatten(1).sum(1) / total.flatten(1).square().sum(1).clamp(min=1e-300)
    direction = direction - column(own, total) * total
    across = along = None
    if twice:
        across, along = (_second(graph, leaves[recorded][0], d) for d in (direction, total))
    return Gradient(total, recorded, leak, float(value.detach()), across, along, direction)


def _second(gradient: Tensor, leaf: Tensor, direction: Tensor) -> Tensor | None:
    """The derivative of the gradient along a direction; None for an operation that knows no second derivative."""
    if not gradient.requires_grad:
        return torch.zeros_like(direction)
    try:
        found = torch.autograd.grad(gradient, leaf, direction, allow_unused=True, retain_graph=True)[0]
    except RuntimeError:
        return None
    return torch.zeros_like(direction) if found is None else found.detach()


def students_of(
    given: Given, calls: Sequence[Call], recorded: int | None, again: Callable[[Tensor], list[Call]]
) -> tuple[list[Student], int | None]:
    """The different functions that were evaluated at x and t, and which of them is the recorded one."""
    at, t = given.x / given.sigma_d, given.t
    scales = [_scale_of(call.point, at) for call in calls]
    now = [bool(torch.isclose(call.time, t, rtol=1e-9, atol=0).all()) for call in calls]
    here = [i for i, scale in enumerate(scales) if scale == 1.0] or [i for i, scale in enumerate(scales) if scale]
    chosen = [i for i in here if now[i]] or here
    if recorded in here:
        chosen = [recorded, *(i for i in chosen if i != recorded)]
    step = torch.minimum(torch.full_like(t, STEP), torch.minimum(t, math.pi / 2 - t) / 1000)
    shifted = None
    students: list[Student] = []
    outputs: list[Tensor] = []
    own = None
    for i in chosen or [0]:
        times, rate = (t, t + step, t - step), None
        if chosen and not now[i]:
            shifted = shifted or [again(step), again(-step)]
            if any(len(other) != len(calls) for other in shifted):
                raise ValueError("the number of evaluations of the field changes with time")
            times = (calls[i].time, shifted[0][i].time, shifted[1][i].time)
            rate = (times[1] - times[2]) / (2 * step)
        student = Student(repeated(given.field, calls[i]), scales[i] or 1.0, times, step, rate)
        output = student(at)
        known = next((k for k, other in enumerate(outputs) if torch.equal(other, output)), None)
        if known is None:
            students.append(student)
            outputs.append(output)
        if i == recorded:
            own = len(students) - 1 if known is None else known
    return students, own


def _scale_of(point: Tensor, at: Tensor) -> float | None:
    """The number that takes `at` to `point`."""
    scale = float((point * at).sum() / at.square().sum())
    if not torch.allclose(point, scale * at, rtol=1e-9, atol=1e-12):
        return None
    return 1.0 if abs(scale - 1) < 1e-9 else scale


def repeated(field: Field, call: Call) -> Field:
    """The field with the randomness of that call."""

    def repeated(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.set_rng_state(call.state)
            return field(x, t)

    return repeated


def velocity_of(
    teacher: Field, calls: Sequence[Call], x: Tensor, t: Tensor, sigma_d: float
) -> tuple[Tensor, list[str]]:
    """(the teacher's velocity, notes): as it was called, or at t if it was not."""
    for call in calls:
        if _scale_of(call.point, x / sigma_d) == 1.0:
            notes = []
            if not torch.allclose(call.time, t, rtol=1e-9, atol=0):
                notes.append("the teacher is called at a time of its own, not at t")
            return sigma_d * repeated(teacher, call)(call.point, call.time), notes
    with torch.no_grad():
        return sigma_d * teacher(x / sigma_d, t), []


def column(values: Tensor, like: Tensor) -> Tensor:
    """One value a sample, shaped to multiply `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
