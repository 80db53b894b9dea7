"""The audit names every mistake that others have made, and is silent on what is right (papers.md 2.1-2.6)."""

import contextlib
import math
import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.core.audit_battery import (
    BLIND,
    LEARNED,
    MISTAKES,
    PAGE,
    PAIRS,
    Case,
    Code,
    Mistake,
    audited,
    pairs,
    right_cases,
    verdict,
    wrong_cases,
)
from tests.core.audit_battery import (
    RIGHT as RIGHT_CASES,
)
from trigbench.core.audit import audit_loss, audit_tangent, remedies
from trigbench.core.audit.remedies import TERM_BY_TERM, remedy_of
from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives.continuous import scd, sct
from trigbench.core.objectives.discrete import dscd
from trigbench.core.objectives.lineage import cd, ct, ect, ict
from trigbench.core.objectives.regression import settings_for
from trigbench.core.trigflow import ProposalGrid

CHECKED = ("test_one_r_and_one_time_are_audited_as_far_as_they_go", "test_the_example_says_what_its_page_shows")
"""In which shapes are checked; at each of the thousands of calls in the others that would take most of their time."""


pytestmark = pytest.mark.one_in(6)  # each of thousands of cases is an audit of its own


@pytest.fixture(autouse=True)
def _shapes_unchecked(request, unchecked):
    with contextlib.nullcontext() if request.node.name in CHECKED else unchecked():
        yield


SHAPE, SIGMA = (3, 4, 4), 0.5
TIMES = torch.tensor([0.1, 0.5, 1.0, 1.4], dtype=torch.float64).repeat_interleave(5)


def network(seed: int, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    made = ResidualMLP(SHAPE, width=32, blocks=2).double()
    nn.init.normal_(made.project.weight, std=0.3)
    if dropout:
        made.blocks.append(Dropped(dropout))
    return made


class Dropped(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        return nn.functional.dropout(h, self.rate)


FIELD, TEACHER = bind(network(0)), bind(network(1))
NOISY = bind(network(0, dropout=0.3))
DRAW = torch.Generator().manual_seed(2)
X0, Z = (SIGMA * torch.randn(len(TIMES), *SHAPE, generator=DRAW, dtype=torch.float64) for _ in range(2))


def col(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)


C, S = col(TIMES.cos()), col(TIMES.sin())
X, ALONG_DATA = C * X0 + S * Z, C * Z - S * X0
ALONG_TEACHER = SIGMA * TEACHER(X / SIGMA, TIMES).detach()


def jvp(field, x, t, v, scale):
    """(F, scale * sigma_d dF/dt) in the paper's units, by torch.func.jvp."""
    F, dF = torch.func.jvp(field, (x / SIGMA, t), (col(scale) * v / SIGMA, scale))[:2]
    return F, SIGMA * dF.detach()


def right(field, x, t, v, r):
    """Algorithm 1, before the normalisation."""
    c, s = col(t.cos()), col(t.sin())
    F, dF = jvp(field, x, t, v, t.cos() * t.sin())
    return -c * c * (SIGMA * F - v) - r * (c * s * x + dF)


# --- tangents -------------------------------------------------------------------------------------


def map_tangent(field, x, t, v, r):
    return right(field, x, t, v, r) / col(t.cos())


def by_differences(field, x, t, v, r):
    c, s, h = col(t.cos()), col(t.sin()), 1e-3
    with torch.no_grad():
        ahead, behind = (field((x + k * h * v) / SIGMA, t + k * h) for k in (1, -1))
    return -c * c * (SIGMA * field(x / SIGMA, t) - v) - r * c * s * (x + SIGMA * (ahead - behind) / (2 * h))


def ours(field, x, t, v, r):
    c, s = col(t.cos()), col(t.sin())
    scale = t.cos() * t.sin()
    F, dF = value_and_tangent(field, (x / SIGMA, t), (col(scale) * v / SIGMA, scale))
    return -c * c * (SIGMA * F - v) - r * (c * s * x + SIGMA * dF)


def scaled(field, x, t, v, r):
    return right(field, x, t, v, r) / SIGMA


ONE_EVALUATION = [right, map_tangent, ours, scaled]


@pytest.mark.parametrize(
    ("candidate", "field"),
    [*((candidate, field) for candidate in ONE_EVALUATION for field in (FIELD, NOISY)), (by_differences, FIELD)],
)
@pytest.mark.parametrize("velocity", [ALONG_TEACHER, ALONG_DATA])
def test_right_tangents_raise_no_alarm(candidate, velocity, field):
    found = audit_tangent(candidate, field, X, TIMES, velocity, SIGMA)
    assert found.right, found
    assert all(abs(ratio - 1) < 1e-3 for ratio in found.ratios.values())


def sigma_twice_on_the_derivative(field, x, t, v, r):
    c, s = col(t.cos()), col(t.sin())
    F, dF = jvp(field, x, t, v, t.cos() * t.sin())
    return -c * c * (SIGMA * F - v) - r * (c * s * x + SIGMA * dF)


def sigma_twice_on_the_derivative_in_time(field, x, t, v, r):
    """As min-sCM has it."""
    _, whole = jvp(field, x, t, v, t.cos() * t.sin())
    _, in_time = jvp(field, x, t, torch.zeros_like(v), t.cos() * t.sin())
    c, s = col(t.cos()), col(t.sin())
    return -c * c * (SIGMA * field(x / SIGMA, t) - v) - r * (c * s * x + whole - in_time + SIGMA * in_time)


def without_sigma(field, x, t, v, r):
    c, s = col(t.cos()), col(t.sin())
    F, dF = jvp(field, x, t, v, t.cos() * t.sin())
    return -c * c * (SIGMA * F - v) - r * (c * s * x + dF / SIGMA)


def without_sigma_on_f(field, x, t, v, r):
    c, s = col(t.cos()), col(t.sin())
    F, dF = jvp(field, x, t, v, t.cos() * t.sin())
    return -c * c * (F - v) - r * (c * s * x + dF)


def cos_sin_twice(field, x, t, v, r):
    c, s = col(t.cos()), col(t.sin())
    F, dF = jvp(field, x, t, v, t.cos() * t.sin())
    return -c * c * (SIGMA * F - v) - r * c * s * (x + dF)


def cos_sin_and_sigma_twice(field, x, t, v, r):
    c, s = col(t.cos()), col(t.sin())
    F, dF = jvp(field, x, t, v, t.cos() * t.sin())
    return -c * c * (SIGMA * F - v) - r * c * s * (x + SIGMA * dF)


def prior_twice(field, x, t, v, r):
    return right(field, x, t, v, r) / (SIGMA * col(t.tan()))


def data_path(field, x, t, v, r):
    c, s, h = col(t.cos()), col(t.sin()), 1e-3
    with torch.no_grad():
        sides = [field((col((t + k * h).cos()) * X0 + col((t + k * h).sin()) * Z) / SIGMA, t + k * h) for k in (1, -1)]
    dF = SIGMA * (sides[0] - sides[1]) / (2 * h)
    return -c * c * (SIGMA * field(x / SIGMA, t) - v) - r * c * s * (x + dF)


def warm_up_on_the_velocity(field, x, t, v, r):
    c, s = col(t.cos()), col(t.sin())
    F, dF = jvp(field, x, t, v, t.cos() * t.sin())
    return -r * c * c * (SIGMA * F - v) - (c * s * x + dF)


def warm_up_on_x_alone(field, x, t, v, r):
    c, s = col(t.cos()), col(t.sin())
    F, dF = jvp(field, x, t, v, t.cos() * t.sin())
    return -c * c * (SIGMA * F - v) - (r * c * s * x + dF)


def two_masks(field, x, t, v, r):
    c, s = col(t.cos()), col(t.sin())
    _, dF = jvp(field, x, t, v, t.cos() * t.sin())
    return -c * c * (SIGMA * field(x / SIGMA, t) - v) - r * (c * s * x + dF)


def minus_f(field, x, t, v, r):
    return right(lambda x, t: -field(x, t), x, t, v, r)


def upside_down(field, x, t, v, r):
    return -right(field, x, t, v, r)


def no_time(field, x, t, v, r):
    c, s = col(t.cos()), col(t.sin())
    scale = t.cos() * t.sin()
    F, dF = torch.func.jvp(lambda y: field(y, t), (x / SIGMA,), (col(scale) * v / SIGMA,))[:2]
    return -c * c * (SIGMA * F - v) - r * (c * s * x + SIGMA * dF)


def linearised(field, x, t, v, r):
    return torch.func.linearize(field, x / SIGMA, t)[0]


WRONG = [
    (sigma_twice_on_the_derivative, FIELD, r"dF/dx, dF/dt: sigma_d is multiplied once too often"),
    (sigma_twice_on_the_derivative_in_time, FIELD, r"^dF/dt: sigma_d is multiplied once too often"),
    (without_sigma, FIELD, r"dF/dx, dF/dt: sigma_d is missing"),
    (without_sigma_on_f, FIELD, r"^F: sigma_d is missing"),
    (cos_sin_twice, FIELD, r"dF/dx, dF/dt: cos t sin t is multiplied once too often"),
    (cos_sin_and_sigma_twice, FIELD, r"sigma_d is multiplied once too often; cos t sin t is multiplied once too often"),
    (prior_twice, FIELD, "prior weight twice"),
    (data_path, FIELD, "wrong path"),
    (warm_up_on_the_velocity, FIELD, "warm-up on the wrong term"),
    (warm_up_on_x_alone, FIELD, "warm-up on the wrong term.*dF/dx by 1 instead of 0.5"),
    (two_masks, NOISY, "dropout: F and its derivative"),
    (minus_f, FIELD, "^F, dF/dx, dF/dt: wrong sign"),
    (upside_down, FIELD, "the whole tangent has the wrong sign"),
    (no_time, FIELD, "dF/dt: missing"),
]


@pytest.mark.parametrize(("candidate", "field", "words"), WRONG, ids=[candidate.__name__ for candidate, *_ in WRONG])
def test_every_mistake_in_a_tangent_is_named_and_no_other(candidate, field, words):
    found = audit_tangent(candidate, field, X, TIMES, ALONG_TEACHER, SIGMA)
    assert len(found.problems) == 1, found
    assert re.search(words, found.problems[0]), found
    assert remedy_of(found.problems[0]) != TERM_BY_TERM, found
    assert "wrong" in str(found)


# --- losses ---------------------------------------------------------------------------------------


def velocity_of(teacher, x0, z, t):
    c, s = col(t.cos()), col(t.sin())
    x = c * x0 + s * z
    return x, SIGMA * teacher(x / SIGMA, t).detach() if teacher else c * z - s * x0


def divided(g, norm="l2"):
    size = g.flatten(1).norm(dim=1) / (g[0].numel() ** 0.5 if norm == "rms" else 1)
    return g / (col(size) + 0.1)


def regressed(control, tangent=right, weight=None, reduce=torch.mean):
    """Algorithm 1's loss with this control of its tangent, the derivative first, as others do it, or shared."""

    def loss(field, teacher, x0, z, t, r):
        x, v = velocity_of(teacher, x0, z, t)
        outputs = []

        def once(y, time):
            outputs.append(field(y, time))
            return outputs[-1]

        g = control(tangent(once, x, t, v, r).detach())
        F = field(x / SIGMA, t)
        w = torch.zeros_like(t) if weight is None else weight(t)
        residual = (F - F.detach() - g).square().flatten(1).mean(1)
        return reduce(w.exp() * residual - w)

    return loss


def shared(field, teacher, x0, z, t, r):
    """One evaluation for value and tangent."""
    x, v = velocity_of(teacher, x0, z, t)
    c, s = col(t.cos()), col(t.sin())
    scale = t.cos() * t.sin()
    F, dF = value_and_tangent(field, (x / SIGMA, t), (col(scale) * v / SIGMA, scale))
    g = -c * c * (SIGMA * F.detach() - v) - r * (c * s * x + SIGMA * dF)
    return (F - F.detach() - divided(g)).square().sum()


def inner_product(field, teacher, x0, z, t, r):
    x, v = velocity_of(teacher, x0, z, t)
    return -(field(x / SIGMA, t) * divided(right(field, x, t, v, r).detach())).sum()


def in_terms_of_the_map(field, teacher, x0, z, t, r):
    """The map moves by -sin t times the output: no normalisation, weight 1 / tan t."""
    x, v = velocity_of(teacher, x0, z, t)
    c, s = col(t.cos()), col(t.sin())
    f = c * x - s * SIGMA * field(x / SIGMA, t)
    df = map_tangent(field, x, t, v, r).detach()
    return ((f - f.detach() + df).square() / (SIGMA * col(t.tan()))).sum()


def this_project(objective, **settings):
    def loss(field, teacher, x0, z, t, r):
        uniform = torch.special.ndtr((torch.log(SIGMA * torch.tan(t)) + 1.0) / 1.4)
        draws = Draws(uniform, z / SIGMA)
        defaults = {"proposal_mean": -1.0, "proposal_std": 1.4, "sigma_d": SIGMA, "warmup": r}
        chosen = settings_for(objective, **defaults | settings)
        return objective(Fields(field, teacher), x0 / SIGMA, draws, chosen).loss

    return loss


RIGHT = {
    "L2": regressed(divided),
    "RMS": regressed(lambda g: divided(g, "rms")),
    "raw": regressed(lambda g: g),
    "clipped": regressed(lambda g: g.clamp(-1, 1)),
    "differences": regressed(divided, by_differences),
    "summed": regressed(divided, reduce=torch.sum),
    "learned weight": regressed(divided, weight=lambda t: 2 - 0.7 * t * t),
    "learned 1 / tan t": regressed(divided, weight=lambda t: -t.tan().log()),
    "learned 1 / sin t, raw": regressed(lambda g: g, weight=lambda t: -t.sin().log(), reduce=torch.sum),
    "learned 1 / tan t, raw": regressed(lambda g: g, weight=lambda t: -t.tan().log()),
    "the map's tangent, normalised": regressed(divided, map_tangent),
    "clipped and weighted": regressed(lambda g: g.clamp(-1, 1), weight=lambda t: 2 - 0.7 * t * t),
    "without warm-up": regressed(divided, lambda field, x, t, v, r: right(field, x, t, v, 1.0)),
    "shared": shared,
    "inner product": inner_product,
    "in terms of the map": in_terms_of_the_map,
}


@pytest.mark.one_in(16)
@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("teacher", [TEACHER, None], ids=["distilled", "trained"])
def test_right_losses_raise_no_alarm(name, teacher):
    found = audit_loss(RIGHT[name], FIELD, X0, Z, TIMES, SIGMA, teacher)
    assert found.right, found


@pytest.mark.parametrize("objective", [scd, sct])
def test_the_objectives_of_this_project_raise_no_alarm(objective):
    found = audit_loss(this_project(objective), FIELD, X0, Z, TIMES, SIGMA, TEACHER if objective is scd else None)
    assert found.right, found


@pytest.mark.slow
def test_the_audit_tells_norms_apart():
    found = {name: " ".join(audit_loss(RIGHT[name], FIELD, X0, Z, TIMES, SIGMA).notes) for name in RIGHT}
    assert "|g| + 0.1 in the plain norm" in found["L2"]
    assert "0.1 of a root mean square" in found["RMS"]
    assert "not normalised" in found["raw"]
    assert "clipped" in found["clipped"]


def test_one_mask_for_value_and_tangent_raises_no_alarm():
    assert audit_loss(shared, NOISY, X0, Z, TIMES, SIGMA).right


def weighted(control=divided, learned=None):
    """The prior weight again, on the residual; maybe beside a learned weight."""

    def loss(field, teacher, x0, z, t, r):
        x, v = velocity_of(teacher, x0, z, t)
        g = control(right(field, x, t, v, r).detach())
        F = field(x / SIGMA, t)
        w = learned(t) if learned else torch.zeros_like(t)
        return ((F - F.detach() - g).square().flatten(1).mean(1) * w.exp() / (SIGMA * t.tan()) - w).mean()

    return loss


def undetached(field, teacher, x0, z, t, r):
    x, v = velocity_of(teacher, x0, z, t)
    c, s = col(t.cos()), col(t.sin())
    scale = t.cos() * t.sin()
    F, dF = torch.func.jvp(field, (x / SIGMA, t), (col(scale) * v / SIGMA, scale))[:2]
    g = -c * c * (SIGMA * F.detach() - v) - r * (c * s * x + SIGMA * dF)
    return (F - F.detach() - g).square().sum()


def ascending(field, teacher, x0, z, t, r):
    return -inner_product(field, teacher, x0, z, t, r)


def prior_before_norm(field, x, t, v, r):
    return right(field, x, t, v, r) / (SIGMA * col(t.tan()))


WRONG_LOSSES = [
    ("prior weight after the norm", weighted(), FIELD, TEACHER, "prior weight twice"),
    ("prior weight, raw", weighted(lambda g: g), FIELD, None, "prior weight twice"),
    ("prior and learned", weighted(learned=lambda t: 2 - 0.7 * t * t), FIELD, TEACHER, "prior weight twice.*beside"),
    ("prior weight before the norm", regressed(divided, prior_before_norm), FIELD, TEACHER, "prior weight twice"),
    ("min-sCM's sigma_d", regressed(divided, sigma_twice_on_the_derivative), FIELD, TEACHER, "sigma_d .* too often"),
    ("min-sCM's sigma_d in time", regressed(divided, sigma_twice_on_the_derivative_in_time), FIELD, TEACHER, "sigma_d"),
    ("bayesflow's cos sin", regressed(divided, cos_sin_and_sigma_twice), FIELD, None, "cos t sin t .* too often"),
    ("FastGen's path", regressed(divided, data_path), FIELD, TEACHER, "wrong path"),
    ("warm-up on x alone", regressed(divided, warm_up_on_x_alone), FIELD, TEACHER, "warm-up on the wrong term"),
    ("two masks", regressed(divided), NOISY, TEACHER, "dropout: the output that learns"),
    ("three masks", regressed(divided, two_masks), NOISY, TEACHER, "dropout: F and its derivative"),
    ("not detached", undetached, FIELD, TEACHER, "detach"),
    ("ascending", ascending, FIELD, TEACHER, "wrong sign"),
    ("minus F", regressed(divided, minus_f), FIELD, TEACHER, "F, dF/dx, dF/dt: wrong sign"),
]


@pytest.mark.parametrize(
    ("loss", "field", "teacher", "words"), [w[1:] for w in WRONG_LOSSES], ids=[w[0] for w in WRONG_LOSSES]
)
def test_every_mistake_in_a_loss_is_named_and_no_other(loss, field, teacher, words):
    found = audit_loss(loss, field, X0, Z, TIMES, SIGMA, teacher)
    assert len(found.problems) == 1, found
    assert re.search(words, found.problems[0]), found
    assert remedy_of(found.problems[0]) != TERM_BY_TERM, found


def test_every_beginning_that_has_a_remedy_is_one_of_a_problem():
    folder = Path(remedies.__file__).parent
    said = "".join(path.read_text() for path in folder.glob("*.py") if path.name != "remedies.py")
    assert [start for start in remedies.REMEDIES if start not in said] == []


# --- faults that were found, each as a kind -------------------------------------------------------


def battery(code: Code, times: str = "few", sigma: float = SIGMA, r: tuple[float, ...] = (1.0, 0.5)):
    return audited(Case(code, times, sigma, r))


def mistake(name: str) -> Mistake:
    return next(mistake for mistake in MISTAKES if mistake.name == name)


def clipped_at(limit: float, unit: float, weight: str):
    """Clipped at `limit` in units of `unit`, the weight of time before or after."""

    def loss(field, teacher, x0, z, t, r):
        x, v = velocity_of(teacher, x0, z, t)
        w = (2 - 0.7 * t * t).exp()
        g = by_differences(field, x, t, v, r).detach() * (col(w) if weight == "before" else 1)
        g = (g / unit).clamp(-limit, limit) * unit
        F = field(x / SIGMA, t)
        return ((F - F.detach() - g).square().flatten(1).mean(1) * (w if weight == "after" else 1)).mean()

    return loss


@pytest.mark.parametrize("weight", ["none", "before", "after"])
@pytest.mark.parametrize("unit", [1.0, SIGMA])
def test_a_clip_raises_no_alarm_however_few_elements_stand_at_it(weight, unit):
    draw = torch.Generator().manual_seed(3)
    for limit in (0.3, 1.0, 2.0, 3.0, 4.0):
        x0, z = (SIGMA * torch.randn(len(TIMES), *SHAPE, generator=draw, dtype=torch.float64) for _ in range(2))
        found = audit_loss(clipped_at(limit, unit, weight), FIELD, x0, z, TIMES, SIGMA)
        assert found.right, (limit, found)


def test_a_single_element_at_a_limit_is_found_and_a_wrong_one_is_not_excused():
    def once(field, x, t, v, r):
        g = by_differences(field, x, t, v, r).flatten(1)
        return torch.minimum(g, g.topk(2, dim=1).values[:, 1:] * 1.05).reshape(x.shape)

    def doubled(field, x, t, v, r):
        g = by_differences(field, x, t, v, r).flatten(1)
        largest = g.argmax(dim=1, keepdim=True)
        return g.scatter(1, largest, 2 * g.gather(1, largest)).reshape(x.shape)

    found = audit_tangent(once, FIELD, X, TIMES, ALONG_DATA, SIGMA)
    assert found.right and "elements are clipped" in found.notes, found
    assert not audit_tangent(doubled, FIELD, X, TIMES, ALONG_DATA, SIGMA).right


@pytest.mark.parametrize("norm", ["plain", "rms", "none", "clip"])
def test_a_warm_up_of_both_terms_is_named(norm):
    found = battery(Code(norm=norm, mistakes=(mistake("warm-up on all terms"),)))
    assert [p for p in found.problems if p.startswith("warm-up on both")] == list(found.problems) != [], found
    assert not any("no warm-up" in note for note in found.notes)
    assert battery(Code(norm=norm, warm_up=False)).right


@pytest.mark.parametrize("jvp", ["difference", "pairs", "func"])
@pytest.mark.parametrize("clock", ["1.01 t", "1000 t", "ln sigma / 4", "sigma"])
def test_a_student_called_at_a_time_of_its_own_raises_no_alarm(clock, jvp):
    found = battery(Code(clock=clock, jvp=jvp))
    assert found.right and any("at a time of its own" in note for note in found.notes), found
    leaking = battery(Code(clock=clock, mistakes=(mistake("the derivative not detached"),)))
    assert len(leaking.problems) == 1 and "detach" in leaking.problems[0], leaking


def test_a_tangent_at_a_time_of_its_own_is_audited_at_that_time():
    def logarithm(field, x, t, v, r, forgotten=False):
        """With c_noise = ln(tan t) / 4, whose rate is 1 / (4 sin t cos t)."""
        c, s, scale = col(t.cos()), col(t.sin()), t.cos() * t.sin()
        in_time = 4 * scale * scale if forgotten else scale
        student = lambda y, time: field(y, torch.log(time.tan()) / 4)  # noqa: E731
        F, dF = torch.func.jvp(student, (x / SIGMA, t), (col(scale) * v / SIGMA, in_time))[:2]
        return -c * c * (SIGMA * F - v) - r * (c * s * x + SIGMA * dF.detach())

    def forgetful(*arguments):
        return logarithm(*arguments, forgotten=True)

    assert audit_tangent(logarithm, FIELD, X, TIMES, ALONG_DATA, SIGMA).right
    found = audit_tangent(forgetful, FIELD, X, TIMES, ALONG_DATA, SIGMA)
    assert any("rate of the field's own time is missing" in problem for problem in found.problems), found


@pytest.mark.parametrize("times", ["few", "late", "early", "many"])
@pytest.mark.parametrize("norm", ["plain", "rms", "plain of df/dt", "none", "none of df/dt", "root"])
def test_the_prior_weight_twice_before_the_norm_is_named_whatever_the_times(times, norm):
    found = battery(Code(norm=norm, mistakes=(mistake("prior weight again, before the norm"),)), times)
    assert len(found.problems) == 1 and "prior weight twice" in found.problems[0], found


@pytest.mark.one_in(16)
@pytest.mark.parametrize("weight", LEARNED)
@pytest.mark.parametrize("norm", ["plain", "none", "none of df/dt", "clip"])
@pytest.mark.parametrize("form", ["F", "inner product", "map"])
def test_a_learned_weight_raises_no_alarm_whatever_function_of_time_it_is(weight, norm, form):
    found = battery(Code(norm=norm, weight=weight, form=form))
    assert found.right, found
    if form == "F":
        again = battery(Code(norm=norm, weight=weight, mistakes=(mistake("prior weight again, on the loss"),)))
        assert len(again.problems) == 1 and "beside a learned weight" in again.problems[0], again


def test_a_learned_weight_whose_logarithms_cancel_raises_no_alarm():
    t = torch.tensor([0.3, math.pi / 2 - 0.3], dtype=torch.float64).repeat_interleave(5)
    loss = regressed(divided, by_differences_detached, weight=lambda t: -t.tan().log())
    assert float(t.tan().log().sum().abs()) < 1e-12
    found = audit_loss(loss, FIELD, X0[:10], Z[:10], t, SIGMA)
    assert found.right and "weighted by a learned weight" in found.notes, found


def by_differences_detached(*arguments):
    return by_differences(*arguments).detach()


def test_what_cannot_be_told_from_a_weight_is_said():
    prior = mistake("prior weight again, on the loss")
    linear = battery(Code(weight="polynomial", form="inner product", mistakes=(prior,)))
    assert linear.right and any("weighted by some function of time" in note for note in linear.notes), linear
    learned = battery(Code(weight="1 / tan t", form="inner product"))
    assert learned.right and any("as the prior weight it is there twice" in note for note in learned.notes), learned


SHAPES = ["L1", "Huber", "Pseudo-Huber", "Pseudo-Huber by element", "length", "adaptive"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_other_shapes_of_loss_are_judged_and_not_refused(shape):
    right_one = battery(Code(shape=shape))
    assert right_one.right, right_one
    for name in ("no sigma_d: dF/dt", "warm-up on x alone", "sign of the tangent"):
        wrong = battery(Code(shape=shape, mistakes=(mistake(name),)), sigma=0.7)
        assert any(re.search(mistake(name).words, problem) for problem in wrong.problems), (name, wrong)


def test_a_loss_of_features_is_said_to_be_no_squared_loss():
    mixed = torch.randn(48, 48, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def loss(field, teacher, x0, z, t, r):
        x, v = velocity_of(teacher, x0, z, t)
        F = field(x / SIGMA, t)
        target = (F + divided(by_differences(field, x, t, v, r))).detach()
        return ((F - target).flatten(1) @ mixed).square().mean()

    found = audit_loss(loss, FIELD, X0, Z, TIMES, SIGMA)
    assert len(found.problems) == 1 and "not the squared loss" in found.problems[0], found


def test_a_factor_that_may_be_two_things_is_said_as_both():
    halved = mistake("halved: both derivatives")
    both = battery(Code(mistakes=(halved,)), sigma=0.5).problems
    assert (
        len(both) == 1 and "sigma_d is multiplied once too often (or, which is the same here: it is halved)" in both[0]
    )
    assert battery(Code(mistakes=(halved,)), sigma=0.7).problems == ("dF/dx, dF/dt: it is halved",)
    sigma = mistake("one sigma_d too many: both derivatives")
    told = battery(Code(mistakes=(sigma,)), sigma=0.7).problems
    assert told == ("dF/dx, dF/dt: sigma_d is multiplied once too often",)


def test_a_discrete_loss_is_called_that():
    for teacher in ("t", "none"):
        for code in (Code(teacher=teacher), Code(teacher=teacher, clock="ln sigma / 4"), Code(dropout=True)):
            found = battery(replace(code, mistakes=(mistake("a discrete loss (ECT's, CT's; DDIM along a teacher)"),)))
            assert len(found.problems) == 1 and "a discrete loss" in found.problems[0], found
            if code.clock == "t":
                assert "0.9 t; its direction is f(x_t, t) - f(x_u, u)" in found.problems[0], found


@pytest.mark.parametrize("objective", [ect, cd, ct, ict, dscd])
def test_the_discrete_objectives_of_this_project_are_called_discrete(objective):
    edges = torch.tensor([0.0, 0.05, 0.1, 0.4, 0.5, 0.9, 1.0, 1.3, 1.4], dtype=torch.float64)
    share = torch.linspace(0, 1, 9, dtype=torch.float64)
    uniform = share[torch.searchsorted(edges, TIMES)] - 1 / 16

    def loss(field, teacher, x0, z, t, r):
        grid = ProposalGrid(edges, share)
        chosen = settings_for(objective, proposal_mean=-1.0, sigma_d=SIGMA, stage=3, grid=grid)
        of_noise_level = torch.special.ndtr((torch.log(SIGMA * torch.tan(t)) + 1.0) / 1.4)
        draws = Draws(of_noise_level if objective is ect else uniform, z / SIGMA)
        return objective(Fields(field, teacher), x0 / SIGMA, draws, chosen).loss

    teacher = TEACHER if objective in (cd, dscd) else None
    found = audit_loss(loss, FIELD, X0, Z, TIMES, SIGMA, teacher)
    assert len(found.problems) == 1 and "a discrete loss" in found.problems[0], found


def test_a_norm_over_the_batch_is_named_in_losses_and_tangents():
    for name in ("norm over the batch", "mean norm over the batch"):
        found = battery(Code(mistakes=(mistake(name),)))
        assert len(found.problems) == 1 and "over the batch" in found.problems[0], found
    found = audit_tangent(lambda *a: (g := right(*a)) / g.norm(), FIELD, X, TIMES, ALONG_DATA, SIGMA)
    assert len(found.problems) == 1 and "over the batch" in found.problems[0], found


def test_a_loss_that_draws_from_its_own_generator_is_not_taken_for_one_that_mixes_samples():
    draw = torch.Generator().manual_seed(0)

    def loss(field, teacher, x0, z, t, r):
        x, v = velocity_of(teacher, x0, z, t)
        g = divided(by_differences(field, x, t, v, r)).detach()
        F = field(x / SIGMA, t)
        each = (F - F.detach() - g).square().flatten(1).mean(1)
        return (each * (1 + torch.rand(len(t), generator=draw, dtype=t.dtype))).mean()

    assert audit_loss(loss, FIELD, X0, Z, TIMES, SIGMA).right


def test_a_teacher_may_be_called_with_whatever_it_takes():
    def loss(field, teacher, x0, z, t, r):
        def guided(x, time):
            both = teacher(torch.cat([x, x]), torch.cat([time, time]))
            return both[: len(x)]

        return RIGHT["L2"](field, guided, x0, z, t, r)

    assert audit_loss(loss, FIELD, X0, Z, TIMES, SIGMA, TEACHER).right


@pytest.mark.parametrize("norm", ["none", "plain", "root"])
def test_f_inside_the_direction_that_is_not_detached_is_named(norm):
    found = battery(Code(norm=norm, mistakes=(mistake("F inside g not detached"),)))
    assert len(found.problems) == 1 and "F inside g" in found.problems[0], found


def test_without_a_warm_up_a_single_r_raises_no_alarm():
    found = battery(Code(warm_up=False), r=(0.5,))
    assert found.right and any("no warm-up" in note for note in found.notes), found


def test_a_warm_up_is_audited_from_the_r_nearest_to_1_whatever_their_order():
    for r in ((0.5, 1.0), (0.1, 0.9), (2.0, 0.5)):
        assert battery(Code(), r=r).right


# --- all of it at once ----------------------------------------------------------------------------


@pytest.mark.slow
def test_no_right_loss_alarms_and_the_page_says_what_is_named_detected_and_invisible():
    """A sixth of what the page counts: every mistake, its verdict among those of its row."""
    page = PAGE.read_text()
    cells = {
        row.split(" | ")[0]: row
        for row in re.findall(r"^\| (.*) \|$", page.split("Where there is")[0], re.M)
        if row.count(" | ") == 2
    }
    alarms = [(case, found) for case in list(right_cases(RIGHT_CASES))[::6] if (found := audited(case).problems)]
    assert not alarms, alarms
    for number, (wrong, case) in enumerate(wrong_cases()):
        if number % 4 == number // 4 % 4:
            assert verdict(audited(case), (wrong,)) in cells[wrong.name].split(" | ")[1], (wrong.name, case)
    for one, two, case in list(pairs(PAIRS))[::8]:
        found = verdict(audited(case), (one, two))
        assert all(found in cells[each.name].split(" | ")[2] for each in (one, two)), (found, case)
    for name, where, code, times, sigma, r in BLIND:
        found = verdict(audited(Case(replace(code, mistakes=(mistake(name),)), times, sigma, r)), (mistake(name),))
        assert f"| {name} | {where} | {found} |" in page


def earlier(share: float, power: float):
    """CT's loss, or CD's along a teacher, between t and `share` of it; its length to that power."""

    def loss(field, teacher, x0, z, t, r):
        x, v = velocity_of(teacher, x0, z, t)
        u = share * t
        then = col((t - u).cos()) * x - col((t - u).sin()) * v
        with torch.no_grad():
            target = col(u.cos()) * then - col(u.sin()) * SIGMA * field(then / SIGMA, u)
        f = col(t.cos()) * x - col(t.sin()) * SIGMA * field(x / SIGMA, t)
        return ((f - target).square().flatten(1).sum(1) ** (power / 2) / (t - u)).mean()

    return loss


@pytest.mark.parametrize("share", [0.9, 0.98, 0.99, 0.996, 1 - 1 / 1024])
@pytest.mark.parametrize("power", [1, 2])
def test_a_discrete_loss_is_called_that_however_near_its_times(share, power):
    for teacher in (TEACHER, None):
        found = audit_loss(earlier(share, power), FIELD, X0, Z, TIMES, SIGMA, teacher)
        assert len(found.problems) == 1 and f"{share:.4g} t; its direction is f(x_t, t)" in found.problems[0], found


@pytest.mark.parametrize("step", [1e-4, 1e-3, 5e-3])
def test_a_backward_difference_is_neither_a_discrete_loss_nor_a_clip(step):
    def backward(field, x, t, v, r):
        c, s, F = col(t.cos()), col(t.sin()), field(x / SIGMA, t)
        before = field((math.cos(step) * x - math.sin(step) * v) / SIGMA, t - step)
        return -c * c * (SIGMA * F - v) - r * c * s * (x + SIGMA * (F - before).detach() / step)

    for found in (
        audit_loss(regressed(divided, backward), FIELD, X0, Z, TIMES, SIGMA, TEACHER, r=1.0),
        audit_loss(regressed(lambda g: g, backward), FIELD, X0, Z, TIMES, SIGMA),
        audit_tangent(backward, FIELD, X, TIMES, ALONG_TEACHER, SIGMA),
    ):
        assert found.right and "elements are clipped" not in found.notes, found


@pytest.mark.parametrize("jvp", ["pairs", "difference"])
@pytest.mark.parametrize(("clock", "sigma"), [("ln sigma / 4", 0.5), ("sigma", 2.0)])
def test_times_near_the_largest_noise_raise_no_alarm(clock, sigma, jvp):
    for norm, shape in (("none", "length"), ("plain", "squared")):
        found = battery(Code(clock=clock, jvp=jvp, norm=norm, shape=shape), "last", sigma)
        assert found.right, found


def test_an_undetached_norm_of_samples_of_image_size_is_named_or_noted():
    shape = (len(TIMES), 3, 8, 8)
    draw = torch.Generator().manual_seed(4)
    mixed = 0.1 * torch.randn(192, 192, generator=draw, dtype=torch.float64)
    x0, z = (SIGMA * torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(2))

    def field(x, t):
        return torch.sin(x.flatten(1) @ mixed + t[:, None]).reshape(x.shape)

    def loss(field, teacher, x0, z, t, r):
        x, v = velocity_of(teacher, x0, z, t)
        c, s = col(t.cos()), col(t.sin())
        F, dF = jvp(field, x, t, v, t.cos() * t.sin())
        g = divided(-c * c * (SIGMA * F - v) - r * (c * s * x + dF))
        return (F - F.detach() - g).square().mean()

    found = audit_loss(loss, field, x0, z, TIMES, SIGMA)
    assert any("detach" in said for said in (*found.problems, *found.notes)), found


def test_a_candidate_that_writes_in_place_leaves_what_it_was_given():
    def writes(field, x, t, v, r):
        x.mul_(2)
        return right(field, x.mul_(0.5), t, v.add_(0), r)

    def spoils(field, x, t, v, r):
        g = right(field, x.clone(), t, v, r)
        x.mul_(3)
        return g

    before = X.clone()
    assert audit_tangent(spoils, FIELD, X, TIMES, ALONG_DATA, SIGMA).right and torch.equal(before, X)
    assert audit_tangent(writes, FIELD, X, TIMES, ALONG_DATA, SIGMA).right


# --- what cannot be audited ------------------------------------------------------------------------


@pytest.mark.slow
def test_what_cannot_be_audited_is_refused_in_words(unchecked):
    zero = bind(ResidualMLP(SHAPE, width=16, blocks=1).double())
    infinite = X.clone()
    infinite[3, 0, 0, 0] = torch.inf
    for change, words in [
        ({"field": zero}, "the field is zero"),
        ({"x": X.float()}, "float64"),
        ({"velocity": X.float()}, "velocity of torch.float32"),
        ({"t": TIMES.float()}, "t of torch.float32"),
        ({"t": torch.ones(len(TIMES), dtype=torch.int64)}, "t of torch.int64"),
        ({"x": X[:, :1, :2, :2], "velocity": X[:, :1, :2, :2]}, "12 elements"),
        ({"velocity": X[:, :1]}, "must have one shape"),
        ({"t": TIMES[:3]}, r"t \(batch,\)"),
        ({"t": TIMES[:, None]}, r"t \(batch,\)"),
        ({"t": TIMES * 2}, "inside"),
        ({"x": infinite}, "x holds what is not a number"),
        ({"velocity": X * torch.nan}, "velocity holds what is not a number"),
        ({"sigma_d": 0.0}, "sigma_d must be positive"),
        ({"sigma_d": math.nan}, "sigma_d must be positive"),
        ({"candidate": lambda *_: X}, "never called"),
        ({"candidate": lambda *a: right(*a)[:, :1]}, r"the candidate must give torch.float64 of \(20, 3, 4, 4\)"),
        ({"candidate": lambda *a: right(*a).float()}, "the candidate must give torch.float64"),
        ({"candidate": lambda *a: right(*a) * torch.nan}, "the candidate gives what is not a number"),
        ({"candidate": lambda *a: 0.0}, "the candidate must give a tensor"),
        ({"candidate": lambda field, x, t, v, r: field(x, t.long())}, "times of torch.int64"),
        ({"candidate": lambda field, x, t, v, r: field(x[:2], t[:2])}, "called with"),
        ({"r": (1.0, 0.0)}, "r must be positive"),
        ({"r": ()}, "r must be positive"),
        ({"r": math.nan}, "r must be positive"),
        ({"r": "a"}, "r must be positive"),
        ({"r": torch.tensor(1.0)}, "r must be positive"),
        ({"candidate": linearised}, "traced"),
        ({"field": lambda x, t: x.sin()}, "a network without a time"),
        ({"field": lambda x, t: FIELD(x, t)[:, :1]}, "the field must give"),
        ({"field": lambda x, t: FIELD(x, t).float()}, "the field must give"),
        ({"field": lambda x, t: FIELD(x, t) * torch.nan}, "the field gives what is not a number"),
        ({"field": lambda x, t: FIELD(x, t) - FIELD(x, t).mean(0)}, "mixes the samples of a batch"),
    ]:
        arguments = {"candidate": right, "field": FIELD, "x": X, "t": TIMES, "velocity": ALONG_DATA, "sigma_d": SIGMA}
        with unchecked(), pytest.raises(ValueError, match=words):
            audit_tangent(**(arguments | change))
    for change, words in [
        ({"x0": X0[:4], "z": Z[:4], "t": torch.linspace(0.1, 1.4, 4, dtype=torch.float64)}, "4 samples of each time"),
        ({"z": Z[:, :1]}, "must have one shape"),
        ({"loss": lambda *_: 1.0}, "a tensor of one number, got float"),
        ({"loss": lambda *a: shared(*a) * torch.ones(20)}, "take its mean or sum"),
        ({"loss": lambda *a: shared(*a) * torch.nan}, "the loss is nan"),
        ({"teacher": lambda x, t: TEACHER(x, t) * torch.nan}, "the teacher gives what is not a number"),
        ({"teacher": lambda x, t: TEACHER(x, t)[:, 0]}, "the teacher must give"),
        ({"teacher": FIELD}, "its own teacher"),
    ]:
        arguments = {"loss": shared, "field": FIELD, "x0": X0, "z": Z, "t": TIMES, "sigma_d": SIGMA}
        with unchecked(), pytest.raises(ValueError, match=words):
            audit_loss(**(arguments | change))


def test_one_r_and_one_time_are_audited_as_far_as_they_go():
    assert audit_tangent(right, FIELD, X, TIMES, ALONG_DATA, SIGMA, r=1.0).right
    time = torch.full_like(TIMES, 0.7)
    x, v = (0.7 * a for a in (X, ALONG_DATA))
    found = audit_tangent(right, FIELD, x, time, v, SIGMA)
    assert found.right and any("at a single time" in note for note in found.notes)


@pytest.mark.parametrize("loss", [lambda *_: torch.zeros(()), lambda field, *_: field(X, TIMES).detach().sum()])
def test_a_loss_without_a_gradient_is_a_problem(loss):
    assert "no gradient" in str(audit_loss(loss, FIELD, X0, Z, TIMES, SIGMA)) or "never" in str(
        audit_loss(loss, FIELD, X0, Z, TIMES, SIGMA)
    )


def test_the_example_says_what_its_page_shows(capsys):
    root = Path(__file__).parents[2]
    runpy.run_path(str(root / "examples/audit_a_loss.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "dF/dt: sigma_d is missing" in said
    assert said in (root / "docs/audit.md").read_text()
