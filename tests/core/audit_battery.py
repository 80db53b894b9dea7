"""Right and wrong losses by composition, and what the audit says of them.

    python -m tests.core.audit_battery

audits them all and writes the table in docs/audit.md, a part of which test_audit.py compares with what it finds.
"""

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from trigbench.core.audit import AuditReport, audit_loss
from trigbench.core.forward_mode import value_and_tangent

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"
ELEMENTS = 24
TIMES = {
    "few": (0.1, 0.5, 1.0, 1.4),
    "late": (0.1, 0.5, 1.0, 1.56),
    "two": (0.3, 1.2),
    "early": (0.02, 0.3, 0.8, 1.5),
    "many": (0.05, 0.3, 0.6, 0.9, 1.2, 1.5),
    "one": (0.7,),
    "last": (0.1, 0.5, 1.0, 1.5645),
}
KNOWN = tuple(TIMES)[:6]
Factor = Callable[[Tensor, float], Tensor]
FACTORS: dict[str, tuple[Factor, str]] = {
    "missing": (lambda t, sigma: 0 * t, "missing"),
    "sign": (lambda t, sigma: -torch.ones_like(t), "wrong sign"),
    "one sigma_d too many": (lambda t, sigma: sigma + 0 * t, "sigma_d is multiplied once too often"),
    "no sigma_d": (lambda t, sigma: 1 / sigma + 0 * t, "sigma_d is missing"),
    "cos t sin t twice": (lambda t, sigma: t.cos() * t.sin(), "cos t sin t is multiplied once too often"),
    "no cos t sin t": (lambda t, sigma: 1 / (t.cos() * t.sin()), "cos t sin t is missing"),
    "halved": (lambda t, sigma: 0.5 + 0 * t, "halved"),
    "cos t twice": (lambda t, sigma: t.cos(), "cos t is multiplied once too often"),
}
F, V, X, FX, FT = range(5)
NAMES = ("F", "dx/dt", "x", "dF/dx", "dF/dt")


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong."""

    name: str
    words: str
    """Of the problem that names it, a regular expression."""
    parts: tuple[int, ...] = ()
    factor: str = ""
    kind: str = ""
    """What is wrong, where it is no factor of a part."""


@dataclass(frozen=True)
class Code:
    """Somebody's loss: what it chooses, and what is wrong in it."""

    norm: str = "plain"
    constant: float = 0.1
    weight: str = "none"
    reduce: str = "mean"
    jvp: str = "difference"
    clock: str = "t"
    form: str = "F"
    shape: str = "squared"
    warm_up: bool = True
    dropout: bool = False
    teacher: str = "t"
    mistakes: tuple[Mistake, ...] = ()

    @property
    def kinds(self) -> set[str]:
        return {mistake.kind for mistake in self.mistakes}


@dataclass(frozen=True)
class Case:
    """A loss and where it is audited."""

    code: Code
    times: str = "few"
    sigma: float = 0.5
    r: tuple[float, ...] = (1.0, 0.5)


# --- the losses -----------------------------------------------------------------------------------

CLOCKS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "t": lambda t, sigma: t,
    "1.01 t": lambda t, sigma: 1.01 * t,
    "1000 t": lambda t, sigma: 1000 * t,
    "ln sigma / 4": lambda t, sigma: torch.log(sigma * torch.tan(t)) / 4,
    "sigma": lambda t, sigma: sigma * torch.tan(t),
}
LEARNED: dict[str, Callable[[Tensor], Tensor]] = {
    "polynomial": lambda t: 2 - 0.7 * t * t,
    "1 / tan t": lambda t: -torch.tan(t).log(),
    "1 / sin t": lambda t: -torch.sin(t).log(),
    "cos t": lambda t: torch.cos(t).log(),
    "sin t": lambda t: torch.sin(t).log(),
}
FIXED: dict[str, Callable[[Tensor], Tensor]] = {
    "fixed cos t": torch.cos,
    "fixed 1 / sin t": lambda t: 1 / torch.sin(t),
    "fixed 2 + t": lambda t: 2 + t,
    "fixed tan t": torch.tan,
}


@cache
def network(seed: int, slow: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """A random field; `slow` where it is called at times in thousands."""
    draw = torch.Generator().manual_seed(seed)
    w1, w2 = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((ELEMENTS, 16), (16, ELEMENTS)))
    a, b = (torch.randn(16, generator=draw, dtype=torch.float64) for _ in range(2))
    a = a / 1000 if slow else a

    def field(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(x @ w1 / 5 + t[:, None] * a + b) @ w2 / 4 + 0.1 * x

    return field


def dropped(x: Tensor, t: Tensor) -> Tensor:
    kept = (torch.rand(ELEMENTS, dtype=torch.float64) > 0.3) / 0.7
    return network(0, False)(x, t) * kept


def batch(t: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    return tuple(sigma * torch.randn(len(t), ELEMENTS, generator=draw, dtype=torch.float64) for _ in range(2))  # type: ignore


def loss_of(code: Code, sigma: float) -> Callable[..., Tensor]:
    """What one might type, with these choices and these mistakes."""
    kinds = code.kinds

    def loss(field, teacher, x0, z, t, r):
        c, s, one = t.cos()[:, None], t.sin()[:, None], 1.0 if "points" not in kinds else sigma
        x, along_data = c * x0 + s * z, c * z - s * x0

        def student(y, time):
            return field(one * y, CLOCKS[code.clock](time, sigma))

        with torch.no_grad():
            v = sigma * teacher(x / sigma, CLOCKS[code.teacher](t, sigma)) if teacher else along_data
        if "discrete" in kinds:
            return discrete(student, teacher, x0, z, x, v, t, sigma)
        value, dF_dx, dF_dt = derivatives(code, student, x, v, along_data, t, sigma)
        if "leak of F" in kinds:
            inside = value
        elif "masks of F and dF" in kinds:
            with torch.no_grad():
                inside = student(x / sigma, t)
            value = inside + (value - value.detach())
        else:
            inside = value.detach()
        if "mask of the output" in kinds:
            value = student(x / sigma, t)
        m = [torch.ones_like(c) for _ in range(5)]
        for mistake in code.mistakes:
            for part in mistake.parts:
                m[part] = m[part] * FACTORS[mistake.factor][0](t, sigma)[:, None]
        warm = r if code.warm_up else 1.0
        warms = {"warm-up on F - v": (warm, 1, 1), "warm-up on x": (1, warm, 1), "warm-up on dF": (1, 1, warm)}
        on_v, on_x, on_d = next((w for name, w in warms.items() if name in kinds), (1, warm, warm))
        if "warm-up on both" in kinds:
            on_v = on_x = on_d = warm
        in_v = along_data if "velocity of the data" in kinds else v
        g = -on_v * c * c * (m[F] * sigma * inside - m[V] * in_v)
        g = g - c * s * (on_x * m[X] * x + on_d * sigma * (m[FX] * dF_dx + m[FT] * dF_dt))
        g = -g if "whole sign" in kinds else g
        if "diffusion" in kinds:
            g = v - sigma * inside
        if "prior before the norm" in kinds:
            g = g / (sigma * t.tan()[:, None])
        if "df/dt" in code.norm:
            g = g / c
        g = controlled(code, g, kinds)
        if not kinds & {"leak of F", "leak of dF"}:
            g = g.detach()
        return regressed(code, value, g, x, t, sigma, kinds)

    return loss


def derivatives(code: Code, student, x, v, along_data, t, sigma):
    """(F, dF/dx along v, dF/dt): by the way that the code has chosen, apart only where one of them is wrong."""
    kinds, at, h = code.kinds, x / sigma, 1e-4
    path = v
    if "path of the data" in kinds:
        path = along_data
    elif "path of the student" in kinds:
        with torch.no_grad():
            path = sigma * student(at, t)
    rate = 1.0
    if "rate of the clock" in kinds:  # as if the network's time were t
        rate = 1 / ((CLOCKS[code.clock](t + h, sigma) - CLOCKS[code.clock](t - h, sigma)) / (2 * h))
    ones = torch.ones_like(t) * rate
    if "leak of dF" in kinds or code.jvp == "func":
        value, whole = torch.func.jvp(student, (at, t), (path / sigma, ones))[:2]
        if not any(FX in m.parts or FT in m.parts for m in code.mistakes):
            return value, whole if "leak of dF" in kinds else whole.detach(), torch.zeros_like(whole)
        in_time = torch.func.jvp(lambda time: student(at, time), (t,), (ones,))[1]
        whole = whole if "leak of dF" in kinds else whole.detach()
        return value, whole - in_time.detach(), in_time.detach()
    if code.jvp == "pairs":
        state = torch.get_rng_state()
        value, whole = value_and_tangent(student, (at, t), (path / sigma, ones), method="pairs")
        torch.set_rng_state(state)
        in_time = value_and_tangent(student, (at, t), (torch.zeros_like(at), ones), method="pairs")[1]
        return value, whole - in_time, in_time

    def masked(y, time):
        torch.set_rng_state(state)
        return student(y, time)

    state = torch.get_rng_state()
    value = masked(at, t)
    if "masks of F and dF" in kinds or "mask of the output" in kinds:
        torch.rand(1)
    state_after = torch.get_rng_state()
    with torch.no_grad():
        if code.jvp == "forward difference":
            start = masked(at, t)
            along = (masked(at + h * path / sigma, t) - start) / h
            in_time = (masked(at, t + h * rate) - start) / h
        else:
            along = (masked(at + h * path / sigma, t) - masked(at - h * path / sigma, t)) / (2 * h)
            in_time = (masked(at, t + h * rate) - masked(at, t - h * rate)) / (2 * h)
    torch.set_rng_state(state_after)
    return value, along, in_time


def controlled(code: Code, g: Tensor, kinds: set[str]) -> Tensor:
    """g as it is regressed on."""
    norm, constant = code.norm.removesuffix(" of df/dt"), code.constant
    size = g.norm(dim=1, keepdim=True)
    if "norm over the batch" in kinds:
        size = g.norm().expand(len(g), 1)
    if "mean norm over the batch" in kinds:
        size = size.mean().expand(len(g), 1)
    if "clip then" in norm:
        g = g.clamp(-0.3, 0.3)
        size = g.norm(dim=1, keepdim=True)
    if "rms" in norm:
        size = size / ELEMENTS**0.5
    if "plain" in norm or "rms" in norm:
        g = g / (size + constant)
    if "root" in norm:
        g = g / torch.sqrt(size**2 + constant**2)
    if norm == "limit":
        g = g * (constant / size).clamp(max=1)
    if norm == "clip":
        g = g.clamp(-0.5, 0.5)
    if norm == "clip hard":
        g = g.clamp(-0.05, 0.05)
    if norm == "clip one side":
        g = g.clamp(max=0.4)
    return g


def regressed(code: Code, value: Tensor, g: Tensor, x: Tensor, t: Tensor, sigma: float, kinds: set[str]) -> Tensor:
    """The loss of F that is moved by g."""
    w = LEARNED[code.weight](t) if code.weight in LEARNED else torch.zeros_like(t)
    factor = w.exp() * (FIXED[code.weight](t) if code.weight in FIXED else 1.0)
    if "prior after the norm" in kinds:
        factor = factor / (sigma * t.tan())
    if code.form == "inner product":
        each = -(value * g).sum(1)
    elif code.form == "map":  # of unit variance; it moves by -sin t F
        f = -t.sin()[:, None] * value
        each = ((f - f.detach() + t.tan()[:, None] * g) ** 2).sum(1) / (t.tan() * t.sin())
    else:
        rest = value - (value.detach() + g) if code.form == "target" else value - value.detach() - g
        each = shaped(code.shape, rest)
    each = each * factor - w
    return -each.sum() if "loss's sign" in kinds else (each.mean() if code.reduce == "mean" else each.sum())


def shaped(shape: str, rest: Tensor) -> Tensor:
    squared = rest.square().sum(1)
    return {
        "squared": lambda: squared / ELEMENTS,
        "L1": lambda: rest.abs().sum(1),
        "Huber": lambda: torch.nn.functional.huber_loss(rest, torch.zeros_like(rest), "none", 0.2).sum(1),
        "Pseudo-Huber": lambda: torch.sqrt(squared + 0.03**2) - 0.03,
        "Pseudo-Huber by element": lambda: (torch.sqrt(rest**2 + 0.1**2) - 0.1).sum(1),
        "length": squared.sqrt,
        "adaptive": lambda: squared / (squared.detach() + 0.01),
    }[shape]()


def discrete(student, teacher, x0, z, x, v, t, sigma):
    """f at t against f at 0.9 t, by DDIM along the teacher's path, or along the data's as in CT and ECT."""
    u = 0.9 * t
    c, s, cu, su = (f(time)[:, None] for time in (t, u) for f in (torch.cos, torch.sin))
    x_u = (t - u).cos()[:, None] * x - (t - u).sin()[:, None] * v if teacher else cu * x0 + su * z
    with torch.no_grad():
        target = cu * x_u - su * sigma * student(x_u / sigma, u)
    return ((c * x - s * sigma * student(x / sigma, t) - target).square().sum(1) / (t - u)).mean()


# --- what is tried ----------------------------------------------------------------------------------

SETS: tuple[tuple[str, tuple[int, ...]], ...] = (
    *(("F", (F,)), ("dx/dt", (V,)), ("x", (X,)), ("dF/dx", (FX,)), ("dF/dt", (FT,))),
    *(("both derivatives", (FX, FT)), ("F and its derivatives", (F, FX, FT))),
)
CHOSEN = {  # what has been seen in code, or is as likely
    "missing": ("F", "dx/dt", "x", "dF/dx", "dF/dt", "both derivatives"),
    "sign": ("F", "dx/dt", "x", "dF/dx", "dF/dt", "both derivatives", "F and its derivatives"),
    "one sigma_d too many": ("F", "dx/dt", "x", "dF/dx", "dF/dt", "both derivatives"),
    "no sigma_d": ("F", "dF/dx", "dF/dt", "both derivatives"),
    "cos t sin t twice": ("x", "dF/dt", "both derivatives"),
    "no cos t sin t": ("x", "dF/dt", "both derivatives"),
    "halved": ("dF/dt", "both derivatives"),
    "cos t twice": ("F", "both derivatives"),
}
WHOLE: tuple[tuple[str, str, str], ...] = (
    ("derivative along the data's path, with a teacher", "path of the data", "wrong path: .*data"),
    ("derivative along the student's own velocity", "path of the student", "wrong path: .*student"),
    ("the data's velocity beside F, with a teacher", "velocity of the data", "wrong velocity"),
    ("warm-up on F - dx/dt", "warm-up on F - v", "warm-up on the wrong term"),
    ("warm-up on x alone", "warm-up on x", "warm-up on the wrong term"),
    ("warm-up on the derivatives alone", "warm-up on dF", "warm-up on the wrong term"),
    ("warm-up on all terms", "warm-up on both", "warm-up on both"),
    ("dropout: F and derivative of different masks", "masks of F and dF", "dropout: F and its derivative"),
    ("dropout: the output that learns of another mask", "mask of the output", "dropout: the output"),
    ("the derivative not detached", "leak of dF", "detach"),
    ("F inside g not detached", "leak of F", "detach"),
    ("prior weight again, before the norm", "prior before the norm", "prior weight twice"),
    ("prior weight again, on the loss", "prior after the norm", "prior weight twice"),
    ("sign of the tangent", "whole sign", "the whole loss has the wrong sign"),
    ("sign of the loss", "loss's sign", "the whole loss has the wrong sign"),
    ("norm over the batch", "norm over the batch", "over the batch"),
    ("mean norm over the batch", "mean norm over the batch", "over the batch"),
    ("field called at x, not x / sigma_d", "points", "not at x / sigma_d"),
    ("rate of the field's own time left out", "rate of the clock", "rate of the field's own time is missing"),
    ("a discrete loss (ECT's, CT's; DDIM along a teacher)", "discrete", "a discrete loss"),
    ("a diffusion loss", "diffusion", "diffusion loss"),
)
MISTAKES: tuple[Mistake, ...] = (
    *(
        Mistake(f"{factor}: {whose}", rf"{'.*'.join(NAMES[k] for k in parts)}.*{FACTORS[factor][1]}", parts, factor)
        for factor, whom in CHOSEN.items()
        for whose, parts in SETS
        if whose in whom
    ),
    *(Mistake(name, words, kind=kind) for name, kind, words in WHOLE),
)
NEEDS = {
    "masks of F and dF": {"dropout": True},
    "mask of the output": {"dropout": True},
    "rate of the clock": {"clock": "ln sigma / 4"},
}
CHOICES: dict[str, tuple] = {
    "norm": (
        *("plain", "rms", "root", "none", "clip", "clip hard", "clip one side", "limit", "clip then plain"),
        *("plain then clip", "plain of df/dt", "none of df/dt"),
    ),
    "constant": (0.1, 1e-3, 1.0, 0.0),
    "weight": ("none", *LEARNED, *FIXED),
    "reduce": ("mean", "sum"),
    "jvp": (*["difference"] * 2, "forward difference", "pairs", "pairs", "pairs", "func"),
    "clock": ("t", "t", *CLOCKS),
    "form": ("F", "target", "inner product", "map"),
    "shape": (*["squared"] * 4, "L1", "Huber", "Pseudo-Huber", "Pseudo-Huber by element", "length", "adaptive"),
    "warm_up": (True, True, False),
    "dropout": (False, False, True),
    "teacher": ("t", "t", "none", "ln sigma / 4"),
}
SIGMAS = (0.5, 0.7, 1.0, 0.25, 2.0)
WARM_UPS = ((1.0, 0.5), (1.0,), (1.0, 0.1), (0.5,), (0.5, 1.0), (0.3, 0.6))


def possible(code: Code) -> bool:
    return not (
        (code.dropout and (code.clock != "t" or (code.jvp == "func" and bool(code.mistakes))))
        or (code.form in ("inner product", "map") and code.shape != "squared")
        or (code.norm == "limit" and code.constant == 0.0)
        or (code.jvp == "forward difference" and code.clock in ("sigma", "ln sigma / 4"))  # whose curvature is lost
    )


def right_cases(count: int, seed: int = 0) -> Iterator[Case]:
    """Every choice, alone; then all of them at random, each time at other times, sigma_d and r."""
    for name, values in CHOICES.items():
        for value in dict.fromkeys(values):
            for times, sigma in (("few", 0.5), ("late", 0.7)):
                yield Case(replace(Code(), **{name: value}), times, sigma)
    for times, sigma, r in itertools.product(TIMES, SIGMAS, WARM_UPS[:2]):
        yield Case(Code(), times, sigma, r)
    draw, made = random.Random(seed), 0
    while made < count:
        code = Code(**{name: draw.choice([v for v in values if v != "func"]) for name, values in CHOICES.items()})
        if possible(code):
            made += 1
            yield Case(
                code,
                draw.choice(KNOWN),
                draw.choice(SIGMAS),
                draw.choice(WARM_UPS),
            )


CONTEXTS: tuple[tuple[dict, str, float, tuple[float, ...]], ...] = (
    ({}, "few", 0.5, (1.0, 0.5)),
    ({"norm": "rms", "weight": "polynomial", "form": "target"}, "late", 0.7, (1.0, 0.5)),
    ({"norm": "none", "reduce": "sum"}, "early", 0.3, (1.0, 0.1)),
    ({"norm": "clip", "teacher": "none"}, "few", 0.7, (0.5, 1.0)),
)


def wrong_cases() -> Iterator[tuple[Mistake, Case]]:
    """Every mistake alone, with four sets of choices."""
    for mistake, (choices, times, sigma, r) in itertools.product(MISTAKES, CONTEXTS):
        needs = dict(NEEDS.get(mistake.kind, {}))
        if mistake.kind in TAUGHT:
            needs["teacher"] = "t"
        if "batch" in mistake.kind and choices.get("norm") in ("none", "clip"):
            needs["norm"] = "plain"
        yield mistake, Case(replace(Code(mistakes=(mistake,)), **{**choices, **needs}), times, sigma, r)


BLIND: tuple[tuple[str, str, Code, str, float, tuple[float, ...]], ...] = (
    ("one sigma_d too many: dF/dt", "at sigma_d = 1", Code(), "few", 1.0, (1.0, 0.5)),
    ("warm-up on x alone", "at r = 1 alone", Code(), "few", 0.5, (1.0,)),
    ("warm-up on all terms", "normalised with no constant", Code(constant=0.0), "few", 0.5, (1.0, 0.5)),
    ("warm-up on all terms", "L1", Code(shape="L1"), "few", 0.5, (1.0, 0.5)),
    ("norm over the batch", "L1", Code(shape="L1"), "few", 0.5, (1.0, 0.5)),
    ("prior weight again, on the loss", "at a single time", Code(), "one", 0.5, (1.0, 0.5)),
    ("prior weight again, on the loss", "L1", Code(shape="L1"), "few", 0.5, (1.0, 0.5)),
    ("prior weight again, on the loss", "Pseudo-Huber", Code(shape="Pseudo-Huber"), "few", 0.5, (1.0, 0.5)),
    ("prior weight again, on the loss", "beside a fixed 2 + t", Code(weight="fixed 2 + t"), "few", 0.5, (1.0, 0.5)),
    (
        *("prior weight again, on the loss", "linear, beside a learned weight"),
        *(Code(weight="polynomial", form="inner product"), "few", 0.5, (1.0, 0.5)),
    ),
    ("prior weight again, before the norm", "normalised with no constant", Code(constant=0.0), "few", 0.5, (1.0, 0.5)),
    ("F inside g not detached", "at a single time", Code(norm="none"), "one", 0.5, (1.0, 0.5)),
    ("F inside g not detached", "clipped", Code(norm="clip"), "few", 0.5, (1.0, 0.5)),
)
"""Mistakes where they cannot be seen, or hardly."""
TAUGHT = ("path of the data", "velocity of the data")
APART = {"discrete", "diffusion"}
"""Other losses altogether: a second mistake says nothing there."""


def pairs(step: int) -> Iterator[tuple[Mistake, Mistake, Case]]:
    """Two mistakes at once, every `step`-th such pair; not two that are one, or that cancel."""
    single = [mistake for mistake in MISTAKES if mistake.kind not in APART]
    for one, two in list(itertools.combinations(single, 2))[::step]:
        if set(one.parts) & set(two.parts) or (one.kind and two.kind and one.kind.split()[0] == two.kind.split()[0]):
            continue
        if {one.kind, two.kind} == {"whole sign", "loss's sign"}:
            continue
        needs = {**NEEDS.get(one.kind, {}), **NEEDS.get(two.kind, {})}
        if needs.get("dropout") and needs.get("clock"):
            continue
        yield one, two, Case(replace(Code(mistakes=(one, two)), **needs), "few", 0.7)


def audited(case: Case) -> AuditReport:
    code = case.code
    t = torch.tensor(TIMES[case.times], dtype=torch.float64).repeat_interleave(4)
    x0, z = batch(t, case.sigma)
    slow = code.clock in ("1000 t", "sigma")
    field = dropped if code.dropout else network(0, slow)
    teacher = None if code.teacher == "none" else network(1, False)
    return audit_loss(loss_of(code, case.sigma), field, x0, z, t, case.sigma, teacher, case.r)


def verdict(report: AuditReport, mistakes: tuple[Mistake, ...]) -> str:
    if not report.problems:
        return "noted" if any(re.search(m.words, note) for m in mistakes for note in report.notes) else "invisible"
    said = all(any(re.search(m.words, problem) for problem in report.problems) for m in mistakes)
    return "named" if said else "detected"


def table() -> tuple[str, list[str]]:
    """(the table of the page, the right losses that alarmed)."""
    alarms, right = [], 0
    for case in right_cases(RIGHT):
        right += 1
        report = audited(case)
        if report.problems:
            alarms.append(f"{case}: {report.problems}")
    alone, both = {m.name: Counter() for m in MISTAKES}, {m.name: Counter() for m in MISTAKES}
    for mistake, case in wrong_cases():
        alone[mistake.name][verdict(audited(case), (mistake,))] += 1
    for one, two, case in pairs(PAIRS):
        found = verdict(audited(case), (one, two))
        both[one.name][found] += 1
        both[two.name][found] += 1
    lines = ["| mistake | alone | with a second one |", "|---|---|---|"]
    lines += [f"| {name} | {_counted(counts)} | {_counted(both[name])} |" for name, counts in alone.items()]
    wrong = sum(sum(c.values()) for c in alone.values())
    total = sum(sum(c.values()) for c in both.values()) // 2
    head = f"{right} right losses: {len(alarms)} alarms. {wrong} losses with one mistake, {total} with two:"
    lines += ["", "Where there is least to see:", "", "| mistake | where | found |", "|---|---|---|"]
    for name, where, code, times, sigma, r in BLIND:
        mistake = next(m for m in MISTAKES if m.name == name)
        report = audited(Case(replace(code, mistakes=(mistake,)), times, sigma, r))
        lines.append(f"| {name} | {where} | {verdict(report, (mistake,))} |")
    return head + "\n\n" + "\n".join(lines), alarms


RIGHT, PAIRS = 400, 5


def _counted(counts: Counter) -> str:
    return ", ".join(f"{word} {counts[word]}" for word in ("named", "detected", "noted", "invisible") if counts[word])


START, END = "<!-- by python -m tests.core.audit_battery -->\n", "<!-- end -->"


def main() -> None:
    page = PAGE.read_text()
    before, rest = page.split(START)
    after = rest.split(END)[1]
    found, alarms = table()
    PAGE.write_text(f"{before}{START}{found}\n{END}{after}")
    print(found, *alarms, sep="\n")


if __name__ == "__main__":
    main()
