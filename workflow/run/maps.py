"""Published maps of two times in files: made .safetensors by `trigbench convert --family`, opened as maps here."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trigbench.core.fields import Jump
from trigbench.core.map_conversions import CTM_LEAST
from trigbench.core.networks.ctm import ctm_jump, ctm_network
from trigbench.core.networks.meanflow import meanflow_jump, meanflow_network
from trigbench.core.networks.meanflow_unet import is_unet, meanflow_unet, meanflow_unet_jump
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import read_tensors

CPU = torch.device("cpu")
REMEDY = "convert the published checkpoint again, by its family: docs/teachers.md"


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

    def meanflow(state: Mapping[str, Tensor]) -> Jump:
        _refuse(path, "smallest", smallest is not None, "MeanFlow's time ends at 0, and no least level is told")
        if is_unet(state):
            _refuse(path, "labels", labels is not None, "MeanFlow's U-Net is told no labels")
            _refuse(path, "heads", heads is not None, "MeanFlow's U-Net has no heads to say")
            return meanflow_unet_jump(meanflow_unet(state).requires_grad_(False).to(device).eval(), sigma_d)
        network = meanflow_network(state, heads)
        return meanflow_jump(network.requires_grad_(False).to(device).eval(), sigma_d, labels)

    def ctm(state: Mapping[str, Tensor]) -> Jump:
        network = ctm_network(state)
        _refuse(path, "heads", heads is not None, "CTM's tensors say how many heads it has")
        labelled = network.unet.map_label is not None
        _refuse(path, "labels", labels is not None and not labelled, "this network of CTM's is told no labels")
        if labelled and labels is None:
            remedy = f"give one for each sample, 0 to {network.unet.classes - 1}"
            raise BenchError("this network of CTM's is told labels", file=path, key="labels", remedy=remedy)
        least = CTM_LEAST if smallest is None else smallest
        return ctm_jump(network.requires_grad_(False).to(device).eval(), sigma_d, labels, least)

    known: Mapping[str, Callable[[Mapping[str, Tensor]], Jump]] = {"meanflow": meanflow, "ctm": ctm}
    if family not in known:
        raise BenchError(f"no map of {family!r} is known", file=path, key="family", remedy=f"one of {', '.join(known)}")
    _refuse(
        path, "smallest", smallest is not None and not smallest > 0, "a noise level that a network knows is above 0"
    )
    try:
        return known[family](read_tensors(path, REMEDY))
    except ValueError as error:
        raise BenchError(str(error), file=path, key=family, remedy=REMEDY) from error


def _refuse(path: Path, key: str, wrong: bool, problem: str) -> None:
    if wrong:
        raise BenchError(problem, file=path, key=key, remedy="leave it out")
