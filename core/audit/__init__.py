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

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trigbench.core.audit.diagnose import (
    AuditReport,
    about_clock,
    about_norm,
    about_scale_of_points,
    about_weight_before,
    compare_masks,
    compare_parts,
    compare_warm_up,
    report_of,
    unexplained,
)
from trigbench.core.audit.norms import shape_of, weights_of
from trigbench.core.audit.others import judge_by_order, judge_discrete
from trigbench.core.audit.probe import (
    MAX_CALLS,
    Call,
    Given,
    Gradient,
    Loss,
    Student,
    Tangent,
    check,
    check_output,
    check_samples,
    column,
    coupled_samples,
    gradient_of,
    half_changed,
    noted,
    students_of,
    velocity_of,
    watched,
)
from trigbench.core.audit.split import Seen, Split, explain, follows, largest_of, powers_of
from trigbench.core.trigflow import Batch, Field, Times


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
    r = check(field, {"x": x, "velocity": velocity}, t, sigma_d, r)
    given = Given(field, x, t, sigma_d, velocity)

    def run(warm_up: float, shift: Tensor | float = 0.0, other: bool = False) -> tuple[Tensor, list[Call]]:
        calls: list[Call] = []
        at, along = (half_changed(a) if other else a for a in (x, velocity))
        with torch.random.fork_rng(devices=[]):
            g = candidate(watched(field, "the field", x, t, calls), at.clone(), t + shift, along.clone(), warm_up)
        check_output("the candidate", g, x)
        if not calls:
            raise ValueError("the candidate never called the field")
        return g.detach(), calls

    splits, outputs, students = [], [], []
    for warm_up in r:
        g, calls = run(warm_up)
        outputs.append(g)
        students = students_of(given, calls, None, lambda h, warm_up=warm_up: run(warm_up, h)[1])[0]
        splits.append(explain(g, students, given, warm_up))
    coupled = _mixed(outputs[0], run(r[0], other=True)[0], lambda: run(r[0])[0])
    if splits[0].explained:
        return _judge_tangent(given, splits, r, students, coupled)
    if not coupled and not follows(candidate, given, r[0]):
        words = "wrong path: the derivative of F does not follow the velocity that it is given"
        return AuditReport((words,), (), {}, largest_of(splits[0].remainder))
    return unexplained(splits[0], coupled)


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
    r = check(field, {"x0": x0, "z": z}, t, sigma_d, r)
    check_samples(t)
    c, s = (column(f(t), x0) for f in (torch.cos, torch.sin))
    x, along_data = c * x0 + s * z, c * z - s * x0
    leaves = [[torch.zeros_like(x, requires_grad=True) for _ in range(2)] for _ in range(MAX_CALLS)]
    taught: list[Call] = []

    def run(
        warm_up: float, shift: Tensor | float = 0.0, other: bool = False, twice: bool = False
    ) -> tuple[Gradient | str, list[Call]]:
        calls: list[Call] = []
        taught.clear()
        data, noise = (half_changed(a) if other else a for a in (x0, z))
        given_teacher = None if teacher is None else noted(teacher, x, t, taught)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            student = watched(field, "the field", x, t, calls, leaves)
            value = loss(student, given_teacher, data.clone(), noise.clone(), t + shift, warm_up)
            return gradient_of(value, calls, leaves, x / sigma_d, t, twice), calls

    given = Given(field, x, t, sigma_d, along_data)
    seen: list[Seen] = []
    for warm_up in r:
        found, calls = run(warm_up, twice=warm_up == r[0])
        if isinstance(found, str):
            return AuditReport((found,), (), {}, math.nan)
        if teacher is not None and not seen:
            velocity, notes = velocity_of(teacher, taught, x, t, sigma_d)
            given = replace(given, velocity=velocity, data=along_data, notes=tuple(notes))
        students, own = students_of(given, calls, found.recorded, lambda h, warm_up=warm_up: run(warm_up, h)[1])
        seen.append(Seen(warm_up, found, calls, students, own, explain(found.total, students, given, warm_up)))
    coupled = _mixed(seen[0].gradient.total, _total(run(r[0], other=True)[0]), lambda: _total(run(r[0])[0]))
    step = torch.minimum(t, math.pi / 2 - t) / 100
    return _judge_loss(given, seen, coupled, lambda: (run(r[0], step, twice=True)[0], t + step))


def _total(found: Gradient | str) -> Tensor | None:
    return None if isinstance(found, str) else found.total


def _mixed(before: Tensor, changed: Tensor | None, again: Callable[[], Tensor | None]) -> list[str]:
    """A problem, if other samples change what came out; not where it changes by itself, from a generator of its own."""
    found = [] if changed is None else coupled_samples(before, changed)
    same = again() if found else None
    return [] if same is not None and coupled_samples(before, same) else found


def _judge_tangent(
    given: Given, splits: Sequence[Split], r: Sequence[float], students: Sequence[Student], coupled: list[str]
) -> AuditReport:
    """What the coefficients of a tangent say, at every r."""
    first, t = splits[0], given.t
    problems, notes, common = compare_parts(first, t, given.sigma_d, r[0])
    wrong, said = compare_warm_up(splits, r)
    problems = problems + compare_masks(first, students) + wrong + about_scale_of_points(students[0]) + coupled
    notes = notes + said + about_clock(students[0], t)
    sure = first.usable
    if bool((common[sure] < 0).all()):
        problems.append("the whole tangent has the wrong sign")
    weight = powers_of(common[sure].abs(), t[sure])
    wrong, said = about_weight_before(weight, common[sure].abs())
    return report_of(problems + wrong, notes + said, first)


def _judge_loss(
    given: Given,
    seen: Sequence[Seen],
    coupled: list[str],
    later: Callable[[], tuple[Gradient | str, Tensor]],
) -> AuditReport:
    """What a loss's gradients say; `later` gives the gradient at other times, and these."""
    first, gradient, students = seen[0].split, seen[0].gradient, seen[0].students
    notes = list(given.notes)
    flows = ["the gradient flows through the tangent or the target too: detach both"] if gradient.leak else []
    evident = [*flows, *coupled, *about_scale_of_points(students[0])]
    explained = all(one.split.explained for one in seen)
    discrete = judge_discrete(gradient, seen[0].calls, given, first.explained)
    if discrete is not None:
        return AuditReport((discrete, *evident), tuple(notes), {}, largest_of(first.remainder))
    by_order = None if explained else judge_by_order(seen, given)
    if by_order is not None:
        wrong, said = by_order
        return AuditReport((*wrong, *evident), (*said, *notes), {}, largest_of(first.remainder))
    if not first.explained:
        return unexplained(first, evident)
    problems, said, common = compare_parts(first, given.t, given.sigma_d, seen[0].r)
    wrong, chosen = compare_warm_up([one.split for one in seen], [one.r for one in seen])
    masks = compare_masks(first, students, seen[0].own)
    bent, unseen = shape_of(gradient)[0] == "other", not (problems or wrong or masks or bool(first.usable.all()))
    if (problems or wrong) if bent else unseen:
        by_order = judge_by_order(seen, given)
        if by_order is not None and bent and not by_order[0]:  # a bent line is no sum of parts: nearly one misleads
            return AuditReport(tuple(evident), (*by_order[1], *notes), {}, largest_of(first.remainder))
        if unseen:  # of the samples that are clipped too much, the order is known
            problems = ["where most is clipped, the order of elements is not g's"] if by_order is None else by_order[0]
    notes = said + notes + about_clock(students[0], given.t) + chosen
    problems = problems + masks + wrong + evident
    if bool((common[first.usable] < 0).all()):
        problems.append("the whole loss has the wrong sign: it moves F against the tangent")
    weights = weights_of(gradient, students[0], given, later)
    wrong, said = about_norm(gradient, first, common.abs(), given, bool(flows), bool(coupled), weights)
    return report_of(problems + wrong, notes + said, first)
