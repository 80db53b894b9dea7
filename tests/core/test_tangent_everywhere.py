"""The table of docs/tangent.md, row by row: what has a rule, what falls back, what is refused and what works there."""

import importlib.util
import re
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, rnn
from torch.utils.checkpoint import checkpoint

from tests.core.functions_of_autograd import Inside, Jvp, JvpOfOld, Multiple, WithoutJvp, WritesInPlace
from tests.workflow import warm
from tests.workflow.conftest import environment
from trigbench.core.forward_mode import METHODS, TangentMethod, value_and_tangent
from trigbench.core.pairs import DetachWarning, FallbackWarning

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
ROOT = Path(__file__).parents[2]
Function = Callable[[Tensor], Tensor]


def made(module: nn.Module) -> nn.Module:
    """In float64, with no weight at zero."""
    generator = torch.Generator().manual_seed(2)
    for parameter in module.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.double()


LAYER, OTHER = made(nn.Linear(4, 4)), made(nn.Linear(4, 4))
WEIGHTS = nn.Parameter(torch.linspace(0.5, 2, 4, dtype=torch.float64))
STACK = torch.linspace(-1, 1, 32, dtype=torch.float64).reshape(2, 4, 4)
V = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(6, 4)
MASK = torch.tensor([[False, False, True], [False, False, False]])


def transformer(training: bool, **options: Any) -> Function:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, activation="gelu", **{"dropout": 0.0, **options})
    module = made(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).train(training)
    return lambda x: module(x.reshape(2, 3, 4), src_key_padding_mask=MASK)


def nested(x: Tensor) -> Tensor:
    """Where torch alone would pack the tokens that are not masked."""
    return ENCODER(x.reshape(2, 3, 4), src_key_padding_mask=MASK)


TOKENS = nn.TransformerEncoderLayer(4, 2, 8, activation="gelu", batch_first=True)
ENCODER = made(nn.TransformerEncoder(TOKENS, 1)).eval()


def attending() -> Function:
    module = made(nn.MultiheadAttention(4, 2, batch_first=True))
    return lambda x: module(x[None], x[None].sin(), x[None], need_weights=False)[0]


def recurrent(kind: Any, **options: Any) -> Function:
    module = made(kind(4, 3, batch_first=True, **options))
    return lambda x: module(x.reshape(2, 3, 4))[0]


def cell() -> Function:
    module = made(nn.LSTMCell(4, 3))
    return lambda x: torch.cat(module(x), 1)


def packed(kind: Any) -> Function:
    module, lengths = made(kind(4, 3, batch_first=True, bidirectional=True)), torch.tensor([2, 3])

    def function(x: Tensor) -> Tensor:
        sequences = rnn.pack_padded_sequence(x.reshape(2, 3, 4), lengths, batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(module(sequences)[0], batch_first=True, padding_value=3.0)[0]

    return function


def turned(x: Tensor) -> Tensor:
    angles = torch.polar(torch.ones(2, dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64))
    return torch.view_as_real(torch.view_as_complex(x.reshape(-1, 2, 2)) * angles).flatten(-2)


def spectra(x: Tensor) -> Tensor:
    fft = torch.fft
    lines = fft.irfft(fft.rfft(x, norm="ortho") * fft.fft(x, 3), 4) + fft.hfft(x, 4) + fft.ihfft(x, 7).imag
    planes = fft.ifft2(fft.fft2(x) * fft.fftshift(fft.fft2(x * x))).real + fft.irfft2(fft.rfft2(x), (6, 4))
    return lines + planes + fft.irfftn(fft.rfftn(x), (6, 4)) * fft.ifftn(fft.fftn(x)).real + fft.ifft(x).real


def windows(x: Tensor) -> Tensor:
    window = torch.hann_window(8, dtype=torch.float64)
    spectrum = torch.stft(x.flatten(), 8, window=window, return_complex=True)
    return torch.istft(spectrum * (1 + 2j) * spectrum.conj(), 8, window=window)


class LoRA(nn.Module):
    """As peft's layers are written: the layer's own output, and a scaled product of two thin ones beside it."""

    def __init__(self, base: nn.Module, rank: int = 2) -> None:
        super().__init__()
        self.base_layer, self.dropout, self.scaling = base.requires_grad_(False), nn.Dropout(0.3), 2.0
        self.lora_A, self.lora_B = nn.Linear(4, rank, bias=False), nn.Linear(rank, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.lora_A.weight.dtype)
        return self.base_layer(x) + self.lora_B(self.lora_A(self.dropout(x))) * self.scaling


def hooked(register: str) -> nn.Module:
    """Whose hooks double the gradient of the inner layer's output or input."""
    module = nn.Sequential(made(nn.Linear(4, 4)), nn.SiLU(), made(nn.Linear(4, 4)))
    doubled = lambda *given: tuple(2 * g for g in given[1])  # noqa: E731
    getattr(module[2], register)(doubled)
    return module


def of_several_outputs(x: Tensor) -> Tensor:
    first, second, sign = Multiple.apply(LAYER(x), 2.0)  # type: ignore
    return first * second + 0 * sign


def nest(weights: Tensor, given: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    return {"y": [(given["x"] @ weights).sin()]}


def polar(x: Tensor) -> Tensor:
    z = torch.complex(x, x.cos() + 2)
    return z.abs() * z.angle() + torch.polar(x, x).imag


def within(h: Tensor) -> Tensor:
    return LAYER(h).sin() * checkpoint(OTHER, h.cos(), use_reentrant=False)  # type: ignore


def parts_in_turn(x: Tensor) -> Tensor:
    h = LAYER(x).clone()
    h[:, :2] *= 3
    return h


def energy(x: Tensor) -> Tensor:
    y = x.detach().requires_grad_()
    return torch.autograd.grad(LAYER(y).sin().square().sum(), y, create_graph=True)[0]


def aligned(x: Tensor) -> Tensor:
    labels, lengths = torch.tensor([[1]]), (torch.tensor([6]), torch.tensor([1]))
    return torch.ctc_loss(LAYER(x)[:, None].log_softmax(-1), labels, *lengths, reduction=0).expand(2)


def scripted() -> Function:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(nn.Sequential(nn.Linear(4, 4).double(), nn.Tanh()))  # type: ignore


PEFT = importlib.util.find_spec("peft") is not None


def by_peft() -> nn.Module:
    import peft  # noqa: PLC0415 - it is seldom there  # pyright: ignore[reportMissingImports]

    settings = peft.LoraConfig(r=2, target_modules=["0", "2"], lora_dropout=0.3, init_lora_weights=False)
    return peft.get_peft_model(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)), settings).double()


RULES: dict[str, dict[str, Function]] = {
    "`nn.TransformerEncoder` and its layers, in training and in evaluation, masked or not": {
        "training": transformer(True),
        "evaluation": transformer(False, norm_first=True),
        "whose fast path is not taken": transformer(False),
        "nor tokens packed": nested,
    },
    "`nn.MultiheadAttention`, fused attention": {"attention": attending()},
    "rotary embeddings by slices or by complex numbers": {"complex": turned},
    "`torch.fft`, `stft` and `istft`": {"fft": spectra, "stft": windows},
    "`nn.LSTM`, `nn.GRU`, `nn.RNN`: several layers, both directions, dropout, packed sequences": {
        "lstm": recurrent(nn.LSTM, num_layers=2, bidirectional=True, dropout=0.5),
        "gru": recurrent(nn.GRU, num_layers=2, bidirectional=True, dropout=0.5),
        "rnn": recurrent(nn.RNN),
        "projected": recurrent(nn.LSTM, proj_size=2),
        "packed": packed(nn.LSTM),
        "packed gru": packed(nn.GRU),
    },
    "parametrizations: `weight_norm`, `spectral_norm`, `orthogonal`": {
        "weight": parametrizations.weight_norm(made(nn.Linear(4, 4))),
        "spectral": parametrizations.spectral_norm(made(nn.Linear(4, 4))).eval(),
        "orthogonal": parametrizations.orthogonal(made(nn.Linear(4, 4))),
    },
    "LoRA layers, those of `peft` too": {
        "LoRA": nn.Sequential(made(LoRA(nn.Linear(4, 4))), nn.Tanh(), made(LoRA(nn.Linear(4, 4)))),
        **({"peft": by_peft()} if PEFT else {}),
    },
    "backward hooks of modules and of tensors": {
        "of inputs": hooked("register_full_backward_hook"),
        "of outputs": hooked("register_full_backward_pre_hook"),
        "of tensors": lambda x: (h := LAYER(x).sin(), h.register_hook(lambda g: 3 * g))[0],
    },
    "a `torch.autograd.Function` that defines `jvp`, of either style": {
        "of the new style": lambda x: Jvp.apply(LAYER(x), WEIGHTS),  # type: ignore
        "of the old style": lambda x: JvpOfOld.apply(LAYER(x), WEIGHTS),  # type: ignore
        "of plain numbers": lambda x: Jvp.apply(WEIGHTS, LAYER(x)),  # type: ignore
        "of several outputs": of_several_outputs,
        "checkpointed": lambda x: checkpoint(lambda x: Jvp.apply(LAYER(x), WEIGHTS), x.sin(), use_reentrant=False),  # type: ignore
    },
    "activation checkpointing by `checkpoint(use_reentrant=False)`": {
        "checkpoint": lambda x: checkpoint(LAYER, OTHER(x).tanh(), use_reentrant=False),  # type: ignore
        "within another": lambda x: checkpoint(within, OTHER(x).tanh(), use_reentrant=False),  # type: ignore
    },
}
BY_SEVERAL = {
    "`DistributedDataParallel`, with `find_unused_parameters` and `static_graph` too": [
        "DDP", "DDP, find_unused_parameters", "DDP, static_graph",
    ],
    "FSDP2's `fully_shard`": ["FSDP2, whole", "FSDP2, by blocks"],
}  # fmt: skip
FALLBACKS: dict[str, dict[str, Function]] = {
    "`torch.vmap` of arguments that move": {
        "vmap": torch.vmap(lambda row: LAYER(row).sin()),
        "in nests and chunks": lambda x: torch.vmap(nest, (0, None), chunk_size=1)(STACK, {"x": x})["y"][0],
        "in dimensions": lambda x: torch.vmap(torch.mul, (0, 1), 1)(x, x.T.contiguous() * 2),
    },
    "attention with dropout": {"transformer": transformer(True, dropout=0.3)},
    "`nn.LSTMCell`, `nn.GRUCell`, and operations that have no rule": {
        "lstm": cell(),
        "gru": made(nn.GRUCell(4, 3)),
        "polar form": polar,
    },
}
REFUSED: dict[str, tuple[str, dict[str, Function]]] = {
    "transforms of `torch.func` (`grad`, `jvp`, `vjp`), and `vmap` over a function that closes over what moves": (
        "func",
        {
            "grad": torch.func.grad(lambda x: LAYER(x).sin().square().sum()),
            "grad of another": lambda x: torch.func.grad(lambda y: (y * LAYER(x).sin()).sum())(torch.ones_like(x) * 2),
            "vmap": lambda x: torch.vmap(lambda w: (x @ w).sin())(STACK),
            "jvp": lambda x: torch.func.jvp(lambda y: y.sin() * LAYER(x), (WEIGHTS.detach(),), (WEIGHTS.detach(),))[1],
            "vjp": lambda x: torch.func.vjp(lambda y: y * LAYER(x), V)[1](V)[0],
        },
    ),
    "writes in place to what other tensors share (`h[:, :2] *= 2`); `relu_` on a fresh tensor is fine": (
        "func",
        {"parts": parts_in_turn},
    ),
    "a `torch.autograd.Function` that writes to its inputs (`mark_dirty`)": (
        "func",
        {"in place": lambda x: WritesInPlace.apply(2 * LAYER(x))},  # type: ignore
    ),
    "a `torch.autograd.Function` without `jvp`, whatever its vmap": (
        "difference",
        {
            "without": lambda x: WithoutJvp.apply(LAYER(x), WEIGHTS),  # type: ignore
            "inside": lambda x: Inside.apply([LAYER(x)], WEIGHTS),  # type: ignore
        },
    ),
    "re-entrant checkpointing: say `use_reentrant=False`": (
        "difference",
        {"re-entrant": lambda x: checkpoint(LAYER, x, use_reentrant=True)},  # type: ignore
    ),
    "the gradient of an energy by `torch.autograd.grad`; `requires_grad_`": ("difference", {"energy": energy}),
    "what torch has no forward mode of, such as flex_attention": ("difference", {"ctc_loss": aligned}),
    "reading memory by its address; writing to `out=`": (
        "difference",
        {
            "an address": lambda x: (x.data_ptr(), LAYER(x))[1],
            "numpy": lambda x: LAYER(x) * float(x.detach().numpy().sum()),
        },
    ),
    "TorchScript, whose forward mode loses tangent and gradient from the second call on (pytorch#73972)": (
        "difference",
        {"scripted": scripted()},
    ),
    "pairs inside pairs": (
        "func",
        {"pairs": lambda x: value_and_tangent(lambda y: LAYER(y).sin(), (x,), (torch.ones_like(x),))[0]},
    ),
}


def points() -> tuple[Tensor, Tensor]:
    x, dx = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, dx


def at(function: Function, x: Tensor) -> Tensor:
    """The function with the draws that each of its evaluations makes."""
    torch.manual_seed(3)
    return function(x)


def by_differences(function: Function, x: Tensor, dx: Tensor) -> Tensor:
    """Of eighth order, which is exact to about 1e-12 here."""
    terms = zip((4 / 5, -1 / 5, 4 / 105, -1 / 280), (1, 2, 3, 4), strict=True)
    step = 2.0**-9
    moved = [c * (at(function, x + n * step * dx) - at(function, x - n * step * dx)).detach() for c, n in terms]
    return sum(moved[1:], start=moved[0]) / step


def parameters_of(function: Any) -> list[Tensor]:
    own = list(function.parameters()) if isinstance(function, nn.Module) else []
    return [p for p in own if p.requires_grad]


def assert_right(function: Function, method: TangentMethod, tolerance: float = 1e-10) -> None:
    """Value, tangent, and the gradient in the input and in parameters."""
    x, dx = points()
    torch.manual_seed(3)
    leaf = x.clone().requires_grad_()
    value, tangent = value_and_tangent(function, (leaf,), (dx,), method)
    plain = x.clone().requires_grad_()
    expected = at(function, plain)
    assert type(value) is type(tangent) is Tensor and not tangent.requires_grad
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, by_differences(function, x, dx), rtol=tolerance, atol=tolerance)
    assert tangent.abs().max() > 1e-3
    weights = parameters_of(function)
    found = torch.autograd.grad(value.square().sum(), [leaf, *weights])
    others = torch.autograd.grad(expected.square().sum(), [plain, *weights])
    for gradient, other in zip(found, others, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)


def cases(of: dict[str, dict[str, Any]]) -> list[Any]:
    return [pytest.param(f, id=f"{row[:40]}: {name}") for row, named in of.items() for name, f in named.items()]


def test_the_table_and_these_cases_are_the_same() -> None:
    text = (ROOT / "docs/tangent.md").read_text()
    table = text.partition("| what a network does |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    expected = [
        *([row, "by a rule", "`pairs`"] for row in (*RULES, *BY_SEVERAL)),
        *([row, "by a fallback", "`pairs`"] for row in FALLBACKS),
        *([row, "refused", f"`{method}`"] for row, (method, _) in REFUSED.items()),
    ]
    assert rows == expected


@pytest.mark.parametrize("function", cases(RULES))
def test_what_has_a_rule_is_exact(function: Function) -> None:  # a FallbackWarning is an error here
    assert_right(function, "pairs")


@pytest.mark.parametrize(
    "function",
    [
        recurrent(nn.GRU),
        attending(),
        lambda x: Jvp.apply(LAYER(x), WEIGHTS),  # type: ignore
        lambda x: JvpOfOld.apply(LAYER(x), WEIGHTS),  # type: ignore
        torch.vmap(lambda row: LAYER(row).sin()),
        lambda x: torch.special.erfcx(LAYER(x)),  # without a rule
    ],
)
def test_no_tangent_is_lost_where_nothing_is_recorded(function: Function) -> None:
    x, dx = points()
    expected = by_differences(function, x, dx)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        for quiet in (torch.no_grad(), torch.inference_mode()):
            with quiet:
                torch.testing.assert_close(value_and_tangent(function, (x,), (dx,), "pairs")[1], expected)


@pytest.mark.parametrize("function", cases(FALLBACKS))
def test_what_falls_back_is_exact_and_says_so(function: Function) -> None:
    with pytest.warns(FallbackWarning, match="no rule for"):
        assert_right(function, "pairs")


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(
    ("method", "function"),
    [pytest.param(m, f, id=f"{row[:40]}: {name}") for row, (m, named) in REFUSED.items() for name, f in named.items()],
)
def test_what_is_refused_names_a_way_out_that_is_right(method: TangentMethod, function: Function) -> None:
    x, dx = points()
    with pytest.raises((RuntimeError, TypeError)) as refused, warnings.catch_warnings():
        warnings.simplefilter("ignore", (FallbackWarning, DetachWarning))  # type: ignore
        value_and_tangent(function, (x,), (dx,), "pairs")
    said = "\n".join([str(refused.value), *getattr(refused.value, "__notes__", ())])
    assert method in set(re.findall(r"'(\w+)'", said)) & set(METHODS), said
    tolerance = 1e-10 if method == "func" else 1e-6
    _, tangent = value_and_tangent(function, (x,), (dx,), method)
    torch.testing.assert_close(tangent, by_differences(function, x, dx), rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.first
def test_what_ddp_and_fsdp2_wrap_is_followed_and_trains_as_one_process_does(tmp_path: Path) -> None:
    python = warm.python()
    commands = [[python, "-m", "tests.core.in_two_processes", str(rank), str(tmp_path / "store")] for rank in (0, 1)]
    told: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(c, cwd=ROOT, env=environment(python), **told) for c in commands]
    for process in started:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out.splitlines() == [name for names in BY_SEVERAL.values() for name in names]
