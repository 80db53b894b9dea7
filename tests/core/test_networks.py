"""Networks, embeddings and the adaptive weight (papers.md 1.4, 2.4, 2.7)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.networks.embeddings import FourierEmbedding, PositionalEmbedding, noise_coordinate, pixel_norm
from trigbench.core.networks.log_weight import LogWeight
from trigbench.core.networks.mlp import ConditionedBlock, ResidualMLP
from trigbench.core.objectives.continuous import scd
from trigbench.core.objectives.diffusion import diffusion
from trigbench.core.objectives.regression import settings_for
from trigbench.core.trigflow import consistency_map

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


def awake(network: ResidualMLP, seed: int = 0) -> ResidualMLP:
    """With a last layer that does not start at zero."""
    nn.init.normal_(network.project.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    return network


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters())


@given(
    shape=SHAPES,
    embedding=st.sampled_from(["positional", "fourier"]),
    conditioning=st.sampled_from(["double", "adagn", "none"]),
    coordinate=st.sampled_from(["angle", "log_noise_level"]),
    seed=st.integers(0, 100),
)
def test_points_of_any_shape_give_outputs_of_that_shape(shape, embedding, conditioning, coordinate, seed):
    network = ResidualMLP(
        shape, width=16, blocks=2, embedding=embedding, conditioning=conditioning, coordinate=coordinate
    )
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))
    t = torch.tensor([0.1, 0.8, 1.5])
    assert not network(x, t).any()  # starts at F = 0
    output = awake(network)(x, t)
    assert output.shape == x.shape and bool(output.isfinite().all()) and output.any()


@pytest.mark.parametrize("conditioning", ["double", "adagn", "none"])
def test_the_output_depends_on_point_and_time_and_every_parameter_learns(conditioning):
    network = awake(ResidualMLP((2, 2), width=16, blocks=2, conditioning=conditioning, classes=3))
    x = torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(0))
    t, labels = torch.tensor([0.2, 0.6, 1.0, 1.4]), torch.tensor([0, 1, 2, 3])
    output = network(x, t, labels)
    assert not torch.allclose(output, network(x, t + 0.1, labels), atol=1e-4)
    assert not torch.allclose(output, network(x + 0.1, t, labels), atol=1e-4)
    gradients = torch.autograd.grad(output.square().sum(), list(network.parameters()))
    assert all(bool(g.any()) for g in gradients)
    single = torch.cat([network(x[i : i + 1], t[i : i + 1], labels[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(single, output, rtol=1e-4, atol=1e-5)  # samples do not mix


def test_labels_change_the_output_and_no_label_is_the_last_index():
    network = awake(ResidualMLP((3,), width=16, blocks=1, classes=5))
    x, t = torch.ones(2, 3), torch.tensor([0.3, 0.3])

    def of(label: int) -> Tensor:
        return network(x, t, torch.full((2,), label))

    outputs = [of(i) for i in range(6)]
    assert all(not torch.allclose(a, b) for i, a in enumerate(outputs) for b in outputs[:i])
    assert torch.equal(network(x, t), of(5))
    bound = bind(network, parameters_of(network), torch.tensor([2, 2]))
    assert torch.equal(bound(x, t.double()), of(2))


def test_an_unconditional_network_has_no_label_embedding():
    assert ResidualMLP((3,), width=8, blocks=1).embed_label is None


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 3, 1)])
def test_points_of_another_shape_are_refused_with_both_shapes(shape):
    network = ResidualMLP((2, 3), width=8, blocks=1)
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        network(torch.zeros(2, *shape), torch.zeros(2))


# --- time ------------------------------------------------------------------------------------------


@given(t=st.floats(0.01, math.pi / 2 - 1e-6), sigma_d=st.sampled_from([0.3, 0.5, 1.0]))
def test_sine_times_the_derivative_of_log_noise_is_one_over_cosine(t, sigma_d):
    """papers.md 1.4: sin t d(ln sigma / 4)/dt = 1 / (4 cos t), unbounded at pi/2; the angle's is sin t."""
    t_ = torch.tensor([t], dtype=torch.float64)

    def scaled(kind: str) -> float:
        d = torch.func.jvp(lambda t: noise_coordinate(t, kind, sigma_d), (t_,), (torch.ones_like(t_),))[1]  # type: ignore
        return math.sin(t) * d.item()

    assert scaled("log_noise_level") == pytest.approx(1 / (4 * math.cos(t)), rel=1e-6)
    assert scaled("angle") == pytest.approx(math.sin(t))


def test_log_noise_coordinate_is_edms():
    t = torch.tensor([math.atan(160), 0.3], dtype=torch.float64)
    ours = noise_coordinate(t, "log_noise_level", 0.5)
    assert ours.tolist() == pytest.approx([math.log(80) / 4, math.log(0.5 * math.tan(0.3)) / 4], rel=1e-12)


def test_an_unknown_coordinate_is_refused(unchecked):
    with unchecked(), pytest.raises(ValueError, match="unknown noise coordinate"):
        noise_coordinate(torch.ones(1), "sigma", 0.5)  # type: ignore


def derivative(embedding: nn.Module, t: Tensor) -> Tensor:
    return torch.func.jvp(embedding, (t,), (torch.ones_like(t),))[1]


def test_positional_embedding_is_tame_and_fourier_features_are_not():
    """The derivative is at most sqrt 2 a channel (as at Fourier scale 0.02), about 100 at scale 16."""
    t = torch.linspace(0, math.pi / 2, 200, dtype=torch.float64)
    positional = derivative(PositionalEmbedding(64), t)
    assert positional.abs().max() <= math.sqrt(2) * (1 + 1e-12)

    def fourier(scale: float) -> Tensor:
        return derivative(FourierEmbedding(64, scale, torch.Generator().manual_seed(0)), t)

    assert 0.3 < positional.square().mean().sqrt() / fourier(0.02).square().mean().sqrt() < 3
    assert fourier(16.0).square().mean().sqrt() > 50
    torch.testing.assert_close(fourier(16.0).std() / fourier(1.0).std(), torch.tensor(16.0).double(), rtol=0.1, atol=0)


@pytest.mark.parametrize("make", [PositionalEmbedding, lambda channels: FourierEmbedding(channels, 16.0)])
def test_embeddings_have_unit_mean_square_and_the_channels_asked_for(make):
    embedded = make(64)(torch.linspace(0, 1.5, 7, dtype=torch.float64))
    assert embedded.shape == (7, 64) and embedded.dtype == torch.float64
    torch.testing.assert_close(embedded.square().mean(1), torch.ones(7, dtype=torch.float64))


def test_positional_embedding_is_the_formula():
    embedded = PositionalEmbedding(4)(torch.tensor([0.7], dtype=torch.float64))
    angles = [0.7, 0.7 * 10_000**-0.5]
    exact = [math.sqrt(2) * f(a) for f in (math.cos, math.sin) for a in angles]
    assert embedded[0].tolist() == pytest.approx(exact)


# --- normalisation ---------------------------------------------------------------------------------


@given(seed=st.integers(0, 100), scale=st.floats(0.1, 1e4), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_pixel_norm_has_unit_rms_whatever_the_scale(seed, scale, dtype):
    x = scale * torch.randn(4, 5, 32, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    y = pixel_norm(x)
    torch.testing.assert_close(y.square().mean(-1), torch.ones(4, 5, dtype=dtype), rtol=1e-3, atol=0)
    torch.testing.assert_close(y * x.square().mean(-1, keepdim=True).sqrt(), x, rtol=1e-3, atol=0)


def test_pixel_norm_of_half_precision_neither_overflows_nor_changes_dtype():
    x = torch.full((1, 8), 3000.0, dtype=torch.float16)
    assert pixel_norm(x).dtype == torch.float16
    assert torch.equal(pixel_norm(x), torch.ones(1, 8, dtype=torch.float16))
    assert torch.equal(pixel_norm(torch.zeros(1, 8)), torch.zeros(1, 8))


@pytest.mark.parametrize("conditioning", ["double", "adagn", "none"])
def test_block_is_the_formula_of_its_conditioning(conditioning):
    """pnorm(h) pnorm(s) + pnorm(b), the paper's adaptive double normalisation, and its two rivals."""
    block = ConditionedBlock(8, conditioning).double()
    h, e = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    modulation = e @ block.modulate.weight.T + block.modulate.bias

    def pnorm(x: Tensor) -> Tensor:
        return x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()

    if conditioning == "none":
        y = h + modulation
    else:
        s, b = modulation[:, :8], modulation[:, 8:]
        y = pnorm(h) * pnorm(s) + pnorm(b) if conditioning == "double" else pnorm(h) * (1 + s) + b
    silu = nn.functional.silu
    exact = h + block.second(silu(block.first(silu(y))))
    torch.testing.assert_close(block(h, e), exact, rtol=1e-12, atol=1e-12)


# --- precision, binding, weights -------------------------------------------------------------------


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_the_time_path_stays_float32_under_autocast_and_the_rest_does_not(precision):
    network = awake(ResidualMLP((6,), width=16, blocks=2, classes=2))
    seen: dict[str, torch.dtype] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):

            def note(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
                seen[name] = output.dtype

            module.register_forward_hook(note)
    x, t = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.full((4,), 0.7, dtype=torch.float64)
    output = bind(network, parameters_of(network), precision=precision)(x, t)
    assert output.dtype == torch.float32
    time_path = {name: dtype for name, dtype in seen.items() if "mix" in name or "modulate" in name}
    assert len(time_path) == 4 and set(time_path.values()) == {torch.float32}
    assert {seen[n] for n in ("lift", "project", "blocks.0.first", "blocks.1.second")} == {precision}
    exact = bind(network, parameters_of(network))(x, t)
    assert 0 < (output - exact).abs().max() < 0.05


def test_binding_uses_the_parameters_it_is_given_not_the_modules():
    network = awake(ResidualMLP((3,), width=8, blocks=1))
    x, t = torch.ones(2, 3), torch.tensor([0.5, 1.0], dtype=torch.float64)
    zeros = {name: torch.zeros_like(p, requires_grad=True) for name, p in network.named_parameters()}
    output = bind(network, zeros)(x, t)
    assert not output.any() and bind(network, parameters_of(network))(x, t).any()
    output.sum().backward()
    assert zeros["project.bias"].grad is not None and network.project.bias.grad is None


def test_binding_without_parameters_uses_the_modules_own():
    network = awake(ResidualMLP((3,), width=8, blocks=1))
    x, t = torch.ones(2, 3), torch.tensor([0.5, 1.0], dtype=torch.float64)
    assert torch.equal(bind(network)(x, t), bind(network, parameters_of(network))(x, t))
    bind(network)(x, t).sum().backward()
    assert network.project.bias.grad is not None


@pytest.mark.slow
def test_log_weight_starts_at_a_weight_of_one_everywhere_and_learns_the_optimum():
    """App. D: the optimum has e^w E||.||^2 / D = 1; it starts at e^w = 1."""
    weight = LogWeight(32)
    t = torch.linspace(0.01, 1.56, 50, dtype=torch.float64)
    assert torch.equal(weight(t), torch.zeros(50))
    error = 0.01 + t.float().square()
    optimiser = torch.optim.Adam(weight.parameters(), lr=0.05)
    for _ in range(600):
        w = weight(t)
        loss = (w.exp() * error - w).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (weight(t).exp() * error).median().item() == pytest.approx(1.0, abs=0.2)


class Foreign(nn.Module):
    """A stranger's network that inherits nothing of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 2, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        time = t.reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        return self.body(torch.cat([x, time], dim=1))


def test_a_foreign_module_trains_with_every_continuous_objective():
    torch.manual_seed(0)
    student, teacher, weight = Foreign(), Foreign(), LogWeight(16)
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 2, 4, 4, generator=generator)
    draws = Draws(torch.rand(3, generator=generator, dtype=torch.float64), noise)
    fields = Fields(bind(student, parameters_of(student)), bind(teacher, parameters_of(teacher)), weight)
    for objective in (scd, diffusion):
        loss = objective(fields, x0, draws, settings_for(objective)).loss
        gradients = torch.autograd.grad(loss, [*student.parameters(), *weight.parameters()])
        assert all(bool(g.isfinite().all()) and bool(g.any()) for g in gradients)
    zero = torch.zeros(3, dtype=torch.float64)
    assert torch.equal(consistency_map(fields.student, x0, zero), x0)
