"""MeanFlow's U-Net of CIFAR-10 out of its public tensors: EDM's DDPM++ that blurs as it resamples, with a second time.

The layout is that of the authors' PyTorch (Gsunshine/py-meanflow: meanflow/models/unet.py and model_configs.py, seen in
the copies merry7cherry/py-meanflow and Ahyg/py-meanflow): EDM's names, below `net_ema.` in a whole checkpoint. Tensors
in, networks and maps out.
"""

import math
import re

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, silu

from trigbench.core.fields import Jump
from trigbench.core.layouts import State, check_layout, listed, single
from trigbench.core.map_conversions import jump_from_flow
from trigbench.core.networks.conditioning import full_precision
from trigbench.core.networks.ddpmpp import Block, DDPMpp, EDMEmbedding
from trigbench.core.networks.images import Image, Output, Resampling
from trigbench.core.networks.teachers import edm_network
from trigbench.core.networks.unet import walk
from trigbench.core.trigflow import time_dtype

AVERAGED = "net_ema."
"""Before the names of the averaged weights that the authors sample with, among those of several networks."""
UNUSED = re.compile(r"map_augment\.weight|.*\.resample_filter")
"""What augmentation is embedded by, zero outside training, and the fixed filters."""
FILTER = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


class MeanFlowUNet(nn.Module):
    """u(z, tau, rho), the average velocity of the flow from tau down to rho in data units, told no labels.

    `unet` is EDM's DDPM++ of that size. tau and tau - rho are embedded side by side.
    """

    def __init__(self, unet: DDPMpp) -> None:
        super().__init__()
        self.unet = unet
        width, embedding = unet.map_layer0.in_features, unet.map_layer0.out_features
        unet.embed_time = EDMEmbedding(2 * width)
        unet.map_layer0 = nn.Linear(4 * width, embedding)
        for blocks in (unet.enc, unet.dec):
            for name, block in blocks.items():
                if isinstance(block, Block) and block.place.resampling != "keep":
                    blocks[name] = BlurredBlock(block)

    def forward(self, z: Image, tau: Float[Tensor, " batch"], rho: Float[Tensor, " batch"]) -> Image:
        unet = self.unet
        with full_precision(z):
            times = [unet.embed_time(t.to(time_dtype(z))) for t in (tau, tau - rho)]
            e = torch.cat(times, dim=1).to(unet.map_layer0.weight.dtype)
            e = silu(unet.map_layer1(silu(unet.map_layer0(e))))
        h = walk(unet.plan, unet.enc, unet.dec, z, e, join=lambda h, skip: torch.cat([h, skip], dim=1))
        return unet.out_conv(silu(unet.out_norm(h)))


class BlurredBlock(nn.Module):
    """A block of DDPM++ that changes the resolution, and so does not attend, with NCSN++'s filter instead of [1, 1]."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Image, e: Float[Tensor, "batch embedding"]) -> Output:
        block, way = self.block, self.block.place.resampling
        y = block.conv0(blurred(silu(block.norm0(x)), way))
        y = block.conv1(silu(block.condition(y, e)))
        return (block.skip(blurred(x, way)) + y) * math.sqrt(0.5)


def blurred(x: Image, resampling: Resampling) -> Tensor:
    """Half or twice the resolution by the filter [1, 3, 3, 1] / 8, zeros beyond the borders (arXiv 2011.13456)."""
    row = x.new_tensor(FILTER)
    kernel = (row[:, None] * row).expand(x.shape[1], 1, -1, -1)
    if resampling == "down":
        return conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])
    return conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=x.shape[1])


def meanflow_unet(state: State) -> MeanFlowUNet:
    """The network of a public checkpoint, its size read off the tensors. Half precision becomes single.

    Raises ValueError when a name is missing or unexpected or a shape differs.
    """
    found, unet = _checked(state)
    with torch.device("meta"):
        network = MeanFlowUNet(unet)
    first = {f"unet.map_layer0.{part}": single(found[f"map_layer0.{part}"]) for part in ("weight", "bias")}
    network.load_state_dict(network.state_dict() | first, assign=True)
    return network


def meanflow_unet_tensors(state: State) -> dict[str, Tensor]:
    """The averaged network's tensors, checked. Raises ValueError as `meanflow_unet` does."""
    return _checked(state)[0]


def meanflow_unet_jump(network: MeanFlowUNet, sigma_d: float) -> Jump:
    """The map, in unit variance, of a network whose images have the standard deviation `sigma_d`."""
    return jump_from_flow(network, sigma_d)


def _checked(state: State) -> tuple[dict[str, Tensor], DDPMpp]:
    """The averaged network's tensors, and EDM's network of all but the first layer of the times."""
    averaged = {name.removeprefix(AVERAGED): t for name, t in state.items() if name.startswith(AVERAGED)}
    found = averaged or dict(state)
    filters = {name: tensor for name, tensor in found.items() if name.endswith(".resample_filter")}
    wide = found.get("map_layer0.weight")
    if not filters or wide is None or wide.ndim != 2:
        raise ValueError(f"no U-Net of MeanFlow's (map_layer0, filters of 4 x 4 pixels): {listed(found)}")
    check_layout(filters, dict.fromkeys(filters, (1, 1, len(FILTER), len(FILTER))), "the filters of MeanFlow's U-Net")
    row = torch.tensor(FILTER)
    if other := [
        name for name, tensor in filters.items() if not tensor.float().allclose(row[:, None] * row, atol=1e-3)
    ]:
        raise ValueError(f"filters other than [1, 3, 3, 1] / 8: {listed(other)}")
    unet = edm_network(_as_edm({name: tensor for name, tensor in found.items() if not UNUSED.fullmatch(name)}))
    assert isinstance(unet, DDPMpp), "by its names"
    shape = (unet.map_layer0.out_features, 4 * unet.map_layer0.in_features)
    check_layout({"map_layer0.weight": wide}, {"map_layer0.weight": shape}, "of MeanFlow's U-Net")
    return found, unet


def _as_edm(kept: State) -> dict[str, Tensor]:
    """In EDM's names and order of query, key and value, with so much of the first layer as EDM has."""
    found = {f"model.{name}": tensor for name, tensor in kept.items()}
    wide = found["model.map_layer0.weight"]
    found["model.map_layer0.weight"] = wide[:, : wide.shape[1] // 4]
    for name in [name for name in found if re.search(r"\.qkv\.(weight|bias)$", name)]:
        if not found[name].ndim or len(found[name]) % 3:
            continue  # of another shape, which will be said
        found[name] = found[name].unflatten(0, (3, -1)).transpose(0, 1).flatten(0, 1).contiguous()
    return found
