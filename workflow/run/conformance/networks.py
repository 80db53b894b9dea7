"""Whether a network is what training, sampling and judging take it for: any module that is called (x, t, condition).

Checked in evaluation, with parameters moved off their start, at which the last layer is often zero.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trigbench.core.condition import Condition
from trigbench.core.constants import SIGMA_D, SIGMA_MIN
from trigbench.core.fields import bind
from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.pairs import FallbackWarning
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Field, consistency_map
from trigbench.workflow.data.randomness import generator, seeded
from trigbench.workflow.machine.named import takes
from trigbench.workflow.run.conformance.finding import Check, Fault, Finding, Unfit, by_chance, findings, same_bits
from trigbench.workflow.run.weights import kept_of, unkept

BATCH = 6
MOVED = 0.1
"""Standard deviation of what is added to every parameter."""
DIFFERENCES = (1e-4, 1e-5, 1e-3, 1e-6)
"""By which point and time are moved for derivatives: one step at least is neither too long nor lost in rounding."""
TOLERANCE = 1e-3
CALLED = "is called"
TANGENT = "docs/tangent.md says what is followed; or set the arm's tangent_method"


@dataclass(frozen=True)
class TriedNetwork:
    """A way to make the network, and what it is for."""

    make: Callable[..., Any]
    settings: Mapping[str, Any]
    shape: tuple[int, ...]
    classes: int
    sigma_d: float = SIGMA_D

    def network(self, seed: int = 0, moved: bool = True, dtype: torch.dtype = torch.float64) -> nn.Module:
        """As a run of that seed makes it, in evaluation."""
        about = {"shape": self.shape, "classes": self.classes, "sigma_d": self.sigma_d, "told": ()}
        given = {name: value for name, value in about.items() if takes(self.make, name)}
        with seeded(seed, "initial parameters"):
            network = self.make(**given, **self.settings)
        if not isinstance(network, nn.Module):
            problem = f"it makes a {type(network).__name__}"
            raise Fault(problem, "let it make a torch.nn.Module, called (x, t, condition)")
        network = network.to(dtype).eval()
        g = generator("conformance", "moved", seed)
        for parameter in network.parameters() if moved else ():
            drawn = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
            parameter.data += MOVED * drawn.to(parameter.dtype)
        return network

    def field(self, network: nn.Module, rows: slice = slice(None)) -> Field:
        """The network as a field, told labels where there are classes."""
        return bind(network, condition=Condition(label=self.labels()[rows] if self.classes else None))

    def labels(self) -> Tensor:
        """(BATCH,) of every class in turn."""
        return torch.arange(BATCH) % max(self.classes, 1)

    def points(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """x of (BATCH, *shape) and t of (BATCH,), from nearly data to nearly noise."""
        x = torch.randn(BATCH, *self.shape, generator=generator("conformance", "points"), dtype=torch.float64)
        return x.to(dtype), torch.linspace(0.05, 1.5, BATCH, dtype=torch.float64)


def check_network(
    make: Callable[..., Any],
    shape: Sequence[int],
    classes: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """All that holds of the networks which `make` makes, of points of `shape`, told labels of so many classes.

    `make` is given `settings` by name, and what it takes of shape, classes, sigma_d and told, as a study gives them.
    """
    tried = TriedNetwork(make, settings or {}, tuple(shape), classes)
    checks = {
        CALLED: _called, "keeps float64": _double, "starts from its seed": _start, "leaves nothing to chance": _chance,
        "leaves its inputs alone": _inputs, "rows do not mix": _rows, "exact tangent": _tangent,
        "gradients reach its parameters": _gradients, "boundary": _boundary, "labels": _labels, "state is kept": _kept,
    }  # fmt: skip
    return findings({name: _of(check, tried) for name, check in checks.items()}, first=CALLED)


def is_called(make: Callable[..., Any], shape: Sequence[int], classes: int, settings: Mapping[str, Any]) -> bool:
    """Whether it makes a network that takes points of that shape."""
    tried = TriedNetwork(make, settings, tuple(shape), classes)
    return findings({CALLED: lambda: _called(tried)})[0].state == "passed"


def _of(check: Callable[[TriedNetwork], str], tried: TriedNetwork) -> Check:
    return lambda: check(tried)


def _value(tried: TriedNetwork, dtype: torch.dtype) -> Tensor:
    network, (x, t) = tried.network(dtype=dtype), tried.points(dtype)
    told = Condition(label=tried.labels() if tried.classes else None)
    values: list[Any] = []
    network.register_forward_hook(lambda *found: values.append(found[-1]))  # before a field makes it of x's dtype
    with torch.no_grad():
        bind(network, condition=told)(x, t)
    value = values[-1]
    if not isinstance(value, Tensor) or value.shape != x.shape:
        said = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise Fault(f"it gives {said} for points of {tuple(x.shape)}", "let it return F(x, t), of the shape of x")
    if not bool(value.isfinite().all()):
        raise Fault("it gives numbers that are not finite", "look for a division or logarithm at t from 0.05 to 1.5")
    if value.dtype != dtype:
        raise Fault(f"it gives {value.dtype} for {dtype}", "keep the dtype of x: let no constant or buffer change it")
    return value


def _called(tried: TriedNetwork) -> str:
    _value(tried, torch.float32)
    count = sum(p.numel() for p in tried.network(moved=False).parameters())
    return f"(x, t, condition) -> F of x's shape, float32, finite; {count} parameters"


def _double(tried: TriedNetwork) -> str:
    double, single = _value(tried, torch.float64), _value(tried, torch.float32)
    error = float((double - single).norm() / double.norm().clamp(min=1e-12))
    if error > 0.01:
        raise Fault(f"float32 and float64 differ by {error:.1%}", "look for a subtraction of nearly equal numbers")
    return f"and float32 agrees to {error:.1g}"


def _start(tried: TriedNetwork) -> str:
    first, again, other = (kept_of(tried.network(seed, moved=False)) for seed in (0, 0, 1))
    if any(not same_bits(first[name], again[name]) for name in first):
        remedy = "draw initial parameters from torch's, NumPy's or Python's global generator, which runs seed"
        raise Fault("made twice from one seed it differs", remedy)
    if all(same_bits(first[name], other[name]) for name in first):
        raise Fault("another seed gives the same parameters", "draw them; do not seed a generator yourself")
    return "same seed, same bits; another seed, others"


def _chance(tried: TriedNetwork) -> str:
    network, (x, t) = tried.network(), tried.points()
    with torch.no_grad():
        one, other = (by_chance(lambda: tried.field(network)(x, t), seed) for seed in (0, 1))
    if not same_bits(one, other):
        raise Fault("in evaluation two calls differ", "draw in training alone (self.training), as torch's Dropout does")
    return "in evaluation"


def _inputs(tried: TriedNetwork) -> str:
    network, (x, t) = tried.network(), tried.points()
    told, given = tried.labels(), (x.clone(), t.clone())
    with torch.no_grad():
        bind(network, condition=Condition(label=told if tried.classes else None))(x, t)
    for name, now, before in (("x", x, given[0]), ("t", t, given[1]), ("labels", told, tried.labels())):
        if not torch.equal(now, before):
            raise Fault(f"it changes {name}", "write to a copy: no `+=` and no method that ends in _ on an input")
    return "x, t and labels"


def _rows(tried: TriedNetwork) -> str:
    network, (x, t) = tried.network(), tried.points()
    with torch.no_grad():
        whole = tried.field(network)(x, t)
        parts = [slice(0, 1), slice(1, BATCH)]
        single = [tried.field(network, part)(x[part], t[part]) for part in parts]
    apart = (torch.cat(single) - whole).abs().max() / whole.abs().max().clamp(min=1e-12)
    if float(apart) > 1e-6:
        remedy = "let no operation go over the first axis; samples are drawn in batches of any size"
        raise Fault(f"a row alone gives another value than in a batch, by {float(apart):.1g}", remedy)
    return "a row is the same alone, and in any batch"


def _tangent(tried: TriedNetwork) -> str:
    network, (x, t) = tried.network(), tried.points()
    field = tried.field(network)
    g = generator("conformance", "direction")
    v, speed = torch.randn(x.shape, generator=g, dtype=x.dtype), torch.rand(BATCH, generator=g, dtype=t.dtype) + 0.5
    said, worst = "", 0.0
    still = (torch.zeros_like(v), torch.zeros_like(speed))
    for name, along in (("x", (v, still[1])), ("t", (still[0], speed))):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", FallbackWarning)
            try:
                _, tangent = value_and_tangent(field, (x, t), along)
            except (RuntimeError, TypeError, NotImplementedError) as error:
                problem = f"its derivative in {name} cannot be followed: {str(error).splitlines()[0]}"
                raise Fault(problem, TANGENT) from error
        if any(issubclass(one.category, FallbackWarning) for one in warned):
            said = "; by torch.func.jvp, which is slower (docs/tangent.md)"
        errors: list[float] = []
        while len(errors) < len(DIFFERENCES) and min(errors, default=1.0) > TOLERANCE:
            errors.append(_apart(field, (x, t), along, tangent, DIFFERENCES[len(errors)]))
        error = min(errors)
        worst = max(worst, error)
        if error > TOLERANCE:
            problem = f"its tangent in {name} is {error:.1%} from the difference of two values"
            raise Fault(problem, "look for detach, rounding or steps on the way from it to the output, or report a bug")
    return f"in x and t; {worst:.1g} from differences{said}"


@torch.no_grad()
def _apart(field: Field, at: Sequence[Tensor], along: Sequence[Tensor], tangent: Tensor, step: float) -> float:
    """How far a tangent is from the central difference of that step, of the size of both value and derivative."""
    up, down = (field(*(p + s * v for p, v in zip(at, along, strict=True))) for s in (step, -step))
    expected = (up - down) / (2 * step)
    return float((tangent - expected).norm() / (expected.norm() + up.norm()).clamp(min=1e-12))


def _gradients(tried: TriedNetwork) -> str:
    network, (x, t) = tried.network().train(), tried.points()
    by_chance(lambda: tried.field(network)(x, t).square().mean().backward(), 0)
    named = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    if not named:
        raise Fault("it has no parameters that learn", "register them: nn.Parameter, or modules, as attributes of it")
    lost = [name for name, p in named.items() if p.grad is None or not bool(p.grad.any())]
    bad = [name for name, p in named.items() if p.grad is not None and not bool(p.grad.isfinite().all())]
    if bad:
        raise Fault(f"gradients are not finite: {', '.join(bad[:3])}", "look for a root or norm at 0")
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        remedy = "use them in forward, or do not make them; with detach or no_grad on the way nothing learns"
        raise Fault(f"no gradient reaches {', '.join(lost[:3])}{more}", remedy)
    return f"all {len(named)} of them"


def _boundary(tried: TriedNetwork) -> str:
    network, (x, _) = tried.network(), tried.points()
    field, ends = tried.field(network), (math.atan(SIGMA_MIN / tried.sigma_d), largest_angle(tried.sigma_d))
    with torch.no_grad():
        values = [field(x, torch.full((BATCH,), end, dtype=torch.float64)) for end in ends]
        mapped = consistency_map(field, x, torch.zeros(BATCH, dtype=torch.float64))
    for end, value in zip(ends, values, strict=True):
        if not bool(value.isfinite().all()):
            raise Fault(f"it has no value at t = {end:.6g}", "let it have one from atan(sigma_min / sigma_d) to t_max")
    if not bool(mapped.isfinite().all()):
        raise Unfit("it has no value at t = 0, as networks that are told ln(sigma); nothing evaluates it there")
    if not torch.equal(mapped, x):
        raise Fault("the map at t = 0 is not the identity", "return F alone: the map is cos(t) x - sin(t) F")
    return "the map at t = 0 is the identity, and F is finite up to t_max"


def _labels(tried: TriedNetwork) -> str:
    if not tried.classes:
        raise Unfit("it was made without classes; try --classes 10")
    network, (x, t) = tried.network(), tried.points()
    with torch.no_grad():
        every = [
            bind(network, condition=Condition(torch.full((BATCH,), label)))(x, t) for label in range(tried.classes)
        ]
    if any(same_bits(every[0], other) for other in every[1:]):
        raise Fault("two labels give the same value", "use the third argument: (batch,) whole numbers, or None")
    try:
        with torch.no_grad():
            bind(network, condition=Condition(torch.full((BATCH,), tried.classes)))(x, t)
            bind(network)(x, t)
    except Exception:
        return f"{tried.classes} tell apart; it knows none for no label, which label_dropout and guidance need"
    return f"{tried.classes} tell apart, and there is one for none"


def _kept(tried: TriedNetwork) -> str:
    network = tried.network(moved=False, dtype=torch.float32)
    if lost := unkept(network):
        remedy = "keep state in dense, persistent buffers, or register them with persistent=False (docs/networks.md)"
        raise Fault(f"its state holds what is no dense parameter or buffer: {', '.join(lost)}", remedy)
    return "in parameters and persistent buffers"
