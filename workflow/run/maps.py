"""Published maps of two times in files: made .safetensors by `trigbench convert --family`, opened as maps here."""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from trigbench.core.condition import Condition
from trigbench.core.fields import Jump, bind
from trigbench.core.map_conversions import CTM_LEAST
from trigbench.core.networks.ctm import ctm_jump, ctm_network
from trigbench.core.networks.families import is_unet, map_family_of
from trigbench.core.networks.meanflow import meanflow_jump, meanflow_network
from trigbench.core.networks.meanflow_unet import meanflow_unet, meanflow_unet_jump
from trigbench.core.trigflow import Field
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import names_in, read_tensors
from trigbench.workflow.run.teachers import POINTS, TOLERANCE
from trigbench.workflow.run.weights import Tensors, kept_of

CPU = torch.device("cpu")
GUIDED = (
    "MeanFlow's public networks that are told labels were trained with guidance inside: the velocity is the guided "
    "one, if this is one of them (docs/teachers.md)"
)
"""Of such a network, whose tensors do not say it."""
REMEDY = "convert the published checkpoint again, by its family, or open it in a function of yours: docs/teachers.md"


Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class PublishedMap:
    """A network of two times in a file, frozen."""

    shape: tuple[int, ...]
    classes: int
    """That it is told; 0 for none."""
    jump: Callable[[Tensor | None], Jump]
    """labels (batch,) or none -> its map, in unit variance."""
    network: nn.Module


class MapTeacher:
    """A map of two times in a file that teaches by its velocity, where it goes nowhere, for data of `sigma_d`."""

    def __init__(self, path: Path, sigma_d: float, device: torch.device) -> None:
        family = map_family_of(names_in(path)) or ""
        self.network = open_network(path, family, sigma_d, device)
        if family == "meanflow" and self.network.classes:
            warnings.warn(f"{path.name}: {GUIDED}", stacklevel=2)

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


def open_map(
    path: Path,
    family: str,
    sigma_d: float,
    labels: Tensor | None = None,
    device: torch.device = CPU,
    heads: int | None = None,
    smallest: float | None = None,
) -> Jump:
    """The map of a converted network, `meanflow` or `ctm`, frozen, in unit variance: u -> its field.

    `sigma_d` is the standard deviation of the data that it was trained on, `labels` (batch,) what it is told. `heads`
    are MeanFlow's where its width is none of the published, `smallest` the noise level at which CTM's training ended,
    the paper's 0.002 unless it is said. Raises BenchError, naming the file, for another family, for tensors that are
    not this one's, and for what is said and not used.
    """
    found = open_network(path, family, sigma_d, device, heads, smallest)
    _refuse(path, "labels", labels is not None and not found.classes, "this network is told no labels")
    if family == "ctm" and found.classes and labels is None:
        remedy = f"give one for each sample, 0 to {found.classes - 1}"
        raise BenchError("this network of CTM's is told labels", file=path, key="labels", remedy=remedy)
    return found.jump(labels)


def open_network(
    path: Path,
    family: str,
    sigma_d: float,
    device: torch.device = CPU,
    heads: int | None = None,
    smallest: float | None = None,
) -> PublishedMap:
    """The same network, to be told labels. Raises BenchError as `open_map` does, but for these."""

    def meanflow(state: Mapping[str, Tensor]) -> PublishedMap:
        _refuse(path, "smallest", smallest is not None, "MeanFlow's time ends at 0, and no least level is told")
        if is_unet(state):
            _refuse(path, "heads", heads is not None, "MeanFlow's U-Net has no heads to say")
            unet = _frozen(meanflow_unet(state), device)
            return PublishedMap(unet.unet.shape, 0, lambda _: meanflow_unet_jump(unet, sigma_d), unet)
        network = _frozen(meanflow_network(state, heads), device)
        table = network.dit.embed_label
        classes = 0 if table is None else table.num_embeddings - 1
        jump: Callable[[Tensor | None], Jump] = lambda labels: meanflow_jump(network, sigma_d, labels)  # noqa: E731
        return PublishedMap(network.dit.shape, classes, jump, network)

    def ctm(state: Mapping[str, Tensor]) -> PublishedMap:
        network = _frozen(ctm_network(state), device)
        _refuse(path, "heads", heads is not None, "CTM's tensors say how many heads it has")
        least = CTM_LEAST if smallest is None else smallest
        jump: Callable[[Tensor | None], Jump] = lambda labels: ctm_jump(network, sigma_d, labels, least)  # noqa: E731
        return PublishedMap(network.unet.shape, network.unet.classes, jump, network)

    known: Mapping[str, Callable[[Mapping[str, Tensor]], PublishedMap]] = {"meanflow": meanflow, "ctm": ctm}
    if family not in known:
        raise BenchError(f"no map of {family!r} is known", file=path, key="family", remedy=f"one of {', '.join(known)}")
    _refuse(
        path, "smallest", smallest is not None and not smallest > 0, "a noise level that a network knows is above 0"
    )
    try:
        return known[family](read_tensors(path, REMEDY))
    except ValueError as error:
        raise BenchError(str(error), file=path, key=family, remedy=REMEDY) from error


def _frozen(network: Network, device: torch.device) -> Network:
    return network.requires_grad_(False).to(device).eval()


def _refuse(path: Path, key: str, wrong: bool, problem: str) -> None:
    if wrong:
        raise BenchError(problem, file=path, key=key, remedy="leave it out")
