"""What is wrong with somebody's sCM tangent or loss, told part by part.

The direction of Algorithm 1 (arXiv 2410.11081) is a sum of five parts with known coefficients. In the
paper's units, where x_t and v = dx_t/dt carry sigma_d and F = field(x_t / sigma_d, t),

    g = -c^2 sigma_d F + c^2 v - r c s x_t - r c s sigma_d (dF/dx (v / sigma_d) + dF/dt),   c, s = cos t, sin t.

What somebody's code gives is split into these parts by least squares, each sample for itself, with
derivatives by central differences in float64. The ratio of each coefficient to the right one, as a
function of t, sigma_d and r, is the mistake: a derivative times c s once more, a sigma_d that is not
there, a warm-up on the wrong term. A norm of the difference would hide most of them.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from core.trigflow import Field

Batch = Float[Tensor, "batch *shape"]
Times = Float[Tensor, " batch"]
Tangent = Callable[[Field, Tensor, Tensor, Tensor, float], Tensor]
"""(field, x_t, t, dx_t/dt, r) -> the tangent g, before it is normalised; field takes (x_t / sigma_d, t)."""
Loss = Callable[[Field, Field | None, Tensor, Tensor, Tensor, float], Tensor]
"""(field, teacher or None, x0, z, t, r) -> the loss of a batch; x0 and z carry sigma_d."""

PARTS: tuple[str, ...] = ("F", "dx/dt", "x", "dF/dx", "dF/dt")
OTHER_PATH = "dF/dx along the data's path"
TOLERANCE = 0.02
"""Of ratios, and of what no part explains relative to the derivative of F. Mistakes are far larger; differences of
a step of 0.005 in somebody's code are below."""
NOISE = 1e-6
"""A coefficient is known no better than this times |g| / |part|."""
STEP = 1e-4
"""Of our central differences, as an angle."""
MIN_ELEMENTS = 12
MIN_SAMPLES = 4
MAX_CALLS = 16


@dataclass(frozen=True)
class AuditReport:
    """What was found."""

    problems: tuple[str, ...]
    """Each a mistake in words; empty where all is right."""
    notes: tuple[str, ...]
    """What is a choice and no mistake: scale, norm, weights."""
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
        return "\n".join(["right" if self.right else "", *lines, f"found / right: {table}"]).strip()


@dataclass(frozen=True)
class _Split:
    """What one candidate gave at one r."""

    coefficients: Tensor
    """(batch, parts)."""
    ratios: Tensor
    """Over the right coefficients; of the path of others over that of dF/dx."""
    doubt: Tensor
    """(batch, parts): how far a right ratio may be from 1."""
    remainder: Tensor
    """(batch,)."""
    masks: tuple[int, int]
    """The evaluations of the field whose F and whose derivative are inside."""
    size: Tensor
    """(batch,): the norm of g, whatever it was scaled by."""
    clipped: bool
    """Whether elements were left out, since they stand at a limit."""

    @property
    def explained(self) -> bool:
        return bool((self.remainder < TOLERANCE).all())


@dataclass(frozen=True)
class _Call:
    """One evaluation of the field by somebody's code."""

    state: Tensor
    """Of torch's generator before it, so that it can be repeated with its dropout mask."""
    offset: Tensor
    """Was added to the output; zero. Its gradient is the loss's gradient in F."""
    slope: Tensor
    """Was added times the distance in time, so that its gradient shows what flows through derivatives and targets."""


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
    (x / sigma_d, t) that is not zero; its dropout may be on. The candidate may be g, or df/dt itself.
    Raises ValueError for what cannot be audited.
    """
    r = _check(field, x, t, sigma_d, r)
    splits = []
    for warm_up in r:
        calls: list[_Call] = []
        with torch.random.fork_rng(devices=[]):
            g = candidate(_watched(field, x, t, calls), x, t, velocity, warm_up).detach()
        if not calls:
            raise ValueError("the candidate never called the field")
        splits.append(_split_by_masks(g, field, x, t, {"": velocity}, sigma_d, warm_up, calls))
    first = splits[0]
    if not first.explained:
        follows = _follows(candidate, field, x, t, velocity, sigma_d, r[0])
        return _unexplained(first, follows)
    problems, notes, common = _compare_parts(first, t, sigma_d)
    wrong, said = _compare_warm_up(splits, r)
    problems, notes = problems + _compare_masks(first) + wrong, notes + said
    if bool((common < 0).all()):
        problems.append("the whole tangent has the wrong sign")
    weight = _factor(common.abs(), t, sigma_d, free=True)
    problems_of_weight, notes_of_weight = _about_weight(weight, common.abs())
    return _audit(problems + problems_of_weight, notes + notes_of_weight, first)


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
    r = _check(field, x0, t, sigma_d, r)
    if min(int((t == time).sum()) for time in t.unique()) < MIN_SAMPLES:
        raise ValueError(f"give at least {MIN_SAMPLES} samples of each time: their norms tell weights from normalising")
    c, s = (_column(f(t), x0) for f in (torch.cos, torch.sin))
    x, along_data = c * x0 + s * z, c * z - s * x0
    with torch.no_grad():
        paths = {"": sigma_d * teacher(x / sigma_d, t), OTHER_PATH: along_data} if teacher else {"": along_data}
    splits, gradients, recorded = [], [], []
    for warm_up in r:
        calls: list[_Call] = []
        with torch.random.fork_rng(devices=[]):
            value = loss(_watched(field, x, t, calls), teacher, x0, z, t, warm_up)
        found = _Gradients.of(value, calls)
        if found.problem:
            return AuditReport((found.problem,), (), {}, math.nan)
        gradients.append(found)
        recorded.append(_masks(field, x, t, sigma_d, calls)[found.recorded])
        splits.append(_split_by_masks(-found.total, field, x, t, paths, sigma_d, warm_up, calls))
    first = splits[0]
    flows = gradients[0].leak
    if not first.explained:
        return _unexplained(first, follows=True, more=flows)
    problems, notes, common = _compare_parts(first, t, sigma_d)
    wrong, chosen = _compare_warm_up(splits, r)
    problems, notes = problems + flows + _compare_masks(first, recorded[0]) + wrong, notes + chosen
    if bool((common < 0).all()):
        problems.append("the whole loss has the wrong sign: it moves F against the tangent")
    weighted, said = _about_norm(common.abs(), first, t, sigma_d, x0[0].numel())
    return _audit(problems + weighted, notes + said, first)


# --- what somebody's code evaluates --------------------------------------------------------------


def _check(field: Field, x: Tensor, t: Tensor, sigma_d: float, r: float | Sequence[float]) -> tuple[float, ...]:
    """The values of r."""
    values = (r,) if isinstance(r, int | float) else tuple(r)
    if not values or min(values) <= 0:
        raise ValueError(f"r must be positive, got {r}: at 0 the derivatives have no part in the tangent")
    if x.dtype != torch.float64 or t.dtype != torch.float64:
        raise ValueError(f"audits need float64, got x of {x.dtype} and t of {t.dtype}")
    if x[0].numel() < MIN_ELEMENTS:
        raise ValueError(f"audits need {MIN_ELEMENTS} elements a sample to tell the parts apart, got {x[0].numel()}")
    if not bool(((t > 0) & (t < math.pi / 2)).all()):
        raise ValueError("times must lie inside (0, pi/2)")
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        if not bool(field(x / sigma_d, t).flatten(1).any(1).all()):
            raise ValueError("the field is zero, as networks are at their start: train it a little or draw its weights")
    return values


def _watched(field: Field, like: Tensor, t: Tensor, calls: list[_Call]) -> Field:
    """The field, with every evaluation noted in `calls`."""
    # made here and not in the call: inside torch.func.jvp they would belong to it
    leaves = [[torch.zeros_like(like, requires_grad=True) for _ in range(2)] for _ in range(MAX_CALLS)]

    def watched(x: Tensor, time: Tensor) -> Tensor:
        if len(calls) == MAX_CALLS:
            raise ValueError(f"more than {MAX_CALLS} evaluations of the field for one tangent")
        if x.shape != like.shape or time.shape != t.shape:
            raise ValueError(f"the field was made for {tuple(like.shape)}, called with {tuple(x.shape)}; call it twice")
        call = _Call(torch.get_rng_state(), *leaves[len(calls)])
        calls.append(call)
        value = field(x, time)
        return value + call.offset + call.slope * _column(time - t, value)

    return watched


@dataclass(frozen=True)
class _Gradients:
    """The gradient of a loss in F."""

    total: Tensor
    recorded: int
    """The evaluation that it comes through."""
    leak: list[str]
    problem: str | None = None

    @classmethod
    def of(cls, value: Tensor, calls: Sequence[_Call]) -> "_Gradients":
        nothing = torch.zeros(())
        if not calls:
            return cls(nothing, 0, [], "the loss never called the field")
        if not value.requires_grad:
            return cls(nothing, 0, [], "the loss has no gradient")
        leaves = [leaf for call in calls for leaf in (call.offset, call.slope)]
        found = torch.autograd.grad(value, leaves, allow_unused=True)
        offsets, slopes = ([g if g is not None else torch.zeros_like(leaves[0]) for g in found[i::2]] for i in (0, 1))
        through = [i for i, g in enumerate(offsets) if bool(g.any())]
        if not through:
            return cls(nothing, 0, [], "the loss has no gradient in F")
        leak = []
        largest = max(float(g.abs().max()) for g in offsets)
        if len(through) > 1 or any(float(g.abs().max()) > NOISE * largest for g in slopes):
            leak.append("the gradient flows through the tangent or the target too: detach both")
        return cls(offsets[through[-1]], through[-1], leak)


# --- the parts -----------------------------------------------------------------------------------


def _split_by_masks(
    g: Tensor,
    field: Field,
    x: Tensor,
    t: Tensor,
    paths: dict[str, Tensor],
    sigma_d: float,
    r: float,
    calls: Sequence[_Call],
) -> _Split:
    """g split with the dropout mask of each evaluation, and with different ones for F and its derivative."""
    different = sorted(set(_masks(field, x, t, sigma_d, calls)))
    shared = [(i, i) for i in different]
    mixed = [(i, j) for i in different for j in different if i != j]
    best: _Split | None = None
    for masks in shared + mixed:
        value, derivative = (_repeated(field, calls[i]) for i in masks)
        split = _split(g, _parts(value, derivative, x, t, paths, sigma_d), t, r, masks, len(paths) > 1)
        if split.explained:
            return split
        if best is None or split.remainder.max() < best.remainder.max():
            best = split
    assert best is not None
    return best


def _masks(field: Field, x: Tensor, t: Tensor, sigma_d: float, calls: Sequence[_Call]) -> list[int]:
    """For each evaluation the first one that had its mask, all of them 0 without dropout."""
    outputs = [_repeated(field, call)(x / sigma_d, t) for call in calls]
    return [next(i for i, other in enumerate(outputs) if torch.equal(output, other)) for output in outputs]


def _repeated(field: Field, call: _Call) -> Field:
    """The field with the randomness of that call."""

    def repeated(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.set_rng_state(call.state)
            return field(x, t)

    return repeated


def _parts(value: Field, derivative: Field, x: Tensor, t: Tensor, paths: dict[str, Tensor], sigma_d: float) -> Tensor:
    """(batch, elements, parts): each with sigma_d; dF/dx along the other paths comes last."""
    points = x / sigma_d
    h = torch.minimum(torch.full_like(t, STEP), torch.minimum(t, math.pi / 2 - t) / 2)
    width = _column(2 * h, x)

    def along(v: Tensor) -> Tensor:
        moved = STEP * v / sigma_d
        return (derivative(points + moved, t) - derivative(points - moved, t)) / (2 * STEP)

    in_time = (derivative(points, t + h) - derivative(points, t - h)) / width
    first, *others = paths.values()
    parts = [sigma_d * value(points, t), first, x, sigma_d * along(first), sigma_d * in_time]
    parts += [sigma_d * along(other) for other in others]
    return torch.stack([part.flatten(1) for part in parts], dim=2)


def _right(t: Tensor, r: float) -> Tensor:
    """(batch, 5): the coefficients of Algorithm 1."""
    c, s = torch.cos(t), torch.sin(t)
    return torch.stack([-c * c, c * c, *[-r * c * s] * 3], dim=1)


def _split(g: Tensor, parts: Tensor, t: Tensor, r: float, masks: tuple[int, int], other_path: bool) -> _Split:
    """g = parts @ coefficients, elements at the limit of a clipping left out."""
    g = g.flatten(1).double()
    kept, clipped = _unclipped(g)
    sizes = parts.norm(dim=1)
    columns = parts / sizes[:, None] * kept[..., None]
    if not bool(sizes.all()) or bool((torch.linalg.svdvals(columns)[:, -1] < NOISE).any()):
        raise ValueError("the parts are not independent: the field is its own teacher, or a network without a time")
    scaled = torch.linalg.lstsq(columns, (g * kept)[..., None]).solution
    rest = (g * kept - (columns @ scaled)[..., 0]).norm(dim=1)
    coefficients = scaled[..., 0] / sizes
    expected = _right(t, r)
    if other_path:
        expected = torch.cat([expected, expected[:, 3:4]], dim=1)
    ratios = coefficients / expected
    scale = coefficients[:, 1].abs() / expected[:, 1].abs()  # of the velocity, which no derivative spoils
    size = (parts @ coefficients[..., None])[..., 0].norm(dim=1) / scale
    derivative = (parts[..., 3:5] @ expected[:, 3:5, None])[..., 0].norm(dim=1)
    doubt = TOLERANCE + NOISE * size[:, None] / (sizes * expected.abs())
    remainder = rest / (scale * derivative + NOISE * g.norm(dim=1))
    return _Split(coefficients, ratios, doubt, remainder, masks, size, clipped)


def _unclipped(g: Tensor) -> tuple[Tensor, bool]:
    """(1 where an element may be taken at its word, whether several of a sample stand at one limit)."""
    at_limit = g.abs() >= g.abs().amax(dim=1, keepdim=True) * (1 - 1e-9)  # a weight gives every time its own limit
    clipped = at_limit.sum(dim=1, keepdim=True) > 1
    return (~(at_limit & clipped)).double(), bool(clipped.any())


# --- what the ratios say -------------------------------------------------------------------------


def _compare_parts(split: _Split, t: Tensor, sigma_d: float) -> tuple[list[str], list[str], Tensor]:
    """(problems, notes, the ratio that most parts share, by sample)."""
    ratios = split.ratios
    agree = [int(_same(ratios, ratios[:, k], split.doubt).sum()) for k in range(len(PARTS))]
    order = (1, 0, 2, 3, 4)
    reference = max(order, key=lambda k: (agree[k] == len(PARTS), float(ratios[:, k].min()) > 0, agree[k]))
    common = ratios[:, reference]
    relative, problems = ratios / common[:, None], []
    if ratios.shape[1] > len(PARTS) and bool((relative[:, 5].abs() > split.doubt[:, 5]).any()):
        problems.append("wrong path: the derivative of F moves along the data's path (x0, z), not the teacher's")
    wrong: dict[str, list[str]] = {}
    for k, part in enumerate(PARTS):
        if _same(ratios[:, k : k + 1], common, split.doubt[:, k : k + 1])[0] or (problems and part == "dF/dx"):
            continue
        wrong.setdefault(_words(relative[:, k], split.doubt[:, k], t, sigma_d), []).append(part)
    problems += [f"{', '.join(parts)}: {words}" for words, parts in wrong.items()]
    notes = ["at sigma_d = 1 nothing can be said about where sigma_d stands"] if sigma_d == 1 else []
    if split.clipped:
        notes.append("elements are clipped")
    if len(t.unique()) == 1:
        notes.append("at a single time nothing can be said about weights that depend on time")
    return problems, notes, common


def _same(ratios: Tensor, common: Tensor, doubt: Tensor) -> Tensor:
    """(parts,): whether a part's ratio is the common one in every sample."""
    return ((ratios / common[:, None] - 1).abs() < doubt).all(dim=0)


def _words(ratio: Tensor, doubt: Tensor, t: Tensor, sigma_d: float) -> str:
    if bool((ratio.abs() < doubt).all()):
        return "missing"
    said = []
    if bool((ratio < 0).all()):
        said.append("wrong sign")
    powers = _factor(ratio.abs(), t, sigma_d, doubt=doubt)
    if powers is None:
        return f"multiplied by something unknown, {float(ratio.min()):.3g} to {float(ratio.max()):.3g}"
    for name, power in powers.items():
        if power > 0:
            said.append(f"{name} is multiplied {'once' if power == 1 else f'{power} times'} too often")
        elif power < 0:
            said.append(f"{name} is missing" + ("" if power == -1 else f" {-power} times"))
    return "; ".join(said)


def _factor(
    ratio: Tensor, t: Tensor, sigma_d: float, free: bool = False, doubt: Tensor | None = None
) -> dict[str, int] | None:
    """The simplest product of powers that `ratio` is, up to a constant if `free`; None if it is no such product."""
    bases = {"sigma_d": torch.full_like(t, sigma_d), "cos t sin t": torch.sin(2 * t) / 2}
    bases |= {"cos t": torch.cos(t), "sin t": torch.sin(t)}
    if sigma_d == 1 or free:
        del bases["sigma_d"]
    allowed = TOLERANCE if doubt is None else doubt
    powers = sorted(itertools.product(range(-2, 3), repeat=len(bases)), key=lambda p: sum(map(abs, p)))
    for chosen in powers:
        if sum(map(abs, chosen)) > 3:
            return None
        product = torch.stack([base**power for base, power in zip(bases.values(), chosen, strict=True)]).prod(0)
        quotient = ratio / product
        middle = quotient.median() if free else 1.0
        if bool(((quotient / middle - 1).abs() < allowed).all()):
            return {name: power for name, power in zip(bases, chosen, strict=True) if power}
    return None


def _compare_masks(split: _Split, recorded: int | None = None) -> list[str]:
    """The derivative, F and the output that learns must be of one evaluation, or of one mask."""
    value, derivative = split.masks
    if value != derivative:
        return ["dropout: F and its derivative are of different masks; take both from one evaluation"]
    if recorded is not None and recorded not in (value, derivative):
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
        change = split.coefficients[:, :5] / first.coefficients[:, :5]
        change = (change / change[:, 1:2]).median(dim=0).values.tolist()
        wanted = [1.0, 1.0, *[warm_up / r[0]] * 3]
        if all(abs(found - 1) < TOLERANCE for found in change):
            notes.append("no warm-up: r changes nothing but the scale")
            continue
        off = [k for k in range(len(PARTS)) if abs(change[k] / wanted[k] - 1) > TOLERANCE]
        if off:
            found = ", ".join(f"{PARTS[k]} by {change[k]:.2g} instead of {wanted[k]:.2g}" for k in off)
            problems.append(
                f"warm-up on the wrong term: from r = {r[0]:g} to {warm_up:g}, against F - v, it scales {found}"
            )
    return problems, notes


def _about_weight(powers: dict[str, int] | None, scale: Tensor) -> tuple[list[str], list[str]]:
    """(problems, notes) of a weight of time."""
    if powers == {}:
        constant = float(scale.median())
        return [], [] if abs(constant - 1) < TOLERANCE else [f"scaled by {constant:.3g}"]
    if powers is None:
        return [], ["weighted by some function of time"]
    words = " ".join(f"({name})^{power}" for name, power in powers.items())
    if powers in ({"cos t": 1, "sin t": -1}, {"cos t sin t": -1, "cos t": 2}, {"sin t": -1}):
        return [f"prior weight twice: g holds 1 / tan t already, and is weighted by {words} again"], []
    if powers == {"cos t": -1}:
        return [], ["this is df/dt; Algorithm 1's g is cos t times it"]
    return [], [f"weighted by {words}"]


def _about_norm(scale: Tensor, split: _Split, t: Tensor, sigma_d: float, elements: int) -> tuple[list[str], list[str]]:
    """(problems, notes) of scale = weight(t) / (|g| + constant(t)): two unknowns a time, from several samples."""
    weights, constants = torch.empty_like(t), torch.empty_like(t)
    for time in t.unique():
        own = t == time
        size, inverse = split.size[own], 1 / scale[own]
        slope = ((size - size.mean()) * (inverse - inverse.mean())).sum() / (size - size.mean()).square().sum()
        start = inverse.mean() - slope * size.mean()
        fits = ((start + slope * size) / inverse - 1).abs().max() < TOLERANCE / 10
        flat = (inverse / inverse.mean() - 1).abs().max() < TOLERANCE / 10
        if not fits:
            return [], ["divided by something that is not a norm of g"]
        weights[own] = 1 / inverse.mean() if flat else 1 / slope
        constants[own] = math.inf if flat else start / slope
    if bool(constants.isinf().any()):
        problems, notes = _about_weight(_factor(weights, t, sigma_d, free=True), weights)
        return problems, ["not normalised", *(note for note in notes if not note.startswith("scaled"))]
    problems, notes = _about_weight(_factor(weights, t, sigma_d, free=True), weights)
    before, _ = _about_weight(_factor(1 / constants.abs(), t, sigma_d, free=True), constants)
    constant = float(constants.median())
    rms = f" = {constant / math.sqrt(elements):.3g} of a root mean square"
    said = [f"normalised, |g| + {constant:.3g} in the plain norm{rms}"]
    return problems + before, said + [note for note in notes if not note.startswith("scaled")]


def _follows(candidate: Tangent, field: Field, x: Tensor, t: Tensor, v: Tensor, sigma_d: float, r: float) -> bool:
    """Whether the derivative of F follows the velocity that the candidate is given."""
    draw = torch.Generator().manual_seed(0)
    change = torch.randn(v.shape, generator=draw, dtype=v.dtype)
    results = []
    for velocity in (v, v + change):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            results.append(candidate(field, x, t, velocity, r).detach())
    answer = (results[1] - results[0]).flatten(1)
    moved = STEP * change / sigma_d
    with torch.no_grad():
        along = sigma_d * (field(x / sigma_d + moved, t) - field(x / sigma_d - moved, t)) / (2 * STEP)
    columns = torch.stack([change.flatten(1), along.flatten(1)], dim=2)
    found = torch.linalg.lstsq(columns, answer[..., None]).solution[:, 1, 0]
    return bool((found.abs() > TOLERANCE * _right(t, r)[:, 3].abs()).any())


def _unexplained(split: _Split, follows: bool, more: Sequence[str] = ()) -> AuditReport:
    if follows:
        problem = (
            f"the five parts leave {float(split.remainder.max()):.2g} of the derivative of F unexplained: is it taken "
            "elsewhere, along another path, or with another dropout mask?"
        )
    else:
        problem = "wrong path: the derivative of F does not follow the velocity that it is given"
    return AuditReport((problem, *more), (), {}, float(split.remainder.max()))


def _audit(problems: list[str], notes: list[str], split: _Split) -> AuditReport:
    relative = split.ratios[:, : len(PARTS)] / split.ratios[:, 1:2]
    ratios = dict(zip(PARTS, relative.median(dim=0).values.tolist(), strict=True))
    return AuditReport(tuple(problems), tuple(notes), ratios, float(split.remainder.max()))


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
