"""Published low-rank adapters (LoRA, LCM-LoRA) as those of core.low_rank: names, shapes, and alpha / rank.

Three ways of naming are read. peft's end in `.lora_A.weight` and `.lora_B.weight`, below `base_model.model.` or, as
diffusers saves them, below `unet.` or `transformer.`; diffusers' older ones end in `.lora.down.weight` and
`.lora.up.weight`; kohya's are `lora_unet_<layer, _ for .>` with `.lora_down.weight`, `.lora_up.weight` and `.alpha`,
which is what diffusers' script for LCM-LoRA writes (train_lcm_distill_lora_sd_wds.py). Tensors in, tensors out.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from trigbench.core.layouts import State, listed, single

PART = re.compile(r"(?P<layer>.+?)\.(?:lora_(?P<ab>[AB])(?:\.default)?|lora[._](?P<way>down|up))\.weight")
ALPHA = re.compile(r"(?P<layer>.+)\.alpha")
OF_PEFT, OF_DIFFUSERS, OF_KOHYA = "base_model.model.", ("unet.", "transformer."), ("lora_unet_", "lora_transformer_")
OF_TEXT = ("text_encoder", "lora_te")
METADATA = "lora_adapter_metadata"
"""Under which diffusers writes peft's settings into a file, as JSON of names with OF_DIFFUSERS."""
OTHERWISE: Mapping[str, str] = {
    "use_rslora": "save its tensors without metadata, and give alpha as lora_alpha times the root of the rank",
    "use_dora": "it is no sum of low rank; merge it with peft into the weights of its network",
    "alpha_pattern": "merge it with peft into the weights of its network, or save each layer's alpha in kohya's names",
}
"""By peft's settings that change the scale: what to do about it."""


@dataclass
class _Layer:
    """What a file has of one layer."""

    down: Tensor | None = None
    """(rank, inputs) or, of a convolution, (rank, inputs, height, width)."""
    up: Tensor | None = None
    """(outputs, rank), of a convolution with two dimensions of 1 more."""
    alpha: float | None = None
    names: list[str] = field(default_factory=list)


def adapter_from(state: State, weights: State | None = None, alpha: float | None = None) -> dict[str, Tensor]:
    """A published adapter as one of core.low_rank, to be added at a scale of 1: alpha / rank is in `<weight>.up`.

    `weights` are those of the network that it is of; kohya's names need them, and others are held against them where
    they are given. alpha of a layer is the file's, then `alpha`, then, where the names are diffusers' or kohya's, the
    rank, as their readers have it; peft keeps it in another file, as `lora_alpha`, and recent diffusers in the file's
    metadata (`said_alpha`).

    Raises ValueError for tensors of another kind (DoRA, LoHa, biases), of a text encoder, without their pair or of
    shapes that do not fit, for layers that `weights` do not have, and where alpha is said nowhere or twice or is not
    above 0.
    """
    layers = _layers(state)
    if alpha is not None and any(layer.alpha is not None for layer in layers.values()):
        raise ValueError(
            "the file has alpha for its layers, and another was given (or is in its metadata): leave one out"
        )
    flattened = {name.removesuffix(".weight").replace(".", "_"): name for name in weights or ()}
    found, unknown = dict[str, Tensor](), list[str]()
    for name, layer in layers.items():
        weight = _weight_of(name, weights, flattened)
        if weight is None:
            unknown.append(name)
            continue
        if f"{weight}.down" in found:
            raise ValueError(f"two layers of the file are of {weight}")
        found[f"{weight}.down"], found[f"{weight}.up"] = _parts(name, layer, _alpha_of(name, layer, alpha))
        if weights is not None:
            _check_fits(weight, weights[weight], layer)
    if unknown:
        raise ValueError(f"layers that are none of the {len(weights or ())} weights: {listed(unknown)}")
    return found


def said_alpha(metadata: Mapping[str, str]) -> float | None:
    """lora_alpha of a file's metadata as diffusers writes them; None where they say none of a network of images.

    Raises ValueError for settings with which alpha / rank is not the scale of every layer, for alpha that differs
    between networks, and for what is no such JSON.
    """
    if METADATA not in metadata:
        return None
    try:
        said = json.loads(metadata[METADATA])
    except ValueError as error:
        raise ValueError(f"{METADATA} of the file is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{METADATA} of the file is no mapping of settings")
    ours = {name: value for name, value in said.items() if not name.startswith(OF_TEXT)}
    for name, value in ours.items():
        if value and (remedy := OTHERWISE.get(name.rpartition(".")[2])):
            raise ValueError(f"the file's metadata say {name}, with which alpha / rank is not its scale: {remedy}")
    alphas = [value for name, value in ours.items() if name.rpartition(".")[2] == "lora_alpha"]
    if any(alpha != alphas[0] for alpha in alphas) or any(type(alpha) not in (int, float) for alpha in alphas):
        raise ValueError(f"lora_alpha in the file's metadata is not one number: {alphas}")
    return _checked(float(alphas[0]), "the file's metadata") if alphas else None


def _layers(state: State) -> dict[str, _Layer]:
    """By their names in the file. Raises ValueError for names of no adapter and for parts without their pair."""
    layers, strange = dict[str, _Layer](), list[str]()
    for name, tensor in state.items():
        part, alpha = PART.fullmatch(name), ALPHA.fullmatch(name)
        said = part or alpha
        if said is None or name.startswith(OF_TEXT):
            strange.append(name)
            continue
        slot = "alpha" if part is None else "down" if (part["ab"] or part["way"]) in ("A", "down") else "up"
        layer = layers.setdefault(said["layer"], _Layer())
        layer.names.append(name)
        if getattr(layer, slot) is not None or (part is None and tensor.numel() != 1):
            raise ValueError(f"{name} {tuple(tensor.shape)} is one too many of {', '.join(layer.names)}, or no number")
        setattr(layer, slot, float(tensor) if part is None else tensor)
    if strange or not layers:
        kinds = (
            "lora_A and lora_B, lora.down and lora.up, or lora_down, lora_up and alpha, of a network of images alone"
        )
        raise ValueError(f"an adapter has {kinds}; unexpected: {listed(strange) or 'nothing is there'}")
    if alone := [layer.names[0] for layer in layers.values() if layer.down is None or layer.up is None]:
        raise ValueError(f"parts without their pair: {listed(alone)}")
    return layers


def _weight_of(layer: str, weights: State | None, flattened: Mapping[str, str]) -> str | None:
    """The weight's name in its network; None where that has none of it. Raises ValueError where it cannot be known."""
    kohya = next((prefix for prefix in OF_KOHYA if layer.startswith(prefix)), None)
    if kohya is not None:
        if weights is None:
            raise ValueError(f"{layer!r} has lost its dots: give the weights of the network that the adapter is of")
        if len(flattened) != len(weights):
            raise ValueError("two weights of the network have the same name without dots")
        return flattened.get(layer.removeprefix(kohya))
    bare = layer.removeprefix(OF_PEFT)
    prefix = next((prefix for prefix in OF_DIFFUSERS if bare.startswith(prefix)), "")
    names = [f"{bare}.weight", f"{bare.removeprefix(prefix)}.weight"]
    return names[-1] if weights is None else next((name for name in names if name in weights), None)


def _alpha_of(name: str, layer: _Layer, given: float | None) -> float:
    assert layer.down is not None
    said = given if layer.alpha is None else layer.alpha
    if said is not None:
        return _checked(said, repr(name))
    if not name.startswith((*OF_DIFFUSERS, *OF_KOHYA)):
        raise ValueError(f"nothing says alpha of {name!r}: give lora_alpha of the adapter_config.json that peft saves")
    return float(layer.down.shape[0] if layer.down.ndim else 0)


def _checked(alpha: float, of: str) -> float:
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha of {of} is {alpha:g}, and is a number above 0")
    return alpha


def _parts(name: str, layer: _Layer, alpha: float) -> tuple[Tensor, Tensor]:
    """(down, up) as matrices, with the scale in up."""
    assert layer.down is not None and layer.up is not None
    shapes = (tuple(layer.down.shape), tuple(layer.up.shape))
    rank = layer.down.shape[0] if layer.down.ndim else 0
    matrices = layer.down.ndim in (2, 4) and layer.up.ndim == layer.down.ndim and min(layer.up.numel(), rank) > 0
    if not matrices or layer.up[0].numel() != rank:
        raise ValueError(f"{name} is of {shapes[0]} and {shapes[1]}, not (rank, ...) and (outputs, rank)")
    return single(layer.down).flatten(1), single(layer.up).flatten(1) * (alpha / rank)


def _check_fits(name: str, weight: Tensor, layer: _Layer) -> None:
    assert layer.down is not None and layer.up is not None
    if (len(layer.up), *layer.down.shape[1:]) != tuple(weight.shape):
        parts = f"{tuple(layer.down.shape)} and {tuple(layer.up.shape)}"
        raise ValueError(f"{name} is of {tuple(weight.shape)}, its adapter of {parts}")
