import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional as nnf

from core import pairs
from core.fields import bind
from core.forward_mode import value_and_tangent
from core.networks.log_weight import LogWeight
from core.networks.mlp import ResidualMLP

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
    # linear
    "linear": lambda x, y: nnf.linear(x, W, torch.ones(5).to(x)) + nnf.linear(x, W, bias=V[:, 0].sum()[None].expand(5)),
    "shapes": lambda x, y: x.reshape(2, 6).flatten()[None].view(4, 3).unsqueeze(0).expand(2, 4, 3).squeeze(1),
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
}
FALLEN = {
    "layer_norm": lambda x, y: nnf.layer_norm(x, (4,), V[0], V[1]),
    "group_norm": lambda x, y: nnf.group_norm(x, 2),
    "rms_norm": lambda x, y: nnf.rms_norm(x, (4,)),
    "where": lambda x, y: torch.where(x > 1, x, y),
    "maximum": lambda x, y: torch.maximum(x, y) + x.max(dim=0).values + x.amin(),
    "powers_of_pairs": lambda x, y: x**y + 2.0**x + x**V,
    "norm": lambda x, y: x / x.norm(dim=1, keepdim=True) + torch.linalg.norm(y),
    "einsum": lambda x, y: torch.einsum("ij,kj->ik", x, y) @ V,
    "keywords": lambda x, y: (
        torch.add(x, y, alpha=3) + torch.mul(input=x, other=y) + torch.sin(input=x) + torch.cat(tensors=[x, y])[::2]
    ),
    "rounded": lambda x, y: x * torch.div(x, y, rounding_mode="floor"),
    "by_pairs": lambda x, y: nnf.linear(x, y, y[:, 0])[:, :1] + V.expand_as(x) * x.to(y) + x.clamp(min=y),
    "log_softmax": lambda x, y: nnf.log_softmax(x, -1) + x.logsumexp(1, keepdim=True),
    "detached": lambda x, y: x * y.detach(),
    "complex": lambda x, y: torch.view_as_real(torch.polar(x, y) * torch.view_as_complex(x.reshape(6, 2))[0]),
    "properties": lambda x, y: torch.fft.fft(x).real * torch.fft.fft(y).imag + x.H.mH,
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
    expected_value, expected = value_and_tangent(function, primals, tangents, "reference")
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


@pytest.mark.parametrize("name", RULED)
def test_rules_are_exact_and_need_no_fallback(name, monkeypatch):
    primals, tangents = points(1)
    assert_same(RULED[name], primals, tangents)
    monkeypatch.setattr(pairs, "_fallback", lambda func, *_: pytest.fail(f"{func} has no rule"))
    _, tangent = value_and_tangent(RULED[name], primals, tangents)
    expected = central_difference(RULED[name], primals, tangents)
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FALLEN)
def test_operations_without_a_rule_are_exact_too(name):
    primals, tangents = points(2)
    _, tangent = assert_same(FALLEN[name], primals, tangents)
    if name not in ("detached", "rounded"):
        torch.testing.assert_close(tangent, central_difference(FALLEN[name], primals, tangents), rtol=1e-6, atol=1e-6)


def test_every_elementwise_rule_is_tested():
    names = {name for names in pairs.ELEMENTWISE for name in names.split()}
    assert names - {"pow", "__pow__", "clip", "clamp_min", "clamp_max"} <= set(RULED)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(sorted({**RULED, **FALLEN})), min_size=1, max_size=3), st.integers(0, 2**31))
def test_compositions_equal_the_reference(names, seed):
    table = {**RULED, **FALLEN}

    def function(x, y):
        for name in names:
            moved = table[name](x, y).mean() / 10
            x, y = (x + moved).abs() + 0.3, y * (1 + moved.tanh() / 2)
        return x * y

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


@pytest.mark.parametrize(("conditioning", "embedding", "coordinate", "classes"), OPTIONS)
def test_the_network_equals_the_reference_and_trains_as_without_pairs(
    conditioning, embedding, coordinate, classes, monkeypatch
):
    options = {"conditioning": conditioning, "embedding": embedding, "coordinate": coordinate, "classes": classes}
    network = perturb(ResidualMLP((2, 3), width=16, blocks=2, fourier_scale=1.0, **options).double())
    generator = torch.Generator().manual_seed(3)
    x, v = torch.randn(2, 5, 2, 3, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.2, 1.3, 5, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 0]) if classes else None
    for condition in {None, labels}:
        field = bind(network, dict(network.named_parameters()), condition, precision=torch.float64)
        assert_same(field, (x, t), (v, torch.ones_like(t)), tolerance=1e-11)
        monkeypatch.setattr(pairs, "_fallback", lambda func, *_: pytest.fail(f"{func} has no rule"))
        value, tangent = value_and_tangent(field, (x, t), (v, torch.ones_like(t)))
        monkeypatch.undo()
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
        assert_same(module, *attention_inputs())
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
        value_and_tangent(lambda x, t: function(x, t, False), primals, tangents, "reference"),
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
    torch.zeros(3, 4, dtype=x.dtype)[0] = x[0]


def increment(x):
    x += 1


@pytest.mark.parametrize(
    "function",
    [
        assign,
        increment,
        lambda x: x.mul_(2),
        lambda x: x.__setitem__(0, 1.0),
        lambda x: torch.zeros(3, 4, dtype=x.dtype).add_(x),
        lambda x: nnf.silu(x, inplace=True),
        lambda x: nnf.dropout(x, inplace=True),
        lambda x: torch.sin(x, out=torch.empty(3, 4, dtype=x.dtype)),
        lambda x: x.requires_grad_(),
    ],
)
def test_in_place_operations_raise(function):
    (x, _), (dx, _) = points(9)
    before = x.clone()
    with pytest.raises(RuntimeError, match="in-place"):
        value_and_tangent(function, (x,), (dx,))
    assert torch.equal(x, before)


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
        with pytest.raises((TypeError, RuntimeError)):
            value_and_tangent(function, (x,), (dx,))
    with pytest.raises((TypeError, RuntimeError)):
        value_and_tangent(torch.func.grad(lambda y: y.sin().sum()), (x,), (dx,))
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
        lambda x: value_and_tangent(torch.sin, (x,), (torch.ones_like(x),))[0], (x,), (dx,), "reference"
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
