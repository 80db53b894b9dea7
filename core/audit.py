"""What is wrong with somebody's sCM tangent or loss, told part by part.

The direction of Algorithm 1 (arXiv 2410.11081) is a sum of five parts with known coefficients. In the
paper's units, where x_t and v = dx_t/dt carry sigma_d and F = field(x_t / sigma_d, t),

    g = -c^2 sigma_d F + c^2 v - r c s x_t - r c s sigma_d (dF/dx (v / sigma_d) + dF/dt),   c, s = cos t, sin t.

What somebody's code gives is split into these parts by least squares, each sample for itself, with
derivatives by central differences in float64. The ratio of each coefficient to the right one, as a
function of t, sigma_d and r, is the mistake: a derivative times c s once more, a sigma_d that is not
there, a warm-up on the wrong term. A norm of the difference would hide most of them.

Elements at the largest or smallest value of a sample are left out, since they may stand at a limit, and
held against what the others say. A loss is differentiated twice in F: the gradient tells the direction,
the second derivative the shape (squared, linear, of the residual's length) and whether g moves with F.
It is run again with half the samples changed, since a norm over the batch shows in the other half only.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from core.pairs import Pair
from core.trigflow import Field

Batch = Float[Tensor, "batch *shape"]
Times = Float[Tensor, " batch"]
Tangent = Callable[[Field, Tensor, Tensor, Tensor, float], Tensor]
"""(field, x_t, t, dx_t/dt, r) -> the tangent g, before it is normalised; field takes (x_t / sigma_d, t)."""
Loss = Callable[[Field, Field | None, Tensor, Tensor, Tensor, float], Tensor]
"""(field, teacher or None, x0, z, t, r) -> the loss of a batch; x0 and z carry sigma_d."""

PARTS: tuple[str, ...] = ("F", "dx/dt", "x", "dF/dx", "dF/dt")
DATA_PATH, DATA_VELOCITY, STUDENT_PATH = "dF/dx along the data's path", "the data's dx/dt", "dF/dx along F"
OTHERS = {
    DATA_PATH: "wrong path: the derivative of F moves along the data's path (x0, z), not the teacher's",
    DATA_VELOCITY: "wrong velocity: F - dx/dt holds the data's (x0, z), not the teacher's",
    STUDENT_PATH: "wrong path: the derivative of F moves along the student's own velocity, F",
}
STANDS_FOR = {DATA_PATH: "dF/dx", DATA_VELOCITY: "dx/dt", STUDENT_PATH: "dF/dx"}
TOLERANCE = 0.02
"""Of ratios, and of what no part explains relative to the derivative of F. Mistakes are far larger; differences of
a step of 0.005 in somebody's code are below."""
NOISE = 1e-6
"""A coefficient is known no better than this times |g| / |part|."""
STEP = 1e-5
"""Of our central differences, as an angle; in time never above a thousandth of the way to 0 or pi/2."""
NEAR = 1e-4
"""Of t: two times that are nearer are one, and a loss of both may be a difference of the derivative."""
MIN_ELEMENTS = 12
MIN_SAMPLES = 4
MAX_CALLS = 16


@dataclass(frozen=True)
class AuditReport:
    """What was found."""

    problems: tuple[str, ...]
    """Each a mistake in words; empty where all is right."""
    notes: tuple[str, ...]
    """What is a choice and no mistake: scale, norm, weights; and what cannot be told."""
    ratios: dict[str, float]
    """Coefficient over the right one, by part, the median over samples; relative to the part that most agree with."""
    remainder: float
    """What no part explains, relative to the derivative of F."""

    @property
    def right(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def __str__(self) -> str:
        table = ", ".join(f"{part} {ratio:.3g}" for part, ratio in self.ratios.items())
        lines = [*(f"wrong: {problem}" for problem in self.problems), *(f"note: {note}" for note in self.notes)]
        found = [f"found / right: {table}"] if table else []
        return "\n".join([*(["right"] if self.right else []), *lines, *found])


@dataclass(frozen=True)
class _Given:
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
class _Call:
    """One evaluation of a field by somebody's code."""

    state: Tensor
    """Of torch's generator before it, so that it can be repeated with its dropout mask."""
    point: Tensor
    time: Tensor


@dataclass(frozen=True)
class _Student:
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
class _Split:
    """What one candidate gave at one r."""

    names: tuple[str, ...]
    coefficients: Tensor
    """(batch, parts)."""
    ratios: Tensor
    """Over the right coefficients; of what stands in the place of another over that one's."""
    doubt: Tensor
    """(batch, parts): how far a right ratio may be from 1."""
    remainder: Tensor
    """(batch,)."""
    usable: Tensor
    """(batch,): whether enough elements stand at no limit."""
    masks: tuple[int, int]
    """The functions whose F and whose derivative are inside."""
    whole: Tensor
    """(batch, elements): the direction that the coefficients give, without a limit."""
    limits: tuple[Tensor, Tensor]
    """(batch, 1) each: the lowest and the highest that an element gets; infinite where none stands there."""
    rate: Tensor | None
    """Of the time that the field is called at."""

    @property
    def explained(self) -> bool:
        return bool(self.usable.any()) and bool((self.remainder[self.usable] < TOLERANCE).all())

    @property
    def clipped(self) -> bool:
        return any(bool(limit.isfinite().any()) for limit in self.limits)


@dataclass(frozen=True)
class _Gradient:
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


@dataclass(frozen=True)
class _Seen:
    """What a loss did at one r."""

    r: float
    gradient: _Gradient
    calls: list[_Call]
    students: list[_Student]
    own: int | None
    """The student whose output learns."""
    split: _Split


def audit_tangent(
    candidate: Tangent,
    field: Field,
    x: Batch,
    t: Times,
    velocity: Batch,
    sigma_d: float,
    r: float | Sequence[float] = (1.0, 0.5),
) -> AuditReport:
    """Compare somebody's tangent with Algorithm 1's (arXiv 2410.11081, Eq. 6 and Alg. 1).

    x and velocity = dx/dt are (batch, *shape) in the paper's units, all float64 on CPU, at least 12
    elements a sample; t in (0, pi/2), best with several times. `field` is any function of
    (x / sigma_d, t) that is not zero; its dropout may be on. The candidate may be g, or df/dt itself, and may
    call the field at a time of its own. Raises ValueError for what cannot be audited: other shapes or types,
    what is not finite, a field that does not depend on time or mixes samples.
    """
    r = _check(field, {"x": x, "velocity": velocity}, t, sigma_d, r)
    given = _Given(field, x, t, sigma_d, velocity)

    def run(warm_up: float, shift: Tensor | float = 0.0, other: bool = False) -> tuple[Tensor, list[_Call]]:
        calls: list[_Call] = []
        at, along = (_half_changed(a) if other else a for a in (x, velocity))
        with torch.random.fork_rng(devices=[]):
            g = candidate(_watched(field, "the field", x, t, calls), at.clone(), t + shift, along.clone(), warm_up)
        _check_output("the candidate", g, x)
        if not calls:
            raise ValueError("the candidate never called the field")
        return g.detach(), calls

    splits, outputs, students = [], [], []
    for warm_up in r:
        g, calls = run(warm_up)
        outputs.append(g)
        students = _students(given, calls, None, lambda h, warm_up=warm_up: run(warm_up, h)[1])[0]
        splits.append(_explain(g, students, given, warm_up))
    first = splits[0]
    coupled = _coupled(outputs[0], run(r[0], other=True)[0])
    if coupled and _coupled(outputs[0], run(r[0])[0]):
        coupled = []  # it draws at random from a generator of its own
    if not first.explained:
        if coupled:
            return _unexplained(first, coupled)
        if not _follows(candidate, given, r[0]):
            words = "wrong path: the derivative of F does not follow the velocity that it is given"
            return AuditReport((words,), (), {}, _largest(first.remainder))
        return _unexplained(first, [])
    problems, notes, common = _compare_parts(first, t, sigma_d, r[0])
    wrong, said = _compare_warm_up(splits, r)
    problems = problems + _compare_masks(first, students) + wrong + _about_scale_of_points(students[0]) + coupled
    notes = notes + said + _about_clock(students[0], t)
    sure = first.usable
    if bool((common[sure] < 0).all()):
        problems.append("the whole tangent has the wrong sign")
    weight = _powers(common[sure].abs(), t[sure])
    wrong, said = _about_weight_before(weight, common[sure].abs())
    return _audit(problems + wrong, notes + said, first)


def audit_loss(
    loss: Loss,
    field: Field,
    x0: Batch,
    z: Batch,
    t: Times,
    sigma_d: float,
    teacher: Field | None = None,
    r: float | Sequence[float] = (1.0, 0.5),
) -> AuditReport:
    """Compare the gradient of somebody's whole sCM loss in F with Algorithm 1's, whatever norm it is divided by.

    x0 and z are (batch, *shape) in the paper's units (both of standard deviation sigma_d), all float64
    on CPU; at least 4 samples of each time in t. With a teacher it is consistency distillation (the velocity is
    sigma_d teacher(x / sigma_d, t)), without one consistency training. A learned weight may be inside.
    Otherwise as `audit_tangent`.
    """
    r = _check(field, {"x0": x0, "z": z}, t, sigma_d, r)
    if min(int((t == time).sum()) for time in t.unique()) < MIN_SAMPLES:
        raise ValueError(f"give at least {MIN_SAMPLES} samples of each time: their norms tell weights from normalising")
    c, s = (_column(f(t), x0) for f in (torch.cos, torch.sin))
    x, along_data = c * x0 + s * z, c * z - s * x0
    leaves = [[torch.zeros_like(x, requires_grad=True) for _ in range(2)] for _ in range(MAX_CALLS)]
    taught: list[_Call] = []

    def run(
        warm_up: float, shift: Tensor | float = 0.0, other: bool = False, twice: bool = False
    ) -> tuple[_Gradient | str, list[_Call]]:
        calls: list[_Call] = []
        taught.clear()
        data, noise = (_half_changed(a) if other else a for a in (x0, z))
        given_teacher = None if teacher is None else _noted(teacher, x, t, taught)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            student = _watched(field, "the field", x, t, calls, leaves)
            value = loss(student, given_teacher, data.clone(), noise.clone(), t + shift, warm_up)
            return _gradient(value, calls, leaves, x / sigma_d, t, twice), calls

    given = _Given(field, x, t, sigma_d, along_data)
    seen: list[_Seen] = []
    for warm_up in r:
        found, calls = run(warm_up, twice=warm_up == r[0])
        if isinstance(found, str):
            return AuditReport((found,), (), {}, math.nan)
        if teacher is not None and not seen:
            velocity, notes = _taught(teacher, taught, x, t, sigma_d)
            given = replace(given, velocity=velocity, data=along_data, notes=tuple(notes))
        again = lambda h, warm_up=warm_up: run(warm_up, h)[1]  # noqa: E731
        students, own = _students(given, calls, found.recorded, again)
        split = _explain(found.total, students, given, warm_up)
        seen.append(_Seen(warm_up, found, calls, students, own, split))
    changed = run(r[0], other=True)[0]
    coupled = [] if isinstance(changed, str) else _coupled(seen[0].gradient.total, changed.total)
    if coupled and not isinstance(same := run(r[0])[0], str) and _coupled(seen[0].gradient.total, same.total):
        coupled = []  # it draws at random from a generator of its own
    step = torch.minimum(t, math.pi / 2 - t) / 100
    return _judge(given, seen, coupled, lambda: (run(r[0], step, twice=True)[0], t + step))


def _judge(
    given: _Given,
    seen: Sequence[_Seen],
    coupled: list[str],
    later: Callable[[], tuple[_Gradient | str, Tensor]],
) -> AuditReport:
    """What a loss's gradients say; `later` gives the gradient at other times, and these."""
    first, gradient, students = seen[0].split, seen[0].gradient, seen[0].students
    notes = list(given.notes)
    flows = ["the gradient flows through the tangent or the target too: detach both"] if gradient.leak else []
    evident = [*flows, *coupled, *_about_scale_of_points(students[0])]
    explained = all(one.split.explained for one in seen)
    discrete = _discrete(gradient, seen[0].calls, given, first.explained)
    if discrete is not None:
        return AuditReport((discrete, *evident), tuple(notes), {}, _largest(first.remainder))
    by_order = None if explained else _by_order(seen, given)
    if by_order is not None:
        wrong, said = by_order
        return AuditReport((*wrong, *evident), (*said, *notes), {}, _largest(first.remainder))
    if not first.explained:
        return _unexplained(first, evident)
    problems, said, common = _compare_parts(first, given.t, given.sigma_d, seen[0].r)
    wrong, chosen = _compare_warm_up([one.split for one in seen], [one.r for one in seen])
    masks = _compare_masks(first, students, seen[0].own)
    bent, unseen = _shape(gradient)[0] == "other", not (problems or wrong or masks or bool(first.usable.all()))
    if (problems or wrong) if bent else unseen:
        by_order = _by_order(seen, given)
        if by_order is not None and bent and not by_order[0]:  # a bent line is no sum of parts: nearly one misleads
            return AuditReport(tuple(evident), (*by_order[1], *notes), {}, _largest(first.remainder))
        if unseen:  # of the samples that are clipped too much, the order is known
            problems = ["where most is clipped, the order of elements is not g's"] if by_order is None else by_order[0]
    notes = said + notes + _about_clock(students[0], given.t) + chosen
    problems = problems + masks + wrong + evident
    if bool((common[first.usable] < 0).all()):
        problems.append("the whole loss has the wrong sign: it moves F against the tangent")
    weights = _weights(gradient, students[0], given, later)
    wrong, said = _about_norm(gradient, first, common.abs(), given, bool(flows), bool(coupled), weights)
    return _audit(problems + wrong, notes + said, first)


# --- what may be audited ---------------------------------------------------------------------------


def _check(
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
    for points in (x, _half_changed(x)):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs.append(field(points / sigma_d, t))
        _check_output("the field", outputs[-1], x)
    if not bool(outputs[0].flatten(1).any(1).all()):
        raise ValueError("the field is zero, as networks are at their start: train it a little or draw its weights")
    if _coupled(*outputs):
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


def _check_output(whose: str, value: object, like: Tensor) -> None:
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


def _half_changed(x: Tensor) -> Tensor:
    """Every second sample is another one."""
    changed = x.clone()
    changed[1::2] = 3 * x[1::2]
    return changed


def _coupled(before: Tensor, after: Tensor) -> list[str]:
    """A problem, if samples that were not changed came out differently."""
    before, after = before[::2].flatten(1), after[::2].flatten(1)
    if len(before) < 1 or float((after - before).abs().max()) <= NOISE * float(before.abs().max()):
        return []
    factor = (before * after).sum(1, keepdim=True) / before.square().sum(1, keepdim=True)
    if bool(((after - factor * before).norm(dim=1) <= NOISE * after.norm(dim=1)).all()):
        return ["the samples of a batch scale each other: a norm or root mean is taken over the batch, not by sample"]
    return ["the samples of a batch depend on each other"]


# --- what somebody's code evaluates --------------------------------------------------------------


def _plain(x: Tensor) -> Tensor:
    """The value, outside of every transform that follows derivatives."""
    if isinstance(x, Pair):
        x = x.primal
    return torch.func.debug_unwrap(torch.func.debug_unwrap(x).detach())


def _watched(
    field: Field, name: str, like: Tensor, t: Tensor, calls: list[_Call], leaves: Sequence[Sequence[Tensor]] = ()
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
        calls.append(_Call(torch.get_rng_state(), point, moment))
        value = field(x, time)
        _check_output(name, value, like)
        if leaves:
            offset, slope = leaves[number]
            value = value + offset + slope * ((x - point) + _column(time - moment, like))
        return value

    return watched


def _noted(teacher: Field, like: Tensor, t: Tensor, calls: list[_Call]) -> Field:
    """The teacher, which may be called with anything; its evaluations of this batch are noted in `calls`."""

    def noted(x: Tensor, time: Tensor) -> Tensor:
        ours = x.shape == like.shape and time.shape == t.shape
        if ours:
            calls.append(_Call(torch.get_rng_state(), _plain(x), _plain(time)))
        value = teacher(x, time)
        if ours:
            _check_output("the teacher", value, like)
        return value

    return noted


def _gradient(
    value: object, calls: Sequence[_Call], leaves: Sequence[Sequence[Tensor]], at: Tensor, t: Tensor, twice: bool
) -> _Gradient | str:
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
    direction = direction - _column(own, total) * total
    across = along = None
    if twice:
        across, along = (_second(graph, leaves[recorded][0], d) for d in (direction, total))
    return _Gradient(total, recorded, leak, float(value.detach()), across, along, direction)


def _second(gradient: Tensor, leaf: Tensor, direction: Tensor) -> Tensor | None:
    """The derivative of the gradient along a direction; None for an operation that knows no second derivative."""
    if not gradient.requires_grad:
        return torch.zeros_like(direction)
    try:
        found = torch.autograd.grad(gradient, leaf, direction, allow_unused=True, retain_graph=True)[0]
    except RuntimeError:
        return None
    return torch.zeros_like(direction) if found is None else found.detach()


def _students(
    given: _Given, calls: Sequence[_Call], recorded: int | None, again: Callable[[Tensor], list[_Call]]
) -> tuple[list[_Student], int | None]:
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
    students: list[_Student] = []
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
        student = _Student(_repeated(given.field, calls[i]), scales[i] or 1.0, times, step, rate)
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


def _repeated(field: Field, call: _Call) -> Field:
    """The field with the randomness of that call."""

    def repeated(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.set_rng_state(call.state)
            return field(x, t)

    return repeated


def _taught(teacher: Field, calls: Sequence[_Call], x: Tensor, t: Tensor, sigma_d: float) -> tuple[Tensor, list[str]]:
    """(the teacher's velocity, notes): as it was called, or at t if it was not."""
    for call in calls:
        if _scale_of(call.point, x / sigma_d) == 1.0:
            notes = []
            if not torch.allclose(call.time, t, rtol=1e-9, atol=0):
                notes.append("the teacher is called at a time of its own, not at t")
            return sigma_d * _repeated(teacher, call)(call.point, call.time), notes
    with torch.no_grad():
        return sigma_d * teacher(x / sigma_d, t), []


def _about_clock(student: _Student, t: Tensor) -> list[str]:
    if student.rate is None:
        return []
    ratio = student.times[0] / t
    factor = f", {float(ratio[0]):.4g} t" if bool((ratio / ratio[0] - 1).abs().max() < 1e-6) else ""
    return [f"the student is called at a time of its own{factor}, not at t"]


def _about_scale_of_points(student: _Student) -> list[str]:
    if student.scale == 1.0:
        return []
    return [f"the field is called at {student.scale:.3g} x / sigma_d, not at x / sigma_d"]


# --- the parts -----------------------------------------------------------------------------------


def _explain(g: Tensor, students: Sequence[_Student], given: _Given, r: float) -> _Split:
    """g split by the function of each evaluation, by different ones for F and its derivative, then by other paths."""
    shared = [(i, i) for i in range(len(students))]
    mixed = list(itertools.permutations(range(len(students)), 2))
    usual: tuple[str, ...] = () if given.data is None else (DATA_PATH,)
    unusual: list[tuple[str, ...]] = [(STUDENT_PATH,)]
    if given.data is not None:
        unusual.insert(0, (DATA_PATH, DATA_VELOCITY))
    best: _Split | None = None
    for others, masks in itertools.product([usual, *unusual], shared + mixed):
        if others != usual and masks not in shared:
            continue
        value, derivative = (students[i] for i in masks)
        split = _split(g, _parts(value, derivative, given, others), given.t, r, masks, others, derivative.rate)
        if split is not None and split.explained:
            return split
        if best is None or (split is not None and _largest(split.remainder) < _largest(best.remainder)):
            best = split if split is not None else best
    if best is None:
        raise ValueError("the parts are not independent: the field is its own teacher, or a network without a time")
    return best


def _parts(value: _Student, derivative: _Student, given: _Given, others: Sequence[str]) -> Tensor:
    """(batch, elements, parts): each with sigma_d; what may stand in the place of another comes last."""
    points, sigma_d = given.x / given.sigma_d, given.sigma_d

    def along(v: Tensor) -> Tensor:
        moved = STEP * v / sigma_d
        return sigma_d * (derivative(points + moved) - derivative(points - moved)) / (2 * STEP)

    in_time = (derivative(points, 1) - derivative(points, 2)) / _column(2 * derivative.step, points)
    F = sigma_d * value(points)
    parts = [F, given.velocity, given.x, along(given.velocity), sigma_d * in_time]
    for other in others:
        if other == STUDENT_PATH:
            parts.append(along(F))
        elif given.data is not None:
            parts.append(along(given.data) if other == DATA_PATH else given.data)
    return torch.stack([part.flatten(1) for part in parts], dim=2)


def _right(t: Tensor, r: float, others: Sequence[str] = ()) -> Tensor:
    """(batch, parts): the coefficients of Algorithm 1, and those of what the others stand for."""
    c, s = torch.cos(t), torch.sin(t)
    five = [-c * c, c * c, *[-r * c * s] * 3]
    return torch.stack([*five, *(five[PARTS.index(STANDS_FOR[other])] for other in others)], dim=1)


def _split(
    g: Tensor, parts: Tensor, t: Tensor, r: float, masks: tuple[int, int], others: tuple[str, ...], rate: Tensor | None
) -> _Split | None:
    """g = parts @ coefficients, by elements that stand at no limit; None where the parts are not independent."""
    g = g.flatten(1)
    sizes = parts.norm(dim=1)
    if not bool(sizes.all()):
        return None
    top, bottom = g.amax(dim=1, keepdim=True), g.amin(dim=1, keepdim=True)
    edge = 1e-9 * g.abs().amax(dim=1, keepdim=True)  # a weight gives every time its own limit
    kept = (g < top - edge) & (g > bottom + edge)
    usable = kept.sum(dim=1) >= parts.shape[2] + 3
    columns = parts / sizes[:, None]
    spread = torch.linalg.svdvals(columns * kept[..., None])[:, -1]
    weak = usable & (spread < NOISE)
    if bool(weak.any()) and (torch.linalg.svdvals(columns[weak])[:, -1] < NOISE).any():
        return None
    usable = usable & ~weak
    safe = (kept | ~usable[:, None]).double()  # the rest is not looked at
    scaled = torch.linalg.lstsq(columns * safe[..., None], (g * safe)[..., None]).solution
    coefficients = scaled[..., 0] / sizes
    expected = _right(t, r, others)
    ratios = coefficients / expected
    found = ratios[:, : len(PARTS)].abs()
    there = found > 1e-4 * found.amax(dim=1, keepdim=True)
    scale = found.where(there, torch.nan).nanmedian(dim=1).values.nan_to_num(0.0)
    whole = (columns @ scaled)[..., 0]
    beyond = ~kept & (whole * g.sign() >= g.abs() * (1 - NOISE))
    sides = [(g >= top - edge) & beyond, (g <= bottom + edge) & beyond]
    blur = 3 * ((g - whole).abs() * kept).amax(dim=1, keepdim=True)  # as the code's own differences leave
    over = whole.abs() - g.abs() > torch.maximum(1e-3 * g.abs(), blur)
    clipped = [(over & side).any(1, keepdim=True) | (side.sum(1, keepdim=True) > 1) for side in sides]
    limits = (torch.where(clipped[1], bottom, -torch.inf), torch.where(clipped[0], top, torch.inf))
    rest = torch.where((sides[0] & clipped[0]) | (sides[1] & clipped[1]), 0.0, g - whole).norm(dim=1)
    derivative = (parts[..., 3:5] @ expected[:, 3:5, None])[..., 0].norm(dim=1)
    remainder = rest / (scale * derivative + NOISE * g.norm(dim=1)).clamp(min=1e-300)
    size = whole.norm(dim=1) / scale.clamp(min=1e-300)
    lost = 3 * rest / (spread.clamp(min=NOISE) * scale.clamp(min=1e-300))
    doubt = TOLERANCE + (NOISE * size + lost)[:, None] / (sizes * expected.abs())
    names = (*PARTS, *others)
    return _Split(names, coefficients, ratios, doubt, remainder, usable, masks, whole, limits, rate)


# --- what the ratios say -------------------------------------------------------------------------


def _compare_parts(split: _Split, t: Tensor, sigma_d: float, r: float) -> tuple[list[str], list[str], Tensor]:
    """(problems, notes, the ratio that most parts share, by sample)."""
    sure, five = split.usable, len(PARTS)
    ratios, doubt = split.ratios[sure], split.doubt[sure]
    notes = ["at sigma_d = 1 nothing can be said about where sigma_d stands"] if sigma_d == 1 else []
    if split.clipped:
        notes.append("elements are clipped")
    if not bool(sure.all()):
        notes.append(f"{int((~sure).sum())} of {len(sure)} samples are clipped too much to be judged")
    if len(t.unique()) == 1:
        notes.append("at a single time nothing can be said about weights that depend on time")
    damped = ratios[:, 2:five] * r
    if r != 1 and _same(torch.cat([ratios[:, :2], damped], 1), doubt[:, :five]).all():
        notes.append(f"no warm-up: at r = {r:g} x and the derivatives are whole")
        ratios = torch.cat([ratios[:, :2], damped, ratios[:, five:] * r], 1)
    same = _same(ratios[:, :five], doubt[:, :five])
    agree = same.sum(dim=1).tolist()
    largest = ratios[:, :five].abs().amax(1, keepdim=True)
    there = (ratios[:, :five].abs() > doubt[:, :five] * largest).any(0).tolist()
    order = [k for k in (1, 0, 2, 3, 4) if there[k]]
    reference = max(order, key=lambda k: (agree[k] == five, float(ratios[:, k].min()) > 0, agree[k]))
    fellows = doubt[:, :five].where(same[reference], torch.inf)  # near pi/2 some parts are known far better than others
    common = ratios.gather(1, fellows.argmin(1, keepdim=True))[:, 0]
    relative, problems, replaced = ratios / common[:, None], [], set()
    for k, other in enumerate(split.names[five:], five):
        if bool((relative[:, k].abs() > doubt[:, k]).any()):
            problems.append(OTHERS[other])
            replaced.add(STANDS_FOR[other])
    bases = {"sigma_d": torch.full_like(common, sigma_d)} if sigma_d != 1 else {}
    bases |= {"2": torch.full_like(common, 2.0), **_functions(t[sure])}
    if split.rate is not None:
        bases["the rate of the field's own time"] = split.rate[sure].abs()
    wrong: dict[str, list[str]] = {}
    for k, part in enumerate(PARTS):
        if bool(same[reference, k]) or part in replaced:
            continue
        wrong.setdefault(_words(relative[:, k], doubt[:, k], bases), []).append(part)
    if {"x", "dF/dx", "dF/dt"} <= set(wrong.get("missing", ())):
        problems.append("this is a diffusion loss: only F - dx/dt is there; x, dF/dx and dF/dt are missing")
        wrong["missing"] = [part for part in wrong["missing"] if part not in ("x", "dF/dx", "dF/dt")]
    problems += [f"{', '.join(parts)}: {words}" for words, parts in wrong.items() if parts]
    whole = torch.full_like(t, torch.nan)
    whole[sure] = common
    return problems, notes, whole


def _same(ratios: Tensor, doubt: Tensor) -> Tensor:
    """(parts, parts): whether the second ratio is the first in every sample."""
    quotient = (ratios[:, None] / ratios[:, :, None] - 1).abs()
    return (quotient < torch.maximum(doubt[:, None], doubt[:, :, None])).all(dim=0)


def _functions(t: Tensor) -> dict[str, Tensor]:
    return {"cos t sin t": torch.sin(2 * t) / 2, "cos t": torch.cos(t), "sin t": torch.sin(t)}


def _words(ratio: Tensor, doubt: Tensor, bases: dict[str, Tensor]) -> str:
    if bool((ratio.abs() < doubt).all()):
        return "missing"
    signs = ratio.sign()[doubt < 0.5]
    said = ["wrong sign"] if bool((signs < 0).all()) and len(signs) else []
    found = _products(ratio.abs(), doubt, bases)
    if not found:
        low, high = float(ratio.min()), float(ratio.max())
        if high - low <= 2 * TOLERANCE * abs(high):
            return f"multiplied by {float(ratio.median()):.3g}"
        return f"multiplied by something unknown, {low:.3g} to {high:.3g}"
    ways = ["; ".join(_way(name, power) for name, power in powers.items()) for powers in found]
    if ways != [""]:
        same = " (or, which is the same here: " + ", or ".join(ways[1:]) + ")" if len(ways) > 1 else ""
        said.append(ways[0] + same)
    return "; ".join(said) or "not as the others"


def _way(name: str, power: int) -> str:
    if name == "2":
        words = {1: "it is doubled", -1: "it is halved"}
        return words.get(power, f"it is {'multiplied' if power > 0 else 'divided'} by {2 ** abs(power)}")
    if power > 0:
        return f"{name} is multiplied {'once' if power == 1 else f'{power} times'} too often"
    return f"{name} is missing" + ("" if power == -1 else f" {-power} times")


def _products(ratio: Tensor, doubt: Tensor, bases: dict[str, Tensor]) -> list[dict[str, int]]:
    """The simplest products of powers that `ratio` is, several if they are equally simple."""
    logs = torch.stack([base.log() for base in bases.values()])
    table = _exponents(len(bases))
    products = (torch.tensor(table, dtype=ratio.dtype) @ logs).exp()
    fits = ((ratio / products - 1).abs() < doubt).all(dim=1).tolist()
    found = [powers for powers, fit in zip(table, fits, strict=True) if fit]
    least = min((sum(map(abs, powers)) for powers in found), default=0)
    return [
        {name: power for name, power in zip(bases, powers, strict=True) if power}
        for powers in found
        if sum(map(abs, powers)) == least
    ]


def _exponents(count: int) -> list[tuple[int, ...]]:
    """All powers of so many bases with at most three factors, the simplest first."""
    if count not in _EXPONENTS:
        every = (p for p in itertools.product(range(-3, 4), repeat=count) if sum(map(abs, p)) <= 3)
        _EXPONENTS[count] = sorted(every, key=lambda p: (sum(map(abs, p)), tuple(-abs(power) for power in p)))
    return _EXPONENTS[count]


_EXPONENTS: dict[int, list[tuple[int, ...]]] = {}


def _powers(weight: Tensor, t: Tensor) -> dict[str, int] | None:
    """The simplest product of cos t and sin t that `weight` is, up to a constant; None if it is no such product."""
    bases = _functions(t)
    logs = torch.stack([base.log() for base in bases.values()])
    table = _exponents(len(bases))
    quotient = weight.log() - torch.tensor(table, dtype=weight.dtype) @ logs
    middle = quotient.median(dim=1, keepdim=True).values
    fits = ((quotient - middle).abs() < TOLERANCE).all(dim=1).tolist()
    chosen = next((powers for powers, fit in zip(table, fits, strict=True) if fit), None)
    return None if chosen is None else {name: power for name, power in zip(bases, chosen, strict=True) if power}


def _compare_masks(split: _Split, students: Sequence[_Student], recorded: int | None = None) -> list[str]:
    """The derivative, F and the output that learns must be of one evaluation, or of one mask."""
    value, derivative = split.masks

    def clocks(i: int, j: int) -> bool:
        return not torch.equal(students[i].times[0], students[j].times[0])

    if value != derivative:
        if clocks(value, derivative):
            return ["F and its derivative are evaluated at different times"]
        return ["dropout: F and its derivative are of different masks; take both from one evaluation"]
    if recorded is not None and recorded != value:
        if clocks(recorded, value):
            return ["the output that learns and its tangent are evaluated at different times"]
        return ["dropout: the output that learns is of another mask than its tangent; take both from one evaluation"]
    return []


def _compare_warm_up(splits: Sequence[_Split], r: Sequence[float]) -> tuple[list[str], list[str]]:
    """(problems, notes): warm-up damps x and the derivatives, and leaves F - v."""
    problems, notes = [], []
    first = splits[0]
    for split, warm_up in zip(splits[1:], r[1:], strict=True):
        if not split.explained:
            problems.append(f"at r = {warm_up:g} the five parts do not explain what is given")
            continue
        sure = first.usable & split.usable
        if split.names != first.names or not bool(sure.any()):
            continue
        old, new = first.coefficients[sure], split.coefficients[sure]
        doubt = first.doubt[sure] + split.doubt[sure]
        there = (first.ratios[sure].abs() > first.doubt[sure] * first.ratios[sure].abs().amax(1, keepdim=True)).all(0)
        change = new / old
        parts = [k for k in range(len(PARTS)) if there[k]]
        steady = next((k for k in (1, 0) if k in parts), None)
        if steady is None:
            continue
        whole, change = change[:, steady], change / change[:, steady : steady + 1]
        doubt = doubt + doubt[:, steady : steady + 1]
        wanted = [1.0, 1.0, *[warm_up / r[0]] * 3]
        off = [k for k in parts if bool(((change[:, k] / wanted[k] - 1).abs() > doubt[:, k]).any())]
        if off and all(bool(((change[:, k] - 1).abs() < doubt[:, k]).all()) for k in parts):
            if bool(((whole - 1).abs() < NOISE).all()):
                notes.append("no warm-up: r changes nothing")
            elif any(k >= 2 for k in parts):
                problems.append("warm-up on both terms: r scales F - v as well as x and the derivatives")
            continue
        if off:
            found = ", ".join(
                f"{PARTS[k]} by {float(change[:, k].median()):.2g} instead of {wanted[k]:.2g}" for k in off
            )
            problems.append(
                f"warm-up on the wrong term: from r = {r[0]:g} to {warm_up:g}, against F - v, it scales {found}"
            )
    return problems, notes


# --- weights and norms ------------------------------------------------------------------------------

PRIOR = {"cos t": 1, "sin t": -1}
AGAIN = "g holds 1 / tan t already, and is weighted by"


def _worded(powers: dict[str, int]) -> str:
    return " ".join(f"({name})^{power}" for name, power in powers.items())


def _about_weight_before(powers: dict[str, int] | None, weight: Tensor) -> tuple[list[str], list[str]]:
    """(problems, notes) of a weight of time on the tangent, where no learned weight stands."""
    if powers == {}:
        constant = float(weight.median())
        return [], [] if abs(constant - 1) < TOLERANCE else [f"scaled by {constant:.3g}"]
    if powers is None:
        return [], ["weighted by some function of time"]
    if powers in (PRIOR, {"sin t": -1}):  # of g, or of df/dt
        return [f"prior weight twice: {AGAIN} {_worded(powers)} again"], []
    if powers == {"cos t": -1}:
        return [], ["this is df/dt; Algorithm 1's g is cos t times it"]
    return [], [f"weighted by {_worded(powers)}"]


def _about_weight_after(powers: dict[str, int] | None, weights: str, raw: bool) -> tuple[list[str], list[str]]:
    """(problems, notes) of a weight of time on the loss; `weights` says where it comes from (see `_weights`)."""
    if weights == "both":
        return [f"prior weight twice: {AGAIN} {_worded(PRIOR)} again, beside a learned weight"], []
    if powers == {}:
        return [], []
    words = "some function of time" if powers is None else _worded(powers)
    if powers == PRIOR and weights == "fixed":
        return [f"prior weight twice: {AGAIN} {words} again"], []
    if weights == "learned":
        words = "a learned weight"
    elif raw and powers == {"cos t": -1}:
        return [], ["this is df/dt; Algorithm 1's g is cos t times it"]
    elif powers == PRIOR or (raw and powers == {"sin t": -1}):
        whose = "" if powers == PRIOR else " of df/dt"
        words += f": right as a learned weight; as the prior weight{whose} it is there twice"
    return [], [f"weighted by {words}"]


@dataclass(frozen=True)
class _Norm:
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


def _fit_norm(sizes: Sequence[Tensor], inverse: Tensor, t: Tensor) -> _Norm | None:
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
        return _Norm("flat", torch.ones_like(inverse), math.inf, {})
    found: list[tuple[float, _Norm]] = []
    for powers, shape, size in itertools.product(BEFORE, ("plus", "root", "limit"), sizes):
        before = torch.cos(t) ** powers[0] * torch.sin(t) ** powers[1]
        constants = _constants(shape, size, inverse, before, group, mean)
        misfits = misfit(_lengths(shape, size, constants[:, None] / before))
        best = int(misfits.argmin())
        if float(misfits[best]) < enough:
            constant = constants[best]
            named = {name: power for name, power in zip(("cos t", "sin t"), powers, strict=True) if power}
            lengths = _lengths(shape, size, constant / before)
            found.append((float(misfits[best]), _Norm(shape, lengths, float(constant), named)))
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
        return _Norm("plus", size + (start / slope)[group], float((start / slope).median()), None)
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


def _shape(gradient: _Gradient) -> tuple[str, Tensor]:
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


def _beside(gradient: _Gradient, output: Tensor) -> float:
    """What the loss's value holds beside what its gradient says, such as a learned weight's logarithm; nan: unknown."""
    n = gradient.total.flatten(1)
    shape, weight = _shape(gradient)
    if shape == "squared":
        value = float((n.square().sum(1) / weight).sum() / 2)
    elif shape == "linear":
        value = -float((n * output.flatten(1)).sum())
    else:
        return math.nan
    beside = gradient.value - value
    return 0.0 if abs(beside) <= NOISE * (abs(value) + abs(gradient.value)) else beside


def _weights(
    gradient: _Gradient, student: _Student, given: _Given, later: Callable[[], tuple[_Gradient | str, Tensor]]
) -> str:
    """Where the weights of time come from: fixed, learned, both (learned beside the prior weight), or unknown.

    A learned weight e^w stands beside -w in the loss. Between t and a later time that shows how w changes, and the
    second derivative shows how the whole weight does.
    """
    output = student(given.x / given.sigma_d)
    beside = _beside(gradient, output)
    shape, weight = _shape(gradient)
    if beside == 0 and (shape != "squared" or _constant(weight)):
        return "fixed"
    if shape != "squared":
        return "unknown"
    after, t = later()
    if isinstance(after, str) or _shape(after)[0] != "squared":
        return "unknown"
    change = _beside(after, output) - beside
    if beside == change == 0:  # at one time alone logarithms may cancel
        return "fixed"
    whole, prior = float((_shape(after)[1] / weight).log().sum()), float((given.t.tan() / t.tan()).log().sum())
    for mean in (1 / len(t), 1.0):
        for words, other in (("learned", 0.0), ("both", prior)):
            if abs(change + mean * (whole - other)) <= 1e-4 * mean * (abs(whole) + abs(prior)):
                return words
    return "unknown"


def _about_norm(
    gradient: _Gradient, split: _Split, common: Tensor, given: _Given, known: bool, coupled: bool, weights: str
) -> tuple[list[str], list[str]]:
    """(problems, notes): what |g| is divided by, what it is weighted by, and whether g moves with F."""
    sure = split.usable
    t, scale = given.t[sure], common[sure]
    sizes = [split.whole[sure].norm(dim=1) / scale]
    if split.clipped:  # before the norm was taken, or after
        sizes.append(split.whole.clamp(*split.limits)[sure].norm(dim=1) / scale)
    shape, weight = _shape(gradient)
    regressed = shape in ("squared", "length")
    inverse = weight[sure] / scale if regressed else 1 / scale  # |g| over the length of what F is regressed on
    norm = _fit_norm(sizes, inverse, t)
    problems, notes = [], []
    if not known and not split.clipped and regressed and _moves(shape, norm, inverse, t, given.sigma_d):
        problems.append("the gradient flows through F inside g, or inside its norm: detach it")
    elif shape == "length":
        notes.append(
            "not the squared loss: a function of the residual's length, as Pseudo-Huber's; or F inside g or its norm "
            "is not detached, which may look the same, and then what is said here of norm and weights does not hold"
        )
    elif shape == "other":
        notes.append("not the squared loss, or one that cannot be differentiated twice")
    if norm is None:
        return problems, [*notes, "divided by something that is not a norm of g: nothing is said about weights of time"]
    before = norm.before
    if norm.shape != "flat":
        notes.append(_norm_worded(norm, given.x[0].numel()))
        if before is None:
            notes.append("the constant of the norm is some function of time")
        elif before == {"cos t": -1}:
            notes.append("df/dt is normalised; Algorithm 1 normalises cos t times it")
    else:
        notes += [] if coupled else ["not normalised"]
        before = _powers(inverse.reciprocal(), t) if regressed else {}
    if before in (PRIOR, {"sin t": -1}):
        return [*problems, f"prior weight twice: {AGAIN} {_worded(before)} in what F is regressed on"], notes
    wrong, said = _about_weight_after(_powers(scale * norm.lengths, t), weights, norm.shape == "flat")
    return problems + wrong, notes + said


def _moves(shape: str, norm: _Norm | None, inverse: Tensor, t: Tensor, sigma_d: float) -> bool:
    """Whether the second derivative shows that g moves with F: then the residual is no function of |g| that fits."""
    if shape == "length":
        return norm is None or norm.before is None
    if norm is None or norm.shape != "flat" or _constant(torch.cos(t)):
        return False
    return any(_constant(inverse / (1 + factor * torch.cos(t) ** 2)) for factor in (1.0, sigma_d))


def _constant(values: Tensor) -> bool:
    return bool((values / values.mean() - 1).abs().max() < TOLERANCE / 10)


def _norm_worded(norm: _Norm, elements: int) -> str:
    if norm.shape == "limit":
        return f"the plain norm of g is limited to {norm.constant:.3g}"
    rms = f" = {norm.constant / math.sqrt(elements):.3g} of a root mean square"
    if norm.shape == "root":
        return f"normalised, sqrt(|g|^2 + {norm.constant:.3g}^2) in the plain norm{rms}"
    return f"normalised, |g| + {norm.constant:.3g} in the plain norm{rms}"


# --- other shapes of loss, and what is left -----------------------------------------------------------


def _by_order(seen: Sequence[_Seen], given: _Given) -> tuple[list[str], list[str]] | None:
    """(problems, notes) of a loss of each element for itself, such as L1: the order of elements is g's, or a mistake's.

    None where it is no such loss.
    """
    flat = [one.gradient.total.flatten(1) for one in seen]
    signs = all(bool((g.abs() >= g.abs().amax(1, keepdim=True) * (1 - 1e-9)).all()) for g in flat)
    note = (
        "an L1 loss: only the signs of g are seen, no weight and no norm"
        if signs
        else "not the squared loss, or clipped nearly everywhere: only the order of g's elements is seen, no weight"
    )
    others: tuple[str, ...] = () if given.data is None else (DATA_PATH,)
    fitting: list[str] = []
    for student in seen[0].students:
        parts = _parts(student, student, given, others)
        for words, coefficients in _mistakes(given, others):
            if all(
                _ordered(g, (parts @ coefficients(w)[..., None])[..., 0])
                for g, w in zip(flat, (one.r for one in seen), strict=True)
            ):
                if words in ("", NO_WARM_UP):
                    return [], [note, *([words] if words else [])]
                fitting.append(words)
        if fitting:
            return [" or ".join(fitting[:2])], [note]
    return (["an L1 loss whose signs are not those of g"], [note]) if signs else None


NO_WARM_UP = "no warm-up, or on all terms alike"


def _mistakes(given: _Given, others: tuple[str, ...]) -> Iterator[tuple[str, Callable[[float], Tensor]]]:
    """(words, r -> the coefficients of a direction): Algorithm 1's, and with one mistake each."""

    def right(r: float) -> Tensor:
        found = _right(given.t, r, others)
        found[:, len(PARTS) :] = 0
        return found

    def multiplied(parts: tuple[int, ...], factor: Tensor | float) -> Callable[[float], Tensor]:
        def coefficients(r: float) -> Tensor:
            found = right(r)
            for k in parts:
                found[:, k] *= factor
            return found

        return coefficients

    yield "", right
    yield NO_WARM_UP, lambda r: right(1.0)
    if others:
        moved = [0, 1, 2, 5, 4, 3]
        yield OTHERS[DATA_PATH], lambda r: right(r)[:, moved]
    yield "the whole loss has the wrong sign: it moves F against the tangent", lambda r: -right(r)
    for damped in itertools.product((False, True), repeat=3):  # F - v, x, the derivatives
        if damped not in ((False, True, True), (False, False, False), (True, True, True)):
            words = ", ".join(name for name, yes in zip(("F - v", "x", "dF"), damped, strict=True) if yes)
            powers = given.t.new_tensor([*[damped[0]] * 2, damped[1], *[damped[2]] * 2, *[False] * len(others)])
            yield (
                f"warm-up on the wrong term: r scales {words}",
                lambda r, powers=powers: right(1.0) * r**powers,
            )
    factors: dict[str, Tensor | float] = {"missing": 0.0, "wrong sign": -1.0}
    functions = {"sigma_d": torch.full_like(given.t, given.sigma_d), **_functions(given.t)}
    for name, values in functions.items():
        factors[f"{name} is multiplied once too often"] = values
        factors[f"{name} is missing"] = 1 / values
    for parts, (words, factor) in itertools.product(((0,), (1,), (2,), (3,), (4,), (3, 4), (0, 3, 4)), factors.items()):
        yield f"{', '.join(PARTS[k] for k in parts)}: {words}", multiplied(parts, factor)


def _ordered(found: Tensor, g: Tensor) -> bool:
    """Whether each sample's elements have g's signs, and grow with g's."""
    blur = 1e-3 * g.square().mean(dim=1, keepdim=True).sqrt()
    if bool(((g.abs() > blur) & (found * g <= 0)).any()):
        return False
    ascending, order = g.sort(dim=1)
    found = found.gather(1, order)
    below = torch.searchsorted(ascending, ascending - blur)  # so many are smaller by more than the blur
    largest = found.cummax(dim=1).values.gather(1, (below - 1).clamp(min=0))
    edge = 1e-9 * found.abs().amax(dim=1, keepdim=True)
    return not bool(((below > 0) & (found < largest - edge)).any())


def _discrete(gradient: _Gradient, calls: Sequence[_Call], given: _Given, explained: bool) -> str | None:
    """Words for a loss that compares the field at t with the field at an earlier time; None if this is none.

    Where the five parts explain the gradient too, the difference must be that of two maps with f(x, 0) = x (or, as
    EDM's, at a little later than 0): a derivative of F by a backward difference lies in the same span, and is, at r
    = 1, nearly the difference of maps with f(x, u - t) = x.
    """
    here = calls[gradient.recorded]
    g = gradient.total.flatten(1)[..., None]
    now = [here.point, _repeated(given.field, here)(here.point, here.time)]
    words = "a discrete loss, not a continuous-time one: it compares F at t with F at another time"
    t = given.t
    for other in calls:
        u = _when(other, here, given)
        if (u is not None and not bool(((u - t).abs() > NEAR * t).any())) or torch.equal(other.time, here.time):
            continue
        then = [other.point, _repeated(given.field, other)(other.point, other.time)]
        columns = torch.stack([part.flatten(1) for part in (*now, *then)], dim=2)
        found = torch.linalg.lstsq(columns, g, driver="gelsd").solution
        if bool(((columns @ found - g).norm(dim=(1, 2)) > 1e-4 * g.norm(dim=(1, 2))).any()):
            continue
        if u is None:
            if explained:
                continue
            return words
        found = (found * found[:, 1:2].sign())[..., 0]
        starts = torch.stack(
            [t - torch.atan2(found[:, 1], -found[:, 0]), u - torch.atan2(-found[:, 3], found[:, 2])], 1
        )
        lengths = found[:, :2].norm(dim=1) / found[:, 2:].norm(dim=1)
        maps = bool((starts > -(t - u)[:, None] / 4).all() and (starts < torch.clamp(t / 2, max=0.02)[:, None]).all())
        maps = maps and bool(((lengths - 1).abs() < TOLERANCE).all() and (u < t).all())
        if explained and not maps:
            continue
        same = bool((starts.abs() < TOLERANCE).all()) and maps
        what = "f(x_t, t) - f(x_u, u) with f(x, 0) = x" if same else "no such difference with f(x, 0) = x"
        return f"{words} u, in the median {float((u / t).median()):.4g} t; its direction is {what}"
    return None


def _when(other: _Call, here: _Call, given: _Given) -> Tensor | None:
    """The time of another evaluation; where the network has a clock of its own, by its point on the way of x."""
    if torch.allclose(here.time, given.t, rtol=1e-9, atol=0):
        return other.time
    point = (given.sigma_d * other.point).flatten(1)[..., None]
    for velocity in (given.velocity, given.data):
        if velocity is None:
            continue
        way = torch.stack([given.x.flatten(1), velocity.flatten(1)], dim=2)
        found = torch.linalg.lstsq(way, point).solution
        if bool(((way @ found - point).norm(dim=(1, 2)) < NOISE * point.norm(dim=(1, 2))).all()):
            return given.t + torch.atan2(found[:, 1, 0], found[:, 0, 0])
    return None


def _follows(candidate: Tangent, given: _Given, r: float) -> bool:
    """Whether the derivative of F follows the velocity that the candidate is given."""
    v, x, t, sigma_d = given.velocity, given.x, given.t, given.sigma_d
    draw = torch.Generator().manual_seed(0)
    change = torch.randn(v.shape, generator=draw, dtype=v.dtype)
    results = []
    for velocity in (v, v + change):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            results.append(candidate(given.field, x, t, velocity, r).detach())
    answer = (results[1] - results[0]).flatten(1)
    moved = STEP * change / sigma_d
    with torch.no_grad():
        along = sigma_d * (given.field(x / sigma_d + moved, t) - given.field(x / sigma_d - moved, t)) / (2 * STEP)
    columns = torch.stack([change.flatten(1), along.flatten(1)], dim=2)
    found = torch.linalg.lstsq(columns, answer[..., None]).solution[:, 1, 0]
    return bool((found.abs() > TOLERANCE * _right(t, r)[:, 3].abs()).any())


def _unexplained(split: _Split, more: Sequence[str]) -> AuditReport:
    left = _largest(split.remainder[split.usable]) if bool(split.usable.any()) else math.nan
    problem = (
        f"the five parts leave {left:.2g} of the derivative of F unexplained: is it taken elsewhere, along another "
        "path, with another dropout mask, or is this not the squared loss?"
    )
    return AuditReport((problem, *more), (), {}, left)


def _audit(problems: list[str], notes: list[str], split: _Split) -> AuditReport:
    ratios = split.ratios[split.usable, : len(PARTS)]
    relative = ratios / ratios[:, 1:2]
    said = dict(zip(PARTS, relative.median(dim=0).values.tolist(), strict=True))
    return AuditReport(tuple(problems), tuple(notes), said, _largest(split.remainder[split.usable]))


def _largest(values: Tensor) -> float:
    return float(values.max()) if len(values) else math.nan


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
