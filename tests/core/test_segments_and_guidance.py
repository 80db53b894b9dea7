"""Multi-step sCD, guidance, a network that is told a number, and CM's boundary (papers.md 2.8, 2.9, 7.1)."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trigbench.core import oracle
from trigbench.core.condition import Condition
from trigbench.core.conversions import edm_denoiser_from_field, field_with_boundary
from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.guidance import guided
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives.continuous import ContinuousSettings, SegmentSettings, ms_scd, scd
from trigbench.core.objectives.regression import Regression, settings_for
from trigbench.core.samplers.consistency import sample_consistency, sample_segments
from trigbench.core.schedules import largest_angle, uniform_angles
from trigbench.core.trigflow import Field, consistency_map

SIGMA_D, EPSILON = 0.5, 0.002
T_MAX = largest_angle(SIGMA_D)
STEPS = 128
"""Runge-Kutta steps of the exact maps: enough for 1e-8 with these mixtures (test_oracle.py measures it)."""
SEEDS = st.integers(0, 2**31)


def col(t: Tensor) -> Tensor:
    return t[:, None]


def normals(seed: int, count: int, *shape: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def segment_field(mixture: oracle.Mixture, u: Tensor) -> Field:
    """The F whose map from t down to u is exact, and 0 at t = u."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        gap = col(t - u)
        ends = oracle.segment_map(mixture, x, t, u, STEPS)
        return torch.where(gap == 0, 0.0, (torch.cos(gap) * x - ends) / torch.where(gap == 0, 1.0, torch.sin(gap)))

    return field


# --- multi-step sCD ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_multi_step_scd_is_stationary_at_the_exact_segment_maps(mixture, unchecked):
    """M = 4 segments, uniform in t, each with draws in it; no other edges' maps are at rest."""
    uniform = torch.tensor([0.05, 0.3, 0.45, 0.6, 0.75, 0.85, 0.9, 0.99], dtype=torch.float64)
    noise, other = normals(0, 2, 8, 2)
    x0 = oracle.sample(mixture, uniform.flip(0), other)
    edges = uniform_angles(4, T_MAX)
    teacher = partial(oracle.velocity, mixture)
    told: list[Tensor] = []

    def student_to(u: Tensor) -> Field:
        told.append(u)
        return segment_field(mixture, u)

    fields = Fields(teacher, teacher, student_to=student_to)
    settings = SegmentSettings(segments=edges[:-1])
    with unchecked():
        norms = ms_scd(fields, x0, Draws(uniform, noise), settings).direction_norm
        assert norms.max() < 1e-8
        assert set(told[0].tolist()) == set(edges[:-1].tolist())
        diffusion_student = replace(fields, student_to=lambda u: teacher)
        moving = ms_scd(diffusion_student, x0, Draws(uniform, noise), settings).direction_norm
        assert moving.max() > 1e-2
        whole_maps = replace(fields, student_to=lambda u: segment_field(mixture, torch.zeros_like(u)))
        inside = told[0] > 0
        moving = ms_scd(whole_maps, x0, Draws(uniform, noise), settings).direction_norm
        assert (moving[inside] > 1e-3).all() and moving[~inside].max() < 1e-8


def told_network(
    shape: tuple[int, ...] = (3,), seed: int = 0, classes: int = 0, told: tuple[str, ...] = ("target_time",)
) -> ResidualMLP:
    """In float64, with a last layer (and a told number) that does not start at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ResidualMLP(shape, width=16, blocks=2, classes=classes, told=told).double()
        nn.init.normal_(network.project.weight, std=0.3)
        for parameter in network.tell.parameters():
            nn.init.normal_(parameter)
    return network


def untold(network: ResidualMLP, classes: int = 0) -> ResidualMLP:
    """The same network without the part that is told a number."""
    twin = told_network(network.shape, classes=classes, told=())
    twin.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("tell.")})
    return twin


@pytest.mark.one_in(7)
@pytest.mark.parametrize("warmup", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_one_segment_is_scd_bit_for_bit(tanh_net, time_net, seed, warmup):
    x0, noise = normals(seed, 2, 6, 3)
    draws = Draws(torch.linspace(0.05, 0.95, 6, dtype=torch.float64), noise)
    edges = torch.zeros(1, dtype=torch.float64)
    teacher, weight, plain, told = tanh_net(3, 50), time_net(), tanh_net(3, seed), told_network(seed=seed)

    def student_to(u: Tensor) -> Field:
        return bind(told, condition=Condition(target_time=u))

    def outcome(objective: Callable, student: Field, to: Callable | None, module: nn.Module) -> list[Tensor]:
        fields = Fields(student, teacher, weight, student_to=to)
        found: Regression = objective(fields, x0, draws, settings_for(objective, segments=edges, warmup=warmup))
        parameters = [p for name, p in module.named_parameters() if not name.startswith("tell.")]
        return [found.loss, found.direction_norm, *torch.autograd.grad(found.loss, [*parameters, *weight.parameters()])]

    twin = untold(told)
    pairs = [
        (outcome(ms_scd, plain, lambda _: plain, plain), outcome(scd, plain, None, plain)),
        (outcome(ms_scd, twin, student_to, told), outcome(scd, student_to(0 * draws.uniform), None, told)),
        (outcome(ms_scd, twin, student_to, told), outcome(scd, bind(twin), None, twin)),
    ]
    for segments, whole in pairs:
        assert all(map(torch.equal, segments, whole)) and whole[2].any()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("segments", [1, 2, 4])
def test_sampling_with_exact_segment_maps_ends_on_the_exact_consistency_map(mixture, unchecked, segments):
    noise = normals(1, 6, 2)
    edges = uniform_angles(segments, T_MAX)
    asked: list[tuple[float, float]] = []

    def field_to(u: Tensor) -> Field:
        def field(x: Tensor, t: Tensor) -> Tensor:
            asked.append((float(t[0]), float(u[0])))
            return segment_field(mixture, u)(x, t)

        return field

    with unchecked():
        ends = sample_segments(field_to, noise, edges)
        t = edges[-1].expand(6)
        exact = oracle.consistency_map(mixture, torch.sin(col(t)) * noise, t, 2 * STEPS)
    torch.testing.assert_close(ends, exact, rtol=0, atol=1e-8)
    assert asked == [(b, a) for a, b in reversed(list(pairwise(edges.tolist())))]  # once a segment, from the top


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sampling_in_one_segment_is_one_step_sampling_bit_for_bit(dtype):
    network = told_network().to(dtype)
    noise = normals(2, 9, 3).to(dtype)
    one = sample_consistency(bind(network, condition=Condition(target_time=torch.zeros(9))), noise[None], [T_MAX])
    ends = sample_segments(lambda u: bind(network, condition=Condition(target_time=u)), noise, uniform_angles(1, T_MAX))
    assert torch.equal(ends, one) and ends.dtype == dtype


# --- guidance ----------------------------------------------------------------------------------------


@given(seed=SEEDS, shape=st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
def test_scale_one_is_the_conditional_field_and_scale_zero_the_other(tanh_net, seed, shape):
    conditional, unconditional = (tanh_net(math.prod(shape), seed % 100 + i) for i in (0, 1000))
    x, t = normals(seed, 4, *shape), torch.linspace(0.1, 1.5, 4, dtype=torch.float64)
    one = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(guided(conditional, unconditional, one)(x, t), conditional(x, t), rtol=1e-15, atol=1e-15)
    assert torch.equal(guided(conditional, unconditional, 0 * one)(x, t), unconditional(x, t))


@given(seed=SEEDS, scales=st.lists(st.floats(-1, 4), min_size=4, max_size=4))
def test_guidance_is_linear_in_its_scale_one_scale_a_sample(tanh_net, seed, scales):
    conditional, unconditional = (tanh_net(6, seed % 100 + i) for i in (0, 1000))
    x, t = normals(seed, 4, 2, 3), torch.linspace(0.1, 1.5, 4, dtype=torch.float64)
    scale = torch.tensor(scales, dtype=torch.float64)
    exact = torch.stack(
        [(1 - s) * unconditional(x, t)[i] + s * conditional(x, t)[i] for i, s in enumerate(scales)]
    )  # EDM2's lerp, a sample at a time
    torch.testing.assert_close(guided(conditional, unconditional, scale)(x, t), exact, rtol=1e-13, atol=1e-13)


@given(seed=SEEDS, scale=st.floats(0, 4))
def test_guiding_the_field_is_guiding_the_denoiser(tanh_net, seed, scale):
    """D is affine in F with the same coefficients in both; in data units, at EDM's noise levels."""
    conditional, unconditional = (tanh_net(3, seed % 100 + i) for i in (0, 1000))
    X = normals(seed, 4, 3)
    sigma = torch.tensor([0.01, 0.4, 5.0, 80.0], dtype=torch.float64)
    field = guided(conditional, unconditional, torch.full((4,), scale, dtype=torch.float64))
    ours, D_cond, D_uncond = (
        edm_denoiser_from_field(f, SIGMA_D)(X, sigma) for f in (field, conditional, unconditional)
    )
    torch.testing.assert_close(ours, D_uncond + scale * (D_cond - D_uncond), rtol=1e-12, atol=1e-12)


def test_guidance_keeps_the_dtype_of_the_points(tanh_net):
    conditional, unconditional = (tanh_net(3, i, torch.float32) for i in (0, 1))
    x, t = normals(0, 4, 3).float(), torch.full((4,), 0.7, dtype=torch.float64)
    field = guided(conditional, unconditional, torch.full((4,), 1.5, dtype=torch.float64))
    assert field(x, t).dtype == torch.float32


# --- a network that is told a number -----------------------------------------------------------------

NUMBERS = st.lists(st.floats(-2, 4), min_size=4, max_size=4).map(lambda n: torch.tensor(n, dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [0, 3])
@given(seed=st.integers(0, 100))
def test_a_told_zero_adds_nothing_whatever_the_weights(seed, classes):
    network = told_network(seed=seed, classes=classes)
    x, t = normals(seed, 4, 3), torch.linspace(0.1, 1.5, 4, dtype=torch.float64)
    for labels in (None, torch.tensor([0, 1, 2, 3])) if classes else (None,):
        zero, one = (network(x, t, Condition(labels, target_time=torch.full((4,), n))) for n in (0.0, 1.0))
        assert torch.equal(zero, untold(network, classes)(x, t, labels))
        assert not torch.allclose(one, zero)


@pytest.mark.slow
@given(seed=st.integers(0, 100), number=NUMBERS)
def test_before_training_a_told_number_adds_nothing_and_then_learns(seed, number):
    """Only its own layer starts at zero, so the rest of a teacher's weights may be taken over."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ResidualMLP((3,), width=16, blocks=2, told=("scale", "target_time")).double()
        nn.init.normal_(network.project.weight)
    x, t = normals(seed, 4, 3), torch.linspace(0.1, 1.5, 4, dtype=torch.float64)
    output = network(x, t, Condition(None, number, 2 * number))
    assert torch.equal(output, network(x, t, Condition(None, 0 * number, 0 * number)))
    assert torch.equal(output, untold(network)(x, t))
    told = list(network.tell.parameters())
    learn = torch.autograd.grad(network(x, t, Condition(None, number + 5, number + 6)).sum(), told)
    assert len(learn) == 2 and all(gradient.any() for gradient in learn)
    assert not torch.equal(*learn), "each number has a layer of its own"


def test_each_sample_is_told_its_own_number():
    network = told_network()
    x, t = normals(0, 4, 3), torch.linspace(0.1, 1.5, 4, dtype=torch.float64)
    number = torch.tensor([0.0, 0.4, 1.0, 2.0], dtype=torch.float64)
    alone = [network(x[i : i + 1], t[i : i + 1], Condition(target_time=number[i : i + 1])) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), network(x, t, Condition(target_time=number)), rtol=1e-12, atol=1e-12)


def test_the_told_number_stays_float32_under_autocast():
    network, seen = told_network().float(), []
    network.tell.lifts["target_time"].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    number = torch.tensor([0.0, 0.4, 1.0, 2.0], dtype=torch.float64)
    field = bind(network, condition=Condition(target_time=number), precision=torch.bfloat16)
    assert field(normals(0, 4, 3).float(), torch.full((4,), 0.7, dtype=torch.float64)).dtype == torch.float32
    assert seen == [torch.float32]


def test_a_number_is_refused_by_a_network_that_is_told_none_and_missed_by_one_that_is():
    x, t, number = torch.zeros(2, 3), torch.ones(2), torch.ones(2)
    plain, told = (ResidualMLP((3,), width=8, blocks=1, classes=2, told=told) for told in ((), ("scale",)))
    labels = torch.tensor([0, 1])
    for network, condition in (
        (plain, Condition(None, number)),
        (plain, Condition(labels, number)),
        (told, None),
        (told, labels),
        (told, Condition(labels, target_time=number)),
        (told, Condition(labels, number, number)),
    ):
        with pytest.raises(ValueError, match=r"beside labels the network is told (nothing|scale), as a .*; got"):
            network(x, t, condition)
    with pytest.raises(ValueError, match=r"the network is told observations: none, in a .*; got \(2, 3\)"):
        plain(x, t, Condition(labels, observation=x))
    for wrong in ("scale", ("edge",), ("scale", "scale")):
        with pytest.raises(ValueError, match="told numbers by name"):
            ResidualMLP((3,), width=8, blocks=1, told=wrong)  # type: ignore[arg-type]
    assert told(x, t, Condition(labels, number)).shape == plain(x, t, labels).shape == x.shape


# --- CM's boundary -----------------------------------------------------------------------------------


def cm_by_hand(field: Field, X: Tensor, sigma: Tensor, epsilon: float) -> Tensor:
    """c_skip X + c_out F_EDM(c_in X), App. C, with F_EDM = -F."""
    s = col(sigma)
    skip = SIGMA_D**2 / ((s - epsilon) ** 2 + SIGMA_D**2)
    out = SIGMA_D * (s - epsilon) / (SIGMA_D**2 + s**2).sqrt()
    return skip * X - out * field(X / (SIGMA_D**2 + s**2).sqrt(), torch.atan(sigma / SIGMA_D))


def cms_map(field: Field, X: Tensor, sigma: Tensor, epsilon: float) -> Tensor:
    """Ours, in EDM's points."""
    return edm_denoiser_from_field(field_with_boundary(field, epsilon, SIGMA_D), SIGMA_D)(X, sigma)


@given(seed=SEEDS, epsilon=st.floats(1e-3, 0.5), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_bounded_map_is_the_identity_at_its_sigma_min_for_any_field(seed, epsilon, scale):
    X, F = normals(seed, 2, 4, 3)
    sigma = torch.full((4,), epsilon, dtype=torch.float64)
    torch.testing.assert_close(cms_map(lambda x, t: scale * F, X, sigma, epsilon), X, rtol=1e-12, atol=1e-12)
    elsewhere = cms_map(lambda x, t: scale * F, X, 2 * sigma, epsilon)
    assert (elsewhere - X).abs().max() > 1e-7


@given(seed=SEEDS, log_sigma=st.lists(st.floats(math.log(EPSILON), math.log(80)), min_size=4, max_size=4))
def test_the_bounded_map_is_cms_skip_and_out(tanh_net, seed, log_sigma):
    net, X = tanh_net(3, seed % 100), normals(seed, 4, 3)
    sigma = torch.tensor(log_sigma, dtype=torch.float64).exp()
    ours, exact = cms_map(net, X, sigma, EPSILON), cm_by_hand(net, X, sigma, EPSILON)
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)


@given(seed=SEEDS)
def test_without_a_sigma_min_the_field_is_itself_and_nears_it_at_first_order(tanh_net, seed):
    net, x = tanh_net(3, seed % 100), normals(seed, 4, 3)
    t = torch.tensor([0.1, 0.6, 1.1, 1.5], dtype=torch.float64)
    torch.testing.assert_close(field_with_boundary(net, 0.0, SIGMA_D)(x, t), net(x, t), rtol=1e-12, atol=1e-12)
    errors = [float((field_with_boundary(net, e, SIGMA_D)(x, t) - net(x, t)).norm().detach()) for e in (2e-4, 1e-4)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.01)


def test_the_bounded_field_has_the_tangent_of_its_formula(tanh_net):
    """Along (v, 1) in float64: by forward mode, and by central differences of CM's formula itself."""
    net, (x, v) = tanh_net(3), normals(4, 2, 5, 3)
    t = torch.tensor([0.01, 0.2, 0.7, 1.2, 1.5], dtype=torch.float64)
    bounded = field_with_boundary(net, EPSILON, SIGMA_D)
    value, tangent = value_and_tangent(bounded, (x, t), (v, torch.ones_like(t)))
    assert value.requires_grad and not tangent.requires_grad
    torch.testing.assert_close(value, bounded(x, t), rtol=1e-13, atol=1e-13)
    reference = torch.func.jvp(bounded, (x, t), (v, torch.ones_like(t)))[1]
    torch.testing.assert_close(tangent, reference, rtol=1e-12, atol=1e-12)

    def by_hand(x: Tensor, t: Tensor) -> Tensor:
        """F of f = cos t x - sin t F for CM's f, in unit variance."""
        mapped = cm_by_hand(net, SIGMA_D * x / torch.cos(col(t)), SIGMA_D * torch.tan(t), EPSILON) / SIGMA_D
        return (torch.cos(col(t)) * x - mapped) / torch.sin(col(t))

    h = 1e-5
    difference = (by_hand(x + h * v, t + h) - by_hand(x - h * v, t - h)) / (2 * h)
    torch.testing.assert_close(tangent, difference.detach(), rtol=1e-5, atol=1e-5)


def test_scd_with_cms_boundary_has_gradients_in_every_parameter(tanh_net):
    net, teacher = tanh_net(3), tanh_net(3, 1)
    x0, noise = normals(5, 2, 6, 3)
    draws = Draws(torch.linspace(0.05, 0.95, 6, dtype=torch.float64), noise)
    bounded = field_with_boundary(net, EPSILON, SIGMA_D)
    loss = scd(Fields(bounded, teacher), x0, draws, ContinuousSettings()).loss
    assert all(g.isfinite().all() and g.any() for g in torch.autograd.grad(loss, list(net.parameters())))


def test_the_bounded_field_keeps_the_dtype_of_the_points(tanh_net):
    net = tanh_net(3, 0, torch.float32)
    x, t = normals(0, 4, 3).float(), torch.tensor([0.004, 0.5, 1.0, T_MAX], dtype=torch.float64)
    bounded = field_with_boundary(net, EPSILON, SIGMA_D)
    assert bounded(x, t).dtype == consistency_map(bounded, x, t).dtype == torch.float32
