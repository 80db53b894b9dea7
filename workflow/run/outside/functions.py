"""A function of one's own that draws samples: `sample(noise, times, labels)`, as docs/judge.md has it."""

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from trigbench._nearest import choice
from trigbench._places import PACKAGE, ROOT
from trigbench.core.trigflow import Field
from trigbench.workflow.data.randomness import seed_globals
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import sha256
from trigbench.workflow.machine.named import imported, module_in, problem_of

Sample = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(noise, times, labels) -> samples in unit variance."""
CONTRACT = "noise, times, labels"
OURS = (PACKAGE.resolve(), ROOT / "core", ROOT / "workflow")
SMALLEST_SINE = 1e-6


@dataclass(frozen=True)
class Function:
    """A function that was named, and the files that it is made of."""

    said: str
    call: Callable[..., Any]
    files: dict[str, str] = field(default_factory=dict)


def open_function(said: str) -> Function:
    """`module:name`, from where one starts, or `file.py:name`. Raises BenchError where it is not there, or takes
    something else than (noise, times, labels)."""
    place, _, name = said.rpartition(":")
    before = set(sys.modules)
    module = module_in(Path(place), said) if place.endswith(".py") else _module_here(place)
    function = getattr(module, name, None)
    if function is None:
        raise BenchError(f"there is no {name!r} in {place}", key=said, remedy=choice(name, dir(module)))
    try:
        inspect.signature(function).bind(*CONTRACT.split(", "))
    except (TypeError, ValueError) as error:
        remedy = f"let it take ({CONTRACT}): docs/judge.md"
        raise BenchError(f"{said} cannot be called: {error}", key=said, remedy=remedy) from error
    files = _files_of(module, before)
    for file in map(Path, getattr(function, "files", ())):
        if not file.is_file():
            remedy = f"name files that are there in {name}.files, from where one starts"
            raise BenchError("there is no such file", file=file, key=f"{said}.files", remedy=remedy)
        files[str(file)] = sha256(file)
    return Function(said, function, files)


def _module_here(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it, and a command has not
    return imported(name, name)


def _files_of(module: ModuleType, before: set[str]) -> dict[str, str]:
    """Digests of the module's file, and of those of one's own that it brought."""
    found = {}
    for one in [module, *(sys.modules[name] for name in sorted(set(sys.modules) - before))]:
        file = getattr(one, "__file__", None)
        if file and file.endswith(".py") and (one is module or _is_own(Path(file).resolve())):
            found[_short(Path(file))] = sha256(Path(file))
    return found


def _is_own(file: Path) -> bool:
    libraries = {Path(place).resolve() for place in (sys.prefix, sys.base_prefix)}
    inside = [*libraries, *OURS]
    return not {"site-packages", "dist-packages"} & set(file.parts) and not any(map(file.is_relative_to, inside))


def _short(file: Path) -> str:
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


def sampler_of(function: Function, sigma_d: float) -> Sample:
    """The function with its samples in unit variance; raises BenchError for what is none of them."""

    def sample(noise: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        try:
            made = function.call(noise, times, labels)
        except BenchError:
            raise
        except Exception as error:
            where = f"with noise of {tuple(noise.shape)}, times of {tuple(times.shape)}"
            problem = f"{function.said} failed {where}: {problem_of(error)}"
            raise BenchError(problem, key=function.said, remedy="mend the function: docs/judge.md") from error
        wanted = tuple(noise.shape[1:])
        if not isinstance(made, Tensor) or tuple(made.shape) != wanted or not made.is_floating_point():
            got = f"{made.dtype} of {tuple(made.shape)}" if hasattr(made, "dtype") else f"a {type(made).__name__}"
            remedy = f"return floats of {wanted} in the units of the data, of standard deviation {sigma_d:g}"
            raise BenchError(f"{function.said} returns {got}", key=function.said, remedy=remedy)
        return made.detach().float() / sigma_d

    return sample


def times_of(first: float, middle: Sequence[float], device: torch.device) -> Tensor:
    """The angles that a function is told, float64, descending from t_max."""
    return torch.tensor([first, *middle], dtype=torch.float64, device=device)


def field_of(sample: Sample, device: torch.device) -> Field:
    """The function as a map from every angle to 0, for data whose exact map is known.

    In one step from angle t the first point is sin(t) noise in unit variance, so that noise x / sin(t) starts at x.
    """

    def field(x: Tensor, t: Tensor) -> Tensor:
        made = torch.empty_like(x)
        for angle in t.unique():
            rows = t == angle
            sine = angle.sin().clamp_min(SMALLEST_SINE)
            points = x[rows].double()
            noise = (points / sine).to(x.dtype).to(device)[None]
            f = sample(noise, angle.double().to(device)[None], None).to(x.device).double()
            made[rows] = ((angle.cos() * points - f) / sine).to(x.dtype)  # f = cos(t) x - sin(t) F
        return made

    return field


def minds_times(sample: Sample, shape: Sequence[int], first: float, device: torch.device) -> bool:
    """Whether the angle that it starts from makes a difference; without, it is no map from every angle."""
    noise = torch.ones(1, 4, *shape, device=device) * torch.linspace(-1, 1, 4, device=device).reshape(
        1, 4, *[1] * len(shape)
    )

    def at(angle: float) -> Tensor:
        seed_globals("minds times")  # what draws noise of its own draws the same
        return sample(noise, times_of(angle, [], device), None)

    with torch.no_grad():
        return not torch.equal(at(0.3), at(first))
