"""MeanFlow's DiT (arXiv 2505.13447) out of its public tensors: our plain DiT with a second time.

Two layouts are read. That of PyTorch is zhuyu-cs/MeanFlow's sit.py. The authors' own is JAX's (their models_dit.py),
whose tree of parameters is one dictionary here, its keys joined by dots. Tensors in, networks and maps out.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trigbench.core.condition import Condition
from trigbench.core.fields import Jump
from trigbench.core.layouts import Shapes, State, check_layout, listed, single
from trigbench.core.map_conversions import jump_from_flow
from trigbench.core.networks.dit import TIME_CHANNELS, DiT
from trigbench.core.networks.embeddings import PositionalEmbedding
from trigbench.core.networks.families import GAP, SIDE
from trigbench.core.networks.images import Image
from trigbench.core.trigflow import time_dtype

HEADS: Mapping[int, int] = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Attention heads of the published widths, which the tensors do not say."""
JAX: tuple[tuple[str, str], ...] = (
    (r"^(params\.)?net\.", ""),
    (r"\blayers_(\d+)", r"\1"),
    (r"\._flax_(linear|embedding)", ""),
    (r"^h_embedder\.", "r_embedder."),
    (r"\.(kernel|embedding)$", ".weight"),
)
"""Names of the tree to PyTorch's: patterns in their order."""
Names = Mapping[str, str]
SAME: Names = {
    "lift": "x_embedder.proj",
    "mix.0": "t_embedder.mlp.0",
    "mix.2": "t_embedder.mlp.2",
    "tell.mix.0": "r_embedder.mlp.0",
    "tell.mix.2": "r_embedder.mlp.2",
    "embed_label": "y_embedder.embedding_table",
    "project": "final_layer.linear",
}
"""Our layers to the published, but for blocks, and for `modulate`, which is in another order."""
SAME_IN_BLOCKS: Names = {"qkv": "attn.qkv", "proj": "attn.proj", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
MODULATION = "adaLN_modulation.1"


class MeanFlowDiT(nn.Module):
    """u(z, tau, rho), the average velocity of the flow from tau down to rho in data units, told labels or none.

    A DiT that is told tau - rho besides tau. Labels of `classes` are none.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.dit = DiT(**settings, told=("target_time",), conditioning="plain")
        self.dit.add_module("tell", GapEmbedding(settings["width"]))

    def forward(
        self, z: Image, tau: Float[Tensor, " batch"], rho: Float[Tensor, " batch"], labels: Tensor | None = None
    ) -> Image:
        return self.dit(z, tau, Condition(labels, target_time=tau - rho))


class GapEmbedding(nn.Module):
    """In the place of a DiT's told numbers: the embedding plus that of the gap, by layers as the time's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = PositionalEmbedding(TIME_CHANNELS)
        self.mix = nn.Sequential(nn.Linear(TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))

    def forward(
        self, e: Float[Tensor, "batch width"], numbers: Mapping[str, Float[Tensor, " batch"]]
    ) -> Float[Tensor, "batch width"]:
        gap = numbers["target_time"]
        return e + self.mix(self.embed(gap.to(time_dtype(e))).to(e.dtype))


def meanflow_network(state: State, heads: int | None = None) -> MeanFlowDiT:
    """The network of a public checkpoint of either layout, its size read off the tensors.

    `heads` of attention are those of the published sizes where it is None. Half precision becomes single.

    Raises ValueError when a name is missing or unexpected or a shape differs, and for a width of which the number of
    heads is not known.
    """
    published = meanflow_tensors(state)
    sizes = _sizes(published)
    heads = HEADS.get(sizes["width"]) if heads is None else heads
    if heads is None or sizes["width"] % heads:
        known = ", ".join(f"{width}: {count}" for width, count in HEADS.items())
        raise ValueError(f"how many heads has a width of {sizes['width']}? {heads} was said, known are {known}")
    with torch.device("meta"):
        network = MeanFlowDiT(**sizes, heads=heads)
    network.load_state_dict({f"dit.{name}": value for name, value in _ours(published, sizes).items()}, assign=True)
    network.dit.positions = published["pos_embed"][0]
    return network


def meanflow_jump(network: MeanFlowDiT, sigma_d: float, labels: Tensor | None = None) -> Jump:
    """The map, in unit variance, of a network whose latents have the standard deviation `sigma_d`."""
    return jump_from_flow(lambda z, tau, rho: network(z, tau, rho, labels), sigma_d)


def meanflow_tensors(state: State) -> dict[str, Tensor]:
    """The tensors of either layout in that of PyTorch, checked. Raises ValueError as `meanflow_network` does."""
    jax = any("_flax_" in name for name in state)
    named = _of_tree(state) if jax else dict(state)
    stem = named.get("x_embedder.proj.weight")
    if stem is None or stem.ndim != 4 or GAP not in named:
        raise ValueError(f"neither layout of MeanFlow's DiT (x_embedder, t_embedder, r_embedder ...): {listed(state)}")
    if jax:
        named["pos_embed"] = published_positions(SIDE // stem.shape[2], len(stem)).to(stem)[None]
    check_layout(named, _shapes(_sizes(named)), "of MeanFlow's DiT")
    return {name: single(tensor) for name, tensor in named.items()}


def _sizes(published: State) -> dict[str, Any]:
    """Of `MeanFlowDiT`, but for the heads."""
    width, channels, patch, _ = published["x_embedder.proj.weight"].shape
    positions, labels = published.get("pos_embed"), published.get("y_embedder.embedding_table.weight")
    tokens = positions.shape[1] if positions is not None and positions.ndim == 3 else SIDE**2 // patch**2
    side = round(tokens**0.5) * patch
    blocks = {name.split(".")[1] for name in published if name.startswith("blocks.")}
    classes = 0 if labels is None else len(labels) - 1
    return {"shape": (channels, side, side), "classes": classes, "width": width, "depth": len(blocks), "patch": patch}


def _shapes(sizes: Mapping[str, Any]) -> Shapes:
    """The layout of PyTorch at these sizes."""
    w, p, c, side = sizes["width"], sizes["patch"], *sizes["shape"][:2]
    layers = {
        "t_embedder.mlp.0": (w, TIME_CHANNELS),
        "t_embedder.mlp.2": (w, w),
        "r_embedder.mlp.0": (w, TIME_CHANNELS),
        "r_embedder.mlp.2": (w, w),
        "x_embedder.proj": (w, c, p, p),
        "final_layer.linear": (p * p * c, w),
        f"final_layer.{MODULATION}": (2 * w, w),
    }
    in_blocks = {"attn.qkv": (3 * w, w), "attn.proj": (w, w), "mlp.fc1": (4 * w, w), "mlp.fc2": (w, 4 * w)}
    for n in range(sizes["depth"]):
        layers |= {f"blocks.{n}.{name}": shape for name, shape in {**in_blocks, MODULATION: (6 * w, w)}.items()}
    alone = {"y_embedder.embedding_table.weight": (sizes["classes"] + 1, w), "pos_embed": (1, (side // p) ** 2, w)}
    weights = {f"{name}.weight": shape for name, shape in layers.items()}
    return weights | {f"{name}.bias": shape[:1] for name, shape in layers.items()} | alone


def _ours(published: State, sizes: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors as our DiT has them: scale before shift, gates apart, and channels of a patch outermost."""
    blocks = range(sizes["depth"])
    same = {
        **SAME,
        **{f"blocks.{n}.{ours}": f"blocks.{n}.{name}" for n in blocks for ours, name in SAME_IN_BLOCKS.items()},
    }
    patch, channels = sizes["patch"], sizes["shape"][0]
    found = dict[str, Tensor]()
    for part in ("weight", "bias"):
        found |= {f"{a}.{part}": published[f"{b}.{part}"] for a, b in same.items() if f"{b}.{part}" in published}
        for n in blocks:
            shift1, scale1, gate1, shift2, scale2, gate2 = published[f"blocks.{n}.{MODULATION}.{part}"].chunk(6)
            found[f"blocks.{n}.modulate.{part}"] = torch.cat([scale1, shift1, scale2, shift2])
            found[f"blocks.{n}.gate.{part}"] = torch.cat([gate1, gate2])
        shift, scale = published[f"final_layer.{MODULATION}.{part}"].chunk(2)
        found[f"modulate.{part}"] = torch.cat([scale, shift])
        pixels = found[f"project.{part}"].unflatten(0, (patch, patch, channels))
        found[f"project.{part}"] = pixels.movedim(2, 0).flatten(0, 2).contiguous()
    for name in ("mix.0.weight", "tell.mix.0.weight"):  # our embedding is sqrt(2) times theirs
        found[name] = found[name] / 2**0.5
    return found


def _of_tree(state: State) -> dict[str, Tensor]:
    """JAX's tensors in PyTorch's names, and kernels (in, out) or (height, width, in, out) in its order."""
    found = dict[str, Tensor]()
    for name, tensor in state.items():
        ours = name
        for pattern, replacement in JAX:
            ours = re.sub(pattern, replacement, ours)
        order = {2: (1, 0), 4: (3, 2, 0, 1)}.get(tensor.ndim) if name.endswith(".kernel") else None
        found[ours] = tensor if order is None else tensor.permute(order)
    return found


def published_positions(side: int, width: int) -> Float[Tensor, "tokens width"]:
    """Of side x side tokens as published: the column's half before the row's, sines before cosines, of amplitude 1."""
    angles = torch.arange(side).double()[:, None] * 10_000 ** -(torch.arange(width // 4).double() / (width // 4))
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    column, row = axis[None].expand(side, -1, -1), axis[:, None].expand(-1, side, -1)
    return torch.cat([column, row], dim=2).flatten(0, 1)
