"""Published networks of two times as maps, of what `trigbench convert` wrote: one pair of functions a family."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from trigbench.core.fields import Jump
from trigbench.core.layouts import State
from trigbench.core.map_conversions import CTM_LEAST
from trigbench.core.networks.ctm import ctm_jump, ctm_network, ctm_tensors
from trigbench.core.networks.families import is_unet
from trigbench.core.networks.imf import WHOLE, imf_jump, imf_network
from trigbench.core.networks.meanflow import meanflow_jump, meanflow_network, meanflow_tensors
from trigbench.core.networks.meanflow_unet import meanflow_unet, meanflow_unet_jump, meanflow_unet_tensors


@dataclass(frozen=True)
class PublishedMap:
    """A published network of two times."""

    shape: tuple[int, ...]
    classes: int
    """That it is told; 0 for none."""
    jump: Callable[[Tensor | None], Jump]
    """labels (batch,) or none -> its map, in unit variance."""
    network: nn.Module


def meanflow_written(state: State) -> State:
    """A checkpoint of MeanFlow's DiT or U-Net, checked. Raises ValueError where it is neither."""
    return meanflow_unet_tensors(state) if is_unet(state) else meanflow_tensors(state)


def meanflow_map(state: State, sigma_d: float, heads: int | None = None) -> PublishedMap:
    """MeanFlow's, for data of `sigma_d`; `heads` are its DiT's where its width is none of the published.

    Raises ValueError where the tensors are not its own.
    """
    if is_unet(state):
        unet = meanflow_unet(state)
        return PublishedMap(unet.unet.shape, 0, lambda _: meanflow_unet_jump(unet, sigma_d), unet)
    network = meanflow_network(state, heads)
    table = network.dit.embed_label
    classes = 0 if table is None else table.num_embeddings - 1
    return PublishedMap(network.dit.shape, classes, lambda labels: meanflow_jump(network, sigma_d, labels), network)


def ctm_written(state: State) -> State:
    """A checkpoint of CTM's, checked. Raises ValueError where it is none."""
    found = ctm_tensors(state)
    ctm_network(found)
    return found


def ctm_map(state: State, sigma_d: float, smallest: float = CTM_LEAST) -> PublishedMap:
    """CTM's, for data of `sigma_d`; `smallest` is the noise level at which its training ended, the paper's by default.

    Raises ValueError where the tensors are not its own.
    """
    network = ctm_network(state)
    unet = network.unet
    return PublishedMap(unet.shape, unet.classes, lambda labels: ctm_jump(network, sigma_d, labels, smallest), network)


def imf_map(state: State, sigma_d: float, scale: float = 1.0, interval: tuple[float, float] = WHOLE) -> PublishedMap:
    """iMF's, for data of `sigma_d`, guided at `scale` in the flow times of `interval`: not at all by default.

    Raises ValueError where the tensors are not its own.
    """
    network = imf_network(state)
    jump = lambda labels: imf_jump(network, sigma_d, labels, scale, interval)  # noqa: E731
    return PublishedMap(network.shape, network.classes, jump, network)
