"""Published maps of two times in files: made .safetensors by `trigbench convert --family`, opened as maps here."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trigbench.core.fields import Jump
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
) -> Jump:
    """The map of a converted network, `meanflow` or `ctm`, frozen, in unit variance: u -> its field.

    `sigma_d` is the standard deviation of the data that it was trained on, `labels` (batch,) what it is told. `heads`
    are MeanFlow's where its width is none of the published. Raises BenchError, naming the file, for another family and
    for tensors that are not this one's.
    """

    def meanflow(state: Mapping[str, Tensor]) -> Jump:
        if is_unet(state):
            if labels is not None or heads is not None:
                raise ValueError("MeanFlow's U-Net is told no labels, and has no heads to say")
            return meanflow_unet_jump(meanflow_unet(state).requires_grad_(False).to(device).eval(), sigma_d)
        network = meanflow_network(state, heads)
        return meanflow_jump(network.requires_grad_(False).to(device).eval(), sigma_d, labels)

    def ctm(state: Mapping[str, Tensor]) -> Jump:
        return ctm_jump(ctm_network(state).requires_grad_(False).to(device).eval(), sigma_d, labels)

    known: Mapping[str, Callable[[Mapping[str, Tensor]], Jump]] = {"meanflow": meanflow, "ctm": ctm}
    if family not in known:
        raise BenchError(f"no map of {family!r} is known", file=path, key="family", remedy=f"one of {', '.join(known)}")
    try:
        return known[family](read_tensors(path, REMEDY))
    except ValueError as error:
        raise BenchError(str(error), file=path, key=family, remedy=REMEDY) from error
