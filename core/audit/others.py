"""Other losses than Algorithm 1's squared one: of each element for itself, and discrete ones."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from trigbench.core.audit.diagnose import OTHERS
from trigbench.core.audit.probe import NOISE, Call, Given, Gradient, repeated
from trigbench.core.audit.split import DATA_PATH, PARTS, TOLERANCE, Seen, algorithm_1, functions_of_time, parts_of

NEAR = 1e-4
"""Of t: two times that are nearer are one, and a loss of both may be a difference of the derivative."""
NO_WARM_UP = "no warm-up, or on all terms alike"


def judge_by_order(seen: Sequence[Seen], given: Given) -> tuple[list[str], list[str]] | None:
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
        parts = parts_of(student, student, given, others)
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


def _mistakes(given: Given, others: tuple[str, ...]) -> Iterator[tuple[str, Callable[[float], Tensor]]]:
    """(words, r -> the coefficients of a direction): Algorithm 1's, and with one mistake each."""

    def right(r: float) -> Tensor:
        found = algorithm_1(given.t, r, others)
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
    functions = {"sigma_d": torch.full_like(given.t, given.sigma_d), **functions_of_time(given.t)}
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


def judge_discrete(gradient: Gradient, calls: Sequence[Call], given: Given, explained: bool) -> str | None:
    """Words for a loss that compares the field at t with the field at an earlier time; None if this is none.

    Where the five parts explain the gradient too, the difference must be that of two maps with f(x, 0) = x (or, as
    EDM's, at a little later than 0): a derivative of F by a backward difference lies in the same span, and is, at r
    = 1, nearly the difference of maps with f(x, u - t) = x.
    """
    here = calls[gradient.recorded]
    g = gradient.total.flatten(1)[..., None]
    now = [here.point, repeated(given.field, here)(here.point, here.time)]
    words = "a discrete loss, not a continuous-time one: it compares F at t with F at another time"
    t = given.t
    for other in calls:
        u = _when(other, here, given)
        if (u is not None and not bool(((u - t).abs() > NEAR * t).any())) or torch.equal(other.time, here.time):
            continue
        then = [other.point, repeated(given.field, other)(other.point, other.time)]
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


def _when(other: Call, here: Call, given: Given) -> Tensor | None:
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
