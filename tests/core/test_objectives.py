"""Objectives against one training step in the papers' own units (papers.md 2.2, 3.1; sec. 10, row 4).

The paper's side of every comparison is written here by hand, in data units with sigma_d = 0.5: X0 = sigma_d x0,
Z ~ N(0, sigma_d^2), f(X, t) = cos t X - sigma_d sin t F(X / sigma_d, t).
"""

import ast
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trigbench.core import papers
from trigbench.core.citing import citation
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.objectives.continuous import scd, sct
from trigbench.core.objectives.diffusion import diffusion
from trigbench.core.objectives.discrete import chord_velocity, discrete_direction, dscd, dsct
from trigbench.core.objectives.regression import NORMALISED, Settings, regress, settings_for
from trigbench.core.samplers.ode import heun_step
from trigbench.core.schedules import karras_angles, largest_angle, uniform_angles
from trigbench.core.tangents import Direction, clip, derivative_along, normalise, raw, segment_direction
from trigbench.core.trigflow import consistency_map, interpolate, proposal_grid, rotate, velocity

ROOT = Path(__file__).parents[2]
SIGMA_D, MEAN, STD = 0.5, -1.0, 1.4
BATCH, SIZE = 6, 4


def col(t: Tensor) -> Tensor:
    return t[:, None]


class Step:
    """One training step, in both languages."""

    def __init__(self, student: nn.Module, teacher: nn.Module, w: nn.Module, seed: int, intervals: int = 12) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.student, self.teacher, self.w = student, teacher, w
        self.x0 = torch.randn(BATCH, SIZE, generator=generator, dtype=torch.float64)
        self.noise = torch.randn(BATCH, SIZE, generator=generator, dtype=torch.float64)
        self.uniform = torch.rand(BATCH, generator=generator, dtype=torch.float64)
        self.grid = karras_angles(intervals, SIGMA_D)
        # the paper's names
        self.X0, self.Z = SIGMA_D * self.x0, SIGMA_D * self.noise
        self.t = torch.atan(torch.exp(MEAN + STD * torch.special.ndtri(self.uniform)) / SIGMA_D)

    def ours(self, objective: Callable, **settings: object) -> tuple[Tensor, list[Tensor], Tensor]:
        fields = Fields(self.student, self.teacher, self.w)
        grid = proposal_grid(self.grid, MEAN, STD, SIGMA_D)  # the paper's CIFAR-10 settings
        chosen = settings_for(objective, grid=grid, **settings)
        result = objective(fields, self.x0, Draws(self.uniform, self.noise), chosen)
        return result.loss, self.gradients(result.loss), result.direction_norm

    def gradients(self, loss: Tensor) -> list[Tensor]:
        parameters = [*self.student.parameters(), *self.w.parameters()]
        return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))

    def papers_loss(self, t: Tensor, X: Tensor, g: Tensor, w_max: float = math.inf) -> Tensor:
        """e^w / D ||F - F- - g||^2 - w, the last line of Alg. 1."""
        F, w = self.student(X / SIGMA_D, t), self.w(t).clamp(max=w_max)
        return (w.exp() / SIZE * (F - F.detach() - g).square().sum(1) - w).mean()

    def point(self, t: Tensor) -> Tensor:
        return torch.cos(col(t)) * self.X0 + torch.sin(col(t)) * self.Z

    def pair_velocity(self, t: Tensor) -> Tensor:
        return torch.cos(col(t)) * self.Z - torch.sin(col(t)) * self.X0

    def interval(self) -> tuple[Tensor, Tensor]:
        """(t, t') of the draws, from iCT's probabilities over the grid, one sample after another."""
        mass = [0.0] + [
            0.5 + 0.5 * math.erf((math.log(0.5 * math.tan(a)) - MEAN) / (2**0.5 * STD)) for a in self.grid[1:]
        ]
        upper = [next(i for i, m in enumerate(mass) if m / mass[-1] > p) for p in self.uniform.tolist()]
        return self.grid[upper], self.grid[[i - 1 for i in upper]]


@pytest.fixture
def step(tanh_net, time_net) -> Callable[[int], Step]:
    return lambda seed: Step(tanh_net(SIZE, seed), tanh_net(SIZE, seed + 1000), time_net(), seed)


PAPERS_CONTROLS = {
    "normalise": lambda g: g / (g.norm(dim=1, keepdim=True) + 0.1),
    "clip": lambda g: g.clamp(-1, 1),
    "raw": lambda g: g,
}
CONTROLS = {
    "normalise": NORMALISED,
    "clip": partial(clip, sigma_d=SIGMA_D),
    "raw": partial(raw, sigma_d=SIGMA_D),
}


def agree(step: Step, loss: Tensor, objective: Callable, **settings: object) -> None:
    ours, gradients, _ = step.ours(objective, **settings)
    torch.testing.assert_close(ours, loss, rtol=1e-10, atol=1e-10)
    for a, b in zip(gradients, step.gradients(loss), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert max(float(g.abs().max()) for g in gradients) > 1e-4  # something was compared


@pytest.mark.one_in(4)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("r", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("objective", [scd, sct])
def test_continuous_step_is_algorithm_1_in_the_papers_units(step, objective, r, control, seed):
    k = step(seed)
    t, X = k.t, k.point(k.t)
    dXdt = SIGMA_D * k.teacher(X / SIGMA_D, t).detach() if objective is scd else k.pair_velocity(t)
    F, dFdt = torch.func.jvp(lambda X, t: k.student(X / SIGMA_D, t), (X, t), (dXdt, torch.ones_like(t)))[:2]
    c, s = torch.cos(col(t)), torch.sin(col(t))
    g = (-c * c * (SIGMA_D * F - dXdt) - r * c * s * (X + SIGMA_D * dFdt)).detach()
    loss = k.papers_loss(t, X, PAPERS_CONTROLS[control](g))
    agree(k, loss, objective, warmup=r, control=CONTROLS[control])
    torch.testing.assert_close(SIGMA_D * k.ours(objective, warmup=r)[2], g.norm(dim=1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("r", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("objective", [dscd, dsct])
def test_discrete_step_is_algorithm_2_in_the_papers_units(step, objective, r, seed):
    k = step(seed)
    t, u = k.interval()
    X, gap = k.point(t), col(t - u)
    if objective is dscd:
        V = SIGMA_D * k.teacher(X / SIGMA_D, t)
        X_u = torch.cos(gap) * X - torch.sin(gap) * V
    else:
        V, X_u = k.pair_velocity(t), k.point(u)
    F_t, F_u = SIGMA_D * k.student(X / SIGMA_D, t), SIGMA_D * k.student(X_u / SIGMA_D, u)
    cosine = -torch.cos(col(u)) * (F_t - V)
    sine = -torch.sin(col(u)) * (X + (torch.cos(gap) * F_t - F_u) / torch.sin(gap))
    g = (torch.cos(col(t)) * (cosine + r * sine)).detach()
    if r == 1:  # the quotient itself, from which Eq. 37 was derived
        f_t, f_u = (torch.cos(col(a)) * P - torch.sin(col(a)) * F for a, P, F in ((t, X, F_t), (u, X_u, F_u)))
        torch.testing.assert_close(g, torch.cos(col(t)) * (f_t - f_u) / torch.sin(gap), rtol=1e-10, atol=1e-10)
    agree(k, k.papers_loss(t, X, PAPERS_CONTROLS["normalise"](g)), objective, warmup=r)


@pytest.mark.parametrize("seed", [0, 1])
def test_diffusion_step_is_equation_4_with_the_adaptive_weight(step, seed):
    k = step(seed)
    w, X = k.w(k.t), k.point(k.t)
    error = (SIGMA_D * k.student(X / SIGMA_D, k.t) - k.pair_velocity(k.t)).square().sum(1)
    agree(k, (w.exp() / SIZE * error / SIGMA_D**2 - w).mean(), diffusion)


@pytest.mark.parametrize("objective", [scd, diffusion, dscd])
def test_the_bound_on_the_weight_holds_value_and_gradient(step, objective):
    """w above its bound is the bound, and the log-weight gets no gradient from those samples."""
    k = step(0)
    bounded = k.ours(objective, log_weight_max=-5.0)
    k.w.abc.data = torch.tensor([0.0, 0.0, -5.0], dtype=torch.float64)  # type: ignore
    constant = k.ours(objective)
    torch.testing.assert_close(bounded[0], constant[0])
    torch.testing.assert_close(bounded[1][0], constant[1][0])
    assert not bounded[1][-1].any() and constant[1][-1].any()
    torch.testing.assert_close(k.ours(objective, log_weight_max=9.0)[0], constant[0])  # no bound in reach


@given(seed=st.integers(0, 1000), shape=st.sampled_from([(3,), (2, 4), (1, 2, 2)]))
def test_gradient_of_the_loss_in_the_output_is_minus_two_weight_g_over_dimension(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    F, g = torch.randn(2, 5, *shape, generator=generator, dtype=torch.float64)
    F.requires_grad_()
    t, w = torch.rand(2, 5, generator=generator, dtype=torch.float64)
    result = regress(Direction(F, g), t, lambda _: w)
    (gradient,) = torch.autograd.grad(result.loss, F)
    weight = w.exp().reshape(-1, *[1] * len(shape))
    torch.testing.assert_close(gradient, -2 * weight * g / math.prod(shape) / 5, rtol=1e-13, atol=0)
    unweighted = regress(Direction(F, g), t)
    assert unweighted.loss.item() == pytest.approx(g.square().mean().item(), rel=1e-13)
    torch.testing.assert_close(result.direction_norm, g.flatten(1).norm(dim=1))
    controlled = regress(Direction(F, g), t, control=partial(normalise, constant=0.2))
    torch.testing.assert_close(controlled.direction_norm, result.direction_norm)  # before any control


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3, 1e-4])
def test_discrete_direction_equals_the_difference_quotient_within_its_error_budget(tanh_net, gap):
    """Row 4: Delta (Eq. 37) against the quotient of maps, below 2e-12 for steps down to 1e-4."""
    generator = torch.Generator().manual_seed(1)
    net, teacher = tanh_net(3, 0), tanh_net(3, 1)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    t = 0.15 + 1.35 * torch.rand(40, generator=generator, dtype=torch.float64)
    u, v = t - gap, teacher(x, t).detach()
    quotient = (consistency_map(net, x, t) - consistency_map(net, rotate(x, v, t, u), u)) / torch.sin(col(t - u))
    error = (discrete_direction(net, x, t, u, v).g - torch.cos(col(t)) * quotient).abs().detach()
    assert SIGMA_D * error.median() < 2e-12
    assert error.max() < 2e-15 / gap  # cancellation grows as 1 / gap and no faster


def test_in_float32_the_discrete_direction_loses_digits_as_the_step_shrinks(tanh_net):
    """Row 4, the mechanism behind Fig. 5c: relative error about 1e-3 at a step of 1e-4, from output rounding."""
    generator = torch.Generator().manual_seed(1)
    net, net32 = tanh_net(3, 0), tanh_net(3, 0).to(torch.float32)
    x, v = torch.randn(2, 200, 3, generator=generator, dtype=torch.float32).double()
    t = 0.3 + 1.2 * torch.rand(200, generator=generator, dtype=torch.float64)
    relative = []
    for gap in (1e-2, 1e-3, 1e-4):
        exact = discrete_direction(net, x, t, t - gap, v).g
        single = discrete_direction(net32, x.float(), t, t - gap, v.float()).g
        relative.append(float((single - exact).norm() / exact.norm()))
    assert relative[0] < 1e-4 < relative[2] < 1e-2
    assert [b / a for a, b in pairwise(relative)] == pytest.approx([10, 10], rel=0.5)


def test_discrete_direction_approaches_the_continuous_one_at_first_order(tanh_net):
    """Row 4's limit: Delta -> df/dt with error O(t - t')."""
    generator = torch.Generator().manual_seed(2)
    net, teacher = tanh_net(3, 0), tanh_net(3, 1)
    x = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    t = 0.3 + 1.2 * torch.rand(20, generator=generator, dtype=torch.float64)
    v = teacher(x, t).detach()
    for r in (0.3, 1.0):
        limit = segment_direction(net, x, t, torch.zeros_like(t), v, r).g
        steps = (1e-2, 1e-3, 1e-4, 1e-5)
        errors = [float((discrete_direction(net, x, t, t - h, v, r).g - limit).abs().max().detach()) for h in steps]
        orders = [math.log10(a / b) for a, b in pairwise(errors)]
        assert orders == pytest.approx([1, 1, 1], abs=0.05)


@given(seed=st.integers(0, 1000), t=st.floats(0.05, 1.57), fraction=st.floats(0, 0.95))
def test_chord_velocity_carries_the_point_where_the_solver_ended(seed, t, fraction):
    x, x_u = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    t_, u_ = torch.full((3,), t).double(), torch.full((3,), fraction * t).double()
    torch.testing.assert_close(rotate(x, chord_velocity(x, x_u, t_, u_), t_, u_), x_u, rtol=1e-12, atol=1e-12)


def test_dscd_follows_the_solver_it_is_given(step):
    """With Heun the lower end is Heun's, not DDIM's."""
    k = step(0)
    t, u = k.interval()
    x = interpolate(k.x0, k.noise, t)
    v = chord_velocity(x, heun_step(k.teacher, x, t, u), t, u)
    exact = discrete_direction(k.student, x, t, u, v).g.flatten(1).norm(dim=1)
    torch.testing.assert_close(k.ours(dscd, solver=heun_step)[2], exact)
    assert (k.ours(dscd)[2] - exact).abs().max() > 1e-3


def test_the_pair_of_dsct_needs_no_teacher_and_the_teacher_is_never_recorded(step):
    k = step(0)
    for objective in (scd, dscd):
        ours = k.ours(objective)[0]
        assert torch.autograd.grad(ours, list(k.teacher.parameters()), allow_unused=True) == (None,) * 4
    k.teacher = None  # type: ignore
    assert all(k.ours(objective)[0].isfinite() for objective in (diffusion, sct, dsct))


@pytest.mark.parametrize("objective", [scd, dscd])
def test_the_teacher_is_asked_without_recording(step, objective):
    """Its graph would only cost memory."""
    k, recording = step(0), []
    teacher = k.teacher
    k.teacher = lambda x, t: recording.append(torch.is_grad_enabled()) or teacher(x, t)
    k.ours(objective)
    assert recording and not any(recording)


@pytest.mark.parametrize("objective", [scd, sct])
def test_the_derivative_of_the_settings_is_the_one_that_is_used(step, objective):
    k = step(0)
    exact, _, _ = k.ours(objective)
    methods = []

    def counted(*arguments):
        methods.append("difference")
        return derivative_along(*arguments, method="difference")

    differences, _, _ = k.ours(objective, derivative=counted)
    assert methods and 0 < abs(differences - exact) < 1e-6 * abs(exact)


NEEDS = {
    "teacher": {"fields.teacher"},
    "two_times": {"fields.student_to"},
    "fake": {"fields.fake", "draws.start", "draws.score", "draws.fake"},
}
TOLD = {"intervals": "grid", "points": "grid", "segments": "segments"}
"""What a setting that a method needs becomes in what it is told."""


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_method_refuses_to_do_without_what_the_table_says_it_needs_and_ignores_the_rest(step, name):
    module, function = OBJECTIVES[name].path.split(":")
    assert function == name
    objective = getattr(import_module(module), function)
    k = step(0)
    pair = Draws(k.uniform.flip(0), k.noise.flip(0))
    parts = {
        "fields": Fields(k.student, k.teacher, k.w, student_to=lambda u: k.student, fake=k.teacher),
        "draws": Draws(k.uniform, k.noise, k.noise.flip(1), pair, pair, k.uniform.roll(1), k.uniform.roll(2)),
    }
    even = uniform_angles(12, largest_angle(SIGMA_D))
    edges = even[[0, 6]]
    settings = {"grid": proposal_grid(even, MEAN, STD, SIGMA_D), "segments": edges}
    settings |= {group.setting: 3} if (group := OBJECTIVES[name].group) else {}  # of the rows here

    def loss(parts: dict[str, Any], settings: dict[str, Any]) -> Tensor:
        return objective(parts["fields"], k.x0, parts["draws"], settings_for(objective, **settings)).loss

    whole = loss(parts, settings)
    assert whole.isfinite()
    needed = set().union(*(NEEDS[flag] for flag in NEEDS if getattr(OBJECTIVES[name], flag)))
    needed |= {f"settings.{TOLD[setting]}" for setting in OBJECTIVES[name].needs}
    optional = {f"settings.{TOLD[setting]}" for setting in OBJECTIVES[name].accepts if setting in TOLD} - needed
    if "law" in OBJECTIVES[name].settings:  # segments are of one law, which no method has of itself
        optional -= {"settings.segments"}
        with pytest.raises(ValueError, match="segments"):
            loss(parts, {"law": "edges"})
        by_edges = {"law": "edges", "share_same": 0.0, "share_zero": 0.0}
        some, others = (loss(parts, settings | by_edges | {"segments": segments}) for segments in (edges, edges / 2))
        assert not torch.equal(some, others)
    for item in {"settings.grid", "settings.segments"}.union(*NEEDS.values()):
        part, attribute = item.split(".")
        fewer = {name: value for name, value in settings.items() if item != f"settings.{name}"}
        without = parts if part == "settings" else parts | {part: replace(parts[part], **{attribute: None})}  # type: ignore
        if item in needed:
            with pytest.raises(ValueError, match=attribute):
                loss(without, fewer)
        else:  # it has its own in place of what is optional
            assert torch.equal(loss(without, fewer), whole) != (item in optional)


def kind_of(name: str) -> Any:
    module, function = OBJECTIVES[name].path.split(":")
    return get_type_hints(getattr(import_module(module), function))["settings"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_method_s_settings_are_its_own_small_dataclass(name):
    kind = kind_of(name)
    assert is_dataclass(kind) and kind is not Settings and len(fields(kind)) <= 8
    assert set(OBJECTIVES[name].needs) <= set(OBJECTIVES[name].accepted)
    assert told_names(kind) >= set(OBJECTIVES[name].settings)


def told_names(kind: Any) -> set[str]:
    """Of the fields of a dataclass of settings, and of those within it, which are filled by the same names."""
    hints = get_type_hints(kind)
    inner = (told_names(hints[field.name]) for field in fields(kind) if is_dataclass(hints[field.name]))
    return {field.name for field in fields(kind)}.union(*inner)


def test_velocity_of_the_pair_is_what_sct_and_diffusion_see(step):
    """r = 0 makes sCT the cos^2-weighted diffusion direction."""
    k = step(1)
    x = interpolate(k.x0, k.noise, k.t)
    residual = velocity(k.x0, k.noise, k.t) - k.student(x, k.t)
    torch.testing.assert_close(k.ours(diffusion)[2], residual.norm(dim=1))
    torch.testing.assert_close(k.ours(sct, warmup=0.0)[2], torch.cos(k.t).square() * residual.norm(dim=1))


def test_every_objective_s_paper_can_be_cited_and_each_once() -> None:
    whole = citation()
    numbers = {method.paper.removeprefix("arXiv ") for method in OBJECTIVES.values()}
    assert len(numbers) >= 20 and all(whole.count(f"eprint = {{{number}}}") == 1 for number in numbers)
    assert len({paper.key for paper in vars(papers).values() if isinstance(paper, papers.Paper)}) == len(numbers)
    assert citation("scd", "sct") == citation("scd") != citation("cd")
    assert citation("cd", "scd").index("2303.01469") < citation("cd", "scd").index("2410.11081")
    with pytest.raises(ValueError, match="unknown objective 'sdc'; there are diffusion"):
        citation("sdc")


def test_every_setting_of_an_objective_has_a_comment_where_it_stands() -> None:
    files = [*(ROOT / "core/objectives").glob("*.py"), ROOT / "core/two_angles.py", ROOT / "core/flow_maps.py"]
    without, found = [], 0
    for file in files:
        for kind in [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef)]:
            for field, after in zip(kind.body, [*kind.body[1:], None], strict=True):
                said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if isinstance(field, ast.AnnAssign) and file.stem != "__init__":  # the table has plain words of its own
                    found += 1
                    without += [] if said else [f"{kind.name}.{ast.unparse(field.target)}"]
    assert found > 100 and without == ["Regression.loss"], "which says it itself"
