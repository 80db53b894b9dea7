"""What every test relies on: one thread, a fixed hypothesis profile, small random fields, known data."""

import atexit
import gc
import itertools
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor, nn

from tests import (
    COMPILED_IS_LOST,
    checked,  # noqa: F401 - it is called by name
)
from tests.workflow import warm
from trigbench.core import oracle
from trigbench.workflow.machine.warm.client import about_start

settings.register_profile(
    "suite",
    deadline=None,
    max_examples=25,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")
torch.set_num_threads(1)
with warnings.catch_warnings():  # torch 2.13's first forward-mode call scripts its decompositions and deprecates that
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


def pytest_configure(config: pytest.Config) -> None:
    """One server of warm processes for all workers.

    Nothing of what is imported and collected goes before the end, and looking through it for garbage takes long.
    """
    gc.disable()
    if not hasattr(config, "workerinput"):
        started = ExitStack()
        started.enter_context(warm.server())
        config.add_cleanup(started.close)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Say what is slow before `-m` asks, and order what it leaves."""
    _all_but_one_in_so_many_are_slow(items)
    yield
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    if processes > 1:
        _long_ones_first(items, processes)


def pytest_collection_finish() -> None:
    sys.dont_write_bytecode = COMPILED_IS_LOST
    gc.freeze()
    gc.set_threshold(20_000)  # looking through what tests made takes long, too
    atexit.register(gc.unfreeze)  # or C++ says at the end what leaked
    gc.enable()


def _all_but_one_in_so_many_are_slow(items: list[pytest.Item]) -> None:
    """Of a test's cases, as its mark `one_in` says."""
    seen = Counter[str]()
    for item in items:
        mark = item.get_closest_marker("one_in")
        if mark:
            test = item.nodeid.partition("[")[0]
            if seen[test] % mark.args[0]:
                item.add_marker("slow")
            seen[test] += 1


def _long_ones_first(items: list[pytest.Item], processes: int) -> None:
    """In several processes (`-n`) begin with what takes long, a module's in one of them.

    xdist hands out the list in even runs, and who is done takes from the end of another's; what takes long
    would otherwise be left to the end, where all wait for it. What is marked to be first is left to half of the
    processes, which have less of the rest.
    """
    waiting, slow, quick = list[pytest.Item](), list[pytest.Item](), list[pytest.Item]()
    for item in items:
        is_slow = item.get_closest_marker("slow") and not item.get_closest_marker("one_in")
        (waiting if item.get_closest_marker("first") else slow if is_slow else quick).append(item)
    piles, half = [list[pytest.Item]() for _ in range(processes)], processes // 2
    for number, item in enumerate(waiting):
        piles[number % half].append(item)
    modules = [list(group) for _, group in itertools.groupby(slow, key=lambda item: item.path)]
    turns = itertools.cycle([*range(half, processes), *range(processes)])
    for pile, module in zip(turns, sorted(modules, key=len), strict=False):  # of few tests each is long
        piles[pile].extend(module)
    rest, ordered = iter(quick), list[pytest.Item]()
    for number, pile in enumerate(piles):
        share = (len(items) - len(ordered)) // (processes - number)  # as xdist has it
        ordered += [*pile, *itertools.islice(rest, max(0, share - len(pile)))]
    items[:] = [*ordered, *rest]


@pytest.fixture(autouse=True)
def _later_starts_are_as_warm() -> Iterator[None]:
    """What is set for one test goes with it; or all that start after it would import everything anew."""
    before, variables = about_start(os.environ), dict(os.environ)
    yield
    after = about_start(os.environ)
    if after != before:  # what comes after is judged by itself
        os.environ.clear()
        os.environ.update(variables)
    assert after == before, "a variable or a limit that Python reads as it starts was left changed"


class TanhNet(nn.Module):
    """W2 tanh(W1 x + a t + b): a random two-layer field on flattened points, any shape."""

    def __init__(self, size: int, generator: torch.Generator, width: int = 16, dtype: torch.dtype = torch.float64):
        super().__init__()

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(scale * torch.randn(*shape, generator=generator, dtype=dtype))

        self.w1, self.a = normal(size, width, scale=size**-0.5), normal(width, scale=1.0)
        self.b, self.w2 = normal(width, scale=0.5), normal(width, size, scale=width**-0.5)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        hidden = torch.tanh(x.flatten(1) @ self.w1 + t.to(x.dtype)[:, None] * self.a + self.b)
        return (hidden @ self.w2).reshape(x.shape)


class TimeNet(nn.Module):
    """A log-weight a cos(b t) + c with parameters to differentiate."""

    def __init__(self) -> None:
        super().__init__()
        self.abc = nn.Parameter(torch.tensor([0.7, 2.0, 0.4], dtype=torch.float64))

    def forward(self, t: Tensor) -> Tensor:
        return self.abc[0] * torch.cos(self.abc[1] * t) + self.abc[2]


@pytest.fixture(scope="session")
def generator_of() -> Callable[[int], torch.Generator]:
    return lambda seed: torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def tanh_net() -> Callable[..., nn.Module]:
    """(size, seed, dtype) -> a random two-layer network of the paper's checks."""
    return lambda size, seed=0, dtype=torch.float64: TanhNet(size, torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(scope="session")
def time_net() -> Callable[[], nn.Module]:
    return TimeNet


@pytest.fixture(scope="session")
def mixture() -> oracle.Mixture:
    """Three unequal components in the plane, in unit variance."""
    return oracle.standardised(
        oracle.Mixture(
            torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
            torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.5]], dtype=torch.float64),
            torch.tensor([0.5, 0.4, 0.7], dtype=torch.float64),
        )
    )


@pytest.fixture(scope="session")
def mixture_1d() -> oracle.Mixture:
    """A lopsided mixture on the line, in unit variance."""
    return oracle.standardised(
        oracle.Mixture(
            torch.tensor([0.7, 0.3], dtype=torch.float64),
            torch.tensor([[-1.0], [1.5]], dtype=torch.float64),
            torch.tensor([0.4, 0.6], dtype=torch.float64),
        )
    )


@pytest.fixture(scope="session")
def unchecked() -> Callable[[], AbstractContextManager[None]]:
    """Shapes unchecked, as outside the tests: there the core's own ValueErrors must speak."""

    @contextmanager
    def off() -> Iterator[None]:
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            yield
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)

    return off
