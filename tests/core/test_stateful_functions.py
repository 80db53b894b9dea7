"""Functions that hold state or TorchScript: every evaluation of a derivative sees the same, or is refused."""

import copy
import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from trigbench.core.fields import bind
from trigbench.core.forward_mode import TangentMethod, value_and_tangent
from trigbench.core.holdings import copied, held_by
from trigbench.core.pairs import FallbackWarning

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def points(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, dx = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    return x, dx


class Gated(nn.Module):
    """x -> tanh(W x) x."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4).double()

    def forward(self, x):
        return torch.tanh(self.layer(x)) * x


class AroundIt(nn.Module):
    """A network with one part in TorchScript."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x):
        return self.part(x.sin())


def gate(x: Tensor, w: Tensor) -> Tensor:
    """What is often scripted by a decorator."""
    return torch.sigmoid(x * w) * x


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    scripted_gate = torch.jit.script(gate)


class CallsAScript(nn.Module):
    """A network whose class calls a scripted function by its global name."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(4, dtype=torch.float64))

    def forward(self, x):
        return scripted_gate(x * 2, self.w)


def scripted(kind: str) -> Any:
    """A function with TorchScript in it, and its plain twin."""
    torch.manual_seed(0)
    module = Gated()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if kind == "traced":
            return torch.jit.trace(module, points()[0]), module
        script = torch.jit.script(module)
    w = torch.ones(4, dtype=torch.float64, requires_grad=True)
    return {
        "module": (script, module),
        "part": (AroundIt(script), AroundIt(module)),
        "method": (script.forward, module),
        "closure": (lambda x: script(2 * x), lambda x: module(2 * x)),
        "field": (lambda x: bind(AroundIt(script))(x, x[:, 0]), module),
        "function": (lambda x: scripted_gate(x, w), lambda x: gate(x, w)),
        "by name": (CallsAScript(), lambda x: gate(2 * x, torch.ones_like(x))),
    }[kind]


SCRIPTED = ["module", "part", "method", "closure", "function", "by name", "traced"]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("method", ["auto", "pairs", "func", "two_pass"])
@pytest.mark.parametrize("kind", SCRIPTED)
def test_torchscript_is_refused_by_name_wherever_a_function_holds_it(kind, method):
    function, _ = scripted(kind)
    x, dx = points()
    for _ in range(3):  # it is from the second call on that forward mode loses tangent and gradient
        with pytest.raises(RuntimeError, match=r"(?s)(Gated|gate|forward).* is TorchScript.*method='difference'"):
            value_and_tangent(function, (x,), (dx,), method)


@pytest.mark.parametrize("kind", SCRIPTED)
def test_differences_of_torchscript_are_right_at_every_call_and_train(kind):
    function, plain = scripted(kind)
    x, dx = points()
    expected_value, expected = torch.func.jvp(plain, (x,), (dx,))[:2]
    for _ in range(4):
        value, tangent = value_and_tangent(function, (x,), (dx,), "difference")
        assert value.requires_grad
        torch.testing.assert_close(value, expected_value)
        torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-8)


# --- state ----------------------------------------------------------------------------------------


class Counts(nn.Module):
    """Buffers, attributes and counters that the output reads and writes, in place and by assignment."""

    mean: Tensor
    moved: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4).double()
        self.register_buffer("mean", torch.zeros(4, dtype=torch.float64))
        self.register_buffer("moved", torch.ones(4, dtype=torch.float64))
        self.scale, self.calls = torch.ones(4, dtype=torch.float64), 0

    def forward(self, x, t=None, condition=None):
        with torch.no_grad():
            self.mean.mul_(0.5).add_(1.0)
            self.scale.mul_(3.0)
        self.calls += 1
        self.moved = 2 * self.moved
        return (self.layer(x) + self.mean) * self.scale * self.moved * self.calls


def state(module: nn.Module) -> dict[str, Tensor]:
    found = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    own = {name: torch.as_tensor(v).clone() for name, v in vars(module).items() if isinstance(v, int | Tensor)}
    return found | own


def at_some_time(field, x):
    """A field as a function of points alone."""
    return field(x, x[:, 0])


HOLDERS = {
    "module": lambda module: module,
    "closure": lambda module: lambda x: module(x) * 1,
    "method": lambda module: partial(module.forward, condition=None),
    "list": lambda module: lambda x, parts=(module,): parts[0](x),
    "field": lambda module: lambda x: bind(module)(x, x[:, 0]),
    "bound field": lambda module: partial(at_some_time, bind(module, dict(module.named_parameters()))),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("method", ["pairs", "auto", "difference"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_state_that_the_output_reads_and_writes_is_written_once_and_seen_alike(holder, method):
    x, dx = points()
    torch.manual_seed(0)
    plain, module = Counts(), Counts()
    module.load_state_dict(plain.state_dict())
    for step in (1, 2):
        expected = HOLDERS[holder](plain)(x)
        value, tangent = value_and_tangent(HOLDERS[holder](module), (x,), (dx,), method)
        torch.testing.assert_close(value, expected)
        exact = 3.0**step * 2.0**step * step * nnf.linear(dx, module.layer.weight.detach())
        torch.testing.assert_close(tangent, exact, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(state(module), state(plain))


def test_a_module_that_the_function_hides_is_found_when_it_is_called():
    x, dx = points()
    norm, other = (nn.BatchNorm1d(4).double() for _ in range(2))
    box = SimpleNamespace(deep=SimpleNamespace(parts={"norm": norm}))
    value, _ = value_and_tangent(lambda x: box.deep.parts["norm"](x) * 1, (x,), (dx,), "difference")
    torch.testing.assert_close(value, other(x))
    torch.testing.assert_close(state(norm), state(other))


@pytest.mark.parametrize("method", ["pairs", "auto", "difference"])
def test_running_statistics_and_power_iterations_are_those_of_one_evaluation(method):
    x, dx = points()
    for make in (lambda: nn.BatchNorm1d(4), lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))):
        torch.manual_seed(0)
        plain = make().double()
        module = make().double()
        module.load_state_dict(plain.state_dict())
        expected = plain(x)
        value, _ = value_and_tangent(module, (x,), (dx,), method)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(state(module), state(plain))


def test_weights_that_are_given_by_name_are_not_copied_and_not_written_to_in_silence():
    x, dx = points()
    module = Counts()
    weights = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    other = torch.ones(4, dtype=torch.float64)

    def writes(x):
        weights["layer.bias"].add_(1.0)
        return bind(module, weights)(x, x[:, 0])

    held = held_by(lambda x: bind(module, weights)(x, x[:, 0]) * other)
    copies = {id(tensor) for tensor, _, copy in copied(held).tensors if copy is not None}
    assert id(other) in copies and not copies & {id(weight) for weight in weights.values()}
    with pytest.raises(RuntimeError, match="writes to weights in place"):
        value_and_tangent(writes, (x,), (dx,), "difference")


class Remembers(nn.Module):
    """Keeps what it saw: as an attribute, as a buffer, and written into a buffer."""

    mean: Tensor
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4, dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(6, 4, dtype=torch.float64))
        self.last = torch.zeros(6, 4, dtype=torch.float64)

    def forward(self, x):
        y = x.sin() * (1 + self.last + self.mean) + self.sums
        with torch.no_grad():
            self.mean = 0.5 * self.mean + y.mean(0)
            self.sums.add_(y)
            self.sums[0] = y[0]
            self.last = 2 * y
        return y + self.sums


def test_what_a_network_keeps_of_an_evaluation_has_no_tangent_in_the_next():
    x, dx = points()
    plain, module = Remembers(), Remembers()
    for _ in range(3):
        before = [state(plain)[name] for name in ("last", "mean", "sums")]
        value, tangent = value_and_tangent(module, (x,), (dx,), "pairs")
        torch.testing.assert_close(value, plain(x))
        along = dx * x.cos() * (1 + before[0] + before[1])
        exact = 2 * along
        torch.testing.assert_close(tangent, exact)
        assert all(type(kept) is Tensor for kept in (module.mean, module.sums, module.last))
        torch.testing.assert_close(state(module), state(plain))


class Caches(nn.Module):
    """Keeps what it computed where no module looks: in a dict, a list, an object, a closure."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4).double()
        self.dict, self.list, self.box = {}, [], SimpleNamespace(h=None)
        kept = None

        def swap(h):
            nonlocal kept
            kept, old = h, kept
            return old

        self.swap = swap

    def forward(self, x):
        h = self.layer(x).relu_() + 1.0
        h.mul_(2)
        olds = [self.dict.get("h"), *self.list, self.box.h, self.swap(h)]
        self.dict["h"], self.list, self.box.h = h, [h], h
        return h * h + sum(torch.stack([h, old])[1].sin() * x * old for old in olds if old is not None)


@pytest.mark.parametrize("method", ["auto", "pairs"])
def test_what_a_network_keeps_out_of_sight_is_its_value_in_the_next_evaluation(method):
    x, dx = points()
    torch.manual_seed(0)
    plain, module = Caches(), Caches()
    module.load_state_dict(plain.state_dict())
    for _ in range(3):
        expected = value_and_tangent(plain, (x,), (dx,), "func")
        torch.testing.assert_close(value_and_tangent(module, (x,), (dx,), method), expected)
    output = module(x)
    assert type(output) is Tensor and output.requires_grad
    torch.testing.assert_close(output, plain(x))
    _, tangent = value_and_tangent(lambda x: module.box.h, (x,), (dx,), method)
    assert not tangent.any()


def test_a_fall_back_begins_from_the_state_and_the_draws_of_before():
    layer, (x, dx) = nn.Linear(4, 4).double(), points()

    class Falls(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            x = nnf.dropout(layer(x), 0.5)
            x[:, :2] *= self.calls
            return x

    module = Falls()
    torch.manual_seed(0)
    expected = value_and_tangent(Falls(), (x,), (dx,), "func")
    left = torch.rand(1)
    torch.manual_seed(0)
    with pytest.warns(FallbackWarning, match="pairs cannot follow the function.*in-place operation mul_"):
        found = value_and_tangent(module, (x,), (dx,))
    torch.testing.assert_close(found, expected)
    assert torch.equal(torch.rand(1), left) and module.calls == 1


class Trainer:
    """No module and not called itself; it counts."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.calls = net, 0

    def field(self, x):
        self.calls += 1
        return part_in_place(self.net(x)) * self.calls


def part_in_place(h):
    first = h[:, :2]
    first *= 2
    return h


def held_by_a_trainer(net):
    trainer = Trainer(net)
    return lambda x: trainer.field(x) * 1


def held_by_a_global_dict(net):
    BY_NAME["net"] = net
    return lambda x: part_in_place(BY_NAME["net"](x))


def hidden(net):
    box = SimpleNamespace(deep=SimpleNamespace(parts={"net": net}))
    return lambda x: part_in_place(box.deep.parts["net"](x))


BY_NAME: dict[str, nn.Module] = {}


@pytest.mark.filterwarnings("ignore::trigbench.core.pairs.FallbackWarning")
@pytest.mark.parametrize(
    "holding", [lambda net: lambda x: part_in_place(net(x)), held_by_a_trainer, held_by_a_global_dict, hidden]
)
def test_a_fall_back_begins_from_the_buffers_of_before_wherever_the_network_is(holding):
    x, dx = points()
    torch.manual_seed(0)
    plain = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)).double()
    module = copy.deepcopy(plain)
    expected, found = holding(plain), holding(module)
    for _ in range(2):
        BY_NAME["net"] = plain
        right = value_and_tangent(expected, (x,), (dx,), "func")
        BY_NAME["net"] = module
        torch.testing.assert_close(value_and_tangent(found, (x,), (dx,)), right, rtol=0, atol=0)
        torch.testing.assert_close(state(module), state(plain), rtol=0, atol=0)


def test_no_fall_back_goes_on_from_a_tensor_that_the_attempt_has_changed():
    scale, (x, dx) = torch.ones(4, dtype=torch.float64), points()

    def function(x):
        scale.mul_(3.0)
        return part_in_place(x * scale)

    with pytest.raises(RuntimeError, match="in-place operation mul_") as caught:
        value_and_tangent(function, (x,), (dx,))
    assert "changed by then" in caught.value.__notes__[-1] and "method='difference'" in caught.value.__notes__[-1]
    value_and_tangent(function, (x,), (dx,), "difference")


def test_where_func_refuses_to_change_a_buffer_the_error_names_difference():
    norm, (x, dx) = nn.BatchNorm1d(4).double(), points()
    with pytest.raises(RuntimeError, match="in-place operation mul_") as caught:
        value_and_tangent(lambda x: part_in_place(norm(x)), (x,), (dx,))
    assert "method='difference'" in caught.value.__notes__[-1]
    value_and_tangent(lambda x: part_in_place(norm(x)), (x,), (dx,), "difference")


def test_a_warning_that_was_made_an_error_is_no_reason_to_fall_back():
    x, dx = points()
    with pytest.raises(FallbackWarning, match="no rule for erf"):  # warnings are errors here
        value_and_tangent(torch.erf, (x,), (dx,))


def test_what_fails_by_itself_fails_with_its_own_error():
    x, dx = points()
    methods: tuple[TangentMethod, ...] = ("auto", "pairs", "func")
    for method in methods:
        with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
            value_and_tangent(nn.Linear(5, 4).double(), (x,), (dx,), method)
        assert "nor can" not in "".join(getattr(caught.value, "__notes__", ()))
