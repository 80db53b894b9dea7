"""Every way to a tangent agrees with torch.func.jvp; pairs say which operations have no rule."""

import itertools
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional as nnf
from torch.utils.checkpoint import checkpoint

from trigbench.core import pairs
from trigbench.core.fields import bind
from trigbench.core.forward_mode import METHODS, value_and_tangent
from trigbench.core.networks.log_weight import LogWeight
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.pairs import FallbackWarning
from trigbench.core.pairs.table import operations

# torch's own forward mode compiles decompositions by the deprecated torch.jit.script on first use
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

W = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4)
V = torch.linspace(0.5, 2, 12, dtype=torch.float64).reshape(3, 4)

RULED = {
    # elementwise, on x > 0 of (3, 4)
    "silu": lambda x, y: nnf.silu(x),
    "gelu": lambda x, y: nnf.gelu(x),
    "gelu_tanh": lambda x, y: nnf.gelu(x, approximate="tanh"),
    "relu": lambda x, y: nnf.relu(x - 1) + torch.relu(x - 0.5) + (x - 0.7).relu(),
    "tanh": lambda x, y: torch.tanh(x) * x.tanh(),
    "sigmoid": lambda x, y: x.sigmoid(),
    "exp": lambda x, y: x.exp(),
    "log": lambda x, y: torch.log(x),
    "sin": lambda x, y: x.sin(),
    "cos": lambda x, y: torch.cos(x),
    "tan": lambda x, y: (x / 4).tan(),
    "sqrt": lambda x, y: x.sqrt(),
    "rsqrt": lambda x, y: torch.rsqrt(x),
    "square": lambda x, y: x.square(),
    "reciprocal": lambda x, y: x.reciprocal(),
    "power": lambda x, y: x**3 + torch.pow(x, -1.5) + x.pow(0.5) + x**0,
    "clamp": lambda x, y: x.clamp(0.5, 1.5) + x.clamp(max=1.2) + torch.clamp(x, min=0.9),
    "softmax": lambda x, y: x.softmax(-1) + nnf.softmax(x, dim=0) + torch.softmax(x, 1) + x.softmax(dim=-1),
    # sums and products
    "add": lambda x, y: x + y + V + 2 + (3 + x) + (V + x) + torch.add(x, y),
    "subtract": lambda x, y: x - y - V - 2 + (3 - x) + (V - x) + torch.sub(V, y),
    "multiply": lambda x, y: x * y * V * 2 + 3 * x + V * x + torch.mul(x, y),
    "divide": lambda x, y: x / y / V / 2 + 3 / x + V / x + torch.div(V, y),
    "matmul": lambda x, y: x @ W.T + V @ y.T @ torch.ones(3, 5).to(x) + torch.matmul(x, y.T) @ V @ W.T,
    "broadcast_sum": lambda x, y: x[:, :1] + V - (V - y[0]) + (x.sum() + V),
    "broadcast_product": lambda x, y: x[:, :1] * y[0] * V / y[:, 1:2],
    "boolean_factor": lambda x, y: x * (y > 1),
    "hypotenuse": lambda x, y: torch.hypot(x, y) + x.hypot(V) + torch.hypot(V, y),
    # linear
    "linear": lambda x, y: nnf.linear(x, W, torch.ones(5).to(x)) + nnf.linear(x, W, bias=V[:, 0].sum()[None].expand(5)),
    "shapes": lambda x, y: x.reshape(2, 6).flatten()[None].view(4, 3).unsqueeze(0).expand(2, 4, 3).squeeze(1),
    "views_of_sums": lambda x, y: (V + x[:, :1]).view(12).view(4, 3).T + (V + y[:1]).view(2, 6).view_as(V),
    "orders": lambda x, y: x.T @ y.transpose(0, 1).T @ x.permute(1, 0).mT.contiguous().clone().t(),
    "parts": lambda x, y: torch.cat([*x.chunk(2, dim=1), *torch.split(y, 2, dim=1), V], dim=1)[:, None, ::2],
    "stack": lambda x, y: torch.stack((x, V, y)).movedim(0, 1) + torch.cat([x, y, V]).view(3, 3, 4),
    "reductions": lambda x, y: -x.sum(0) + y.mean(dim=0) + torch.mean(x) + x.sum(1, keepdim=True) + x.cumsum(0)[-1],
    "casts": lambda x, y: (
        x.to(torch.float64).double() + y.to("cpu").contiguous().to(dtype=x.dtype) + V.to(x) * V[0].expand_as(y)
    ),
    "rows": lambda x, y: torch.stack([row * 2 for row in x]) + torch.stack(x.unbind(0)),
    "conv": lambda x, y: nnf.conv1d(x[:, None], W[:2, None, :3], torch.ones(2).to(x), padding=1),
    "pool": lambda x, y: nnf.avg_pool1d(x[None], 2) + nnf.interpolate(y[None], scale_factor=0.5),
    # independent or plain
    "plain": lambda x, y: (
        x * torch.zeros_like(y) + torch.full_like(x, 2) + y * len(x) * x.ndim * x.shape[1] * x.size(0)
    ),
    "created": lambda x, y: x[:, 0, None] * 10.0 ** -torch.arange(4, dtype=x.dtype, device=x.device),
    # norms, whose backward is their derivative
    "layer_norm": lambda x, y: nnf.layer_norm(x, (4,), V[0], V[1]) + nnf.layer_norm(y, (3, 4)),
    "group_norm": lambda x, y: (
        nnf.group_norm(x, 2) + nnf.group_norm(torch.stack([x, y], 1), 1, V[0, :2], V[1, :2])[:, 0]
    ),
    "group_norm_of_images": lambda x, y: nnf.group_norm((x @ V.T @ y).reshape(1, 2, 3, 2), 2, V[0, :2]).reshape(3, 4),
    "rms_norm": lambda x, y: nnf.rms_norm(x, (4,)) + nnf.rms_norm(y, (4,), V[0], eps=0.1),
    "batch_norm": lambda x, y: nnf.batch_norm(x, V[0], V[1], V[2]) + nnf.batch_norm(y, None, None, V[2], training=True),
    # choice and contraction
    "where": lambda x, y: torch.where(x > 1, x, y) + torch.where(y > 1, V, x) + torch.where(x > 2, y, 0.0),
    "einsum": lambda x, y: torch.einsum("ij,kj->ik", x, y) @ torch.einsum("ij,kj,kj->ij", V, x, y),
    "pad": lambda x, y: nnf.pad(x, (1, 0), value=3.0)[:, :4] + nnf.pad(y[None], (1, 1), mode="reflect")[0, :, :4],
    "index": lambda x, y: x[[0, 2, 1]] + y.index_select(0, torch.tensor([1, 0, 2])) + x.gather(1, (y > 1).long()),
    "repeats": lambda x, y: (
        x.repeat(1, 2)[:, ::2] + y.repeat_interleave(2, 0)[:3] + x.roll(1, 0).flip(1).tril().triu(-1)
    ),
    "frames": lambda x, y: x.unfold(1, 2, 1).sum(-1).mean() + y.diagonal().sum() + x.narrow(1, 0, 4),
    "convolutions": lambda x, y: (
        nnf.conv2d(x[None, None], W[None, None, :2, :3], padding=(0, 1))[0, 0].mean()
        + nnf.conv1d(y[:, None], V[:, None, :3]).sum()
        + x
    ),
    "pixels": lambda x, y: nnf.pixel_shuffle(x.reshape(1, 4, 3, 1), 2).reshape(3, 4) + nnf.avg_pool2d(y[None], 1)[0],
    "outer": lambda x, y: torch.outer(x[0], y[:, 0])[:3, :3] @ V + torch.dot(x[0], y[0]) + torch.mv(x, y[0])[:, None],
    "batched": lambda x, y: torch.bmm(x[None], y.T[None])[0] @ V + torch.mm(x, y.T) @ V,
    "properties": lambda x, y: torch.fft.fft(x).real * torch.fft.fft(y).imag + x.H.mH,
}
FALLEN = {
    "erf": lambda x, y: x.erf(),
    "softplus": lambda x, y: nnf.softplus(x),
    "elu": lambda x, y: nnf.elu(x - 1),
    "mish": lambda x, y: nnf.mish(x),
    "leaky_relu": lambda x, y: nnf.leaky_relu(x - 1),
    "log1p": lambda x, y: x.log1p() + x.expm1(),
    "hyperbolic": lambda x, y: x.sinh() + y.cosh(),
    "arcs": lambda x, y: torch.atan2(x, y) + (x / 3).atan(),
    "absolute": lambda x, y: x.abs() + (x - 1).abs(),
    "lerp": lambda x, y: torch.lerp(x, y, 0.3),
    "addcmul": lambda x, y: torch.addcmul(V, x, y) + torch.addmm(V, x @ y.T, V),
    "normalize": lambda x, y: nnf.normalize(x, dim=1),
    "cosine": lambda x, y: nnf.cosine_similarity(x, y)[:, None] + V,
    "products": lambda x, y: x.prod(1, keepdim=True) + y.cumprod(0),
    "variance": lambda x, y: x.var(dim=1, keepdim=True) + y.std(),
    "max_pool": lambda x, y: nnf.max_pool1d(x[None], 1)[0],
    "cross": lambda x, y: torch.linalg.cross(x[:, :3], y[:, :3]) @ V,
    "maximum": lambda x, y: torch.maximum(x, y) + x.max(dim=0).values + x.amin(),
    "powers_of_pairs": lambda x, y: x**y + 2.0**x + x**V,
    "norm": lambda x, y: x / x.norm(dim=1, keepdim=True) + torch.linalg.norm(y),
    "keywords": lambda x, y: (
        torch.add(x, y, alpha=3) + torch.mul(input=x, other=y) + torch.sin(input=x) + torch.cat(tensors=[x, y])[::2]
    ),
    "rounded": lambda x, y: x * torch.div(x, y, rounding_mode="floor"),
    "by_pairs": lambda x, y: nnf.linear(x, y, y[:, 0])[:, :1] + V.expand_as(x) * x.to(y) + x.clamp(min=y),
    "log_softmax": lambda x, y: nnf.log_softmax(x, -1) + x.logsumexp(1, keepdim=True),
    "complex": lambda x, y: torch.view_as_real(torch.polar(x, y) * torch.view_as_complex(x.reshape(6, 2))[0]),
    "masked": lambda x, y: x[x > 0.3].reshape(3, 4) * y.type(torch.float64),
    "sorted": lambda x, y: x.sort(dim=1)[0] + x.topk(4, dim=1).values,
}


def points(seed: int) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    primals = tuple(torch.rand(3, 4, **draw) * 2 + 0.3 for _ in range(2))
    return primals, tuple(torch.randn(3, 4, **draw) for _ in range(2))


def central_difference(function, primals, tangents, step=1e-6):
    moved = [[p + sign * step * d for p, d in zip(primals, tangents, strict=True)] for sign in (1, -1)]
    with torch.no_grad():
        return (function(*moved[0]) - function(*moved[1])) / (2 * step)


def assert_same(function, primals, tangents, tolerance=1e-12):
    value, tangent = value_and_tangent(function, primals, tangents)
    expected_value, expected = value_and_tangent(function, primals, tangents, "func")
    for actual in (value, tangent):
        assert type(actual) is torch.Tensor
    assert not tangent.requires_grad and tangent.shape == value.shape and tangent.dtype == value.dtype
    torch.testing.assert_close(value, expected_value, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(tangent, expected, rtol=tolerance, atol=tolerance)
    return value, tangent


def perturb(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return module


def assert_gradients(function, primals, tangents):
    """Those of the value are what they are without a tangent."""
    leaves = [p.clone().requires_grad_() for p in primals]
    value = value_and_tangent(function, leaves, tangents)[0]
    gradients = torch.autograd.grad(value.square().sum(), leaves, allow_unused=True)
    expected = torch.autograd.grad(function(*leaves).square().sum(), leaves, allow_unused=True)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)


def test_the_catalogue_is_large():
    assert len(RULED) + len(FALLEN) >= 60 and not set(RULED) & set(FALLEN)


@pytest.mark.parametrize("name", RULED)
def test_rules_are_exact_and_need_no_fallback(name):  # a FallbackWarning is an error here
    primals, tangents = points(1)
    _, tangent = assert_same(RULED[name], primals, tangents)
    expected = central_difference(RULED[name], primals, tangents)
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-6)
    assert_gradients(RULED[name], primals, tangents)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", [name for name in RULED if name not in ("casts", "created", "broadcast_product")])
def test_rules_are_exact_in_single_precision(name, monkeypatch):
    primals, tangents = points(1)
    exact = value_and_tangent(RULED[name], primals, tangents, "func")[1]
    monkeypatch.setattr("tests.core.test_forward_mode.W", W.float())
    monkeypatch.setattr("tests.core.test_forward_mode.V", V.float())
    single, along = ([p.float() for p in group] for group in (primals, tangents))
    assert (value_and_tangent(RULED[name], single, along)[1] - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", FALLEN)
def test_operations_without_a_rule_are_exact_too(name):
    primals, tangents = points(2)
    with pytest.warns(FallbackWarning, match="no rule for"):
        _, tangent = assert_same(FALLEN[name], primals, tangents)
        assert_gradients(FALLEN[name], primals, tangents)
    if name != "rounded":
        torch.testing.assert_close(tangent, central_difference(FALLEN[name], primals, tangents), rtol=1e-6, atol=1e-6)


def test_every_name_of_the_table_is_an_operation_of_torchs():
    """A misspelt one would fall back in silence of its own."""
    names = [name for names in pairs.TABLE for name in names.split()]
    assert len(names) == len(set(names))
    assert [name for name in names if not list(operations(name))] == []
    assert {func for name in names for _, func in operations(name)} == set(pairs.RULES)


def test_every_elementwise_rule_is_tested():
    names = {name for names in pairs.ELEMENTWISE for name in names.split()}
    names = {name.removeprefix("functional.") for name in names}
    assert names - {"pow", "__pow__", "clip", "clamp_min", "clamp_max"} <= set(RULED)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(sorted({**RULED, **FALLEN})), min_size=1, max_size=3), st.integers(0, 2**31))
def test_compositions_equal_the_reference(names, seed):
    table = {**RULED, **FALLEN}

    def function(x, y):
        for name in names:
            moved = table[name](x, y).mean() / 10
            x, y = (x + moved).abs() + 0.3, y * (1 + moved.tanh() / 2)
        return x * y

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        assert_same(function, *points(seed), tolerance=1e-9)


def test_a_derivative_by_hand():
    x, dx = torch.tensor([2.0], dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64)
    value, tangent = value_and_tangent(lambda x: x.square() * x.sin() + 1 / x, (x,), (dx,))
    expected = 3 * (4 * math.sin(2) + 4 * math.cos(2) - 1 / 4)
    assert value.item() == pytest.approx(4 * math.sin(2) + 0.5, abs=1e-14)
    assert tangent.item() == pytest.approx(expected, abs=1e-13)


OPTIONS = [
    *itertools.product(("double", "adagn", "none"), ("positional", "fourier"), ("angle", "log_noise_level"), (0, 3))
]


@pytest.mark.one_in(6)
@pytest.mark.parametrize(("conditioning", "embedding", "coordinate", "classes"), OPTIONS)
def test_the_network_equals_the_reference_and_trains_as_without_pairs(conditioning, embedding, coordinate, classes):
    options = {"conditioning": conditioning, "embedding": embedding, "coordinate": coordinate, "classes": classes}
    network = perturb(ResidualMLP((2, 3), width=16, blocks=2, fourier_scale=1.0, **options).double())
    generator = torch.Generator().manual_seed(3)
    x, v = torch.randn(2, 5, 2, 3, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.2, 1.3, 5, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 0]) if classes else None
    for condition in {None, labels}:
        field = bind(network, dict(network.named_parameters()), condition, precision=torch.float64)
        assert_same(field, (x, t), (v, torch.ones_like(t)), tolerance=1e-11)
        value, tangent = value_and_tangent(field, (x, t), (v, torch.ones_like(t)))
        torch.testing.assert_close(
            tangent, central_difference(field, (x, t), (v, torch.ones_like(t))), rtol=1e-5, atol=1e-5
        )
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(value.square().sum(), parameters, allow_unused=True)
        expected = torch.autograd.grad(field(x, t).square().sum(), parameters, allow_unused=True)
        assert [g is None for g in gradients] == [g is None for g in expected]
        for gradient, other in zip(gradients, expected, strict=True):
            if other is not None:
                torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)


class Attention(nn.Module):
    """Convolutions, norms, attention over pixels; what larger image networks are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.drop = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 2, 1, bias=False)
        self.group, self.layer = nn.GroupNorm(2, 8), nn.LayerNorm(8)
        self.qkv, self.mlp = nn.Linear(8, 24), nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.time = nn.Linear(1, 8)

    def forward(self, x, t):
        h = self.lift(x)
        h = h + nnf.silu(self.group(h)) + self.time(t[:, None])[:, :, None, None]
        b, c, height, width = h.shape
        tokens = h.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.layer(tokens)).reshape(b, height * width, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.mT / math.sqrt(c // 2)).softmax(-1) @ v
        tokens = tokens + mixed.transpose(1, 2).reshape(b, -1, c)
        tokens = tokens + self.mlp(self.layer(tokens))
        return self.drop(tokens.mT.unflatten(2, (height, width)))


def attention_inputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    x, v = torch.randn(2, 2, 2, 4, 4, generator=generator, dtype=torch.float64).to(dtype)
    t = torch.tensor([0.3, 1.1], dtype=dtype)
    return (x, t), (v, torch.ones_like(t))


def test_convolutions_norms_and_attention_equal_the_reference():
    module = perturb(Attention().double())
    primals, tangents = attention_inputs()
    value, tangent = assert_same(module, primals, tangents)
    torch.testing.assert_close(tangent, central_difference(module, primals, tangents), rtol=1e-6, atol=1e-6)
    gradients = torch.autograd.grad(value.square().sum(), list(module.parameters()))
    expected = torch.autograd.grad(module(*primals).square().sum(), list(module.parameters()))
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)


def test_nothing_is_recorded_under_no_grad():
    module = perturb(Attention().double())
    with torch.no_grad():
        value, tangent = value_and_tangent(module, *attention_inputs())
    with torch.inference_mode():
        _, quiet = assert_same(module, *attention_inputs())
    torch.testing.assert_close(quiet, tangent)
    assert not value.requires_grad and not tangent.requires_grad


def test_the_gradient_reaches_inputs_that_need_one():
    primals, tangents = points(5)
    x = primals[0].requires_grad_()
    value, tangent = value_and_tangent(lambda x, y: x.sin() * y, primals, (tangents[0].requires_grad_(), tangents[1]))
    (gradient,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(gradient, x.cos() * primals[1])
    assert not tangent.requires_grad
    assert not value_and_tangent(lambda x, y: x, primals, tangents)[1].requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_agrees_with_the_reference_to_its_precision(dtype):
    network = perturb(ResidualMLP((2,), width=16, blocks=2))
    generator = torch.Generator().manual_seed(6)
    x, v = torch.randn(2, 6, 2, generator=generator)
    t = torch.linspace(0.1, 1.4, 6, dtype=torch.float64)
    field = bind(network, dict(network.named_parameters()), precision=dtype)
    precision = 16 * torch.finfo(dtype).eps
    value, tangent = assert_same(field, (x, t), (v, torch.ones_like(t)), tolerance=precision)
    full, full_tangent = value_and_tangent(bind(network, dict(network.named_parameters())), (x, t), (v, t**0))
    assert value.dtype == tangent.dtype == torch.float32
    for low, high in ((value, full), (tangent, full_tangent)):
        assert (low - high).norm() < 0.05 * high.norm()
        assert not torch.equal(low, high)
    gradients = torch.autograd.grad(value.sum(), list(network.parameters()))
    expected = torch.autograd.grad(field(x, t).sum(), list(network.parameters()))
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=0, atol=0)


def test_autocast_agrees_with_the_reference_through_the_fallback():
    module = perturb(Attention())

    primals, tangents = attention_inputs(torch.float32)

    def function(x, t, enabled=True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            return module(x, t) * (x.exp() * 0.1 + x.square().log().mean())

    # torch.func.jvp cannot run this convolution in autocast, so that full precision is the reference
    value, tangent = value_and_tangent(function, primals, tangents)
    for low, high in zip(
        (value, tangent),
        value_and_tangent(lambda x, t: function(x, t, False), primals, tangents, "func"),
        strict=True,
    ):
        assert (low - high).norm() < 0.05 * high.norm()
    gradients = torch.autograd.grad(value.sum(), list(module.parameters()))
    expected = torch.autograd.grad(function(*primals).sum(), list(module.parameters()))
    for gradient, other in zip(gradients, expected, strict=True):
        assert (gradient - other).norm() <= 0.02 * other.norm()


def test_double_times_stay_double_beside_single_points():
    x, v = torch.ones(2, 3), torch.full((2, 3), 2.0)
    t = torch.tensor([0.3, 0.4], dtype=torch.float64)

    def function(x, t):
        return x * torch.cos(t).reshape(-1, 1).to(x.dtype) + torch.sin(t)[:, None]

    value, tangent = assert_same(function, (x, t), (v, torch.ones_like(t)), tolerance=1e-7)
    assert value.dtype == tangent.dtype == torch.float64


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_value_and_tangent_share_one_dropout_mask(p):
    x, dx = torch.full((1000,), 2.0, dtype=torch.float64), torch.full((1000,), 3.0, dtype=torch.float64)
    dropout = nn.Dropout(p)
    torch.manual_seed(7)
    value, tangent = value_and_tangent(dropout, (x,), (dx,))
    torch.testing.assert_close(tangent, 1.5 * value)
    assert (value == 0).double().mean().item() == pytest.approx(p, abs=0.1)
    torch.manual_seed(7)
    torch.testing.assert_close(dropout(x), value)
    torch.testing.assert_close(value_and_tangent(dropout.eval(), (x,), (dx,))[1], dx)


@pytest.mark.parametrize("function", [torch.zeros_like, lambda x: torch.ones(2, 3), lambda x: (x > 0).double()])
def test_an_output_independent_of_the_inputs_has_zero_tangent(function):
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    value, tangent = value_and_tangent(function, (x,), (x,))
    torch.testing.assert_close(value, function(x))
    assert tangent.shape == value.shape and not tangent.any()


def test_a_pair_looks_like_a_tensor():
    def function(x):
        assert isinstance(x, torch.Tensor)
        assert (x.shape, x.dtype, x.device, x.ndim) == ((2, 3), torch.float64, torch.device("cpu"), 2)
        assert x.size() == (2, 3) and x.dim() == 2 and x.numel() == 6 and len(x) == 2 and x.is_floating_point()
        assert not x.is_cuda and not x.requires_grad and x.stride(0) == 3
        assert type(x > 0) is torch.Tensor and bool((x == 1).all()) and float(x.sum()) == 6 and "Pair" in repr(x)
        assert type(x.long()) is torch.Tensor and type(torch.zeros_like(x)) is torch.Tensor
        return x

    x = torch.ones(2, 3, dtype=torch.float64)
    value_and_tangent(function, (x,), (x,))


def assign(x):
    y = torch.zeros(3, 4, dtype=x.dtype)
    y[0], y[1:, ::2] = x[0], x[:2, :2]
    y[x > 1] = 0
    return y * x


def increment(x):
    y = 3 * x
    y += x
    return y


def changed_under_a_view(x):
    y = 2 * x
    part = y[:, :2]
    y.relu_()
    return part


def a_row_of_what_stands_still(x):
    y = torch.zeros(3, 4, dtype=x.dtype)
    y[0].add_(x[0])
    return y


def the_same_tensor_by_another_name(x):
    y = x * 1.0
    z = y.contiguous().to(y.dtype)
    z.mul_(x)
    return y


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.sin(x, out=torch.empty(3, 4, dtype=x.dtype)),
        lambda x: x.requires_grad_(),
        lambda x: x.resize_(2, 6),
        lambda x: x[:, :2].relu_(),
        changed_under_a_view,
        a_row_of_what_stands_still,
        lambda x: nn.Parameter(torch.zeros(3, 4, dtype=x.dtype)).add_(x),
    ],
)
def test_in_place_operations_whose_effect_on_others_is_lost_raise(function):
    (x, _), (dx, _) = points(9)
    before = x.clone()
    with pytest.raises(RuntimeError, match="in-place"):
        value_and_tangent(function, (x,), (dx,), "pairs")
    with pytest.raises(RuntimeError, match="in-place"), torch.inference_mode():
        value_and_tangent(function, (x,), (dx,), "pairs")
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "function",
    [
        increment,
        lambda x: nnf.relu(2 * x - 1, inplace=True),
        lambda x: nnf.silu(x * x, inplace=True).add_(x),
        lambda x: (2 * x).mul_(x).sin_().clamp_(0.1, 0.9),
        lambda x: torch.relu_(x - 1),
        the_same_tensor_by_another_name,
        assign,
        lambda x: torch.zeros(3, 4, dtype=x.dtype).add_(x),
        lambda x: nnf.relu((2 * x - 1)[:, :2], inplace=True),
        lambda x: (2 * x).copy_(x[0]) * x,
        lambda x: torch.empty_like(x).copy_(V) * x,
    ],
)
def test_in_place_operations_on_what_nobody_views_are_followed(function):
    (x, _), (dx, _) = points(9)
    expected = torch.func.jvp(lambda x: function(x.clone()), (x,), (dx,))
    torch.testing.assert_close(value_and_tangent(function, (x,), (dx,)), expected)
    with torch.inference_mode():
        torch.testing.assert_close(value_and_tangent(function, (x,), (dx,)), expected)
    assert_gradients(lambda x: function(x.clone()), (x,), (dx,))


class Opaque(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Same(Opaque):
    @staticmethod
    def forward(ctx, x):
        return x


class Fallen(Opaque):
    @staticmethod
    def forward(ctx, x):
        return x.erf()


def test_what_pairs_cannot_follow_raises_instead_of_losing_the_tangent():
    (x, _), (dx, _) = points(10)
    for function in (Opaque.apply, Same.apply, Fallen.apply):
        with pytest.raises((TypeError, RuntimeError)), warnings.catch_warnings():
            warnings.simplefilter("ignore", FallbackWarning)
            value_and_tangent(function, (x,), (dx,))
    for past in (torch.Tensor.data_ptr, torch.Tensor.numpy):  # as a kernel's launch and other libraries read it
        with pytest.raises(RuntimeError, match="cannot see tangents"):
            value_and_tangent(lambda x, past=past: (past(x), x)[1], (x,), (dx,))
    with pytest.raises((TypeError, RuntimeError)):
        value_and_tangent(torch.func.grad(lambda y: y.sin().sum()), (x,), (dx,), "pairs")
    with pytest.raises(RuntimeError, match="nest"):
        value_and_tangent(lambda x: value_and_tangent(torch.sin, (x,), (x,))[1], (x,), (dx,))
    assert_same(torch.sin, (x,), (dx,))


def test_inside_functional_transforms_it_is_the_reference():
    (x, y), (dx, _) = points(11)

    def slope(x):
        return value_and_tangent(lambda z: z.sin() * y[0], (x,), (torch.ones_like(x),))[0]

    moved = torch.func.jvp(slope, (x[0],), (dx[0],))[1]
    torch.testing.assert_close(moved, x[0].cos() * y[0] * dx[0])
    torch.testing.assert_close(torch.func.vmap(slope)(x), x.sin() * y[0])
    torch.testing.assert_close(torch.func.grad(lambda x: slope(x).sum())(x[0]), x[0].cos() * y[0])
    batched = torch.func.vmap(lambda x, d: value_and_tangent(torch.sin, (x,), (d,))[1])(x, dx)
    torch.testing.assert_close(batched, x.cos() * dx)
    outer = value_and_tangent(
        lambda x: value_and_tangent(torch.sin, (x,), (torch.ones_like(x),))[0], (x,), (dx,), "func"
    )
    torch.testing.assert_close(outer[1], x.cos() * dx)


def test_a_functional_call_is_followed():
    network = LogWeight(8).double()
    parameters = {name: torch.full_like(p, 0.3).requires_grad_() for name, p in network.named_parameters()}
    t = torch.tensor([0.2, 1.0], dtype=torch.float64)
    value, _ = assert_same(lambda t: functional_call(network, parameters, (t,)), (t,), (t,))
    assert value.requires_grad


def test_unknown_methods_and_mismatching_tangents_are_refused():
    x = torch.ones(3)
    with pytest.raises((ValueError, TypeError), match="method"):  # TypeError where types are checked
        value_and_tangent(torch.sin, (x,), (x,), "fast")  # type: ignore
    for tangents in ((), (x, x), (torch.ones(1),), (x.double(),)):
        with pytest.raises(ValueError, match="must agree"):
            value_and_tangent(torch.sin, (x,), tangents)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_value_tangent_and_gradients(method):
    module = perturb(Attention().double())
    primals, tangents = attention_inputs()
    value, tangent = value_and_tangent(module, primals, tangents, method)
    exact_value, exact = value_and_tangent(module, primals, tangents, "func")
    torch.testing.assert_close(value, exact_value, rtol=1e-12, atol=1e-12)
    tolerance = 1e-7 if method == "difference" else 1e-12
    torch.testing.assert_close(tangent, exact, rtol=tolerance, atol=tolerance)
    assert not tangent.requires_grad
    gradients = torch.autograd.grad(value.square().sum(), list(module.parameters()))
    expected = torch.autograd.grad(module(*primals).square().sum(), list(module.parameters()))
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_one_mask(method):
    x = torch.linspace(1, 2, 300, dtype=torch.float64)
    torch.manual_seed(0)
    expected = nnf.dropout(x, 0.4)
    torch.manual_seed(0)
    value, tangent = value_and_tangent(lambda x: nnf.dropout(x, 0.4).square() / 2, (x,), (torch.ones_like(x),), method)
    torch.testing.assert_close(value, expected.square() / 2)
    torch.testing.assert_close(tangent, expected.square() / x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: V.where(x > 1, x) + x.where(V > 1, V),
        lambda x: x.pow(exponent=2),
        lambda x: torch.view_as_real(torch.tanh(torch.complex(x, V)) + torch.complex(V, x).sigmoid()),
    ],
)
def test_other_ways_to_call_are_right_too(function):
    (x, _), (dx, _) = points(12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        _, tangent = assert_same(function, (x,), (dx,))
    torch.testing.assert_close(tangent, central_difference(function, (x,), (dx,)), rtol=1e-6, atol=1e-6)


NORMS = {
    "layer": lambda x: nnf.layer_norm(x, (4,)),
    "group": lambda x: nnf.group_norm(x, 1),
    "rms": lambda x: nnf.rms_norm(x, (4,)),
    "batch": lambda x: nnf.batch_norm(x, None, None, training=True),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("size", [0.1, 1.0, 300.0])
def test_norms_are_right_in_half_precision(name, dtype, size):
    (x, _), (dx, _) = points(13)
    x, dx = (size * part for part in (x, dx))
    exact = value_and_tangent(NORMS[name], (x.to(dtype).double(),), (dx.to(dtype).double(),))[1]
    _, tangent = value_and_tangent(NORMS[name], (x.to(dtype),), (dx.to(dtype),))
    assert tangent.dtype is dtype
    assert (tangent.double() - exact).norm() < 16 * torch.finfo(dtype).eps * exact.norm()


@pytest.mark.parametrize("dropout", [nn.Dropout(0.0), nn.Dropout(0.5).eval()])
def test_dropout_that_is_off_is_its_input(dropout):
    def function(x):
        y = 2 * x
        assert dropout(y) is y
        return y

    (x, _), (dx, _) = points(14)
    value_and_tangent(function, (x,), (dx,))


def test_in_place_addition_keeps_the_type_as_autocast_leaves_it():
    def function(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = nnf.linear(x, W.float())
            h += x.sum()
        assert h.dtype is torch.bfloat16
        return h

    (x, _), (dx, _) = points(15)
    value, tangent = value_and_tangent(function, (x.float(),), (dx.float(),))
    exact_value, exact = value_and_tangent(lambda x: nnf.linear(x, W) + x.sum(), (x,), (dx,))
    assert (value - exact_value).norm() < 0.02 * exact_value.norm() and (tangent - exact).norm() < 0.02 * exact.norm()


def test_what_a_checkpoint_computes_again_must_not_have_changed():
    layer = nn.Linear(4, 4).double()

    def function(x):
        h = layer(x)
        y = checkpoint(lambda h: layer(h).sin(), h, use_reentrant=False)
        h += y
        return h

    (x, _), (dx, _) = points(16)
    value, _ = value_and_tangent(function, (x,), (dx,))
    with pytest.raises(RuntimeError, match="changed in place"):
        torch.autograd.grad(value.sum(), list(layer.parameters()))


def test_gradients_survive_an_outer_autocast():
    layer = nn.Linear(4, 4)
    (x, _), (dx, _) = points(17)
    for method in METHODS:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value, _ = value_and_tangent(layer, (x.float(),), (dx.float(),), method)
            gradients = torch.autograd.grad(value.float().sum(), list(layer.parameters()))
        assert all(bool(g.any()) for g in gradients)


@pytest.mark.parametrize("dropout", [nnf.dropout, nnf.dropout1d, nnf.dropout2d, nnf.dropout3d])
def test_every_kind_of_dropout_drops_value_and_tangent_alike(dropout):
    x = torch.ones(2, 6, *[3] * {nnf.dropout1d: 1, nnf.dropout2d: 2, nnf.dropout3d: 3}.get(dropout, 1))
    torch.manual_seed(0)
    value, tangent = value_and_tangent(lambda x: dropout(x, 0.5), (x,), (3 * x,))
    torch.manual_seed(0)
    assert torch.equal(value, dropout(x, 0.5))
    assert torch.equal(tangent, 3 * value)
    assert set(value.unique().tolist()) == {0.0, 2.0}


def test_an_operation_without_a_rule_falls_back_under_autocast():
    def function(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = nnf.linear(x, W.float())
            return torch.erf(h) + nnf.conv_transpose1d(h[:, None], torch.ones(1, 1, 1))[:, 0].float()

    (x, _), (dx, _) = points(19)
    of_one = pytest.warns(FallbackWarning, match="no rule for erf")
    with of_one, pytest.warns(FallbackWarning, match="no rule for conv_transpose1d"):
        value, tangent = value_and_tangent(function, (x.float(),), (dx.float(),))
    h, dh = nnf.linear(x, W), nnf.linear(dx, W)
    exact = dh * (1 + 2 / math.sqrt(math.pi) * (-h * h).exp())
    assert (value - (h.erf() + h)).norm() < 0.02 * (h.erf() + h).norm()
    assert (tangent - exact).norm() < 0.02 * exact.norm()


def test_a_mask_is_shared_where_the_input_is_zero():
    torch.manual_seed(0)
    _, tangent = value_and_tangent(nn.Dropout(0.5), (torch.zeros(400),), (torch.ones(400),))
    assert set(tangent.unique().tolist()) == {0.0, 2.0}


class Residual(nn.Module):
    """Convolutions, batch norms and rectifiers in place, as residual networks for images are commonly written."""

    def __init__(self, channels: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(True)
        )
        self.blocks = nn.ModuleList(self.block(channels) for _ in range(blocks))
        self.relu, self.pool = nn.ReLU(inplace=True), nn.AvgPool2d(2)
        self.head, self.time = nn.Linear(channels * 16, 3 * 64), nn.Linear(1, channels)

    @staticmethod
    def block(channels: int) -> nn.Sequential:
        parts = [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
        return nn.Sequential(*parts, nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x, t):
        h = self.stem(x) + self.time(t[:, None])[..., None, None]
        for block in self.blocks:
            out = block(h)
            out += h
            h = self.relu(out)
        return self.head(torch.flatten(self.pool(h), 1)).view_as(x)


class VisionTransformer(nn.Module):
    """Patches, a class token, learned positions, blocks with the norm first, as commonly written."""

    def __init__(self, width: int = 16, heads: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.token, self.position = (nn.Parameter(torch.zeros(1, n, width)) for n in (1, 5))
        self.first, self.second, self.last = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attend = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Dropout(dropout), nn.Linear(32, width))
        self.head, self.time = nn.Linear(width, 48), nn.Linear(1, width)

    def forward(self, x, t):
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(len(x), -1, -1), h], dim=1) + self.position + self.time(t[:, None])[:, None]
        y = self.first(h)
        h = h + self.attend(y, y, y, need_weights=False)[0]
        h = self.last(h + self.mlp(self.second(h)))
        h = self.head(h[:, 1:]).reshape(len(x), 2, 2, 3, 4, 4)
        return torch.einsum("nhwcpq->nchpwq", h).reshape(x.shape)


class Rotary(nn.Module):
    """Attention with rotary embeddings, root-mean-square norms and a gated unit."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads, size = heads, width // heads
        self.lift, self.head, self.time = nn.Linear(12, width), nn.Linear(width, 12), nn.Linear(1, width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.gate, self.up, self.down = nn.Linear(width, 32), nn.Linear(width, 32), nn.Linear(32, width)
        angles = torch.arange(16)[:, None] * 100.0 ** -(torch.arange(size // 2) * 2 / size)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def rotate(self, x):
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([a * self.cos - b * self.sin, a * self.sin + b * self.cos], dim=-1).flatten(-2)

    def forward(self, x, t):
        h = self.lift(x.reshape(len(x), 16, 12)) + self.time(t[:, None])[:, None]
        q, k, v = self.qkv(self.first(h)).unflatten(-1, (3, self.heads, -1)).movedim(2, 0).transpose(2, 3)
        weights = (self.rotate(q) @ self.rotate(k).mT / math.sqrt(q.shape[-1])).softmax(-1)
        h = h + self.out((weights @ v).transpose(1, 2).flatten(-2))
        y = self.second(h)
        return self.head(h + self.down(nnf.silu(self.gate(y)) * self.up(y))).reshape(x.shape)


def images():
    draw = torch.Generator().manual_seed(5)
    x, v = torch.randn(2, 4, 3, 8, 8, generator=draw, dtype=torch.float64)
    t = torch.tensor([0.2, 0.7, 1.1, 1.4], dtype=torch.float64)
    return (x, t), (v, torch.ones_like(t))


WHOLE = {"residual": Residual, "vision transformer": VisionTransformer, "rotary": Rotary}


def assert_equals_the_reference(module, dtype, tolerance):
    """Value, tangent and gradients, of the same masks where there is dropout."""
    primals, tangents = ([a.to(dtype) for a in both] for both in images())
    parameters = list(module.parameters())

    def written_out(x, t):  # batch norms change their statistics, which func.jvp refuses
        return torch.func.functional_call(module, {k: b.clone() for k, b in module.named_buffers()}, (x, t))

    found: list[list[torch.Tensor]] = []
    ways: list[tuple[Any, Any]] = [(module, "pairs"), (written_out, "func")]
    for function, method in ways:
        torch.manual_seed(3)
        value, tangent = value_and_tangent(function, primals, tangents, method)
        found.append([value.detach(), tangent, *torch.autograd.grad(value.square().sum(), parameters)])
    largest = max(float(gradient.abs().max()) for gradient in found[1][2:])
    for own, other in zip(*found, strict=True):
        assert own.dtype is dtype
        torch.testing.assert_close(own, other, rtol=tolerance, atol=tolerance * largest)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", WHOLE)
def test_whole_networks_equal_the_reference_without_a_fallback(name, training, dtype, tolerance):
    assert_equals_the_reference(perturb(WHOLE[name]().to(dtype)).train(training), dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_transformer_with_dropout_has_one_mask_for_value_and_tangent(dtype, tolerance):
    module = perturb(VisionTransformer(dropout=0.3).to(dtype))
    with pytest.warns(FallbackWarning, match="scaled_dot_product_attention"):
        assert_equals_the_reference(module, dtype, tolerance)


def test_a_checkpointed_part_is_followed_and_trains():
    module = perturb(Rotary().double())
    primals, tangents = images()

    def checkpointed(x, t):
        return checkpoint(module, x, t, use_reentrant=False)

    value, tangent = value_and_tangent(checkpointed, primals, tangents)
    expected = value_and_tangent(module, primals, tangents)
    torch.testing.assert_close((value, tangent), expected)
    gradients = torch.autograd.grad(value.square().sum(), list(module.parameters()))
    others = torch.autograd.grad(expected[0].square().sum(), list(module.parameters()))
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)
    with pytest.raises((RuntimeError, TypeError)), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        value_and_tangent(lambda x, t: checkpoint(module, x, t, use_reentrant=True), primals, tangents)


def test_a_checkpointed_part_may_work_in_place_inside():
    layers = [nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 4)]
    module = perturb(nn.Sequential(*layers).double())
    (x, _), (dx, _) = points(18)
    found = value_and_tangent(lambda x: checkpoint(module, 2 * x, use_reentrant=False), (x,), (dx,))
    expected = value_and_tangent(lambda x: module(2 * x), (x,), (dx,))
    torch.testing.assert_close(found, expected)
    gradients, others = (torch.autograd.grad(v.square().sum(), list(module.parameters())) for v, _ in (found, expected))
    torch.testing.assert_close(gradients, others)


COMPILED = """
import torch
from tests.core.test_forward_mode import ResidualMLP, Rotary, images, perturb, value_and_tangent

for module in (ResidualMLP((3, 8, 8), width=16, blocks=2), Rotary()):
    perturb(module.double())
    primals, tangents = images()

    def gradients(found):
        return torch.autograd.grad((found[0] + found[1]).square().sum(), list(module.parameters()))

    expected = gradients(value_and_tangent(module, primals, tangents))
    part = torch.compile(module, backend="aot_eager")
    whole = torch.compile(lambda x, t: value_and_tangent(module, (x, t), tangents), backend="aot_eager")
    for found in (value_and_tangent(part, primals, tangents), whole(*primals)):
        for gradient, other in zip(gradients(found), expected, strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12)
        print("right")
    try:
        torch.compile(lambda x, t: value_and_tangent(module, (x, t), tangents), fullgraph=True)(*primals)
    except Exception as error:
        print("refused", type(error).__name__)
"""


@pytest.mark.slow
def test_under_torch_compile_gradients_are_those_of_eager():
    # in a process of its own: torch.compile cannot follow the type checks of the tests
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", COMPILED], cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.splitlines() == ["right", "right", "refused Unsupported"] * 2
