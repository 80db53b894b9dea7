"""What is exactly true of the few-step family (lineage.md, section 4), each as one test, on data whose map is known.

Checks 2, 4, 5 and 9 stand in test_flow_maps.py, check 8 (CTM's gamma keeps the variance) in test_jumps.py.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.core.test_flow_maps import STD, close, col, exact_to, points, some_to, spread, velocity, whole
from trigbench.core import oracle
from trigbench.core.fields import Draws, Fields, Jump
from trigbench.core.flow_maps import eulerian_direction, power, semigroup_direction
from trigbench.core.objectives.discrete import chord_velocity
from trigbench.core.objectives.lineage import CTSettings, ct
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.samplers.jumps import sample_jumps
from trigbench.core.samplers.multistep import solve_unipc
from trigbench.core.samplers.ode import ddim_step
from trigbench.core.tangents import normalise, segment_direction
from trigbench.core.trigflow import (
    Field,
    ProposalGrid,
    angle_from_noise_level,
    consistency_map,
    interpolate,
    rotate,
)
from trigbench.core.trigflow import velocity as velocity_of_pair

jvp = torch.func.jvp


def parts(t: Tensor) -> tuple[Tensor, Tensor]:
    return col(t.cos()), col(t.sin())


def test_1_every_parameterisation_is_one_map():
    """MeanFlow's, CTM's, IMM's and DDIM's map are rotate(x, F, t, u), with F named otherwise."""
    x, t, _, u = points()
    F = some_to(u)(x, t)
    (c, s), (c_u, s_u) = parts(t), parts(u)
    tau, rho = s / (c + s), s_u / (c_u + s_u)
    average = (c + s) * F - (c - s) * x
    clean, ratio = c * x - s * F, (s_u / c_u) / (s / c)
    maps = {
        "MeanFlow": (c_u + s_u) * (x / (c + s) - (tau - rho) * average),
        "CTM": c_u * (ratio * x / c + (1 - ratio) * clean),
        "IMM": (c_u * c + s_u * s) * x - (c_u * s - c * s_u) * F,
        "DDIM": c_u * clean + s_u / s * (x - c * clean),
    }
    for ends in maps.values():
        close(ends, rotate(x, F, t, u), 1e-14)
    close(tau - rho, col(torch.sin(t - u)) / ((c + s) * (c_u + s_u)), 1e-15)


def test_3_meanflow_s_and_align_your_flow_s_direction_is_the_eulerian_by_a_factor():
    x, t, _, u = points(1)
    v = velocity(x, t)
    (c, s), (c_u, s_u) = parts(t), parts(u)
    tau, rho = (s / (c + s))[:, 0], (s_u / (c_u + s_u))[:, 0]

    def average(flowing: Tensor, tau: Tensor) -> Tensor:
        """u(x', tau) of the flow's coordinates, with its end held."""
        angle = torch.atan2(tau, 1 - tau)
        c, s = parts(angle)
        x = (c + s) * flowing
        return (c + s) * some_to(u)(x, angle) - (c - s) * x

    v_flow = (c + s) * v - (c - s) * x
    now, rate = jvp(average, (x / (c + s), tau), (v_flow, torch.ones_like(tau)))[:2]
    theirs = v_flow - col(tau - rho) * rate - now
    factor = ((c + s) / (c_u + s_u))[:, 0]
    close((c + s) * eulerian_direction(some_to(u), x, t, u, v, factor).g, theirs, 1e-13)


def test_6_alpha_flow_goes_from_the_velocity_to_the_derivative_at_first_order():
    x, t, _, u = points(2)
    v, one = velocity(x, t), torch.ones_like(t)
    whole_way = semigroup_direction(some_to, x, t, u, u, v)
    close(whole_way.F + whole_way.g, v, 1e-14)
    limit = eulerian_direction(some_to(u), x, t, u, v, one).g
    errors = []
    for alpha in (1e-1, 1e-2, 1e-3, 1e-4):
        g = semigroup_direction(some_to, x, t, t - alpha * (t - u), u, v).g
        errors.append(float((g * col(torch.sin(t - u) / (alpha * (t - u))) - limit).abs().max()))
    assert [math.log10(a / b) for a, b in itertools.pairwise(errors)] == pytest.approx([1, 1, 1], abs=0.1)


# --- 7: conditional and exact velocity ---------------------------------------------------------------


def pairs_at(mixture, x_t: float, t: float, nodes: int = 64) -> tuple[Tensor, Tensor]:
    """(velocities of pairs, their weights) given x_t, for a mixture on the line by Gauss-Hermite."""
    at, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(nodes))
    c, s, variance = math.cos(t), math.sin(t), mixture.stds.square()
    precision = 1 / variance + (c / s) ** 2
    mean = (mixture.means[:, 0] / variance + c * x_t / s**2) / precision
    evidence = c**2 * variance + s**2
    share = mixture.weights * evidence.rsqrt() * (-0.5 * (x_t - c * mixture.means[:, 0]).square() / evidence).exp()
    x0 = (mean[:, None] + at / precision.sqrt()[:, None]).flatten()[:, None]
    joint = (share[:, None] / share.sum() * weights / weights.sum()).flatten()
    return c * (x_t - c * x0) / s - s * x0, joint


def test_7_directions_of_pairs_have_the_exact_one_as_their_mean_until_they_are_normalised(mixture_1d):
    """So MeanFlow with p > 0 and sCT rest elsewhere than at the flow map, unless data leave no choice at x_t."""
    mix = torch.ones(1, 1, dtype=torch.float64)
    field = lambda x, t: torch.tanh(x @ mix + col(t)) - 0.3 * x  # noqa: E731
    biases = []
    for x_t, t_ in ((-0.2, 0.7), (0.6, 1.1)):
        v, weights = pairs_at(mixture_1d, x_t, t_)
        x, t = torch.full_like(v, x_t), torch.full((len(v),), t_, dtype=torch.float64)
        u = 0.2 * torch.ones_like(t)
        exact = pairs_mean = (col(weights) * v).sum(0, keepdim=True)
        torch.testing.assert_close(pairs_mean, mixture_velocity(mixture_1d, x_t, t_), rtol=0, atol=1e-12)
        g = eulerian_direction(field, x, t, u, v, torch.ones_like(t)).g
        g_exact = eulerian_direction(field, x[:1], t[:1], u[:1], exact, torch.ones(1, dtype=torch.float64)).g
        close((col(weights) * g).sum(0, keepdim=True), g_exact, 1e-12)
        for control in (lambda g: normalise(g, 0.1), lambda g: power(g, 1.0, 1e-3)):
            biases.append(float(((col(weights) * control(g)).sum(0) - control(g_exact)).abs()))
    assert min(biases) > 0.01


def mixture_velocity(mixture, x_t: float, t: float) -> Tensor:
    x = torch.tensor([[x_t]], dtype=torch.float64)
    return oracle.velocity(mixture, x, torch.tensor([t], dtype=torch.float64))


# --- 10, 11: steps ------------------------------------------------------------------------------------

INPAINTED = {1: (0.008, 1.0), 2: (0.012, 0.995), 4: (0.31, 0.77), 8: (0.53, 0.65), 16: (0.75, 0.53), 40: (0.974, 0.432)}


def correlated(rho: float) -> Field:
    """The exact consistency field of a Gaussian of unit variances with this correlation."""
    variances, axes = torch.linalg.eigh(torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64))

    def field(x: Tensor, t: Tensor) -> Tensor:
        along = x @ axes
        ends = [oracle.gaussian_consistency_map(along[:, i : i + 1], t, float(variances[i].sqrt())) for i in range(2)]
        return (parts(t)[0] * x - torch.cat(ends, 1) @ axes.T) / parts(t)[1]

    return field


def inpainting(field: Field, seen: float) -> Field:
    """CM's Alg. 4: what the map says of the first coordinate is replaced by what was seen there."""

    def inpainted(x: Tensor, t: Tensor) -> Tensor:
        clean = consistency_map(field, x, t)
        clean = torch.cat([torch.full_like(clean[:, :1], seen), clean[:, 1:]], 1)
        return (parts(t)[0] * x - clean) / parts(t)[1]

    return inpainted


@pytest.mark.parametrize("steps", INPAINTED)
def test_10_zero_shot_inpainting_does_not_sample_the_posterior_at_few_steps(steps):
    """CM's Alg. 4 in sample_consistency, a correlated Gaussian (0.8), 1.5 observed: posterior mean 1.2, variance 0.36.

    Every step is affine in the noise, so the mean is the sample of no noise, and the variance a sum over what each
    number of noise adds.
    """
    rho, seen = 0.8, 1.5
    angles = [angle_from_noise_level(level, 1.0) for level in np.geomspace(80.0, 0.05, steps)]
    times = [float(angle) for angle in (angles if steps > 1 else angles[:1])]
    numbers = torch.cat([torch.zeros(1, 2 * steps), torch.eye(2 * steps)]).double()
    noise = numbers.reshape(-1, steps, 2).transpose(0, 1).clone()
    noise[0, :, 0] += seen / math.tan(times[0])  # the first point has what was seen, too
    mean, *others = sample_consistency(inpainting(correlated(rho), seen), noise, times)[:, 1]
    found_mean, found_variance = INPAINTED[steps]
    assert float(mean) == pytest.approx(found_mean, abs=6e-3)
    assert float(sum((other - mean) ** 2 for other in others)) == pytest.approx(found_variance, abs=6e-3)


def std_of_samples(jump: Jump, steps: int, gamma: float) -> float:
    """Of linear maps: the root of the summed squares of what each slice of noise alone becomes."""
    times = torch.linspace(math.pi / 2, 0, steps + 1, dtype=torch.float64)[:-1].tolist()
    slices = torch.eye(steps, dtype=torch.float64)[:, :, None]
    return float(sample_jumps(jump, slices, times, gamma)[:, 0].square().sum().sqrt())


def erring(e: float) -> Jump:
    """The Gaussian's map times 1 + e sin(t - u)."""

    def to(u: Tensor) -> Field:
        def field(x: Tensor, t: Tensor) -> Tensor:
            gap = t - u
            return col((torch.cos(gap) - (1 + e * torch.sin(gap)) * spread(u) / spread(t)) / torch.sin(gap)) * x

        return field

    return to


def test_11_a_consistency_model_with_an_error_is_best_at_two_steps_and_a_flow_map_at_one():
    """Align Your Flow's Thm 3.1: true, with a minimum at two; a map that errs as much at each gap saturates."""
    steps = (1, 2, 4, 8, 16, 32)
    for e, consistency, flow in (
        (0.02, (0.0120, 0.0117, 0.0126, 0.0139, 0.0158, 0.0186), (0.0120, 0.0171, 0.0186, 0.0190, 0.0191, 0.0191)),
        (0.0, (0.0,) * 6, (0.0,) * 6),
    ):
        assert [std_of_samples(erring(e), n, 1.0) - STD for n in steps] == pytest.approx(consistency, abs=6e-5)
        assert [std_of_samples(erring(e), n, 0.0) - STD for n in steps] == pytest.approx(flow, abs=6e-5)


# --- 12 to 16: derived, and so verified here ----------------------------------------------------------


def test_12_multi_step_cm_with_as_many_phases_as_steps_is_diffusion_if_its_norm_is_squared():
    """The phase's edge is the pair's lower end, so the target is v; SNR + 1 on |error of x0|^2 is |error of F|^2."""
    x, t, _, _ = points(3)
    edge = t - 1 / 64
    v = velocity(x, t)
    target = semigroup_direction(some_to, x, t, edge, edge, chord_velocity(x, ddim_step(velocity, x, t, edge), t, edge))
    close(target.F + target.g, v, 1e-12)
    c, s = parts(t)
    clean = c * x - s * (target.F + target.g)
    error = (1 + (c / s) ** 2) * (c * x - s * target.F - clean).square()
    torch.testing.assert_close(error, target.g.square(), rtol=1e-11, atol=1e-14)
    unsquared = (1 + (c / s).square()[:, 0]) * (s * target.g).norm(dim=1)
    torch.testing.assert_close(unsquared, target.g.norm(dim=1) / s[:, 0], rtol=1e-11, atol=1e-14)


def test_13_inductive_moment_matching_with_one_particle_and_the_energy_kernel_is_consistency_training():
    """MMD^2 of single points a, b is k(a, a) + k(b, b) - 2 k(a, b): with k = -|a - b|^2 twice CT's squared distance."""
    g = torch.Generator().manual_seed(4)
    x0, z = torch.randn(2, 40, 2, generator=g, dtype=torch.float64)
    scale = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    grid = ProposalGrid(torch.tensor([0.3, 0.9], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64))
    t, r, zero = (torch.full((40,), a, dtype=torch.float64) for a in (0.9, 0.3, 0.0))
    student = lambda x, t: scale * some_to(zero)(x, t)  # noqa: E731
    loss = ct(Fields(student), x0, Draws(torch.full_like(t, 0.5), z), CTSettings(grid)).loss
    x, x_r = interpolate(x0, z, t), interpolate(x0, z, r)
    close(x_r, rotate(x, velocity_of_pair(x0, z, t), t, r), 1e-15)  # IMM's interpolant of the same pair
    a, b = rotate(x, student(x, t), t, zero), rotate(x_r, student(x_r, r), r, zero).detach()
    kernel = lambda a, b: -(a - b).square().sum(1)  # noqa: E731
    mmd = (kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)).mean()
    ours, theirs = (torch.autograd.grad(value, scale)[0] for value in (loss, mmd))
    torch.testing.assert_close(2 * x0.shape[1] * ours, theirs, rtol=1e-12, atol=0)


def ddim_map(steps: int, over: float) -> Jump:
    """Down to u by DDIM steps of the exact velocity, each over / steps long."""

    def to(u: Tensor) -> Field:
        def field(x: Tensor, t: Tensor) -> Tensor:
            start, end, count = x, t, round(float((t - u)[0]) / (over / steps))
            for _ in range(count):
                x, end = rotate(x, velocity(x, end), end, end - over / steps), end - over / steps
            return chord_velocity(start, x, t, u)

        return field

    return to


def test_14_shortcut_models_rest_at_the_map_of_their_smallest_step_and_not_at_the_flow_map():
    x = points(5)[0][:20]
    t, over, errors = torch.full((20,), 1.4, dtype=torch.float64), 1.28, []
    for steps in (16, 32, 64):
        ending = ddim_map(steps, over)
        for halves in (1, 2, 4):
            gap = over / halves
            assert semigroup_direction(ending, x, t, t - gap / 2, t - gap).g.abs().max() < 1e-12
        u = t - over
        errors.append(float((whole(ending, x, t, u) - whole(exact_to, x, t, u)).abs().max()))
        smallest = over / steps  # where the velocity alone is learned
        close(ending(t - smallest)(x, t), velocity(x, t), 1e-12)
    assert [math.log2(a / b) for a, b in itertools.pairwise(errors)] == pytest.approx([1, 1], abs=0.1)


# --- 15: warm-ups that end below 1 --------------------------------------------------------------------

NODES, WEIGHTS = (
    torch.from_numpy((part + shift) / 2)
    for part, shift in zip(np.polynomial.legendre.leggauss(400), (1, 0), strict=True)
)


def resting(r: float, parts_of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Jump:
    """F at (x, t; u) from a mean over q in (0, 1) of what stands at the gap (t - u) q^r, along the ODE."""

    def to(u: Tensor) -> Field:
        def field(x: Tensor, t: Tensor) -> Tensor:
            gaps = (t - u)[:, None] * NODES**r
            along = spread(u[:, None] + gaps) / spread(t)[:, None]  # the Gaussian's ODE scales x
            return col((WEIGHTS * parts_of(gaps, u[:, None], along)).sum(1)) * x

        return field

    return to


def flow_rate(t: Tensor) -> Tensor:
    """(d/dt) ln |x_t|."""
    return t.sin() * t.cos() * (1 - STD**2) / spread(t).square()


def scm_at_rest(r: float) -> Jump:
    """Along the ODE (F sin^(1/r))' = sin^(1/r) (cos v / (r sin) - x): integrated over gaps (t - u) q^r."""

    def terms(gaps: Tensor, u: Tensor, along: Tensor) -> Tensor:
        whole_gap = gaps / NODES**r
        weight = (gaps.sin() / gaps * whole_gap / whole_gap.sin()) ** (1 / r) * gaps / gaps.sin()
        x, v = along, flow_rate(u + gaps) * along
        return weight * (gaps.cos() * v - r * gaps.sin() * x)

    return resting(r, terms)


def test_15_a_warm_up_that_stays_below_1_rests_elsewhere_than_at_the_map():
    """sCM's r, and Align Your Flow's, which ends at 0.99: closed forms of where each rests on a Gaussian."""
    x, t, _, u = points(6)
    x, t, u = x[:30], t[:30], (u + 0.05)[:30].minimum(t[:30] - 0.1)
    v = velocity(x, t)
    for r in (1.0, 0.99, 0.5):
        rest = scm_at_rest(r)
        assert segment_direction(rest(u), x, t, u, v, r).g.abs().max() < (1e-8 if r == 0.5 else 1e-12)
        off = float((rest(u)(x, t) - exact_to(u)(x, t)).abs().max())
        assert off < 1e-9 if r == 1 else off > {0.99: 1e-3, 0.5: 1e-1}[r]


def test_15_align_your_flow_rests_at_a_mean_velocity_that_counts_the_end_near_t_more():
    """u - v + r (tau - rho) du/dtau = 0 along the ODE is solved by the mean over q of v at the gap (tau - rho) q^r."""
    x, t, _, u = points(7)
    tau, rho = (a.sin() / (a.sin() + a.cos()) for a in (t, u))
    flowing = x / col(t.cos() + t.sin())

    def velocity_in_flow(flowing: Tensor, tau: Tensor) -> Tensor:
        angle = torch.atan2(tau, 1 - tau)
        c, s = parts(angle)
        x = (c + s) * flowing
        return (c + s) * velocity(x, angle) - (c - s) * x

    def scale(tau: Tensor) -> Tensor:
        """Length in the flow's coordinates."""
        angle = torch.atan2(tau, 1 - tau)
        return spread(angle) / (angle.cos() + angle.sin())

    def average(r: float) -> Callable[[Tensor, Tensor], Tensor]:
        def field(flowing: Tensor, tau: Tensor) -> Tensor:
            at = rho[:, None] + (tau - rho)[:, None] * NODES**r
            along = scale(at) / scale(tau)[:, None]
            rates = velocity_in_flow(torch.ones(at.numel(), 1, dtype=at.dtype), at.flatten()).reshape(at.shape)
            return col((WEIGHTS * rates * along).sum(1)) * flowing

        return field

    v = velocity_in_flow(flowing, tau)
    for r in (1.0, 0.99):
        now, rate = jvp(average(r), (flowing, tau), (v, torch.ones_like(tau)))[:2]
        assert (now - v + r * col(tau - rho) * rate).abs().max() < 1e-11
        exact = (flowing - col(scale(rho) / scale(tau)) * flowing) / col(tau - rho)
        off = float((now - exact).abs().max())
        assert off < 1e-12 if r == 1 else off > 1e-3


# --- 16: UniPC's corrector ----------------------------------------------------------------------------


def log_ratio(t: Tensor) -> Tensor:
    return -torch.tan(t).log()


def ddim_along(x: Tensor, times: Tensor) -> Tensor:
    for t, u in itertools.pairwise(times):
        x = ddim_step(velocity, x, t.expand(len(x)), u.expand(len(x)))
    return x


BOUNDS = {"bh1": lambda h: h, "bh2": lambda h: -torch.expm1(-h)}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("variant", BOUNDS)
def test_16_unip_1_is_ddim_and_its_corrector_gains_an_order(variant):
    x = points(8)[0][:20]
    solve = partial(solve_unipc, velocity, x, order=1, variant=variant)
    errors: dict[bool, list[float]] = {False: [], True: []}
    for steps in (16, 32, 64):
        times = torch.linspace(1.4, 0.2, steps + 1, dtype=torch.float64)
        close(solve(times, corrector=False), ddim_along(x, times), 1e-12)
        exact = x * float(spread(times[-1]) / spread(times[0]))
        for corrector, found in errors.items():
            found.append(float((solve(times, corrector=corrector) - exact).abs().max()))
    for corrector, order in ((False, 1), (True, 2)):
        found = [math.log2(a / b) for a, b in itertools.pairwise(errors[corrector])]
        assert found == pytest.approx([order] * 2, abs=0.15)


@pytest.mark.parametrize("variant", BOUNDS)
def test_16_unic_1_mends_a_point_by_half_of_the_new_prediction_s_difference(variant):
    """In the paper's words: R_1 a B(h) = phi_2(h) to leading order, so a = 1/2 for both B; no prediction is new."""
    x, times = points(8)[0][:20], torch.tensor([1.3, 0.9, 0.4], dtype=torch.float64)
    t, u, end = (time.expand(20) for time in times)
    clean = lambda x, t: parts(t)[0] * x - parts(t)[1] * velocity(x, t)  # noqa: E731
    first, h = ddim_step(velocity, x, t, u), log_ratio(u) - log_ratio(t)
    mended = first + col(u.cos() * BOUNDS[variant](h)) * (clean(first, u) - clean(x, t)) / 2
    rest = log_ratio(end) - log_ratio(u)
    expected = col(end.sin() / u.sin()) * mended - col(end.cos() * torch.expm1(-rest)) * clean(first, u)
    close(solve_unipc(velocity, x, times, order=1, variant=variant), expected, 1e-13)
    assert (expected - ddim_along(x, times)).abs().max() > 1e-3
