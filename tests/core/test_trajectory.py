"""CTM against its published loss in noise levels and data units, and at exact maps (lineage.md 1.2)."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.test_flow_maps import STD, close, col, exact_to, spread, velocity
from tests.core.test_segments_and_guidance import told_network
from trigbench.core.condition import Condition
from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.objectives.lineage import CDSettings, cd
from trigbench.core.objectives.trajectory import CTMSettings, Path, ctm
from trigbench.core.schedules import karras_angles
from trigbench.core.trigflow import Field, even_grid, proposal_grid, rotate

SIGMA_D, BATCH = 0.5, 8
GRID = even_grid(karras_angles(9, SIGMA_D))


def draws(seed: int = 0, batch: int = BATCH) -> tuple[Tensor, Draws]:
    g = torch.Generator().manual_seed(seed)
    x0, z = torch.randn(2, batch, 3, generator=g, dtype=torch.float64)
    uniform, lower, middle = torch.rand(3, batch, generator=g, dtype=torch.float64)
    return STD * x0, Draws(uniform, z, lower=lower, middle=middle)


def teacher(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x.roll(1, 1) + col(t)) - 0.4 * x


def fields_of(network, **beside: Any) -> Fields:
    def student_to(u: Tensor) -> Field:
        return bind(network, condition=Condition(target_time=u))

    return Fields(lambda x, t: student_to(0 * t)(x, t), teacher, student_to=student_to, **beside)


# --- the published loss, in VE's points of noise level sigma -------------------------------------------


class Published:
    """G(X, t, s) = s / t X + (1 - s / t) g(X, t, s), with g by EDM's preconditioning of the same network."""

    def __init__(self, network) -> None:
        self.network = network

    def g(self, X: Tensor, t: Tensor, s: Tensor) -> Tensor:
        angle, end = (torch.atan(level / SIGMA_D) for level in (t, s))
        c_in, c_skip = 1 / (t**2 + SIGMA_D**2).sqrt(), SIGMA_D**2 / (t**2 + SIGMA_D**2)
        c_out = t * SIGMA_D / (t**2 + SIGMA_D**2).sqrt()
        return col(c_skip) * X - col(c_out) * self.network(col(c_in) * X, angle, Condition(target_time=end))

    def G(self, X: Tensor, t: Tensor, s: Tensor) -> Tensor:
        share = col(torch.where(t > 0, s / torch.where(t > 0, t, 1.0), 1.0))
        return share * X + (1 - share) * self.g(X, t, s)

    def frozen(self, X: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """G with its parameters stopped, and its input not."""
        parameters = dict(self.network.named_parameters())
        kept = {name: p.detach() for name, p in parameters.items()}
        stopped = Published(lambda *a: torch.func.functional_call(self.network, kept, a))
        return stopped.G(X, t, s)


def denoised(X: Tensor, t: Tensor) -> Tensor:
    """The teacher's D, in data units."""
    angle = torch.atan(t / SIGMA_D)
    x = X / col((t**2 + SIGMA_D**2).sqrt())
    return SIGMA_D * (col(angle.cos()) * x - col(angle.sin()) * teacher(x, angle))


def heun(X: Tensor, t: Tensor, u: Tensor) -> Tensor:
    """EDM's, in noise levels, one row at a time with its own u; Euler down to 0."""
    slope = (X - denoised(X, t)) / col(t)
    euler = X + col(u - t) * slope
    safe = torch.where(u > 0, u, 1.0)
    corrected = X + col(u - t) / 2 * (slope + (euler - denoised(euler, u)) / col(safe))
    return torch.where(col(u) > 0, corrected, euler)


def published_loss(network, x0: Tensor, drawn: Draws, reach: str, steps: int, dsm: float) -> Tensor:
    """Both losses, CTM's over sigma_d^2 as the project's of CD."""
    assert drawn.lower is not None and drawn.middle is not None
    net, levels, total = Published(network), (SIGMA_D * GRID.angles.tan()).tolist(), torch.zeros(())
    X0, Z = SIGMA_D * x0, drawn.noise
    for row in range(len(x0)):
        i = next(k for k in range(1, 10) if k / 9 > drawn.uniform[row])
        j = int(drawn.lower[row] * i)
        low = max(j, i - steps)
        m = {"local": i - 1, "soft": low + int(drawn.middle[row] * (i - low)), "global": j}[reach]
        t, s, mid = (torch.tensor([levels[k]], dtype=torch.float64) for k in (i, j, m))
        zero, X = torch.zeros_like(t), X0[row : row + 1] + levels[i] * Z[row : row + 1]
        X_m = X
        for k in range(i, m, -1):
            X_m = heun(X_m, *(torch.tensor([levels[n]], dtype=torch.float64) for n in (k, k - 1)))
        target = net.frozen(net.frozen(X_m, mid, s), s, zero).detach()
        gap = net.frozen(net.G(X, t, s), s, zero) - target
        angle = torch.atan(torch.exp(-1.0 + 1.4 * torch.special.ndtri(drawn.uniform[row : row + 1])) / SIGMA_D)
        sigma = SIGMA_D * angle.tan()
        noisy = X0[row : row + 1] + col(sigma) * Z[row : row + 1]
        weight = (sigma**2 + SIGMA_D**2) / (sigma * SIGMA_D) ** 2
        error = weight * (net.g(noisy, sigma, sigma) - X0[row : row + 1]).square().mean()
        total = total + gap.square().mean() / SIGMA_D**2 + dsm * error[0]
    return total / len(x0)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("reach", "steps", "dsm"), [("local", 1, 0.0), ("soft", 3, 0.7), ("global", 9, 0.0)])
def test_the_gradient_is_that_of_the_published_loss_in_its_own_units(reach, steps, dsm):
    network = told_network(seed=3)
    x0, drawn = draws()
    settings = CTMSettings(grid=GRID, path=Path(reach=reach, solver_steps=steps), dsm_weight=dsm)
    parameters = list(network.parameters())
    ours = ctm(fields_of(network), x0, drawn, settings).loss
    theirs = published_loss(network, x0, drawn, reach, steps, dsm)
    found, wanted = (torch.autograd.grad(loss, parameters) for loss in (ours, theirs))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert max(float(one.abs().max()) for one in found) > 1e-3


# --- exact maps ---------------------------------------------------------------------------------------


def exact_or_velocity(u: Tensor) -> Field:
    """The exact field, at u = t too."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        moves = col(t > u)
        apart = torch.where(t > u, u, 0.5 * t)
        return torch.where(moves, exact_to(apart)(x, t), velocity(x, t))

    return field


def exact_step(field: Field, x: Tensor, t: Tensor, u: Tensor) -> Tensor:
    return x * col(spread(u) / spread(t))


EXACT = Fields(lambda x, t: exact_or_velocity(0 * t)(x, t), velocity, student_to=exact_or_velocity)


@pytest.mark.parametrize("reach", ["local", "soft", "global"])
def test_soft_consistency_rests_at_the_exact_map_by_an_exact_solver_however_far_it_goes(reach):
    x0, drawn = draws(1, 200)
    found = ctm(EXACT, x0, drawn, CTMSettings(path=Path(exact_step, reach)))
    assert found.direction_norm.max() < 1e-12
    heun_s = ctm(EXACT, x0, drawn, CTMSettings(path=Path(reach=reach)))
    assert heun_s.direction_norm.max() > 1e-4  # 18 intervals are few
    other = replace(EXACT, student_to=lambda u: velocity)
    assert ctm(other, x0, drawn, CTMSettings(path=Path(exact_step, reach))).direction_norm.max() > 1e-2


def test_what_the_paper_s_solver_leaves_shrinks_at_its_order():
    x0, drawn = draws(2, 400)
    left = []
    for intervals in (64, 128):
        grid = proposal_grid(karras_angles(intervals, SIGMA_D), -1.0, 1.4, SIGMA_D)
        local = CTMSettings(grid=grid, path=Path(reach="local"))
        left.append(float(ctm(EXACT, x0, drawn, local).direction_norm.median()))
    assert 6 < left[0] / left[1] < 11  # one step's error is of the third order


def test_local_and_down_to_data_it_is_consistency_distillation():
    network = told_network(seed=4)
    x0, drawn = draws(3)
    drawn = replace(drawn, lower=torch.zeros_like(drawn.uniform))
    fields = fields_of(network)
    ours = ctm(fields, x0, drawn, CTMSettings(grid=GRID, path=Path(reach="local"), dsm_weight=0.0))
    theirs = cd(fields, x0, drawn, CDSettings(GRID))
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-12, atol=0)
    parameters = [p for name, p in network.named_parameters() if not name.startswith("tell.")]
    for one, other in zip(*(torch.autograd.grad(f.loss, parameters) for f in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def test_global_targets_are_the_solver_s_own_end():
    """No network of the target is asked for the second map: the teacher goes all the way to u."""
    x0, drawn = draws(4)
    asked: list[Tensor] = []

    def target_to(u: Tensor) -> Field:
        asked.append(u)
        return lambda x, t: asked.append(t) or 0 * x  # type: ignore[func-returns-value]

    fields = replace(EXACT, target_to=target_to)
    found = ctm(fields, x0, drawn, CTMSettings(grid=GRID, path=Path(exact_step, "global"), dsm_weight=0.0))
    assert found.loss < 1e-20
    u = asked[0]
    assert (
        torch.equal(asked[1], u) and found.t is not None and bool((u < found.t).all())
    )  # m = u: what it says there counts nothing


def test_an_average_gives_the_targets_and_the_way_to_data():
    network, average = told_network(seed=5), told_network(seed=6)
    x0, drawn = draws(5)

    def target_to(u: Tensor) -> Field:
        return bind(average, condition=Condition(target_time=u), frozen=True)

    own, by_average = (ctm(fields_of(network, target_to=to), x0, drawn, CTMSettings()).loss for to in (None, target_to))
    assert (own - by_average).abs() > 1e-3
    gradients = torch.autograd.grad(by_average, list(average.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_the_diffusion_loss_alone_is_on_the_diagonal():
    x0, drawn = draws(6)
    asked: list[tuple[Tensor, Tensor]] = []

    def student_to(u: Tensor) -> Field:
        return lambda x, t: asked.append((t, u)) or exact_or_velocity(u)(x, t)  # type: ignore[func-returns-value]

    with_dsm, without = (
        ctm(
            replace(EXACT, student_to=student_to), x0, drawn, CTMSettings(path=Path(exact_step), dsm_weight=weight)
        ).loss
        for weight in (2.0, 0.0)
    )
    (t, u) = asked[-1]
    assert torch.equal(t, u)
    x = col(t.cos()) * x0 + col(t.sin()) * drawn.noise
    v = col(t.cos()) * drawn.noise - col(t.sin()) * x0
    close(with_dsm - without, 2 * (velocity(x, t) - v).square().mean(), 1e-13)
    assert rotate(x, v, t, t).equal(x)


@pytest.mark.parametrize("missing", ["lower", "middle"])
def test_draws_of_the_other_angles_are_asked_for(missing):
    x0, drawn = draws(7)
    with pytest.raises(ValueError, match=rf"draws.{missing}"):
        ctm(EXACT, x0, replace(drawn, **{missing: None}), CTMSettings())
