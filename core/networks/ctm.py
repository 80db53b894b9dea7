"""CTM's networks (arXiv 2310.02279) out of their public tensors: DDPM++ and ADM with a second time.

Of CIFAR-10 the layout is that of sony/ctm's code/cm/networks.py (SongUNet in training mode ctm): EDM's names, the
layers of the second time's embedding as `model.map_layer0_s` and `model.map_layer1_s`, and `affine_s` of each block. Of
ImageNet 64 it is that of code/cm/unet.py, ADM's U-Net, which core.networks.openai names in the same way. Tensors in,
networks and maps out.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from trigbench.core.constants import SIGMA_D
from trigbench.core.fields import Jump
from trigbench.core.layouts import State, check_layout, single
from trigbench.core.map_conversions import CTM_LEAST, jump_from_ctm_network
from trigbench.core.networks import adm, ddpmpp
from trigbench.core.networks.adm import ADM
from trigbench.core.networks.conditioning import full_precision, one_hot
from trigbench.core.networks.ddpmpp import DDPMpp
from trigbench.core.networks.edm2 import EDM2
from trigbench.core.networks.families import OPENAI, SECOND
from trigbench.core.networks.images import Image
from trigbench.core.networks.openai import ctm_adm_tensors
from trigbench.core.networks.teachers import edm_network
from trigbench.core.networks.unet import walk
from trigbench.core.trigflow import time_dtype


class CTMNetwork(nn.Module):
    """F_CTM(c_in x, c_noise, c_noise of the end), told labels or none: of `unet`, as published, and a second time.

    The second time's embedding has layers of its own, and each block adds a layer of it: so both embeddings stand side
    by side, and the blocks' `affine` is one layer of them. DDPM++ tells both embeddings the labels, ADM the first.
    """

    def __init__(self, unet: DDPMpp | ADM) -> None:
        super().__init__()
        self.unet = unet
        first, last = unet.map_layer0, unet.map_layer1
        self.map_layer0_s = nn.Linear(first.in_features, first.out_features)
        self.map_layer1_s = nn.Linear(last.in_features, last.out_features)
        for block in _blocks(unet).values():
            block.affine = nn.Linear(2 * last.out_features, block.affine.out_features)

    def forward(
        self,
        x: Image,
        c_noise: Float[Tensor, " batch"],
        c_end: Float[Tensor, " batch"],
        labels: Tensor | None = None,
    ) -> Image:
        unet = self.unet
        with full_precision(x):
            start = unet.embed(c_noise.to(time_dtype(x)), labels)
            e = torch.cat([start, self.embed_end(c_end.to(time_dtype(x)), labels)], dim=1)
        h = walk(unet.plan, unet.enc, unet.dec, x, e, join=lambda h, skip: torch.cat([h, skip], dim=1))
        return unet.out_conv(silu(unet.out_norm(h)))

    def embed_end(self, c_end: Float[Tensor, " batch"], labels: Tensor | None) -> Float[Tensor, "batch embedding"]:
        """Of the end, and the labels where the network tells it, as the time's own embedding is made."""
        unet = self.unet
        e = unet.embed_time(unet.time_scale * c_end if isinstance(unet, ADM) else c_end)
        e = e.to(self.map_layer0_s.weight.dtype)
        if isinstance(unet, DDPMpp) and unet.map_label is not None:
            e = e + unet.map_label(one_hot(labels, unet.classes, e) * math.sqrt(unet.classes))
        return silu(self.map_layer1_s(silu(self.map_layer0_s(e))))


def ctm_network(state: State) -> CTMNetwork:
    """The network of a public checkpoint, or of `ctm_tensors` of it, its size read off the tensors. Half precision
    becomes single.

    Raises ValueError when a name is missing or unexpected or a shape differs.
    """
    state = ctm_tensors(state)
    second = {name: single(tensor) for name, tensor in state.items() if SECOND.fullmatch(name)}
    if not second:
        raise ValueError("no second time in these tensors (model.map_layer0_s ...): a network of one time?")
    unet = edm_network({name: tensor for name, tensor in state.items() if name not in second})
    prefix = next(iter(second)).partition(".")[0]
    if isinstance(unet, EDM2) or isinstance(unet, ADM) != (f"{prefix}." == OPENAI):
        raise ValueError("a second time of a network of EDM's that CTM did not publish")
    first = {f"{prefix}.{name}": tensor for name, tensor in unet.state_dict().items()}
    check_layout(second, {_of_end(name): t.shape for name, t in first.items() if _has_end(name)}, "CTM's second time")
    with torch.device("meta"):
        network = CTMNetwork(unet)
    layers = {name.removeprefix(f"{prefix}."): tensor for name, tensor in second.items() if ".map_layer" in name}
    for place in _blocks(unet):
        name = f"{prefix}.{place}.affine"
        weights = first[f"{name}.weight"], second[f"{name}_s.weight"]
        layers[f"unet.{place}.affine.weight"] = torch.cat(weights, dim=1)
        layers[f"unet.{place}.affine.bias"] = first[f"{name}.bias"] + second[f"{name}_s.bias"]
    network.load_state_dict(network.state_dict() | layers, assign=True)
    return network


def ctm_tensors(state: State, side: int | None = None) -> State:
    """A public checkpoint's tensors, those of ADM under EDM's names; `side` as `adm_tensors` takes it. Raises
    ValueError where tensors of ADM are missing or unexpected."""
    return ctm_adm_tensors(state, side) if any(name.startswith("input_blocks.") for name in state) else state


def ctm_jump(
    network: CTMNetwork, sigma_d: float = SIGMA_D, labels: Tensor | None = None, smallest: float = CTM_LEAST
) -> Jump:
    """The map, in unit variance, of a network of images of standard deviation `sigma_d`, EDM's.

    The network has EDM's preconditioning inside, as the paper's, and was trained down to the noise level `smallest`:
    its tensors say neither.
    """
    return jump_from_ctm_network(lambda x, c, end: network(x, c, end, labels), sigma_d, smallest)


def _blocks(unet: DDPMpp | ADM) -> dict[str, ddpmpp.Block | adm.Block]:
    """By their names in the network."""
    return {name: part for name, part in unet.named_modules() if isinstance(part, ddpmpp.Block | adm.Block)}


def _has_end(name: str) -> bool:
    return SECOND.fullmatch(_of_end(name)) is not None


def _of_end(name: str) -> str:
    layer, _, part = name.rpartition(".")
    return f"{layer}_s.{part}"
