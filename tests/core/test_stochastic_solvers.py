"""DDIM with eta and Karras' stochastic Heun, on data whose marginals are known (arXiv 2010.02502, 2206.00364)."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.conversions import edm_denoiser_from_field
from trigbench.core.samplers.ode import ddim_step, heun_step, solve
from trigbench.core.samplers.stochastic import solve_ddim_eta, solve_heun_churn
from trigbench.core.schedules import karras_noise_levels
from trigbench.core.trigflow import angle_from_noise_level

SIGMA_D = 0.5
TIMES = torch.tensor([1.5, 1.2, 0.7, 0.2, 0.0], dtype=torch.float64)
CHURNED = partial(solve_heun_churn, sigma_d=SIGMA_D, churn=2.0)


def points(batch: int, dimension: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noises(steps: int, batch: int, dimension: int) -> Tensor:
    return torch.stack([points(batch, dimension, 100 + step) for step in range(steps)])


def variances(solver: Callable[..., Tensor], field: Callable, times: Tensor, first: float) -> Tensor:
    """Of each coordinate at the end, without sampling error, where the field is linear in x and begins with variance
    `first`: the coefficients of the start and of each draw, which are 1 for one sample alone."""
    steps = len(times) - 1
    basis = torch.eye(1 + steps, dtype=torch.float64)
    noise = basis[1:, :, None]
    return solver(field, math.sqrt(first) * basis[0][:, None], times, noise).square().sum(0)


# --- limits -----------------------------------------------------------------------------------------


@settings(max_examples=2)
@given(seed=st.integers(0, 1000))
def test_without_fresh_noise_they_are_ddim_and_heun_bit_for_bit(tanh_net, seed):
    net, x, z = tanh_net(3), points(4, 3, seed), noises(4, 4, 3)
    assert torch.equal(solve_ddim_eta(net, x, TIMES, z, eta=0.0), solve(ddim_step, net, x, TIMES))
    for churn, low, high in ((0.0, 0.0, math.inf), (9.0, 90.0, math.inf), (9.0, 0.0, 1e-3)):
        quieted = solve_heun_churn(net, x, TIMES, z, SIGMA_D, churn, low, high)
        assert torch.equal(quieted, solve(heun_step, net, x, TIMES))
    for loud in (partial(solve_ddim_eta, eta=0.5), CHURNED):
        assert not torch.allclose(loud(net, x, TIMES, z), loud(net, x, TIMES, -z))


@pytest.mark.parametrize("solver", [partial(solve_ddim_eta, eta=1.0), CHURNED])
def test_one_step_to_zero_and_two_steps(tanh_net, solver):
    net, x, z = tanh_net(3), points(4, 3), noises(2, 4, 3)
    two = solver(net, x, TIMES[[0, 2, 4]], z)
    assert two.isfinite().all()
    one = solver(net, x, TIMES[[0, 4]], z[:1])
    assert one.isfinite().all()
    if solver is not CHURNED:  # nothing is fresh at 0
        assert torch.equal(one, ddim_step(net, x, TIMES[0].expand(4), torch.zeros(4, dtype=torch.float64)))


# --- marginals --------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(eta=st.floats(0, 1), end=st.floats(0.01, 1.4), start=st.sampled_from([math.pi / 2, 1.5707, 1.45]))
def test_ddim_keeps_the_marginals_of_a_single_point_exactly_at_every_eta(eta, end, start):
    """Data are x0 alone: x_u is N(cos u x0, sin^2 u), whatever the steps (DDIM, Lemma 1)."""
    times = torch.linspace(start, end, 5, dtype=torch.float64)
    ddim = partial(solve_ddim_eta, eta=eta)

    def field(x: Tensor, t: Tensor, x0: float = 0.0) -> Tensor:
        return (torch.cos(t)[:, None] * x - x0) / torch.sin(t)[:, None]

    found = variances(ddim, field, times, math.sin(start) ** 2)
    assert float(found) == pytest.approx(math.sin(end) ** 2, rel=1e-12)
    still = torch.zeros(4, 1, 1, dtype=torch.float64)
    mean = ddim(partial(field, x0=0.7), torch.full((1, 1), math.cos(start) * 0.7, dtype=torch.float64), times, still)
    assert float(mean) == pytest.approx(math.cos(end) * 0.7, rel=1e-12)


@pytest.mark.parametrize("eta", [0.4, 1.0])
@pytest.mark.parametrize("std", [0.4, 1.0])
def test_ddims_variance_on_gaussian_data_is_that_of_the_formula_and_nears_the_exact_one_at_order_1(unchecked, eta, std):
    """Eqs. 12 and 16 on x of variance V: (cos u a + kept b)^2 V + fresh^2, where a x is the data and b x the noise."""
    missed = []
    for steps in (20, 40, 80):
        times = torch.linspace(1.45, 0.1, steps + 1, dtype=torch.float64)
        exact = first = std**2 * math.cos(1.45) ** 2 + math.sin(1.45) ** 2
        for t, u in pairwise(times.tolist()):
            total = std**2 * math.cos(t) ** 2 + math.sin(t) ** 2
            fresh = eta**2 * math.sin(u) ** 2 / math.sin(t) ** 2 * (1 - math.cos(t) ** 2 / math.cos(u) ** 2)
            kept = math.sqrt(math.sin(u) ** 2 - fresh)
            moved = math.cos(u) * std**2 * math.cos(t) / total + kept * math.sin(t) / total
            exact = moved**2 * exact + fresh
        ddim = partial(solve_ddim_eta, eta=eta)
        with unchecked():
            found = variances(ddim, lambda x, t: oracle.gaussian_velocity(x, t, std), times, first)
        assert float(found) == pytest.approx(exact, rel=1e-12)
        missed.append(abs(exact - (std**2 * math.cos(0.1) ** 2 + math.sin(0.1) ** 2)))
    assert [math.log2(a / b) for a, b in pairwise(missed)] == pytest.approx([1, 1], abs=0.2)


@pytest.mark.parametrize("std", [0.4, 2.6])
def test_churns_variance_nears_the_exact_one_at_order_2_and_its_lift_keeps_it(unchecked, std):
    missed = []
    for steps in (15, 30, 60):
        times = torch.linspace(1.45, 0.1, steps + 1, dtype=torch.float64)
        exact = [std**2 * math.cos(t) ** 2 + math.sin(t) ** 2 for t in (1.45, 0.1)]
        churned = partial(solve_heun_churn, sigma_d=SIGMA_D, churn=2.0)
        with unchecked():
            found = variances(churned, lambda x, t: oracle.gaussian_velocity(x, t, std), times, exact[0])
        missed.append(abs(float(found) - exact[1]))
    assert [math.log2(a / b) for a, b in pairwise(missed)] == pytest.approx([2, 2], abs=0.3)
    lifted = []

    def still(x: Tensor, t: Tensor) -> Tensor:
        lifted.append((float(t[0]), x))
        return torch.zeros_like(x)

    variances(CHURNED, still, TIMES[:2], std**2 * math.cos(1.5) ** 2 + math.sin(1.5) ** 2)
    t, x = lifted[0]
    assert math.tan(t) == pytest.approx(math.sqrt(2) * math.tan(1.5)), "churn / steps is above sqrt(2) - 1"
    assert float(x.square().sum()) == pytest.approx(std**2 * math.cos(t) ** 2 + math.sin(t) ** 2, rel=1e-12)


# --- the published algorithm ------------------------------------------------------------------------


def edm_by_hand(denoiser: Callable, x: Tensor, sigmas: Tensor, noise: Tensor, said: dict[str, float]) -> Tensor:
    """Karras et al. 2022, Alg. 2."""
    for now, then, z in zip(sigmas[:-1], sigmas[1:], noise, strict=True):
        inside = said["churn_min"] <= now <= said["churn_max"]
        gamma = min(said["churn"] / (len(sigmas) - 1), math.sqrt(2) - 1) if inside else 0.0
        up = now + gamma * now
        x_up = x + (up**2 - now**2).sqrt() * said["churn_noise"] * z
        d = (x_up - denoiser(x_up, up.expand(len(x)))) / up
        x = x_up + (then - up) * d
        if then > 0:
            d_then = (x - denoiser(x, then.expand(len(x)))) / then
            x = x_up + (then - up) * (d + d_then) / 2
    return x


@settings(max_examples=4)
@given(sigma_d=st.floats(0.05, 5), churn=st.floats(0, 80), low=st.floats(0, 1), seed=st.integers(0, 100))
def test_stochastic_heun_is_edms_algorithm_2_in_edms_units(tanh_net, sigma_d, churn, low, seed):
    net, steps = tanh_net(3, seed), 8
    said = {"churn": churn, "churn_min": low, "churn_max": 50.0, "churn_noise": 1.003}
    sigmas = torch.cat([karras_noise_levels(steps), torch.zeros(1, dtype=torch.float64)])
    x, noise = points(4, 3, seed), noises(steps, 4, 3)
    expected = edm_by_hand(edm_denoiser_from_field(net, sigma_d), sigmas[0] * x, sigmas, noise, said)
    times = angle_from_noise_level(sigmas, sigma_d)
    ours = solve_heun_churn(net, torch.sin(times[0]) * x, times, noise, sigma_d, **said)
    torch.testing.assert_close(sigma_d * ours, expected, rtol=1e-9, atol=1e-9)


# --- noise, callbacks, refusals ---------------------------------------------------------------------

BOTH = [partial(solve_ddim_eta, eta=0.7), CHURNED]


@pytest.mark.parametrize("solver", BOTH)
def test_noise_may_be_drawn_when_asked_and_belongs_to_the_sample(tanh_net, solver):
    net, x, z = tanh_net(3), points(4, 3), noises(4, 4, 3)
    whole = solver(net, x, TIMES, z)
    asked = []
    assert torch.equal(solver(net, x, TIMES, (asked.append(step) or z[step] for step in range(9))), whole)
    assert asked == [0, 1, 2, 3], "a slice a step"
    alone = torch.cat([solver(net, x[i : i + 1], TIMES, z[:, i : i + 1]) for i in range(4)])
    torch.testing.assert_close(alone, whole, rtol=1e-12, atol=1e-12)
    state = torch.get_rng_state()
    solver(net, x, TIMES, z)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("solver", BOTH)
def test_callbacks_see_each_step_and_change_nothing(tanh_net, solver):
    net, x, z, seen = tanh_net(3), points(4, 3), noises(4, 4, 3), []
    ends = solver(net, x, TIMES, z, callback=lambda *said: seen.append(said))
    assert torch.equal(ends, solver(net, x, TIMES, z)) and [step for step, *_ in seen] == [0, 1, 2, 3]
    for (_, t, at, data), planned in zip(seen, TIMES, strict=False):
        assert bool((t > planned).all()) if solver is CHURNED else torch.equal(t, planned.expand(4))
        torch.testing.assert_close(data, torch.cos(t)[:, None] * at - torch.sin(t)[:, None] * net(at, t))


@pytest.mark.parametrize("solver", BOTH)
@pytest.mark.parametrize(
    ("noise", "match"),
    [(torch.zeros(3, 4, 3), "got 3 for 4"), (torch.zeros(4, 2, 3), "it is of"), (iter(torch.zeros(3, 4, 3)), "left")],
)
def test_noise_that_does_not_fit_is_refused(tanh_net, solver, noise, match):
    with pytest.raises(ValueError, match=match):
        solver(tanh_net(3), points(4, 3), TIMES, noise)


@pytest.mark.parametrize(
    "said", [{"churn": -1.0}, {"churn_min": 3.0, "churn_max": 2.0}, {"churn_noise": -0.1}, {"sigma_d": 0.0}]
)
def test_churn_that_does_not_fit_is_refused(tanh_net, said):
    with pytest.raises(ValueError, match="ascend"):
        solve_heun_churn(tanh_net(3), points(4, 3), TIMES, noises(4, 4, 3), **{"sigma_d": 0.5, "churn": 1.0, **said})


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_an_eta_that_is_no_share_is_refused(tanh_net, eta):
    with pytest.raises(ValueError, match="from 0"):
        solve_ddim_eta(tanh_net(3), points(4, 3), TIMES, noises(4, 4, 3), eta)
