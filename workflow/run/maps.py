"""Published maps of two times in files: made .safetensors by `trigbench convert --family`, opened as maps here."""

import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from trigbench.core.condition import Condition
from trigbench.core.fields import Jump, bind
from trigbench.core.networks.families import PUBLISHED, map_family_of
from trigbench.core.networks.public_maps import PublishedMap
from trigbench.core.trigflow import Field
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.named import named
from trigbench.workflow.machine.tensors import names_in, read_tensors
from trigbench.workflow.run.teachers import POINTS, TOLERANCE
from trigbench.workflow.run.weights import Tensors, kept_of

CPU = torch.device("cpu")
REMEDY = "convert the published checkpoint again, by its family, or open it in a function of yours: docs/teachers.md"


class MapTeacher:
    """A map of two times in a file that teaches by its velocity, where it goes nowhere, for data of `sigma_d`."""

    def __init__(self, path: Path, sigma_d: float, device: torch.device) -> None:
        family = map_family_of(names_in(path)) or ""
        self.network = open_network(path, family, sigma_d, device)
        if self.network.classes and (guided := PUBLISHED[family].guided):
            warnings.warn(f"{path.name}: {guided}", stacklevel=2)

    def field(self, labels: Tensor | None) -> Field:
        """Its velocity, in unit variance."""
        jump = self.network.jump(labels)
        return lambda x, t: jump(t)(x, t)

    def weights(self) -> Tensors:
        """As weights of a student, one of core.networks.maps."""
        return {f"network.{name}": value for name, value in kept_of(self.network.network).items()}

    def is_start_of(self, student: nn.Module, told: Collection[str]) -> bool:
        """Whether the student, with `weights`, computes the same map, to data and half of the way."""
        weights = kept_of(student)
        device, training, g = next(iter(weights.values())).device, student.training, generator("start")
        x = torch.randn(POINTS, *self.network.shape, generator=g).to(device)
        t = torch.linspace(0.1, 1.5, POINTS, dtype=torch.float64, device=device)
        u = t / 2 * (torch.arange(POINTS, device=device) % 2)
        labels = torch.arange(POINTS, device=device) % self.network.classes if self.network.classes else None
        with torch.no_grad():
            ours = bind(student.eval(), weights, Condition(labels, target_time=u))(x, t)
            theirs = self.network.jump(labels)(u)(x, t)
        student.train(training)
        return bool((ours - theirs).norm() <= TOLERANCE * theirs.norm())


class MapSettings(TypedDict, total=False):
    """What a file does not say of its map; None says nothing."""

    heads: int | None
    """Of MeanFlow's DiT, where its width is none of the published."""
    smallest: float | None
    """The noise level at which CTM's training ended, the paper's 0.002 unless it is said."""
    scale: float | None
    """Of iMF's guidance, from 1, which is none unless it is said."""
    interval: tuple[float, float] | None
    """The flow times between which iMF is guided, 0 at data; all of them unless it is said."""


RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "smallest": (lambda level: level > 0, "a noise level that a network knows is above 0"),
    "scale": (lambda scale: scale >= 1, "guidance that a network knows is of a scale from 1"),
    "interval": (
        lambda ends: 0 <= ends[0] <= 0.5 <= ends[1] <= 1,
        "intervals of guidance that a network knows begin at 0 to 0.5 and end at 0.5 to 1",
    ),
}
"""Of settings: whether a value is one, and what is said where it is not."""


def open_map(
    path: Path,
    family: str,
    sigma_d: float,
    labels: Tensor | None = None,
    device: torch.device = CPU,
    **settings: Unpack[MapSettings],
) -> Jump:
    """The map of a converted network, of a family that has maps, frozen, in unit variance: u -> its field.

    `sigma_d` is the standard deviation of the data that it was trained on, `labels` (batch,) what it is told;
    `settings` are `MapSettings`. Raises BenchError, naming the file, for another family, for tensors that are not this
    one's, and for what is said and not used.
    """
    found = open_network(path, family, sigma_d, device, **settings)
    _refuse(path, "labels", labels is not None and not found.classes, "this network is told no labels")
    if PUBLISHED[family].needs_labels and found.classes and labels is None:
        remedy = f"give one for each sample, 0 to {found.classes - 1}"
        raise BenchError(
            f"this network of {PUBLISHED[family].said}'s is told labels", file=path, key="labels", remedy=remedy
        )
    return found.jump(labels)


def open_network(
    path: Path, family: str, sigma_d: float, device: torch.device = CPU, **settings: Unpack[MapSettings]
) -> PublishedMap:
    """The same network, to be told labels. Raises BenchError as `open_map` does, but for these."""

    known = PUBLISHED.get(family)
    if known is None or not known.map:
        maps = ", ".join(name for name, other in PUBLISHED.items() if other.map)
        raise BenchError(f"no map of {family!r} is known", file=path, key="family", remedy=f"one of {maps}")
    said = {key: value for key, value in settings.items() if value is not None}
    unused = known.unused(names_in(path))
    for key, value in said.items():
        _refuse(path, key, key in unused, unused.get(key, ""))
        fits, problem = RANGES.get(key, (lambda _: True, ""))
        _refuse(path, key, not fits(value), problem)
    try:
        found: PublishedMap = named(known.map)(read_tensors(path, REMEDY), sigma_d, **said)
    except ValueError as error:
        raise BenchError(str(error), file=path, key=family, remedy=REMEDY) from error
    found.network.requires_grad_(False).to(device).eval()
    return found


def _refuse(path: Path, key: str, wrong: bool, problem: str) -> None:
    if wrong:
        raise BenchError(problem, file=path, key=key, remedy="leave it out")
