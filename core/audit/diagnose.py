"""What the ratios, the norm and the weights say, in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trigbench.core.audit.norms import Norm, fit_norm, moves, shape_of
from trigbench.core.audit.probe import NOISE, Given, Gradient, Student
from trigbench.core.audit.split import (
    DATA_PATH,
    DATA_VELOCITY,
    PARTS,
    STANDS_FOR,
    STUDENT_PATH,
    TOLERANCE,
    Split,
    agreement,
    functions_of_time,
    largest_of,
    powers_of,
    products_of,
)

OTHERS = {
    DATA_PATH: "wrong path: the derivative of F moves along the data's path (x0, z), not the teacher's",
    DATA_VELOCITY: "wrong velocity: F - dx/dt holds the data's (x0, z), not the teacher's",
    STUDENT_PATH: "wrong path: the derivative of F moves along the student's own velocity, F",
}
PRIOR = {"cos t": 1, "sin t": -1}
AGAIN = "g holds 1 / tan t already, and is weighted by"


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


def compare_parts(split: Split, t: Tensor, sigma_d: float, r: float) -> tuple[list[str], list[str], Tensor]:
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
    if r != 1 and agreement(torch.cat([ratios[:, :2], damped], 1), doubt[:, :five]).all():
        notes.append(f"no warm-up: at r = {r:g} x and the derivatives are whole")
        ratios = torch.cat([ratios[:, :2], damped, ratios[:, five:] * r], 1)
    same = agreement(ratios[:, :five], doubt[:, :five])
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
    bases |= {"2": torch.full_like(common, 2.0), **functions_of_time(t[sure])}
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


def _words(ratio: Tensor, doubt: Tensor, bases: dict[str, Tensor]) -> str:
    if bool((ratio.abs() < doubt).all()):
        return "missing"
    signs = ratio.sign()[doubt < 0.5]
    said = ["wrong sign"] if bool((signs < 0).all()) and len(signs) else []
    found = products_of(ratio.abs(), doubt, bases)
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


def compare_masks(split: Split, students: Sequence[Student], recorded: int | None = None) -> list[str]:
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


def compare_warm_up(splits: Sequence[Split], r: Sequence[float]) -> tuple[list[str], list[str]]:
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


def about_clock(student: Student, t: Tensor) -> list[str]:
    """Notes: a network may be told another time than t."""
    if student.rate is None:
        return []
    ratio = student.times[0] / t
    factor = f", {float(ratio[0]):.4g} t" if bool((ratio / ratio[0] - 1).abs().max() < 1e-6) else ""
    return [f"the student is called at a time of its own{factor}, not at t"]


def about_scale_of_points(student: Student) -> list[str]:
    """Problems: the points of a field are x / sigma_d."""
    if student.scale == 1.0:
        return []
    return [f"the field is called at {student.scale:.3g} x / sigma_d, not at x / sigma_d"]


def _worded(powers: dict[str, int]) -> str:
    return " ".join(f"({name})^{power}" for name, power in powers.items())


def about_weight_before(powers: dict[str, int] | None, weight: Tensor) -> tuple[list[str], list[str]]:
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
    """(problems, notes) of a weight of time on the loss; `weights` says where it comes from (see `weights_of`)."""
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


def about_norm(
    gradient: Gradient, split: Split, common: Tensor, given: Given, known: bool, coupled: bool, weights: str
) -> tuple[list[str], list[str]]:
    """(problems, notes): what |g| is divided by, what it is weighted by, and whether g moves with F."""
    sure = split.usable
    t, scale = given.t[sure], common[sure]
    sizes = [split.whole[sure].norm(dim=1) / scale]
    if split.clipped:  # before the norm was taken, or after
        sizes.append(split.whole.clamp(*split.limits)[sure].norm(dim=1) / scale)
    shape, weight = shape_of(gradient)
    regressed = shape in ("squared", "length")
    inverse = weight[sure] / scale if regressed else 1 / scale  # |g| over the length of what F is regressed on
    norm = fit_norm(sizes, inverse, t)
    problems, notes = [], []
    if not known and not split.clipped and regressed and moves(shape, norm, inverse, t, given.sigma_d):
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
        before = powers_of(inverse.reciprocal(), t) if regressed else {}
    if before in (PRIOR, {"sin t": -1}):
        return [*problems, f"prior weight twice: {AGAIN} {_worded(before)} in what F is regressed on"], notes
    wrong, said = _about_weight_after(powers_of(scale * norm.lengths, t), weights, norm.shape == "flat")
    return problems + wrong, notes + said


def _norm_worded(norm: Norm, elements: int) -> str:
    if norm.shape == "limit":
        return f"the plain norm of g is limited to {norm.constant:.3g}"
    rms = f" = {norm.constant / math.sqrt(elements):.3g} of a root mean square"
    if norm.shape == "root":
        return f"normalised, sqrt(|g|^2 + {norm.constant:.3g}^2) in the plain norm{rms}"
    return f"normalised, |g| + {norm.constant:.3g} in the plain norm{rms}"


def unexplained(split: Split, more: Sequence[str]) -> AuditReport:
    """The report of what is no sum of the five parts."""
    left = largest_of(split.remainder[split.usable]) if bool(split.usable.any()) else math.nan
    problem = (
        f"the five parts leave {left:.2g} of the derivative of F unexplained: is it taken elsewhere, along another "
        "path, with another dropout mask, or is this not the squared loss?"
    )
    return AuditReport((problem, *more), (), {}, left)


def report_of(problems: list[str], notes: list[str], split: Split) -> AuditReport:
    """The report of what the five parts explain."""
    ratios = split.ratios[split.usable, : len(PARTS)]
    relative = ratios / ratios[:, 1:2]
    said = dict(zip(PARTS, relative.median(dim=0).values.tolist(), strict=True))
    return AuditReport(tuple(problems), tuple(notes), said, largest_of(split.remainder[split.usable]))
