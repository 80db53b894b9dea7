import importlib.util
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as nnf
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from tests.workflow import warm
from tests.workflow.conftest import ROOT, environment
from trigbench.core import attention, pairs
from trigbench.core.attention import attention_with_tangent
from trigbench.core.forward_mode import value_and_tangent


def written_out(q, k, v, mask=None, causal=False, scale=None):
    """Softmax attention as a formula, 0 in a row that sees nothing."""
    x = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    hidden = torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device).triu(1) & causal
    if mask is not None:
        barred = ~mask if mask.dtype is torch.bool else mask == -torch.inf
        hidden = hidden | barred
        x = x if mask.dtype is torch.bool else x + mask.masked_fill(barred, 0)
    blind = hidden.all(-1, keepdim=True)
    return x.masked_fill(hidden & ~blind, -torch.inf).softmax(-1).masked_fill(hidden, 0) @ v


def expected(primals, tangents, *options) -> tuple[Tensor, Tensor]:
    moves = [torch.zeros_like(p) if t is None else t for p, t in zip(primals, tangents, strict=True)]
    return torch.func.jvp(lambda *qkv: written_out(*qkv, *options), tuple(primals), tuple(moves))[:2]


def gradients(value: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).reshape(value.shape).to(value)
    return torch.autograd.grad((value * weights).sum(), inputs, allow_unused=True, materialize_grads=True)


def draw(
    seed: int, batch=(2, 3), queries=7, keys=9, dim=4, features=4, dtype=torch.float64, device="cpu"
) -> tuple[Any, Any]:
    """(q, k, v), (tq, tk, tv), drawn in float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(*batch, queries, dim), (*batch, keys, dim), (*batch, keys, features)]
    drawn = [torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype) for s in 2 * shapes]
    return drawn[:3], drawn[3:]


def draw_mask(seed: int, kind: str, *shape: int, dtype=torch.float64, device="cpu") -> Tensor | None:
    """Half the keys hidden, the second row sees nothing."""
    generator = torch.Generator().manual_seed(seed)
    seen, bias = torch.rand(shape, generator=generator) > 0.5, torch.randn(shape, generator=generator)
    if shape[-2] > 1:
        seen[..., 1, :] = False
    masks = {"boolean": seen, "added": bias.to(dtype), "both": bias.to(dtype).masked_fill(~seen, -torch.inf)}
    return None if kind == "none" else masks[kind].to(device)


def relative(actual: Tensor, exact: Tensor) -> float:
    return ((actual.double() - exact).norm() / exact.norm()).item()


@pytest.mark.slow
@given(
    batch=st.sampled_from([(), (1,), (2,), (2, 3), (2, 1, 2)]),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9)),
    square=st.booleans(),
    kind=st.sampled_from(["none", "boolean", "added", "both"]),
    causal=st.booleans(),
    still=st.sets(st.integers(0, 2)),
    block=st.sampled_from([(3, 20), (4, 500), (64, 2**18)]),
    scale=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 2**31),
)
def test_value_tangent_and_gradient_equal_the_formula(batch, sizes, square, kind, causal, still, block, scale, seed):
    queries, keys, dim, features = sizes
    causal = causal and kind == "none"
    primals, tangents = draw(seed, batch, queries, keys, dim, dim if square else features)
    tangents = [None if i in still else t for i, t in enumerate(tangents)]
    mask_shape = [n if (seed >> i) % 2 else 1 for i, n in enumerate((*batch, queries, keys))]
    mask = draw_mask(seed, kind, *mask_shape[(seed >> 8) % (len(batch) + 1) :])
    inputs = [p.requires_grad_() for p in primals]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_FEWEST_ROWS", block[0])
        for most in ("_LOGITS_OF_A_HEAD", "_LOGITS_OF_SEVERAL"):
            patch.setattr(attention, most, block[1])
        value, tangent = attention_with_tangent(*primals, *tangents, mask=mask, causal=causal, scale=scale)
    formula, derivative = expected(primals, tangents, mask, causal, scale)
    assert not tangent.requires_grad and tangent.shape == value.shape
    torch.testing.assert_close(value, formula, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, derivative.detach(), rtol=1e-12, atol=1e-12)
    for own, other in zip(gradients(value, inputs), gradients(formula, inputs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["boolean", "both"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_row_that_sees_nothing_is_zero_and_its_gradient_finite(kind, dtype):
    primals, tangents = draw(1, dtype=dtype)
    inputs = [p.requires_grad_() for p in primals]
    value, tangent = attention_with_tangent(*primals, *tangents, mask=draw_mask(1, kind, 7, 9, dtype=dtype))
    assert not value[..., 1, :].any() and not tangent[..., 1, :].any()
    assert value.isfinite().all() and tangent.isfinite().all() and value[..., 0, :].all()
    found = gradients(value, inputs)
    assert all(g.isfinite().all() for g in found) and not found[0][..., 1, :].any()
    k, v = (a[..., :0, :] for a in primals[1:])
    assert not any(a.any() for a in attention_with_tangent(primals[0], k, v, tangents[0], None, None))


def test_an_added_mask_has_its_gradient():
    primals, tangents = draw(2)
    mask = torch.linspace(-2, 2, 3 * 7 * 9, dtype=torch.float64).reshape(3, 7, 9).requires_grad_()
    value, tangent = attention_with_tangent(*primals, *tangents, mask=mask)
    formula, derivative = expected(primals, tangents, mask)
    torch.testing.assert_close(tangent, derivative.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(value, [mask]), gradients(formula, [mask]), rtol=1e-12, atol=1e-12)


def test_tensors_broadcast_over_batch_and_heads():
    (q, _, _), (tq, _, _) = draw(3, (2, 3))
    (_, k, _), (_, tk, _) = draw(4, (1, 3))
    (_, _, v), (_, _, tv) = draw(5, (3,))
    inputs = [a.requires_grad_() for a in (q, k, v)]
    value, tangent = attention_with_tangent(q, k, v, tq, tk, tv)
    formula, derivative = expected(inputs, (tq, tk, tv))
    torch.testing.assert_close(tangent, derivative.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(value, inputs), gradients(formula, inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e8])
def test_very_large_logits_do_not_overflow(size):
    (q, k, v), tangents = draw(6, dim=4)
    q, k = q.sign(), size * k.round()  # so that logits are exact in float32
    tq, tk, tv = (t.float() for t in tangents)
    value, tangent = attention_with_tangent(q.float(), k.float(), v.float(), tq, tk, tv)
    formula, derivative = expected((q, k, v.float().double()), [t.float().double() for t in tangents])
    assert relative(value, formula) < 1e-6 and relative(tangent, derivative) < 1e-6 * size


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3), (torch.float16, 1e-3)])
def test_half_precision_rounds_inputs_and_outputs_only(dtype, tolerance):
    primals, tangents = draw(7, queries=50, keys=60, dim=16, features=16, dtype=dtype)
    value, tangent = attention_with_tangent(*primals, *tangents)
    formula, derivative = expected([p.double() for p in primals], [t.double() for t in tangents])
    assert value.dtype is tangent.dtype is dtype
    assert relative(value, formula) < tolerance and relative(tangent, derivative) < tolerance


def test_what_all_keys_have_in_common_costs_no_precision():
    (q, k, v), tangents = draw(8, queries=20, keys=60, dim=16, features=16, dtype=torch.float32)
    k = k + 1000
    _, tangent = attention_with_tangent(q, k, v, *tangents)
    _, derivative = expected([a.double() for a in (q, k, v)], [t.double() for t in tangents])
    assert relative(tangent, derivative) < 1e-3


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore
        out = func(*args, **(kwargs or {}))
        for a in out if isinstance(out, tuple | list) else [out]:
            self.elements = max(self.elements, a.numel() if isinstance(a, Tensor) else 0)
        return out


@pytest.mark.parametrize("mask", [None, "a row"])
@pytest.mark.parametrize("causal", [False, True])
def test_memory_is_linear_in_length(mask, causal, monkeypatch):
    largest = []
    for most in ("_LOGITS_OF_A_HEAD", "_LOGITS_OF_SEVERAL"):
        monkeypatch.setattr(attention, most, 2**14)
    for length in (512, 1024):
        primals, tangents = draw(9, (1, 2), length, length, 2, 2, torch.float32)
        row = None if mask is None or causal else torch.ones(1, length, dtype=torch.bool)
        with Largest() as seen:
            value, _ = attention_with_tangent(
                *(p.requires_grad_() for p in primals), *tangents, mask=row, causal=causal
            )
            value.sum().backward()
        largest.append(seen.elements)
    assert largest[0] <= 64 * 512 and largest[1] <= 2 * largest[0]


def test_nothing_is_recorded_under_no_grad_and_the_tangent_never_is():
    primals, tangents = draw(10)
    for a in (*primals, *tangents):
        a.requires_grad_()
    _, tangent = attention_with_tangent(*primals, *tangents)
    assert not tangent.requires_grad
    with torch.no_grad():
        value, _ = attention_with_tangent(*primals, *tangents)
    assert not value.requires_grad


def test_autocast_does_what_it_does_to_attention():
    primals, tangents = draw(11, dtype=torch.float32)
    mask = draw_mask(11, "added", 7, 9, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, tangent = attention_with_tangent(*primals, *tangents, mask=mask)
        assert torch.equal(value, nnf.scaled_dot_product_attention(*primals, attn_mask=mask))
    _, derivative = expected([p.double() for p in primals], [t.double() for t in tangents], mask)
    assert value.dtype is tangent.dtype is torch.bfloat16
    assert relative(tangent, derivative) < 0.02


def test_shapes_that_do_not_fit_raise(unchecked):
    (q, k, v), (tq, tk, tv) = draw(12)
    mask = torch.ones(7, 9, dtype=torch.bool)
    wrong = [
        (q, k, v, tk, tk, tv),
        (q, k, v[..., :5, :], tq, tk, tv[..., :5, :]),
        (q, k[..., :2], v, tq, tk[..., :2], tv),
        (q, k[:, :2], v, tq, tk[:, :2], tv),
        (q, k, v, tq, tk, tv, mask[:, :5]),
        (q, k, v, tq, tk, tv, mask.expand(4, 3, 7, 9)),
        (q, k, v, tq, tk, tv, mask.long()),
    ]
    with unchecked():
        for arguments in wrong:
            with pytest.raises(ValueError, match=r"shapes|mask"):
                attention_with_tangent(*arguments)


# pairs


def sdpa(**options):
    return lambda q, k, v: nnf.scaled_dot_product_attention(q, k, v, **options)


CALLS = {
    "plain": sdpa(),
    "causal": sdpa(is_causal=True),
    "scaled": sdpa(scale=0.7),
    "boolean": sdpa(attn_mask=torch.arange(63).reshape(7, 9) % 3 > 0),
    "added": sdpa(attn_mask=torch.linspace(-2, 2, 63, dtype=torch.float64).reshape(7, 9)),
    "grouped": lambda q, k, v: nnf.scaled_dot_product_attention(
        q.repeat(1, 2, 1, 1), k, v, enable_gqa=True, is_causal=True
    ),
    "by position": lambda q, k, v: nnf.scaled_dot_product_attention(q, k, v, None, 0.0, True),
    "three axes": lambda q, k, v: nnf.scaled_dot_product_attention(q[0], k[0], v[0]),
    "plain keys": lambda q, k, v: nnf.scaled_dot_product_attention(q, torch.ones_like(k), V),
    "keys alone": lambda q, k, v: nnf.scaled_dot_product_attention(V[..., :7, :], k, V),
    "values alone": lambda q, k, v: nnf.scaled_dot_product_attention(V[..., :7, :], V, v),
}
V = draw(13)[0][2]


@pytest.mark.parametrize("name", CALLS)
def test_pairs_take_attention_in_one_rule(name, monkeypatch):
    for room in ("pair", "kernels"):
        monkeypatch.setattr(
            f"trigbench.core.pairs.{room}.fall_back", lambda func, *_: pytest.fail(f"{func} has no rule")
        )
    primals, tangents = draw(14)
    inputs = [p.requires_grad_() for p in primals]
    value, tangent = value_and_tangent(CALLS[name], primals, tangents)
    other, derivative = value_and_tangent(CALLS[name], primals, tangents, "func")
    torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, derivative, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(value, inputs), gradients(other, inputs), rtol=1e-12, atol=1e-12)


def test_a_moving_mask_is_followed_too():
    primals, tangents = draw(15)
    scores, moving = draw(16, (), 7, 9, 4, 4)

    def function(q, k, v, a, b):
        return nnf.scaled_dot_product_attention(q, k, v, attn_mask=a @ b.mT)

    both = ((*primals, *scores[:2]), (*tangents, *moving[:2]))
    with pytest.warns(pairs.FallbackWarning):
        _, tangent = value_and_tangent(function, *both)
    _, derivative = value_and_tangent(function, *both, "func")
    torch.testing.assert_close(tangent, derivative, rtol=1e-12, atol=1e-12)


def test_dropout_draws_one_mask_for_value_and_tangent():
    (q, k, v), (tq, tk, tv) = draw(17, queries=30, keys=30)
    torch.manual_seed(3)
    with pytest.warns(pairs.FallbackWarning):
        value, tangent = value_and_tangent(sdpa(dropout_p=0.4), (q, k, v), (tq, tk, tv))
    ends = []
    for step in (1e-6, -1e-6):
        torch.manual_seed(3)
        with sdpa_kernel(SDPBackend.MATH):
            ends.append(sdpa(dropout_p=0.4)(q + step * tq, k + step * tk, v + step * tv))
    torch.testing.assert_close(value, sum(ends) / 2, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(tangent, (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-6)
    assert relative(value, sdpa()(q, k, v)) > 0.1


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_multihead_attention_needs_no_fallback(weights, training, monkeypatch):
    torch.manual_seed(4)
    module = nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64).train(training)
    (x, y, _), (dx, dy, _) = draw(18, (2,), 7, 9, 12, 12)
    padding = torch.arange(18).reshape(2, 9) % 5 == 0
    for room in ("pair", "kernels"):
        monkeypatch.setattr(
            f"trigbench.core.pairs.{room}.fall_back", lambda func, *_: pytest.fail(f"{func} has no rule")
        )

    def function(x, y):
        return module(x, y, y, need_weights=weights, key_padding_mask=None if weights else padding)[0]

    value, tangent = value_and_tangent(function, (x, y), (dx, dy))
    other, derivative = value_and_tangent(function, (x, y), (dx, dy), "func")
    torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, derivative, rtol=1e-12, atol=1e-12)
    parameters = list(module.parameters())
    torch.testing.assert_close(gradients(value, parameters), gradients(other, parameters), rtol=1e-12, atol=1e-12)


def test_the_example_that_calls_it_alone_is_short_and_right(capsys: pytest.CaptureFixture[str]) -> None:
    example = ROOT / "examples/attention_alone.py"
    assert len(example.read_text().splitlines()) < 35
    found = runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.startswith("loss ")
    torch.manual_seed(5)
    layer, x, dx = found["Attention"](8).double(), *torch.randn(2, 2, 5, 8, dtype=torch.float64)

    def formula(x):
        q, k, v = layer.qkv(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        return layer.out(written_out(q, k, v).transpose(1, 2).flatten(2))

    value, tangent = layer(x, dx)
    other, derivative = torch.func.jvp(formula, (x,), (dx,))  # type: ignore
    assert not tangent.requires_grad
    torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, derivative, rtol=1e-12, atol=1e-12)
    parameters = list(layer.parameters())
    torch.testing.assert_close(gradients(value, parameters), gradients(other, parameters), rtol=1e-12, atol=1e-12)


# the kernel: in Triton's interpreter where there is no GPU; a process of its own, as Triton reads its
# settings at import and pytest's shape checks would wrap the kernel

KERNELS = [
    # batch and heads, queries, keys, dim, mask, causal, which tangents are None
    ((1, 2), 21, 35, 16, "none", False, ()),
    ((1, 1), 33, 33, 40, "none", True, ()),
    ((1, 1), 18, 34, 16, "none", True, ()),
    ((1, 1), 34, 18, 16, "none", True, ()),
    ((2, 2), 18, 17, 24, "boolean", False, ()),
    ((1, 2), 18, 35, 24, "added", False, ()),
    ((1, 1), 21, 35, 24, "both", False, ()),
    ((1, 1), 1, 1, 16, "none", False, ()),
    ((1, 1), 19, 17, 256, "none", False, ()),
    *[((1, 1), 19, 17, 16, "none", False, still) for still in [(0,), (1,), (2,), (0, 1), (1, 2)]],
]
TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def check_kernel(device: str) -> None:
    """Against the formula in float64; what the suite runs in another process."""
    kernel = importlib.import_module("trigbench.core.attention_triton")
    for dtype in (torch.float32, torch.float16) if device == "cpu" else TOLERANCES:  # no bfloat16 in the interpreter
        for batch, queries, keys, dim, kind, causal, still in KERNELS[:: 1 if dtype is torch.float32 else 3]:
            primals, tangents = draw(20, batch, queries, keys, dim, dim, dtype, device)
            tangents = [None if i in still else t for i, t in enumerate(tangents)]
            mask = draw_mask(21, kind, batch[1], queries, keys, dtype=dtype, device=device)
            inputs = [p.requires_grad_() for p in primals]
            assert kernel.covers(*primals, *tangents, mask, causal)
            value, tangent = kernel.value_and_tangent(*primals, *tangents, mask, causal, dim**-0.5)
            wide = [p.detach().double().requires_grad_() for p in primals]
            moves = [None if t is None else t.double() for t in tangents]
            formula, derivative = expected(wide, moves, mask, causal)
            named = f"{dtype} {(batch, queries, keys, dim, kind, causal, still)}"
            for own, other in zip(
                (value, tangent, *gradients(value, inputs)),
                (formula, derivative, *gradients(formula, wide)),
                strict=True,
            ):
                assert own.dtype is dtype and own.isfinite().all(), named
                assert (own - other).norm() <= TOLERANCES[dtype] * (1 + other.norm()), named
            assert not tangent.requires_grad
    check_kernel_on_what_is_common_to_all_keys(kernel, device)
    check_what_the_kernel_leaves_to_torch(kernel, device)
    check_that_a_traced_graph_holds_the_kernels(kernel, device)


def check_kernel_on_what_is_common_to_all_keys(kernel, device: str) -> None:
    """Differences of 1 between logits' tangents of 1e5 survive half precision."""
    (q, k, v), tangents = draw(22, (1, 1), 8, 40, 16, 16, torch.float32, device)
    half = [a.half() for a in (q, k / 8 + 500, v, 100 * torch.ones_like(q) + tangents[0], *tangents[1:])]
    _, tangent = kernel.value_and_tangent(*half, None, False, 0.25)
    wide = [a.double() for a in half]
    assert relative(tangent, expected(wide[:3], wide[3:])[1]) < 0.01


def check_that_a_traced_graph_holds_the_kernels(kernel, device: str) -> None:
    """A step that was traced with some numbers is right for others, as core.compiled needs it."""

    def step(q, k, v, tangents):
        leaves = [a.detach().requires_grad_() for a in (q, k, v)]
        value, tangent = kernel.value_and_tangent(*leaves, *tangents, None, True, 0.25)
        return tangent, *torch.autograd.grad((value * (value.detach() + tangent)).sum(), leaves)

    first, others = ((*p, t) for p, t in (draw(s, (1, 2), 18, 18, 16, 16, torch.float32, device) for s in (24, 25)))
    graph = make_fx(step)(*first)
    called = {str(node.target) for node in graph.graph.nodes if "trigbench" in str(node.target)}
    assert called == {"trigbench.attention.default", "trigbench.attention_backward.default"}
    for own, other in zip(graph(*others), step(*others), strict=True):  # type: ignore
        torch.testing.assert_close(own, other)


def check_what_the_kernel_leaves_to_torch(kernel, device: str) -> None:
    primals, tangents = draw(23, (1, 1), 4, 4, 16, 16, torch.float32, device)
    q, k, v = primals
    mask = torch.ones(4, 4, device=device)
    assert kernel.covers(*primals, *tangents, mask, False)
    for rest in [
        (*tangents, mask, True),
        (*tangents, mask.double(), False),
        (*tangents, mask.clone().requires_grad_(), False),
        (None, None, None, None, False),
        (tangents[0].half(), *tangents[1:], None, False),
    ]:
        assert not kernel.covers(*primals, *rest)
    assert not kernel.covers(*(a.double() for a in (*primals, *tangents)), None, False)
    assert not kernel.covers(*(a[..., :8] for a in (*primals, *tangents)), None, False)
    assert not kernel.covers(q, k, v[..., :8], *tangents[:2], None, None, False)
    if device != "cpu":
        found = attention._implementation(*primals, *tangents, None, False)
        assert found is kernel.value_and_tangent


def needs_triton() -> None:
    if importlib.util.find_spec("triton") is None:
        reason = "triton is not installed (pip install 'trigbench[kernels]')"
        pytest.fail(reason) if os.environ.get("CI") and sys.platform == "linux" else pytest.skip(reason)


def in_another_process(code: str, **environment: str) -> None:
    needs_triton()
    root = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, "-c", f"import tests.core.test_attention as t; {code}"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_the_kernel_equals_the_formula_in_the_interpreter():
    in_another_process("t.check_kernel('cpu')", TRITON_INTERPRET="1")


@pytest.mark.slow
def test_the_kernels_are_compiled_for_gpus_of_three_architectures(tmp_path: Path) -> None:
    needs_triton()
    python = warm.python()
    env = environment(python) | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    command = [python, "-m", "tests.core.ahead_of_time"]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    made = [line.split()[:2] for line in run.stdout.splitlines()]
    assert {architecture for architecture, kernel in made if kernel == "_kernel"} == {"sm_80", "sm_90", "sm_100"}
    assert {architecture for architecture, kernel in made if kernel != "_kernel"} == {"sm_80", "sm_90", "sm_100"}
    assert {kernel for _, kernel in made} == {"_kernel", "_of_keys", "_of_queries"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_kernel_equals_the_formula_on_a_gpu():
    in_another_process("t.check_kernel('cuda')", TRITON_INTERPRET="0")
