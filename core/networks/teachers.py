"""Published diffusion models as fields: DDPM++, ADM and EDM2 from their tensors, and networks of discrete VP steps.

Tensors in, networks and fields out; nothing is read from files here.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trigbench.core.constants import SIGMA_D
from trigbench.core.conversions import TimedNetwork, field_from_edm_network, field_from_vp
from trigbench.core.fields import bind
from trigbench.core.layouts import State, check_layout, listed, shapes_of
from trigbench.core.networks import adm, ddpmpp, edm2
from trigbench.core.networks.adm import ADM
from trigbench.core.networks.conditioning import Told
from trigbench.core.networks.ddpmpp import DDPMpp
from trigbench.core.networks.edm2 import EDM2
from trigbench.core.networks.families import ADM as PATH_OF_ADM
from trigbench.core.networks.families import Naming, naming_of, refuse_consistency
from trigbench.core.trigflow import Field, time_dtype

Published = DDPMpp | ADM | EDM2
MADE: Mapping[str, Callable[..., Published]] = {
    f"{make.__module__}:{make.__name__}": partial(make, **plain)
    for make, plain in ((DDPMpp, ddpmpp.PLAIN), (ADM, adm.PLAIN), (EDM2, edm2.PLAIN))
}
"""By what the table of families calls them, as published."""


def edm_network(state: Mapping[str, Tensor]) -> Published:
    """The network of a checkpoint of EDM (DDPM++, ADM) or EDM2, its size read off the tensors, which it shares.

    Call it with EDM's own time, c_noise = ln(sigma) / 4, or make it a field by `edm_field`. Half
    precision becomes single.

    Raises ValueError when the tensors are of no such family, NoVelocity for a consistency model, and ValueError when a
    name is missing or unexpected or a shape differs.
    """
    refuse_consistency(state)
    try:
        naming = naming_of(state)
    except ValueError as error:
        raise ValueError(f"{error}: {listed(state)}") from None
    with torch.device("meta"):
        network = MADE[naming.network](**_settings(naming, state), **naming.settings)
    names = {name: _published(naming, name, network.plan.stem) for name in network.state_dict()}
    _check(state, {names[name]: tensor for name, tensor in network.state_dict().items()}, naming)
    tensors = {name: state[published] for name, published in names.items()}
    network.load_state_dict({name: t.float() if t.itemsize < 4 else t for name, t in tensors.items()}, assign=True)
    return network


def edm_field(
    network: nn.Module, sigma_d: float = SIGMA_D, condition: Told = None, precision: torch.dtype = torch.float32
) -> Field:
    """A network of EDM's preconditioning as a field for t in (0, pi/2), in unit variance.

    EDM's c_in x_sigma is x_t, its c_noise = ln(sigma_d tan t) / 4, and F = -F_EDM (arXiv 2206.00364,
    Table 1; arXiv 2410.11081, App. B). Images, or latents, have standard deviation `sigma_d`.
    """
    return field_from_edm_network(bind(network, condition=condition, precision=precision), sigma_d)


def _settings(naming: Naming, state: Mapping[str, Tensor]) -> dict[str, object]:
    """A network's size from its encoder's shapes. Raises ValueError where parts of it are missing."""
    encoder: dict[tuple[int, str], Tensor] = {}
    for name, tensor in state.items():
        found = re.fullmatch(rf"{re.escape(naming.prefix)}enc\.(\d+)x\1_(.*)\.weight", name)
        if found:
            encoder[int(found[1]), found[2]] = tensor
    sides = sorted({side for side, _ in encoder}, reverse=True)
    try:
        stem = encoder[sides[0], "conv"]
        widths = [encoder[side, f"block0.{naming.block}"].shape[0] for side in sides]
    except (IndexError, KeyError) as error:
        raise ValueError(f"no encoder in these tensors, {error} is missing: {listed(state)}") from error
    label, affine = state.get(naming.labels), encoder.get((sides[0], "block0.affine"))
    width = stem.shape[0]
    shifted = naming.network == PATH_OF_ADM and affine is not None and len(affine) == widths[0]
    return {
        **({"conditioning": "shift"} if shifted else {}),
        "shape": (stem.shape[1] - naming.stem_bias, sides[0], sides[0]),
        "classes": 0 if label is None else label.shape[1],
        "width": width,
        "multipliers": [w // width for w in widths],
        "blocks": sum(side == sides[0] and part.endswith(f".{naming.block}") for side, part in encoder),
        "attention": {side for side, part in encoder if part.endswith(f".{naming.attention}")},
    }


def _published(naming: Naming, name: str, stem: str) -> str:
    module, _, leaf = name.rpartition(".")
    if module in naming.renamed:
        name = f"{naming.renamed[module].format(side=stem.removesuffix('_conv'))}.{leaf}"
    return naming.prefix + name


def _check(state: State, expected: State, naming: Naming) -> None:
    """Of what the field has no use for, a filter of another blur would change what the network computes."""

    def unused(name: str) -> bool:
        plain = not name.endswith("resample_filter") or tuple(state[name].shape) == (1, 1, 2, 2)
        return name not in expected and plain and re.fullmatch(naming.unused, name) is not None

    used = {name: tensor for name, tensor in state.items() if not unused(name)}
    check_layout(used, shapes_of(expected), "of the network that they seem to be")


# --- discrete steps of variance-preserving diffusion (Ho et al. 2020), as in diffusers ----------------------


def field_from_discrete_vp(
    network: TimedNetwork,
    alphas_cumprod: Float[Tensor, " steps"],
    sigma_d: float,
    prediction: Literal["epsilon", "v_prediction"] = "epsilon",
) -> Field:
    """A network of VP points in data units and steps 0, 1, ... (fractions between them) as a field.

    `alphas_cumprod` is the schedule, alpha^2 of every step. Of a U-Net of diffusers, with its scheduler:
    `field_from_discrete_vp(lambda x, n: unet(x, n).sample, scheduler.alphas_cumprod, sigma_d)`. A
    prediction of v = alpha e - sigma x0 (arXiv 2202.00512) becomes one of the noise, e = alpha v + sigma x'.
    At noise levels beyond the schedule's the step stays at its end.

    Raises ValueError when the schedule is not strictly decreasing within (0, 1), and on another prediction.
    """
    if prediction not in ("epsilon", "v_prediction"):
        raise ValueError(f"a network that predicts {prediction!r} is not known here; epsilon and v_prediction are")
    squared = alphas_cumprod.double()
    if len(squared) < 2 or not bool((squared > 0).all() and (squared < 1).all() and (squared.diff() < 0).all()):
        raise ValueError("alphas_cumprod must be strictly decreasing within (0, 1), without a step of pure noise")
    levels = ((1 - squared) / squared).log() / 2

    def noise(x: Tensor, alpha: Tensor) -> Tensor:
        sigma = ((1 - alpha) * (1 + alpha)).sqrt()
        output = network(x, step_at((sigma / alpha).log(), levels.to(alpha)).to(time_dtype(x)))
        if prediction == "epsilon":
            return output
        column = (-1, *[1] * (x.ndim - 1))
        return alpha.to(x.dtype).reshape(column) * output + sigma.to(x.dtype).reshape(column) * x

    return field_from_vp(noise, sigma_d)


def step_at(level: Float[Tensor, " batch"], levels: Float[Tensor, " steps"]) -> Float[Tensor, " batch"]:
    """Where `level` lies among increasing `levels`: the index, linear between two, constant beyond the ends."""
    below = ((level[:, None] >= levels).sum(1) - 1).clamp(0, len(levels) - 2)
    return below + ((level - levels[below]) / (levels[below + 1] - levels[below])).clamp(0, 1)
