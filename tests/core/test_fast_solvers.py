"""Solvers of higher order and multistep ones, on data whose ODE is known (lineage.md 1.8; sec. 4, row 16)."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.samplers.multistep import VARIANTS, solve_dpm_solver_pp_3m, solve_unipc
from trigbench.core.samplers.ode import ddim_step, solve, solve_dpm_solver_pp_2m
from trigbench.core.samplers.singlestep import dpm_solver_3s_step
from trigbench.core.schedules import karras_noise_levels
from trigbench.core.trigflow import angle_from_noise_level, interpolate, velocity

START, END = 1.4, 0.3
DPM_3S = partial(solve, dpm_solver_3s_step)
DDIM = partial(solve, ddim_step)


def unipc(order: int, variant: str, corrector: bool) -> Callable[..., Tensor]:
    return partial(solve_unipc, order=order, variant=variant, corrector=corrector)


MULTISTEP = {
    "UniPC-1": (unipc(1, "bh2", True), 2),
    "UniP-2": (unipc(2, "bh1", False), 2),
    "UniPC-2": (unipc(2, "bh1", True), 3),
    "UniP-3": (unipc(3, "bh2", False), 3),
    "UniPC-3": (unipc(3, "bh2", True), 4),
    "++3M": (solve_dpm_solver_pp_3m, 2),
}
SOLVERS = {name: solver for name, (solver, _) in MULTISTEP.items()} | {"3S": DPM_3S}


def points(batch: int, dimension: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_snr(t: float) -> float:
    return -math.log(math.tan(t))


def angles(log_snrs: Sequence[float]) -> Tensor:
    return torch.atan(torch.exp(-torch.tensor(log_snrs, dtype=torch.float64)))


def even(steps: int) -> Tensor:
    return angles(torch.linspace(log_snr(START), log_snr(END), steps + 1, dtype=torch.float64).tolist())


def grown(steps: int) -> Tensor:
    """From START to END by about `steps` equal steps in ln tan, h, begun by h / steps, 2 h / steps, ..., h.

    So what the first steps, which are of lower order, leave behind is of order 4 too.
    """
    low, high = log_snr(START), log_snr(END)
    found, size = [low], (high - low) / steps**2
    while size < 0.99 * (high - low) / steps:
        found.append(found[-1] + size)
        size *= 2
    rest = round((high - found[-1]) / (high - low) * steps)
    return angles([*found, *(found[-1] + (high - found[-1]) * i / rest for i in range(1, rest + 1))])


@pytest.fixture(scope="module")
def exact(mixture: oracle.Mixture, unchecked: Callable) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]:
    """(field, points at START, where their ODE is at END)."""
    x, times = points(8, 2), [torch.full((8,), t, dtype=torch.float64) for t in (START, END)]
    with unchecked():
        return partial(oracle.velocity, mixture), x, oracle.segment_map(mixture, x, *times, steps=512)


def orders(solver: Callable[..., Tensor], exact: tuple[Callable, Tensor, Tensor], grids: Sequence[Tensor]) -> list:
    field, x, ends = exact
    errors = [float((solver(field, x, grid) - ends).norm()) for grid in grids]
    return [math.log2(a / b) for a, b in pairwise(errors)]


# --- order ------------------------------------------------------------------------------------------


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", MULTISTEP)
def test_multistep_solvers_converge_at_their_order_where_the_start_does_not_spoil_it(exact, unchecked, name):
    """UniC raises the order by one. What is called ++3M in the field is of order 2 (the test below says why)."""
    solver, order = MULTISTEP[name]
    with unchecked():
        found = orders(partial(solver, lower_order_final=False), exact, [grown(n) for n in (16, 32, 64)])
    assert min(found) > order - 0.1 and found[-1] < order + 0.55, found


def test_dpm_solver_3_converges_at_order_3(exact, unchecked):
    with unchecked():
        assert orders(DPM_3S, exact, [even(n) for n in (8, 16, 32)]) == pytest.approx([3, 3], abs=0.25)


def test_on_an_even_grid_the_first_steps_hold_order_3_at_2(exact, unchecked):
    with unchecked():
        found = orders(partial(SOLVERS["UniP-3"], lower_order_final=False), exact, [even(n) for n in (16, 32, 64)])
    assert found[-1] == pytest.approx(2, abs=0.3)


def test_uni_p_3_follows_bent_data_exactly_and_3m_by_half_of_the_bend():
    """Of D = a + b l + c l^2, whatever x is, the integral is known; 3M drops half of the term of c."""
    times = angles([-1.0, -0.7, 0.1, 0.4])
    t, u = float(times[2]), float(times[3])
    h = log_snr(u) - log_snr(t)

    def bent(x: Tensor, t: Tensor) -> Tensor:
        log_snrs = -t.tan().log()[:, None]
        data = 0.3 + 0.8 * log_snrs + 1.7 * log_snrs.square()
        return (torch.cos(t)[:, None] * x - data.expand_as(x)) / torch.sin(t)[:, None]

    first, second, third = 1 - math.exp(-h), h - 1 + math.exp(-h), h**2 - 2 * h + 2 - 2 * math.exp(-h)
    low = log_snr(t)
    moments = (0.3 + 0.8 * low + 1.7 * low**2) * first + (0.8 + 2 * 1.7 * low) * second
    for name, share in (("UniP-3", 1.0), ("++3M", 0.5)):
        solver = partial(SOLVERS[name], lower_order_final=False)
        before, after = (solver(bent, points(2, 2), times[:edges]) for edges in (3, 4))
        expected = math.sin(u) / math.sin(t) * before + math.cos(u) * (moments + share * 1.7 * third)
        torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-12)


# --- each other, and edges --------------------------------------------------------------------------


def test_uni_p_1_is_ddim_and_uni_p_2_is_2m(tanh_net):
    net, x, times = tanh_net(3), points(5, 3), torch.tensor([1.5, 1.1, 0.8, 0.3, 0.1, 0.0], dtype=torch.float64)
    for variant in VARIANTS:
        torch.testing.assert_close(unipc(1, variant, False)(net, x, times), DDIM(net, x, times), rtol=1e-12, atol=1e-12)
    two = solve_unipc(net, x, times, order=2, variant="bh2", corrector=False, lower_order_final=False)
    torch.testing.assert_close(two, solve_dpm_solver_pp_2m(net, x, times), rtol=1e-12, atol=1e-12)
    one = solve_unipc(net, x, times, order=2, variant="bh1", corrector=False)
    assert (one - two).abs().max() > 1e-3, "B(h) is h"


@pytest.mark.parametrize("name", SOLVERS)
@settings(max_examples=3)
@given(first=st.floats(0.2, 1.56), share=st.floats(0.05, 0.95), seed=st.integers(0, 100))
def test_one_step_to_zero_is_ddim_and_two_steps_are_finite(tanh_net, name, first, share, seed):
    net, x = tanh_net(3), points(3, 3, seed)
    one, two = (torch.tensor(times, dtype=torch.float64) for times in ([first, 0.0], [first, share * first, 0.0]))
    torch.testing.assert_close(SOLVERS[name](net, x, one), DDIM(net, x, one), rtol=1e-12, atol=1e-12)
    ends = SOLVERS[name](net, x, two)
    assert ends.isfinite().all()
    if name in ("UniP-2", "UniP-3", "++3M"):  # nothing to correct with, and the last step is to zero
        torch.testing.assert_close(ends, DDIM(net, x, two), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
@settings(max_examples=2)
@given(seed=st.integers(0, 1000), start=st.floats(0.5, 1.57))
def test_data_that_are_one_pair_are_reached_exactly(name, seed, start):
    """Predicted data and noise are constant, so every order is exact."""
    x0, z = points(3, 2, seed), points(3, 2, seed + 1)
    times = start * torch.tensor([1.0, 0.8, 0.5, 0.3, 0.1], dtype=torch.float64)
    first, last = (t.expand(3) for t in times[[0, -1]])
    ends = SOLVERS[name](lambda x, t: velocity(x0, z, t), interpolate(x0, z, first), times)
    torch.testing.assert_close(ends, interpolate(x0, z, last), rtol=1e-10, atol=1e-10)


def test_with_few_steps_the_last_ones_are_of_lower_order(tanh_net):
    """So the step before the last is of order 2, and the last of order 1: what 3M does from the start of 2M's."""
    net, x, times = tanh_net(3), points(4, 3), 1.5 * torch.linspace(1, 0.1, 4, dtype=torch.float64)
    for solver in (solve_dpm_solver_pp_3m, unipc(3, "bh2", False)):
        before = unipc(2, "bh2", False)(net, x, times[:3], lower_order_final=False)
        torch.testing.assert_close(solver(net, x, times), DDIM(net, before, times[2:]), rtol=1e-12, atol=1e-12)
        assert not torch.allclose(solver(net, x, times), solver(net, x, times, lower_order_final=False))
    many = 1.5 * torch.linspace(1, 0.1, 16, dtype=torch.float64)
    whole, cut = (solve_dpm_solver_pp_3m(net, x, many, lower_order_final=final) for final in (True, False))
    assert torch.equal(whole, cut), "15 steps are not few"


def test_dpm_solver_3_asks_at_thirds_of_the_way_and_takes_edges_by_sample(tanh_net):
    asked: list[Tensor] = []
    net, x = tanh_net(3), points(3, 3)

    def field(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        return net(x, t)

    t, u = (torch.tensor(a, dtype=torch.float64) for a in ([1.5, 0.7, 0.3], [0.0, 0.3, 0.0]))
    moved = dpm_solver_3s_step(field, x, t, u)
    ways = [(log_snr(float(at[1])) - log_snr(0.7)) / (log_snr(0.3) - log_snr(0.7)) for at in asked]
    assert ways == pytest.approx([0, 1 / 3, 2 / 3])
    torch.testing.assert_close(moved[[0, 2]], ddim_step(net, x, t, u)[[0, 2]], rtol=0, atol=0)
    alone = dpm_solver_3s_step(net, x[1:2], t[1:2], u[1:2])
    torch.testing.assert_close(moved[1:2], alone, rtol=1e-13, atol=1e-13)


@settings(max_examples=8)
@given(name=st.sampled_from(sorted(SOLVERS)), sigma_d=st.floats(0.05, 5), std=st.floats(0.2, 3))
def test_gaussian_data_of_any_scale_are_followed_from_edms_highest_noise_to_its_lowest(unchecked, name, sigma_d, std):
    """For data of std * sigma_d, down to 0.01: x grows as its std, sqrt(std^2 cos^2 + sin^2), in 32 steps to 10%."""
    times, x = angle_from_noise_level(karras_noise_levels(32), sigma_d), points(4, 2)
    with unchecked():
        ends = SOLVERS[name](lambda x, t: oracle.gaussian_velocity(x, t, std), x, times)
    first, last = (math.hypot(std * math.cos(t), math.sin(t)) for t in times[[0, -1]].tolist())
    torch.testing.assert_close(ends, last / first * x, rtol=0.1, atol=0)


# --- what is called, and what is refused ------------------------------------------------------------


@pytest.mark.parametrize("name", MULTISTEP)
def test_callbacks_see_each_evaluation_and_change_nothing(tanh_net, name):
    net, x, times = tanh_net(3), points(4, 3), torch.tensor([1.5, 1.1, 0.6, 0.2, 0.0], dtype=torch.float64)
    asked, seen, solver = [], [], SOLVERS[name]

    def field(x: Tensor, t: Tensor) -> Tensor:
        asked.append((t, x))
        return net(x, t)

    ends = solver(field, x, times, callback=lambda *said: seen.append(said))
    assert torch.equal(ends, solver(net, x, times))
    assert [step for step, *_ in seen] == [0, 1, 2, 3] and len(asked) == 4, "one evaluation a step"
    for (_, t, at, data), (then, point) in zip(seen, asked, strict=True):
        assert torch.equal(t, then) and torch.equal(at, point)
        torch.testing.assert_close(data, torch.cos(t)[:, None] * at - torch.sin(t)[:, None] * net(at, t))


@pytest.mark.parametrize("solver", [solve_unipc, solve_dpm_solver_pp_3m])
@pytest.mark.parametrize("times", [[1.5], [0.3, 1.5], [1.5, 1.5], [math.pi / 2, 1.0, 0.0]])
def test_times_that_are_no_descending_angles_below_pi_half_are_refused(solver, times):
    with pytest.raises(ValueError, match=r"angles in|largest_angle"):
        solver(lambda x, t: x, torch.zeros(2, 3), torch.tensor(times, dtype=torch.float64))


@pytest.mark.parametrize("said", [{"order": 4}, {"order": 0}, {"variant": "bh3"}])
def test_orders_and_variants_that_unipc_has_not_are_refused(said):
    with pytest.raises(ValueError, match="order 1, 2 or 3"):
        solve_unipc(lambda x, t: x, torch.zeros(2, 3), torch.tensor([1.0, 0.0]), **said)
