"""How a direction is split into the five parts of Algorithm 1, and a ratio into known functions of time."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trigbench.core.audit.probe import NOISE, STEP, Call, Given, Gradient, Student, Tangent, column

PARTS: tuple[str, ...] = ("F", "dx/dt", "x", "dF/dx", "dF/dt")
DATA_PATH, DATA_VELOCITY, STUDENT_PATH = "dF/dx along the data's path", "the data's dx/dt", "dF/dx along F"
STANDS_FOR = {DATA_PATH: "dF/dx", DATA_VELOCITY: "dx/dt", STUDENT_PATH: "dF/dx"}
TOLERANCE = 0.02
"""Of ratios, and of what no part explains relative to the derivative of F. Mistakes are far larger; differences of
a step of 0.005 in somebody's code are below."""


@dataclass(frozen=True)
class Split:
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
class Seen:
    """What a loss did at one r."""

    r: float
    gradient: Gradient
    calls: list[Call]
    students: list[Student]
    own: int | None
    """The student whose output learns."""
    split: Split


def explain(g: Tensor, students: Sequence[Student], given: Given, r: float) -> Split:
    """g split by the function of each evaluation, by different ones for F and its derivative, then by other paths."""
    shared = [(i, i) for i in range(len(students))]
    mixed = list(itertools.permutations(range(len(students)), 2))
    usual: tuple[str, ...] = () if given.data is None else (DATA_PATH,)
    unusual: list[tuple[str, ...]] = [(STUDENT_PATH,)]
    if given.data is not None:
        unusual.insert(0, (DATA_PATH, DATA_VELOCITY))
    best: Split | None = None
    for others, masks in itertools.product([usual, *unusual], shared + mixed):
        if others != usual and masks not in shared:
            continue
        value, derivative = (students[i] for i in masks)
        split = _split(g, parts_of(value, derivative, given, others), given.t, r, masks, others, derivative.rate)
        if split is not None and split.explained:
            return split
        if best is None or (split is not None and largest_of(split.remainder) < largest_of(best.remainder)):
            best = split if split is not None else best
    if best is None:
        raise ValueError("the parts are not independent: the field is its own teacher, or a network without a time")
    return best


def parts_of(value: Student, derivative: Student, given: Given, others: Sequence[str]) -> Tensor:
    """(batch, elements, parts): each with sigma_d; what may stand in the place of another comes last."""
    points, sigma_d = given.x / given.sigma_d, given.sigma_d

    def along(v: Tensor) -> Tensor:
        moved = STEP * v / sigma_d
        return sigma_d * (derivative(points + moved) - derivative(points - moved)) / (2 * STEP)

    in_time = (derivative(points, 1) - derivative(points, 2)) / column(2 * derivative.step, points)
    F = sigma_d * value(points)
    parts = [F, given.velocity, given.x, along(given.velocity), sigma_d * in_time]
    for other in others:
        if other == STUDENT_PATH:
            parts.append(along(F))
        elif given.data is not None:
            parts.append(along(given.data) if other == DATA_PATH else given.data)
    return torch.stack([part.flatten(1) for part in parts], dim=2)


def algorithm_1(t: Tensor, r: float, others: Sequence[str] = ()) -> Tensor:
    """(batch, parts): the coefficients of Algorithm 1, and those of what the others stand for."""
    c, s = torch.cos(t), torch.sin(t)
    five = [-c * c, c * c, *[-r * c * s] * 3]
    return torch.stack([*five, *(five[PARTS.index(STANDS_FOR[other])] for other in others)], dim=1)


def _split(
    g: Tensor, parts: Tensor, t: Tensor, r: float, masks: tuple[int, int], others: tuple[str, ...], rate: Tensor | None
) -> Split | None:
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
    expected = algorithm_1(t, r, others)
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
    return Split(names, coefficients, ratios, doubt, remainder, usable, masks, whole, limits, rate)


def follows(candidate: Tangent, given: Given, r: float) -> bool:
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
    return bool((found.abs() > TOLERANCE * algorithm_1(t, r)[:, 3].abs()).any())


def agreement(ratios: Tensor, doubt: Tensor) -> Tensor:
    """(parts, parts): whether the second ratio is the first in every sample."""
    quotient = (ratios[:, None] / ratios[:, :, None] - 1).abs()
    return (quotient < torch.maximum(doubt[:, None], doubt[:, :, None])).all(dim=0)


def functions_of_time(t: Tensor) -> dict[str, Tensor]:
    """What a weight of time may be a product of, by name, each (batch,)."""
    return {"cos t sin t": torch.sin(2 * t) / 2, "cos t": torch.cos(t), "sin t": torch.sin(t)}


def products_of(ratio: Tensor, doubt: Tensor, bases: dict[str, Tensor]) -> list[dict[str, int]]:
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


def powers_of(weight: Tensor, t: Tensor) -> dict[str, int] | None:
    """The simplest product of cos t and sin t that `weight` is, up to a constant; None if it is no such product."""
    bases = functions_of_time(t)
    logs = torch.stack([base.log() for base in bases.values()])
    table = _exponents(len(bases))
    quotient = weight.log() - torch.tensor(table, dtype=weight.dtype) @ logs
    middle = quotient.median(dim=1, keepdim=True).values
    fits = ((quotient - middle).abs() < TOLERANCE).all(dim=1).tolist()
    chosen = next((powers for powers, fit in zip(table, fits, strict=True) if fit), None)
    return None if chosen is None else {name: power for name, power in zip(bases, chosen, strict=True) if power}


def largest_of(values: Tensor) -> float:
    """Their maximum; nan of none."""
    return float(values.max()) if len(values) else math.nan
