"""Published low-rank adapters (LoRA, LCM-LoRA) as those of core.low_rank: names, shapes, and alpha / rank.

Three ways of naming are read. peft's end in `.lora_A.weight` and `.lora_B.weight`, below `base_model.model.` or, as
diffusers saves them, below `unet.` or `transformer.`; diffusers' older ones end in `.lora.down.weight` and
`.lora.up.weight`; kohya's are `lora_unet_<layer, _ for .>` with `.lora_down.weight`, `.lora_up.weight` and `.alpha`,
which is what diffusers' script for LCM-LoRA writes (train_lcm_distill_lora_sd_wds.py). Tensors in, tensors out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from trigbench.core.networks.published import listed, single

State = Mapping[str, Tensor]
PART = re.compile(r"(?P<layer>.+?)\.(?:lora_(?P<ab>[AB])(?:\.default)?|lora[._](?P<way>down|up))\.weight")
ALPHA = re.compile(r"(?P<layer>.+)\.alpha")
OF_PEFT, OF_DIFFUSERS, OF_KOHYA = "base_model.model.", ("unet.", "transformer."), ("lora_unet_", "lora_transformer_")
OF_TEXT = ("text_encoder", "lora_te")


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
    rank, as their readers have it; peft keeps it in another file, as `lora_alpha`.

    Raises ValueError for tensors of another kind (DoRA, LoHa, biases), of a text encoder, without their pair or of
    shapes that do not fit, for layers that `weights` do not have, and where alpha is said nowhere or twice.
    """
    layers = _layers(state)
    if alpha is not None and any(layer.alpha is not None for layer in layers.values()):
        raise ValueError("the file has alpha for its layers, and another was given: leave it out")
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
        return said
    if not name.startswith((*OF_DIFFUSERS, *OF_KOHYA)):
        raise ValueError(f"nothing says alpha of {name!r}: give lora_alpha of the adapter_config.json that peft saves")
    return float(layer.down.shape[0] if layer.down.ndim else 0)


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
