"""Solvers of the probability-flow ODE and few-step sampling (papers.md 1.5, 2.9; sec. 10, row 7)."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.constants import MID_TIME
from trigbench.core.conversions import edm_denoiser_from_field
from trigbench.core.fields import bind
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.samplers.consistency import sample_consistency, sample_segments
from trigbench.core.samplers.even import solve_ddim_even
from trigbench.core.samplers.noise import noise_of_samples
from trigbench.core.samplers.ode import (
    ddim_step,
    dpm_solver_2s_step,
    dpm_solver_pp_2s_step,
    heun_step,
    solve,
    solve_dpm_solver_pp_2m,
)
from trigbench.core.schedules import karras_noise_levels
from trigbench.core.trigflow import angle_from_noise_level, interpolate, velocity

SIGMA_D = 0.5
T_MAX = math.atan(80 / SIGMA_D)
STEPS = {
    "ddim": ddim_step,
    "heun": heun_step,
    "2s": dpm_solver_2s_step,
    "2s at 0.3": partial(dpm_solver_2s_step, ratio=0.3),
    "++2s": dpm_solver_pp_2s_step,
    "++2s at 1": partial(dpm_solver_pp_2s_step, ratio=1.0),
}
SOLVERS = {name: partial(solve, step) for name, step in STEPS.items()} | {"++2m": solve_dpm_solver_pp_2m}
ORDERS = {name: 1 if name == "ddim" else 2 for name in SOLVERS}


def points(batch: int, dimension: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.one_in(7)
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_converges_to_the_exact_solution_at_its_order(mixture, unchecked, name):
    x = points(16, 2)
    start, end = (torch.full((16,), a, dtype=torch.float64) for a in (1.4, 0.3))
    with unchecked():
        exact = oracle.segment_map(mixture, x, start, end)
        errors = []
        for steps in (40, 80, 160):
            times = torch.linspace(1.4, 0.3, steps + 1, dtype=torch.float64)
            ends = SOLVERS[name](lambda x, t: oracle.velocity(mixture, x, t), x, times)
            errors.append(float((ends - exact).norm()))
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert orders == pytest.approx([ORDERS[name]] * 2, abs=0.15)


def edm_heun_by_hand(denoiser: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigmas: Tensor) -> list[Tensor]:
    """Karras et al. 2022, Alg. 1 (deterministic): Euler, then the trapezoid unless sigma' = 0."""
    trajectory = []
    for now, then in pairwise(sigmas):
        d = (x - denoiser(x, now.expand(len(x)))) / now
        euler = x + (then - now) * d
        if then > 0:
            d_then = (euler - denoiser(euler, then.expand(len(x)))) / then
            euler = x + (then - now) * (d + d_then) / 2
        x = euler
        trajectory.append(x)
    return trajectory


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dpm_solver_2s_with_ratio_one_is_edms_heun_on_the_18_step_grid(tanh_net, seed):
    """Row 7: the whole trajectory, in EDM's own variables and noise levels; x_sigma = sigma_d x_t / cos t."""
    net = tanh_net(3, seed)
    sigmas = torch.cat([karras_noise_levels(18), torch.zeros(1, dtype=torch.float64)])
    noise = points(5, 3, seed)
    denoiser = edm_denoiser_from_field(net, SIGMA_D)
    trajectory = edm_heun_by_hand(denoiser, sigmas[0] * noise, sigmas)
    times = angle_from_noise_level(sigmas, SIGMA_D)
    x = torch.sin(times[0]) * noise
    for i, exact in enumerate(trajectory):
        t, u = times[i].expand(5), times[i + 1].expand(5)
        x = heun_step(net, x, t, u)
        torch.testing.assert_close(SIGMA_D * x / torch.cos(u)[:, None], exact, rtol=1e-12, atol=1e-12)
        assert torch.equal(heun_step(net, x, t, u), dpm_solver_2s_step(net, x, t, u, ratio=1.0))


def test_second_order_step_is_the_papers_explicit_formula(tanh_net):
    """x_t = x~ - sin(s-t) / (2 cos s) (eps_t - eps_s), eps = sin t X + cos t sigma_d F, in data units."""
    net = tanh_net(3)
    X, s, t = SIGMA_D * points(4, 3), 1.2, 0.7
    s_, t_ = (torch.full((4,), a, dtype=torch.float64) for a in (s, t))
    F = SIGMA_D * net(X / SIGMA_D, s_)
    euler = math.cos(s - t) * X - math.sin(s - t) * F
    noise_s = math.sin(s) * X + math.cos(s) * F
    noise_t = math.sin(t) * euler + math.cos(t) * SIGMA_D * net(euler / SIGMA_D, t_)
    exact = euler - math.sin(s - t) / (2 * math.cos(s)) * (noise_t - noise_s)
    torch.testing.assert_close(SIGMA_D * heun_step(net, X / SIGMA_D, s_, t_), exact, rtol=1e-13, atol=1e-13)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", STEPS)
@given(seed=st.integers(0, 1000), t=st.floats(0.2, 1.57), fraction=st.floats(0.0, 0.99))
def test_one_step_is_exact_when_the_field_follows_a_single_pair(name, seed, t, fraction):
    """With F = velocity of one (x0, z) predicted data and noise are constant, so every order is exact."""
    x0, z = points(3, 2, seed), points(3, 2, seed + 1)
    t_, u_ = (torch.full((3,), a, dtype=torch.float64) for a in (t, fraction * t))
    moved = STEPS[name](lambda x, t: velocity(x0, z, t), interpolate(x0, z, t_), t_, u_)
    torch.testing.assert_close(moved, interpolate(x0, z, u_), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("step", [dpm_solver_2s_step, dpm_solver_pp_2s_step])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 1.0])
def test_the_extra_evaluation_is_at_the_ratio_in_log_tan(step, ratio):
    """r_s = (ln tan s - ln tan s') / (ln tan s - ln tan t)."""
    asked: list[float] = []

    def field(x: Tensor, t: Tensor) -> Tensor:
        asked.append(math.log(math.tan(float(t[0]))))
        return x

    t, u = (torch.full((2,), a, dtype=torch.float64) for a in (1.3, 0.2))
    step(field, points(2, 2), t, u, ratio=ratio)
    start, end = math.log(math.tan(1.3)), math.log(math.tan(0.2))
    assert len(asked) == 2 and (start - asked[1]) / (start - end) == pytest.approx(ratio)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_to_zero_is_finite_and_ddim(tanh_net, name):
    x, net = points(3, 3), tanh_net(3)
    t = torch.tensor([1.5, 0.7, 0.004], dtype=torch.float64)
    ends = STEPS[name](net, x, t, torch.zeros_like(t))
    assert torch.equal(ends, ddim_step(net, x, t, torch.zeros_like(t)))
    mixed = STEPS[name](net, x, t, torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64))  # edges may differ by sample
    assert mixed.isfinite().all() and torch.equal(mixed[[0, 2]], ends[[0, 2]])
    assert name == "ddim" or not torch.equal(mixed[1], ddim_step(net, x, t, t * 0 + 0.3)[1])


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", SOLVERS)
def test_whole_sampling_from_pure_noise_to_data_is_finite_and_near_the_exact_sample(mixture, unchecked, name):
    """32 teacher steps from t_max to 0, the last of them to exactly zero."""
    x = points(32, 2)
    sigmas = torch.cat([karras_noise_levels(32), torch.zeros(1, dtype=torch.float64)])
    times = angle_from_noise_level(sigmas, SIGMA_D)
    with unchecked():
        ends = SOLVERS[name](lambda x, t: oracle.velocity(mixture, x, t), x, times)
        exact = oracle.consistency_map(mixture, x, times[0].expand(32))
    assert (ends - exact).norm(dim=1).median() < (0.3 if name == "ddim" else 0.04)


# --- consistency sampling --------------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.4, 1.0, 2.6])
@pytest.mark.parametrize("times", [[T_MAX], [T_MAX, MID_TIME], [T_MAX, 1.4, 1.1, 0.5]])
def test_samples_of_the_exact_gaussian_map_have_the_exact_variance(std, times):
    """The map is linear, so the sample is sum_k a_k z_k and its variance sum_k a_k^2, without sampling error."""
    steps = len(times)
    noise = torch.eye(steps, dtype=torch.float64)[:, :, None]  # slice k is 1 for sample k alone
    weights = sample_consistency(lambda x, t: gaussian_field(x, t, std), noise, times)[:, 0]
    assert weights.square().sum().item() == pytest.approx(std**2, rel=3e-3)
    if steps > 1:  # re-noising with z of std sigma_d instead would be off
        wrong = sample_consistency(
            lambda x, t: gaussian_field(x, t, std), torch.cat([noise[:1], SIGMA_D * noise[1:]]), times
        )
        assert wrong.square().sum().item() != pytest.approx(std**2, rel=3e-3)


def gaussian_field(x: Tensor, t: Tensor, std: float) -> Tensor:
    c, s = torch.cos(t)[:, None], torch.sin(t)[:, None]
    return (c * x - oracle.gaussian_consistency_map(x, t, std)) / s


@pytest.mark.parametrize("sigmas", [[80.0], [80.0, 0.98238], [80.0, 24.4, 5.84, 0.9, 0.661]])
def test_consistency_sampling_is_algorithm_1_of_the_cm_paper_in_edm_variables(tanh_net, sigmas):
    """x = f(T n, T); then x + tau z, f again, with noise of unit variance in data units (epsilon = 0)."""
    net = tanh_net(3)
    noise = torch.stack([points(5, 3, i) for i in range(len(sigmas))])

    def papers_f(x: Tensor, sigma: float) -> Tensor:
        total = sigma**2 + SIGMA_D**2
        F_edm = -net(x / total**0.5, torch.full((5,), math.atan(sigma / SIGMA_D), dtype=torch.float64))
        return SIGMA_D**2 / total * x + sigma * SIGMA_D / total**0.5 * F_edm

    x = papers_f(sigmas[0] * noise[0], sigmas[0])
    for sigma, z in zip(sigmas[1:], noise[1:], strict=True):
        x = papers_f(x + sigma * z, sigma)
    ours = sample_consistency(net, noise, [math.atan(s / SIGMA_D) for s in sigmas])
    torch.testing.assert_close(SIGMA_D * ours, x, rtol=1e-12, atol=1e-12)


def test_two_step_sampling_is_the_papers_in_trigflow(tanh_net):
    """x = cos(1.1) x^ + sin(1.1) z with z ~ N(0, sigma_d^2), every step in data units (papers.md 2.9)."""
    net = tanh_net(3)
    n, z = SIGMA_D * points(5, 3, 0), SIGMA_D * points(5, 3, 1)

    def papers_f(X: Tensor, t: float) -> Tensor:
        angle = torch.full((5,), t, dtype=torch.float64)
        return math.cos(t) * X - math.sin(t) * SIGMA_D * net(X / SIGMA_D, angle)

    first = papers_f(80 * math.cos(T_MAX) / SIGMA_D * n, T_MAX)
    second = papers_f(math.cos(1.1) * first + math.sin(1.1) * z, 1.1)
    ours = sample_consistency(net, torch.stack([n, z]) / SIGMA_D, [T_MAX, MID_TIME])
    torch.testing.assert_close(SIGMA_D * ours, second, rtol=1e-12, atol=1e-12)


@given(steps=st.integers(1, 5))
def test_k_steps_ask_the_field_k_times_at_the_given_times(steps):
    asked: list[float] = []

    def field(x: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t[0]))
        return x

    times = [1.5 - 0.2 * i for i in range(steps)]
    sample_consistency(field, torch.zeros(steps, 2, 3), times)
    assert asked == times


def test_noise_belongs_to_the_sample_and_not_to_the_batch(generator_of):
    whole = noise_of_samples([generator_of(i) for i in range(7)], 3, (2, 5))
    assert whole.shape == (3, 7, 2, 5)
    parts = [noise_of_samples([generator_of(i) for i in chunk], 3, (2, 5)) for chunk in ((0, 1, 2), (3,), (4, 5, 6))]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert not torch.equal(whole[:, 0], whole[:, 1])


def test_the_same_sample_comes_out_whatever_the_batch(generator_of):
    network = ResidualMLP((2, 5), width=32, blocks=2)
    torch.nn.init.normal_(network.project.weight, generator=generator_of(0))
    noise = noise_of_samples([generator_of(i) for i in range(7)], 2, (2, 5))
    field = bind(network, dict(network.named_parameters()))
    with torch.no_grad():
        whole = sample_consistency(field, noise, [T_MAX, MID_TIME])
        alone = [sample_consistency(field, noise[:, i : i + 1], [T_MAX, MID_TIME]) for i in range(7)]
    torch.testing.assert_close(torch.cat(alone), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("times", [[1.5], [1.5, 1.1, 0.5], [1.1, 1.5], [1.1, 1.1], []])
def test_times_that_do_not_fit_the_noise_or_do_not_descend_are_refused(times):
    with pytest.raises(ValueError, match="descending"):
        sample_consistency(lambda x, t: x, torch.zeros(2, 3, 4), times)


# --- what is called once a step --------------------------------------------------------------------


class Trace:
    """A callback that keeps what it is given, and how often the field was evaluated until then."""

    def __init__(self, field):
        self.field, self.seen, self.evaluations = field, [], 0

    def counted(self, x, t):
        self.evaluations += 1
        return self.field(x, t)

    def __call__(self, step, t, x, output):
        self.seen.append((step, t, x.clone(), output))


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solvers_callback_sees_each_step_and_the_data_predicted_there_and_changes_nothing(mixture, unchecked, name):
    x, times = points(8, 2), torch.tensor([1.4, 0.9, 0.4, 0.0], dtype=torch.float64)
    with unchecked():
        trace = Trace(lambda x, t: oracle.velocity(mixture, x, t))
        ends = SOLVERS[name](trace.counted, x, times, callback=trace)
        evaluations = trace.evaluations
        assert torch.equal(ends, SOLVERS[name](trace.counted, x, times))
        assert trace.evaluations == 2 * evaluations
        assert [step for step, *_ in trace.seen] == [0, 1, 2]
        for step, t, at, data in trace.seen:
            assert torch.equal(t, times[step].expand(8))
            assert torch.equal(at, SOLVERS[name](trace.field, x, times[: step + 1]) if step else x)
            denoised = torch.cos(t)[:, None] * at - torch.sin(t)[:, None] * oracle.velocity(mixture, at, t)
            torch.testing.assert_close(data, denoised, rtol=1e-12, atol=1e-12)


def test_the_callback_of_even_steps_sees_the_angles_that_they_are_taken_at_and_changes_nothing(tanh_net):
    x, times = points(4, 3), torch.tensor([1.5, 0.2, 0.1, 0.0], dtype=torch.float64)
    trace = Trace(tanh_net(3))
    ends = solve_ddim_even(trace.counted, x, times, callback=trace)
    assert torch.equal(ends, solve_ddim_even(trace.field, x, times)) and trace.evaluations == 3
    assert [step for step, *_ in trace.seen] == [0, 1, 2]
    assert [float(t[0]) for _, t, *_ in trace.seen] == pytest.approx([1.5, 1.0, 0.5], abs=1e-12)


def test_a_step_that_evaluates_the_field_elsewhere_predicts_nothing(tanh_net):
    trace = Trace(tanh_net(3))
    solve(lambda field, x, t, u: x + field(x, u), trace.counted, points(2, 3), torch.tensor([1.0, 0.5]), callback=trace)
    assert [output for *_, output in trace.seen] == [None]


def test_consistency_samplings_callback_sees_the_noisy_point_and_the_exact_map_of_it(mixture, unchecked):
    noise, times = torch.stack([points(8, 2, i) for i in range(3)]), [T_MAX, MID_TIME, 0.4]

    def field(x: Tensor, t: Tensor) -> Tensor:
        return (torch.cos(t)[:, None] * x - oracle.consistency_map(mixture, x, t, 16)) / torch.sin(t)[:, None]

    with unchecked():
        trace = Trace(field)
        samples = sample_consistency(trace.counted, noise, times, callback=trace)
        assert trace.evaluations == 3
        assert torch.equal(samples, sample_consistency(field, noise, times))
        last = torch.zeros_like(noise[0])
        for (step, t, x, output), z, time in zip(trace.seen, noise, times, strict=True):
            assert step == times.index(time) and torch.equal(t, torch.full((8,), time, dtype=torch.float64))
            assert torch.equal(x, interpolate(last, z, t))
            torch.testing.assert_close(output, oracle.consistency_map(mixture, x, t, 16), rtol=1e-10, atol=1e-10)
            last = output
    assert torch.equal(last, samples)


def test_a_segments_callback_sees_both_its_ends_on_the_exact_trajectory(mixture, unchecked):
    noise, edges = points(8, 2), torch.tensor([0.0, 0.5, 1.0, 1.5], dtype=torch.float64)

    def field_to(u: Tensor):
        def field(x: Tensor, t: Tensor) -> Tensor:
            exact = oracle.segment_map(mixture, x, t, u, 16)
            return (torch.cos(t - u)[:, None] * x - exact) / torch.sin(t - u)[:, None]

        return field

    with unchecked():
        trace = Trace(None)
        samples = sample_segments(field_to, noise, edges, callback=trace)
        assert torch.equal(samples, sample_segments(field_to, noise, edges))
        start = torch.sin(edges[-1]) * noise
        for step, t, x, lower in trace.seen:
            u = edges.flip(0)[step + 1].expand(8)
            assert torch.equal(t, edges.flip(0)[step].expand(8)) and torch.equal(x, start)
            torch.testing.assert_close(lower, oracle.segment_map(mixture, x, t, u, 16), rtol=1e-10, atol=1e-10)
            start = lower
    assert len(trace.seen) == 3 and torch.equal(start, samples)
