"""What networks do beyond plain arithmetic: pairs are right, or refuse and name a method that is."""

import re
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from torch.utils.checkpoint import checkpoint

from trigbench.core.forward_mode import METHODS, TangentMethod, value_and_tangent
from trigbench.core.pairs import DetachWarning, FallbackWarning

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

ROWS = torch.tensor([0, 2])
COLUMN = torch.tensor([[1], [0], [2]])
LAYER = nn.Linear(4, 4).double()
V = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
SCALES = torch.linspace(0.5, 2, 4, dtype=torch.float64)


def points(seed: int = 0, shape: tuple[int, ...] = (3, 4)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, dx = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return x.abs() + 0.1, dx


def central_difference(function: Callable[[Tensor], Tensor], x: Tensor, dx: Tensor, step: float = 1e-6) -> Tensor:
    up, down = (function(x + sign * step * dx).detach() for sign in (1, -1))
    return (up - down) / (2 * step)


# --- memory under several names -------------------------------------------------------------------

ALIASES: dict[str, Callable[[Tensor], Tensor]] = {
    "detach": lambda a: a.detach(),
    "data": lambda a: a.data,
    "view_as": lambda a: a.view_as(a),
    "view of a type": lambda a: a.view(torch.float64),
    "view": lambda a: a.view(12).view(3, 4),
    "reshape": lambda a: a.reshape(3, 4),
    "flatten": lambda a: a.flatten().unflatten(0, (3, 4)),
    "expand": lambda a: a.expand(3, 4),
    "broadcast": lambda a: torch.broadcast_tensors(a, a)[0],
    "to": lambda a: a.to(a.dtype),
    "to another": lambda a: a.to(a),
    "double": lambda a: a.double(),
    "cpu": lambda a: a.cpu(),
    "contiguous": lambda a: a.contiguous(),
    "positive": lambda a: +a,
    "type": lambda a: a.type(torch.float64),
    "transposes": lambda a: a.T.mT,
    "adjoint": lambda a: a.adjoint().mT,
    "chunk": lambda a: a.chunk(1)[0],
    "unsafe_chunk": lambda a: a.unsafe_chunk(1)[0],
    "split": lambda a: a.split(3)[0],
    "tensor_split": lambda a: a.tensor_split(1)[0],
    "unbind": lambda a: a[None].unbind(0)[0],
    "index": lambda a: a[:],
    "dots": lambda a: a[...],
    "narrow": lambda a: a.narrow(0, 0, 3),
    "squeeze": lambda a: a.unsqueeze(0).squeeze(0),
    "movedim": lambda a: a.movedim(0, 0),
    "diagonal": lambda a: a[None, None].diagonal().permute(2, 0, 1)[0],
    "unfold": lambda a: a.unfold(0, 3, 3)[0].mT,
    "as_strided": lambda a: a.as_strided((3, 4), (4, 1)),
    "real": lambda a: a.real,
    "conj": lambda a: a.conj(),
    "resolve_conj": lambda a: a.resolve_conj(),
    "complex and back": lambda a: torch.view_as_real(torch.view_as_complex(a.view(3, 2, 2))).view(3, 4),
    "einsum": lambda a: torch.einsum("ij->ij", a),
    "alias": torch.ops.aten.alias,
    "atleast": torch.atleast_2d,
    "dropout that is off": nn.Dropout(0.5).eval(),
    "identity": nn.Identity(),
    "pad by nothing": lambda a: nnf.pad(a, (0, 0)),
    "itself": lambda a: a,
}


def writing(first: str, alias: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function that writes to a tensor, or to its alias, and reads both."""

    def function(x: Tensor) -> Tensor:
        tensor = x if first == "the input" else x * 1.0
        other = alias(tensor)
        (other if first == "the alias" else tensor).mul_(3)
        return other * tensor

    return function


@pytest.mark.one_in(3)
@pytest.mark.filterwarnings(
    "ignore::trigbench.core.pairs.DetachWarning", "ignore::trigbench.core.pairs.FallbackWarning"
)
@pytest.mark.parametrize("first", ["the tensor", "the alias", "the input"])
def test_a_write_to_memory_with_several_names_is_seen_under_each_or_refused(first):
    x, dx = points()
    followed = 0
    for name, alias in ALIASES.items():
        function = writing(first, alias)
        expected = torch.func.jvp(lambda x, f=function: f(x.clone()), (x,), (dx,))
        before = x.clone()
        try:
            found = value_and_tangent(function, (x,), (dx,), "pairs")
        except RuntimeError as error:
            assert "in-place operation mul_" in str(error) and "method='func'" in str(error), name
        else:
            followed += 1
            torch.testing.assert_close(found, expected, msg=lambda said, name=name: f"{name}: {said}")
        found = value_and_tangent(function, (x,), (dx,))
        torch.testing.assert_close(found, expected, msg=lambda said, name=name: f"{name}: {said}")
        assert torch.equal(x, before), name
    assert followed >= 8  # those that are the same tensor


@pytest.mark.parametrize("method", ["auto", "func", "two_pass"])
def test_a_function_that_writes_to_its_inputs_changes_neither_them_nor_the_tangents(method):
    x, dx = points()
    copies = x.clone(), dx.clone()

    def function(x):
        first, second = x.chunk(2, -1)
        first.mul_(2)
        return torch.cat([first * second, x], -1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        _, tangent = value_and_tangent(function, (x,), (dx,), method)
    torch.testing.assert_close(tangent, central_difference(lambda x: function(x.clone()), *copies))
    if method != "two_pass":  # whose value is torch's own
        assert torch.equal(x, copies[0])
    assert torch.equal(dx, copies[1])


# --- rules ----------------------------------------------------------------------------------------


def rotary_by_slices(x):
    """As diffusers' Wan has it."""
    out = torch.empty_like(x)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    out[..., 0::2] = a * 0.6 - b * 0.8
    out[..., 1::2] = a * 0.8 + b * 0.6
    return out.type_as(x)


def rotary_by_complex_numbers(x):
    """As diffusers' Lumina2 has it."""
    turned = torch.view_as_complex(x.reshape(3, 2, 2)) * torch.tensor([0.6 + 0.8j, 1j], dtype=torch.complex128)
    return torch.view_as_real(turned).flatten(1)


def in_a_fresh_tensor(x):
    out = torch.zeros(3, 8, dtype=x.dtype)
    out[:, :4], out[0, 4:], out[1:, 5] = x * x, x[0], 2.0
    out[out > 1] = 0.5
    out[ROWS] = out[ROWS] * 2
    return out


def set_to_zero(x):
    y = x * x
    y[y > 1] = 0
    z = y * 2
    z.zero_()
    z += y
    return z.masked_fill(z > 0.5, 3.0)


HOOKED = nn.Linear(4, 4).double()
HOOKED.register_forward_hook(lambda module, inputs, output: output.sin())
HOOKED.register_forward_pre_hook(lambda module, inputs: (inputs[0] * inputs[0],))


def sampled(x, **options):
    image = torch.stack([x, x.sin()]).reshape(1, 2, 3, 4)
    grid = torch.stack([x / 2 - 0.3, x.T.reshape(3, 4) / 3 - 0.2], -1)[None]
    return nnf.grid_sample(image, grid, **options).sum(1)[0]


RULED: dict[str, Callable[[Tensor], Tensor]] = {
    "rotary embedding by slices": rotary_by_slices,
    "rotary embedding by complex numbers": rotary_by_complex_numbers,
    "parts of a fresh tensor": in_a_fresh_tensor,
    "zero_ and masks": set_to_zero,
    "copy_": lambda x: x.new_empty(2, 3, 4).copy_(x * x) + torch.empty_like(x).copy_(x[0]),
    "index_put": lambda x: (
        torch.zeros(3, 4, dtype=x.dtype).index_put((ROWS,), x[:2]) + x.index_put((ROWS,), SCALES, accumulate=True)
    ),
    "index_put_": lambda x: torch.zeros(3, 4, dtype=x.dtype).index_put_((ROWS,), x[:2].sin(), accumulate=True),
    "index_add": lambda x: x.index_add(0, ROWS, x[:2] * x[1:]) + torch.zeros_like(x).index_add_(0, ROWS, x[1:]),
    "index_copy": lambda x: SCALES.expand(3, 4).index_copy(0, ROWS, x[:2]),
    "scatter": lambda x: torch.zeros_like(x).scatter(0, (x > 1).long(), x) + x.scatter_add(0, (x > 1).long(), x * x),
    "scatter of numbers": lambda x: torch.stack([
        (x * x).scatter_(1, COLUMN, number).square() + x.scatter(0, index=COLUMN, value=number)
        for number in (2, True, 0.5)
    ]).sum(0),
    "scatter of what stands still": lambda x: (
        x.scatter(1, COLUMN, src=V[:, :1]) * x.index_add(0, ROWS, x[:2] * x[1:], alpha=0.5)
    ),
    "slice_scatter": lambda x: torch.slice_scatter(x, x[:, :2] * 2, 1, 2) + x.select_scatter(SCALES, 0, 1),
    "cdist": lambda x: torch.cdist(x, x.sin()) + torch.cdist(SCALES[None], x, p=1.0) + torch.cdist(x, V, 3.0),
    "cdist of equal points": lambda x: torch.cdist(x, x * 1.0) * x[:, :1],
    "grid_sample": lambda x: sampled(x, align_corners=False),
    "grid_sample by border": lambda x: sampled(x, padding_mode="border", align_corners=True),
    "grid_sample bicubic": lambda x: sampled(x, mode="bicubic", padding_mode="reflection", align_corners=False),
    "grid_sample of a fixed image": lambda x: nnf.grid_sample(
        SCALES.reshape(1, 1, 2, 2), torch.stack([x, x], -1)[None] / 3, align_corners=False
    ),
    "grid_sample in three dimensions": lambda x: nnf.grid_sample(
        torch.stack([x, x * x]).reshape(1, 2, 1, 3, 4), torch.stack([0 * x, x / 3, x / 4], -1)[None, None],
        align_corners=True,
    ),
    "hooks of modules": HOOKED,
    "whole numbers in parts": lambda x: (
        (x * x).slice_scatter(torch.full((3, 2), 3), 1, 2) * x.select_scatter(src=torch.full((4,), 3), dim=0, index=1)
    ),
    "split_with_sizes": lambda x: x.split_with_sizes([1, 3], 1)[1] * x[:, :1],
}  # fmt: skip


@pytest.mark.parametrize("name", RULED)
def test_what_real_networks_use_has_a_rule_and_is_exact(name):  # a FallbackWarning is an error here
    x, dx = points()
    function = RULED[name]
    value, tangent = value_and_tangent(function, (x,), (dx,), "pairs")
    torch.testing.assert_close(value, function(x))
    torch.testing.assert_close(tangent, central_difference(function, x, dx), rtol=1e-7, atol=1e-7)
    try:
        exact = torch.func.jvp(function, (x,), (dx,))[1]
    except (NotImplementedError, RuntimeError):  # torch has no forward mode of cdist and grid_sample
        assert "cdist" in name or "grid_sample" in name
    else:
        torch.testing.assert_close(tangent, exact, rtol=1e-14, atol=1e-14)
    leaf = x.clone().requires_grad_()
    gradient, expected = (
        torch.autograd.grad(value.square().sum(), leaf)[0]
        for value in (value_and_tangent(function, (leaf,), (dx,), "pairs")[0], function(leaf))
    )
    torch.testing.assert_close(gradient, expected, rtol=1e-14, atol=1e-14)


def test_distances_of_many_points_and_under_autocast_are_exact_too():
    (x, dx), y = points(0, (300, 16)), points(1, (300, 16))[0]
    _, tangent = value_and_tangent(lambda x: torch.cdist(x, y), (x,), (dx,), "pairs")  # in two parts
    torch.testing.assert_close(tangent, central_difference(lambda x: torch.cdist(x, y), x, dx), rtol=1e-6, atol=1e-6)
    x, dx = x[:8].bfloat16(), dx[:8].bfloat16()
    near = (x * 1.01).detach()
    with torch.autocast("cpu", torch.bfloat16):
        value, tangent = value_and_tangent(lambda x: torch.cdist(x, near), (x,), (dx,), "pairs")
    wide = value_and_tangent(lambda x: torch.cdist(x, near.float()), (x.float(),), (dx.float(),), "pairs")
    assert value.dtype == torch.float32
    torch.testing.assert_close((value, tangent), wide)


def test_outputs_of_several_tensors_come_with_a_tangent_each():
    x, dx = points()
    for method in (*METHODS, "auto"):
        value, tangent = value_and_tangent(lambda x: (x.sin(), {"double": [2 * x]}), (x,), (dx,), method)
        torch.testing.assert_close(value, (x.sin(), {"double": [2 * x]}))
        torch.testing.assert_close(tangent, (x.cos() * dx, {"double": [2 * dx]}), rtol=1e-6, atol=1e-6)
        with pytest.raises((ValueError, RuntimeError), match="tensor"):
            value_and_tangent(lambda x: (x, None), (x,), (dx,), method)


def test_a_detached_part_stands_still_and_is_warned_about_in_words_of_its_own():
    x, dx = points()
    for detach in (torch.detach, Tensor.detach, lambda x: x.data):
        with pytest.warns(DetachWarning, match="detach cuts the tangent as it cuts the gradient.*method='difference'"):
            _, tangent = value_and_tangent(lambda x, detach=detach: x * detach(x), (x,), (dx,), "pairs")
        torch.testing.assert_close(tangent, value_and_tangent(lambda x: x * x.detach(), (x,), (dx,), "func")[1])
        torch.testing.assert_close(tangent, x * dx)
    assert not issubclass(DetachWarning, FallbackWarning)
    _, moved = value_and_tangent(lambda x: x * x.detach(), (x,), (dx,), "difference")
    torch.testing.assert_close(moved, 2 * x * dx)


def test_what_torch_has_no_derivative_of_stands_still_and_is_said_to():
    x, dx = points()
    for flat in (torch.special.bessel_j0, torch.special.airy_ai):
        with pytest.warns(DetachWarning, match=f"no derivative of {flat.__name__}.*method='difference'"):
            _, tangent = value_and_tangent(lambda x, flat=flat: x * flat(x), (x,), (dx,), "auto")
        torch.testing.assert_close(tangent, flat(x) * dx)
    _, moved = value_and_tangent(torch.special.bessel_j0, (x,), (dx,), "difference")
    torch.testing.assert_close(moved, -torch.special.bessel_j1(x) * dx, rtol=1e-5, atol=1e-6)


# --- refusals -------------------------------------------------------------------------------------


class Doubled(torch.autograd.Function):
    """Without forward mode."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def part_of_a_tensor(x):
    h = LAYER(x).clone()
    h[:, :2] *= 3
    h[:, 0].add_(x[:, 1])
    return h.sin()


def rows_in_turn(x):
    out = torch.zeros(3, 4, dtype=x.dtype)
    for i in range(3):
        out[i] += LAYER(x[i])
    return out


def chunk_then_in_place(x):
    a, b = x.clone().chunk(2, -1)
    a.mul_(b)
    return torch.cat([a, b], -1)


def energy(x):
    y = x.detach().requires_grad_()
    return torch.autograd.grad(LAYER(y).sin().square().sum(), y, create_graph=True)[0]


def flexible(x):
    from torch.nn.attention.flex_attention import flex_attention  # noqa: PLC0415  (it is slow to import)

    q = x.reshape(1, 1, 3, 4)
    return flex_attention(q, q, q)[0, 0]  # type: ignore


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], TangentMethod | None]] = {
    "a part of a tensor": (part_of_a_tensor, "func"),
    "rows in turn": (rows_in_turn, "func"),
    "chunk, then in place": (chunk_then_in_place, "func"),
    "torch.func.grad inside": (torch.func.grad(lambda x: LAYER(x).sin().square().sum()), "func"),
    "a function without jvp": (lambda x: Doubled.apply(LAYER(x)), None),  # type: ignore
    "an energy": (energy, None),
    "an address": (lambda x: (x.data_ptr(), LAYER(x))[1], None),
    "numpy": (lambda x: LAYER(x) * float(x.detach().numpy().sum()), None),
    "a re-entrant checkpoint": (lambda x: checkpoint(LAYER, x, use_reentrant=True), None),  # type: ignore
    "flex_attention": (flexible, None),
    "scatter by a product": (lambda x: x.scatter(1, COLUMN, 2, reduce="multiply") + x, None),
    "no forward mode": (lambda x: torch.ctc_loss(
        x[:, None].log_softmax(-1), torch.tensor([[1]]), torch.tensor([3]), torch.tensor([1]), reduction=0
    ).expand(2), None),
}  # fmt: skip


@pytest.mark.one_in(4)
@pytest.mark.filterwarnings(
    "ignore::trigbench.core.pairs.DetachWarning",
    "ignore:None of the inputs have requires_grad",
    "ignore:.*flex_attention.*",
)
@pytest.mark.parametrize("name", REFUSED)
def test_what_pairs_refuse_names_a_method_that_works_and_auto_takes_func_where_it_is_right(name):
    function, taken = REFUSED[name]
    x, dx = points()
    expected = central_difference(function, x, dx)
    with pytest.raises((RuntimeError, TypeError)) as refused, warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        value_and_tangent(function, (x,), (dx,), "pairs")
    said = "\n".join([str(refused.value), *getattr(refused.value, "__notes__", ())])
    named = set(re.findall(r"'(\w+)'", said)) & set(METHODS)
    assert named, said
    best: TangentMethod = "func" if taken else "difference"
    assert best in named, said
    _, tangent = value_and_tangent(function, (x,), (dx,), best)
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-6)
    if taken:
        with pytest.warns(FallbackWarning, match="torch.func.jvp takes all of it, which is right and slower") as told:
            value, tangent = value_and_tangent(function, (x,), (dx,))
        assert len([w for w in told if issubclass(w.category, FallbackWarning)]) == 1
        torch.testing.assert_close(value, function(x))
        torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-6)
    else:
        with pytest.raises((RuntimeError, TypeError)) as refused, warnings.catch_warnings():
            warnings.simplefilter("ignore", FallbackWarning)
            value_and_tangent(function, (x,), (dx,))
        assert "difference" in "\n".join([str(refused.value), *getattr(refused.value, "__notes__", ())])
