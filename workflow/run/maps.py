"""Published maps of two times in files: made .safetensors by `trigbench convert --family`, opened as maps here."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from trigbench.core.fields import Jump
from trigbench.core.map_conversions import CTM_LEAST
from trigbench.core.networks.ctm import SECOND, ctm_jump, ctm_network
from trigbench.core.networks.meanflow import GAP, meanflow_jump, meanflow_network
from trigbench.core.networks.meanflow_unet import is_unet, meanflow_unet, meanflow_unet_jump
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import read_tensors

CPU = torch.device("cpu")
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


def family_of(names: Collection[str]) -> str | None:
    """Whose tensors these are by their names, as `trigbench convert` wrote them; None for no map of two times."""
    if any(SECOND.fullmatch(name) for name in names):
        return "ctm"
    edm = any(name.startswith("model.") for name in names)  # whose networks have filters, too
    return "meanflow" if GAP in names or (is_unet(names) and not edm) else None


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
            return PublishedMap(unet.unet.shape, 0, lambda _: meanflow_unet_jump(unet, sigma_d))
        network = _frozen(meanflow_network(state, heads), device)
        table = network.dit.embed_label
        classes = 0 if table is None else table.num_embeddings - 1
        return PublishedMap(network.dit.shape, classes, lambda labels: meanflow_jump(network, sigma_d, labels))

    def ctm(state: Mapping[str, Tensor]) -> PublishedMap:
        network = _frozen(ctm_network(state), device)
        _refuse(path, "heads", heads is not None, "CTM's tensors say how many heads it has")
        least = CTM_LEAST if smallest is None else smallest
        jump: Callable[[Tensor | None], Jump] = lambda labels: ctm_jump(network, sigma_d, labels, least)  # noqa: E731
        return PublishedMap(network.unet.shape, network.unet.classes, jump)

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
