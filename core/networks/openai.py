"""CM's networks as its authors save them (openai/consistency_models: cm/unet.py), in the names of EDM's ADM.

ADM's U-Net, of LSUN with a shift alone for the time. What differs are names, the order of channels in attention (query,
key, value before heads and a head's channels), and labels, which are a table. The time that it embeds is 1000 c_noise
(cm/karras_diffusion.py). The side of its images stands in no tensor: attention begins at 32 pixels in every network of
theirs (scripts/launch.sh), by which it is known, unless it is said. Diffusion models and consistency models have the
same tensors; which one a checkpoint is, whoever converts it says. Tensors in, tensors out; `consistency_field` is the
map of CM.
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from trigbench.core.constants import SIGMA_D, SIGMA_MIN
from trigbench.core.conversions import field_with_boundary
from trigbench.core.layouts import State, listed, single
from trigbench.core.networks.adm import heads_of
from trigbench.core.networks.families import OPENAI, SIGMA_MIN_OF
from trigbench.core.networks.teachers import Published, edm_field, edm_network
from trigbench.core.networks.unet import Plan, plan_of
from trigbench.core.trigflow import Field, is_traced

FINEST_ATTENTION = 32
"""Pixels, of every network of theirs (attention_resolutions 32,16,8)."""
OUTER = {
    "map_layer0": "time_embed.0", "map_layer1": "time_embed.2", "map_label": "label_emb", "out_norm": "out.0",
    "out_conv": "out.2",
}  # fmt: skip
OF_TIME = re.compile("^time_embed|emb_layers")
"""Layers of the time."""
SECOND_TIME = re.compile(r"time_embed_s\.|.*\.emb_layers_s\.")
BLOCK = {
    "norm0": "in_layers.0", "conv0": "in_layers.2", "affine": "emb_layers.1", "norm1": "out_layers.0",
    "conv1": "out_layers.3", "skip": "skip_connection",
}  # fmt: skip
ATTENTION = {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"}


def adm_tensors(state: State, side: int | None = None) -> dict[str, Tensor]:
    """Those of a diffusion model, as `trigbench.core.networks.teachers.edm_network` takes them.

    `side` are the pixels of its images; without it they follow from where attention begins. Raises ValueError where
    tensors are missing, unexpected or of another shape.
    """
    plan = _plan(state, side)
    names = dict(_names(plan))
    problem = "these tensors are not ADM's of CM's authors"
    theirs = {f"{name}.{part}" for name in names.values() for part in ("weight", "bias")}
    if unexpected := [name for name in state if name not in theirs]:
        raise ValueError(f"{problem}; unexpected: {listed(unexpected)}")
    found = {f"{OPENAI}{ours}.{part}": single(state[f"{name}.{part}"])
             for ours, name in names.items() for part in ("weight", "bias") if f"{name}.{part}" in state}  # fmt: skip
    for name in [name for name in found if ".qkv." in name]:
        found[name] = _heads_first(found[name])
    if (label := found.get(f"{OPENAI}map_label.weight")) is not None:
        found[f"{OPENAI}map_label.weight"] = label.T.contiguous()
    try:
        edm_network(found)
    except ValueError as error:  # in the names of the checkpoint
        said = str(error)
        for ours in sorted(names, key=len, reverse=True):
            said = said.replace(f"{OPENAI}{ours}.", f"{names[ours]}.")
        raise ValueError(said) from None
    return found


def cm_tensors(state: State, side: int | None = None) -> dict[str, Tensor]:
    """Those of a consistency model, and the noise level at which it ends. Raises ValueError as `adm_tensors` does."""
    return adm_tensors(state, side) | {SIGMA_MIN_OF: torch.tensor(SIGMA_MIN, dtype=torch.float64)}


def ctm_adm_tensors(state: State, side: int | None = None) -> dict[str, Tensor]:
    """Those of CTM's network of ImageNet 64 (sony/ctm: code/cm/unet.py), which is this one with a second time.

    The layers of the second time end in `_s`, as in CTM's DDPM++ (core.networks.ctm, where these are held against the
    others). Raises ValueError as `adm_tensors` does.
    """
    second = {name: tensor for name, tensor in state.items() if SECOND_TIME.match(name)}
    rest = {name: tensor for name, tensor in state.items() if name not in second}
    named = {
        f"{theirs}.{part}": f"{OPENAI}{ours}_s.{part}"
        for ours, first in _names(_plan(rest, side))
        for theirs, changed in (OF_TIME.subn(r"\g<0>_s", first),)
        for part in ("weight", "bias")
        if changed
    }
    if unexpected := [name for name in second if name not in named]:
        raise ValueError(f"these tensors are not CTM's ADM; unexpected: {listed(unexpected)}")
    return adm_tensors(rest, side) | {named[name]: single(tensor) for name, tensor in second.items()}


def cm_network(state: State) -> tuple[Published, float]:
    """(the network, the noise level at which its map ends) of what `cm_tensors` gave. Raises ValueError as it does."""
    smallest = float(state[SIGMA_MIN_OF]) if SIGMA_MIN_OF in state else 0.0
    if not 0 < smallest < SIGMA_D:
        raise ValueError(f"no noise level at which a consistency model ends: {smallest:g}")
    return edm_network({name: tensor for name, tensor in state.items() if name != SIGMA_MIN_OF}), smallest


def consistency_field(
    network: Published, sigma_min: float = SIGMA_MIN, sigma_d: float = SIGMA_D, labels: Tensor | None = None
) -> Field:
    """The field whose map is CM's f(x, sigma) (arXiv 2303.01469, App. C), for angles from arctan(sigma_min / sigma_d).

    Sampled by `sample_consistency(field, noise, times, boundary=arctan(sigma_min / sigma_d))`. `labels` (batch,) are
    for a network of classes, which was trained with one for every image. Raises ValueError where it is told none or is
    of no classes, and for labels that are no class.
    """
    if (labels is None) != (not network.classes):
        raise ValueError(f"the network is told a label for each image: {network.classes or 'none'} classes")
    if labels is not None and not is_traced() and bool(((labels < 0) | (labels >= network.classes)).any()):
        raise ValueError(f"labels are classes, 0 to {network.classes - 1}")
    return field_with_boundary(edm_field(network, sigma_d, labels), sigma_min, sigma_d)


def _plan(state: State, side: int | None) -> Plan:
    """Of the blocks, read off the tensors. Raises ValueError where they have no encoder."""
    ups = {name for name in state if re.fullmatch(r"output_blocks\.\d+\.[12]\.in_layers\.2\.weight", name)}
    count = 1 + max((int(name.split(".")[1]) for name in state if name.startswith("input_blocks.")), default=0)
    levels = len(ups) + 1
    per_level, rest = divmod(count, levels)
    convolutions = [state.get(f"input_blocks.{k}.0.in_layers.2.weight") for k in range(1, count)]
    stem = state.get("input_blocks.0.0.weight")
    if stem is None or not convolutions or rest or any(c is None for c in convolutions):
        raise ValueError(
            f"no encoder of ADM's (input_blocks...) with levels of as many blocks in these: {listed(state)}"
        )
    widths = [c.shape[0] for c in convolutions[::per_level] if c is not None]
    attends = [level for level in range(levels) if f"input_blocks.{1 + level * per_level}.1.qkv.weight" in state]
    if side is None and not attends:
        raise ValueError("the side of the images stands in no tensor, nor follows from where attention begins: say it")
    side = FINEST_ATTENTION << min(attends) if side is None else side
    return plan_of(side, stem.shape[0], widths, per_level - 1, {side >> level for level in attends}, "every")


def _names(plan: Plan) -> Iterator[tuple[str, str]]:
    """(a layer's name in EDM's way, in theirs); `.weight` and `.bias` of each are not named."""
    yield from OUTER.items()
    yield f"enc.{plan.stem}", "input_blocks.0.0"
    for k, place in enumerate(plan.encoder, 1):
        yield from _of_block(f"enc.{place.name}", f"input_blocks.{k}.0", f"input_blocks.{k}.1", place.attends)
    middle, end = plan.decoder[:2]
    yield from _of_block(f"dec.{middle.name}", "middle_block.0", "middle_block.1", attends=True)
    yield from _of_block(f"dec.{end.name}", "middle_block.2", "", attends=False)
    k, parts = -1, 0
    for place in plan.decoder[2:]:
        if place.resampling == "up":  # the last part of the block before
            yield from _of_block(f"dec.{place.name}", f"output_blocks.{k}.{parts}", "", attends=False)
            continue
        k, parts = k + 1, 2 if place.attends else 1
        yield from _of_block(f"dec.{place.name}", f"output_blocks.{k}.0", f"output_blocks.{k}.1", place.attends)


def _of_block(ours: str, theirs: str, attention: str, attends: bool) -> Iterator[tuple[str, str]]:
    yield from ((f"{ours}.{name}", f"{theirs}.{other}") for name, other in BLOCK.items())
    if attends:
        yield from ((f"{ours}.{name}", f"{attention}.{other}") for name, other in ATTENTION.items())


def _heads_first(rows: Tensor) -> Tensor:
    """Rows of query, key and value, from (3, heads, channels) to (heads, channels, 3)."""
    return rows.unflatten(0, (3, heads_of(rows.shape[0] // 3), -1)).movedim(0, 2).flatten(0, 2).contiguous()
