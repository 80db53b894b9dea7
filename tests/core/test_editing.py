"""Zero-shot editing against exact laws: of a Gaussian in closed form, of a mixture by Bayes' rule."""

import math

import pytest
import torch

from trigbench.core import oracle, posterior
from trigbench.core.operators import colour, mask, observe
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.samplers.editing import denoise, edit, from_guide, slerp
from trigbench.core.samplers.ode import ddim_step, heun_step, solve
from trigbench.core.samplers.teacher_editing import pseudoinverse_guided, repaint
from trigbench.core.trigflow import cos_sin

CORRELATED = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
FIRST = mask(torch.tensor([True, False]))
SEEN = torch.tensor([1.5], dtype=torch.float64)
TABLE = {1: (0.008, 1.000), 2: (0.012, 0.995), 4: (0.31, 0.77), 8: (0.53, 0.65), 16: (0.75, 0.53), 40: (0.974, 0.432),
         200: (1.150, 0.374), 1000: (1.188, 0.364)}  # fmt: skip
"""Of `steps` levels from 80 to 0.05 in a geometric row: mean and variance of what is not seen."""
MIXTURE = oracle.standardised(
    oracle.Mixture(
        torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        torch.tensor([[-1.0, -1.0], [1.2, 0.4], [-0.6, 1.5]], dtype=torch.float64),
        torch.tensor([0.4, 0.3, 0.5], dtype=torch.float64),
    )
)


def geometric(steps: int) -> list[float]:
    levels = torch.linspace(math.log(80), math.log(0.05), steps, dtype=torch.float64).exp()
    return levels.atan().tolist()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_field(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The F of the exact map of the correlated Gaussian."""
    c, s = cos_sin(t, x)
    return (c * x - posterior.gaussian_map(CORRELATED, x, t)) / s


def gaussian_velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Its exact velocity."""
    variances, directions = torch.linalg.eigh(CORRELATED)
    c, s = cos_sin(t, x)
    return (x @ directions) * (c * s * (1 - variances) / (c**2 * variances + s**2)) @ directions.T


def standard(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The F of the exact map of N(0, I), which is the identity."""
    return -torch.tan(t / 2).reshape(-1, *[1] * (x.ndim - 1)) * x


def exact_field(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    c, s = cos_sin(t, x)
    return (c * x - oracle.consistency_map(MIXTURE, x, t, 16)) / s


# --- Gaussians ------------------------------------------------------------------------------------


def test_the_closed_form_of_edits_is_the_quoted_table_and_tends_to_the_posterior() -> None:
    for steps, (mean, variance) in TABLE.items():
        law = posterior.gaussian_edits(CORRELATED, FIRST, SEEN, geometric(steps))
        digits = 0.0051 if 4 <= steps <= 16 else 0.00051
        assert law[0][1] == pytest.approx(mean, abs=digits)
        assert law[1][1, 1] == pytest.approx(variance, abs=digits)
        assert law[0][0] == SEEN[0]
        assert law[1][0].abs().max() < 1e-12
    truth = posterior.gaussian_given(CORRELATED, FIRST, SEEN)
    assert truth[0].tolist() == pytest.approx([1.5, 1.2])
    assert truth[1][1, 1] == pytest.approx(0.36)


@pytest.mark.parametrize("steps", [1, 4, 40])
def test_edits_by_the_exact_map_have_the_law_of_the_closed_form(steps: int) -> None:
    count, times = 20000, geometric(steps)
    found = edit(gaussian_field, FIRST, SEEN.expand(count, 1), normal(steps, count, 2, seed=steps), times)
    mean, spread = posterior.gaussian_edits(CORRELATED, FIRST, SEEN, times)
    hidden, variance = found[:, 1], float(spread[1, 1])
    assert torch.equal(found[:, 0], SEEN.expand(count))
    assert abs(float(hidden.mean() - mean[1])) < 4 * math.sqrt(variance / count)
    assert abs(float(hidden.var()) - variance) < 4 * variance * math.sqrt(2 / count)


def test_the_law_of_a_general_observation_agrees_with_samples() -> None:
    covariance = torch.tensor([[1.2, 0.3, 0.5], [0.3, 0.8, -0.2], [0.5, -0.2, 1.0]], dtype=torch.float64)
    grey, count = colour((3,)), 20000
    y, times = torch.tensor([0.7], dtype=torch.float64), [1.5, 0.9, 0.4]

    def field(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        c, s = cos_sin(t, x)
        return (c * x - posterior.gaussian_map(covariance, x, t)) / s

    found = edit(field, grey, y.expand(count, 1), normal(3, count, 3), times)
    mean, spread = posterior.gaussian_edits(covariance, grey, y, times)
    assert torch.allclose(found.mean(0), mean, atol=0.03)
    assert torch.allclose(found.T.cov(), spread, atol=0.03)
    assert (observe(grey, found) - y).abs().max() < 1e-12


def test_denoising_is_the_map_and_no_posterior_mean() -> None:
    noisy, std = normal(5, 3), 0.7
    found = denoise(standard, noisy, std)
    assert torch.allclose(found, noisy / math.sqrt(1 + std**2))
    assert not torch.allclose(found, noisy / (1 + std**2))
    assert torch.equal(denoise(lambda x, t: x, noisy, 0.0), noisy)


def test_a_guide_is_forgotten_as_it_is_noised_more() -> None:
    count, guide = 20000, torch.tensor([[2.0]], dtype=torch.float64)
    means = []
    for t in (0.2, 0.8, 1.4):
        found = from_guide(standard, guide.expand(count, 1), normal(1, count, 1), [t])
        assert float(found.mean()) == pytest.approx(2 * math.cos(t), abs=4 / math.sqrt(count))  # N(0, 1): f is x itself
        assert float(found.std()) == pytest.approx(math.sin(t), abs=4 / math.sqrt(count))
        means.append(float(found.mean()))
    assert means == sorted(means, reverse=True)


# --- mixtures -------------------------------------------------------------------------------------


def test_a_mixture_given_a_coordinate_is_bayes_rule() -> None:
    """Against the joint density on a grid of what is not seen."""
    y = torch.tensor([[-0.9], [0.1], [1.3]], dtype=torch.float64)
    exact = posterior.given(MIXTURE, FIRST, y)
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    for row, seen in enumerate(y[:, 0]):
        x = torch.stack([seen.expand(len(grid)), grid], dim=1)
        away = (x[:, None] - MIXTURE.means).square().sum(-1) / MIXTURE.stds.square()
        joint = (MIXTURE.weights / MIXTURE.stds.square() * torch.exp(-away / 2)).sum(1)
        joint /= joint.sum() * (grid[1] - grid[0])
        beside = (grid[:, None] - exact.means[row, :, 1]) / MIXTURE.stds
        density = (exact.weights[row] / MIXTURE.stds * torch.exp(-beside.square() / 2)).sum(1) / math.sqrt(2 * math.pi)
        assert torch.allclose(density, joint, atol=1e-9)
    assert torch.equal(exact.means[:, :, 0], y.expand(3, 3))


def test_draws_given_observations_of_data_are_data() -> None:
    count, grey = 60000, colour((2,), [0.6, 0.8])
    g = torch.Generator().manual_seed(3)
    uniform = torch.rand(2, count, generator=g, dtype=torch.float64)
    data = oracle.sample(MIXTURE, uniform[0], normal(count, 2, seed=1))
    found = posterior.sample_given(posterior.given(MIXTURE, grey, observe(grey, data)), uniform[1], normal(count, 1))
    assert torch.allclose(observe(grey, found), observe(grey, data), atol=1e-12)
    assert torch.allclose(found.T.cov(), data.T.cov(), atol=0.03)
    assert torch.allclose(found.pow(3).mean(0), data.pow(3).mean(0), atol=0.06)
    assert not torch.allclose(found, data, atol=0.5)


def test_few_steps_by_the_exact_map_do_not_sample_the_posterior() -> None:
    """The error of the mean falls with steps, and is far from 0 at one."""
    y, count = torch.tensor([[1.2]], dtype=torch.float64), 500
    exact = posterior.given(MIXTURE, FIRST, y)
    mean = float((exact.weights[0] * exact.means[0, :, 1]).sum())
    errors = []
    for steps in (1, 12):
        times = torch.linspace(1.56, 0.05, steps).tolist()
        found = edit(exact_field, FIRST, y.expand(count, 1), normal(steps, count, 2), times)
        errors.append(abs(float(found[:, 1].mean()) - mean))
    assert errors[0] > 0.3
    assert errors[1] < 0.4 * errors[0]


# --- editing in general ---------------------------------------------------------------------------


def test_with_nothing_seen_an_edit_is_ordinary_sampling() -> None:
    times, noise = [1.5, 1.0, 0.3], normal(3, 8, 2)
    free = edit(exact_field, mask(torch.tensor([False, False])), torch.zeros(8, 0, dtype=torch.float64), noise, times)
    assert torch.equal(free, sample_consistency(exact_field, noise, times))
    lower = sample_consistency(exact_field, noise, times, boundary=0.1)
    zeros = torch.zeros(8, 2, dtype=torch.float64)
    assert torch.equal(from_guide(exact_field, zeros, noise, times, boundary=0.1), lower)


def test_with_all_seen_an_edit_is_the_observation() -> None:
    y = normal(8, 2)
    assert torch.equal(edit(exact_field, mask(torch.tensor([True, True])), y, normal(2, 8, 2), [1.5, 0.5]), y)


def test_each_step_is_told() -> None:
    told = []
    edit(
        gaussian_field, FIRST, SEEN.expand(4, 1), normal(2, 4, 2), [1.5, 0.5], callback=lambda *step: told.append(step)
    )
    assert [(n, float(t[0]), tuple(x.shape), tuple(out.shape)) for n, t, x, out in told] == [
        (0, 1.5, (4, 2), (4, 2)), (1, 0.5, (4, 2), (4, 2)),
    ]  # fmt: skip
    told.clear()
    times = torch.tensor([1.5, 0.7, 0.0], dtype=torch.float64)
    repaint(gaussian_velocity, FIRST, SEEN.expand(4, 1), normal(4, 2), times, iter(normal(99, 4, 2)), 3,
            callback=lambda *step: told.append(step))  # fmt: skip
    assert [n for n, *_ in told] == list(range(6))


def test_the_arc_between_two_noises() -> None:
    first, second = normal(2, 6, 3, 4)
    length = first.flatten(1).norm(dim=1)
    second = second / second.flatten(1).norm(dim=1)[:, None, None] * length[:, None, None]
    assert torch.allclose(slerp(first, second, 0.0), first)
    assert torch.allclose(slerp(first, second, 1.0), second)
    shares = torch.linspace(0, 1, 6, dtype=torch.float64)
    assert torch.allclose(slerp(first, second, shares).flatten(1).norm(dim=1), length)
    middle = slerp(first, second, 0.5)
    assert torch.allclose((middle * first).sum((1, 2)), (middle * second).sum((1, 2)))
    assert torch.allclose(slerp(first, 2 * first, 0.5), 1.5 * first)
    assert torch.allclose(slerp(first, first, shares), first)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: edit(exact_field, FIRST, SEEN.expand(4, 1), normal(1, 4, 2), [1.5, 0.5]), "one noise slice per time"),
        (lambda: edit(exact_field, FIRST, SEEN.expand(3, 1), normal(1, 4, 2), [1.5]), "one noise slice per time"),
        (lambda: edit(exact_field, FIRST, SEEN.expand(4, 1), normal(2, 4, 2), [0.5, 1.5]), "descending"),
        (lambda: edit(exact_field, FIRST, SEEN.expand(4, 1), normal(1, 4, 2), [0.5], boundary=0.6), "boundary"),
        (lambda: edit(exact_field, FIRST, normal(4, 2), normal(1, 4, 2), [0.5]), "observation"),
        (lambda: denoise(exact_field, normal(4, 2), -1.0), "0 or more"),
        (lambda: denoise(exact_field, normal(4, 2), math.nan), "0 or more"),
        (lambda: slerp(normal(4, 2), normal(3, 2), 0.5), "one shape"),
        (lambda: slerp(normal(4, 2), normal(4, 2), 1.5), "shares"),
        (
            lambda: repaint(exact_field, FIRST, SEEN.expand(4, 1), normal(4, 2), torch.tensor([1.5, 0.5]), []),
            "end at 0",
        ),
        (
            lambda: repaint(exact_field, FIRST, SEEN.expand(4, 1), normal(4, 2), torch.tensor([1.5, 0.0]), [], 0),
            "1 resampling",
        ),
        (
            lambda: repaint(exact_field, FIRST, SEEN.expand(4, 1), normal(4, 2), torch.tensor([1.5, 0.0]), []),
            "none is left",
        ),
        (lambda: pseudoinverse_guided(exact_field, FIRST, normal(4, 2)), "observation"),
        (lambda: posterior.given(MIXTURE, colour((3,)), normal(4, 1)), r"operator on \(2,\)"),
    ],
)
def test_what_is_no_edit_is_refused(call, said: str, unchecked) -> None:
    with unchecked(), pytest.raises(ValueError, match=said):
        call()


# --- with a velocity, in many steps ---------------------------------------------------------------


def test_guidance_by_the_pseudoinverse_is_exact_on_a_standard_normal() -> None:
    """What is not seen stays as it is, and what is seen goes to the observation."""
    x, y = normal(8, 3), normal(8, 1, seed=1)
    first = mask(torch.tensor([True, False, False]))

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

    times = torch.cat([torch.linspace(1.55, 0.02, 20, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    found = solve(ddim_step, pseudoinverse_guided(velocity, first, y), x, times)
    assert torch.allclose(found[:, 1:], solve(ddim_step, velocity, x, times)[:, 1:])
    assert (found[:, :1] - y).abs().max() < 1e-9


def test_guidance_by_the_pseudoinverse_comes_near_the_posterior_of_a_gaussian() -> None:
    count = 1000
    field = pseudoinverse_guided(gaussian_velocity, FIRST, SEEN.expand(count, 1))
    times = torch.cat([torch.linspace(1.56, 0.05, 20, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    found = solve(heun_step, field, normal(count, 2), times)
    assert float((found[:, 0] - 1.5).abs().mean()) < 0.05
    assert float(found[:, 1].mean()) == pytest.approx(1.2, abs=0.25)


def test_resampling_brings_repaint_nearer_to_the_posterior() -> None:
    count, times = 2000, torch.linspace(1.55, 0, 16, dtype=torch.float64)
    means = []
    for resamplings in (1, 8):
        noise = (normal(count, 2, seed=number) for number in range(10**6))
        y = SEEN.expand(count, 1)
        found = repaint(gaussian_velocity, FIRST, y, normal(count, 2, seed=-1), times, noise, resamplings)
        assert torch.equal(found[:, :1], y)
        means.append(float(found[:, 1].mean()))
    assert abs(means[1] - 1.2) < 0.15
    assert abs(means[0] - 1.2) > 2 * abs(means[1] - 1.2)
