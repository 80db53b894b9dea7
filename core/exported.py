"""A trained network that has left its workflow: what its card says, and tensors, made a field and samples again.

The card is plain data (docs/export.md); `trigbench export` writes it and trigbench.load_exported reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trigbench.core.condition import Condition
from trigbench.core.conversions import field_with_boundary
from trigbench.core.fields import Jump, bind
from trigbench.core.guidance import guided
from trigbench.core.layouts import State, difference, shapes_of
from trigbench.core.map_samplers import MAP_SAMPLERS
from trigbench.core.samplers.ode import solve
from trigbench.core.solvers import SOLVERS
from trigbench.core.trigflow import Field

FORMAT = 1
"""Of the card; raised where a reader of the one before would read it wrongly."""
NETWORKS = "trigbench.core.networks."
"""What is made by its path alone: a card imports nobody's own code."""


@dataclass(frozen=True)
class Exported:
    """A trained network, frozen, with its card."""

    card: Mapping[str, Any]
    network: nn.Module
    """Called (x, t, condition), in unit variance. It stays where it is moved: `network.to("cuda")`; in float16 or
    bfloat16 it runs in autocast, and points stay in their own dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.card["data"]["shape"])

    @property
    def classes(self) -> int:
        """Of the labels that it is told; 0 for none."""
        return self.card["data"]["classes"]

    @property
    def sigma_d(self) -> float:
        """Standard deviation of the data in data units, by which noise levels are angles."""
        return self.card["units"]["sigma_d"]

    @property
    def ways(self) -> tuple[str, ...]:
        """The names of all ways in which its study sampled it, the first of which `sample` takes unless told."""
        return tuple(self.card["samplings"])

    def field(self, labels: Int[Tensor, " batch"] | None = None, scale: float | None = None) -> Field:
        """(x, t) -> F in unit variance: its map from t to data, or of a diffusion model its velocity.

        `labels` are whole numbers from 0, one a row, of a network that is told labels; `scale` is that of guidance, of
        one that is told its scale or was trained without labels, too. Raises ValueError for one of these that it is not
        told, or lacks, for a network whose maps do not go from every angle to data, and, when it is called, for labels
        that are not as many as the rows.
        """
        if not self.card["network"]["field"]:
            raise ValueError("this network's maps go to data from some angles alone; take `jump`, or `sample`")
        return self._field(labels, scale)

    def jump(self, labels: Int[Tensor, " batch"] | None = None, scale: float | None = None) -> Jump:
        """u -> the field of the map from each t down to its u, of a network of two times; otherwise as `field`."""
        if "target_time" not in self._told:
            raise ValueError("this network is told no target time; take `field`")
        self._check(labels, scale)
        return lambda u: self._bound(labels, scale, u)

    def sample(
        self,
        noise: Float[Tensor, "slices batch *shape"],
        labels: Int[Tensor, " batch"] | None = None,
        way: str | None = None,
    ) -> Float[Tensor, "batch *shape"]:
        """Samples in unit variance, as its study drew them from the same noise in this `way`, one of `ways`.

        `noise` is standard normal; card["samplings"][way]["noise"] is how many slices are used. Raises ValueError for
        another way, for noise of another shape or fewer slices, and for labels as `field` does.
        """
        how = self._way(way)
        if tuple(noise.shape[2:]) != self.shape or len(noise) < how["noise"]:
            wanted = f"({how['noise']} or more, batch, {', '.join(map(str, self.shape))})"
            raise ValueError(f"noise is of {wanted} here, got {tuple(noise.shape)}")
        known = MAP_SAMPLERS.get(how["solver"])
        if known is None:
            return _solved(self._field(labels, how["guidance"]), noise, how, self.sigma_d)
        down = self.jump(labels, how["guidance"]) if known.told else self._field(labels, how["guidance"])
        told = {name: how[name] for name in known.takes}
        if "edges" in told:
            told["edges"] = torch.tensor(told["edges"], dtype=torch.float64, device=noise.device)
        return _of_core(known.path)(down, noise[: how["noise"]] if "times" in told else noise[0], **told)

    def pictures(self, samples: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch channels height width"]:
        """Samples as pictures, from 0 (black) to 1. Raises ValueError where samples are not seen as pictures."""
        seen = self.card["units"]["pictures"]
        if seen is None:
            raise ValueError("samples of these data are no pictures")
        return as_pictures(samples, **seen)

    @property
    def _told(self) -> tuple[str, ...]:
        return tuple(self.card["network"]["told"])

    def _way(self, way: str | None) -> Mapping[str, Any]:
        if way is not None and way not in self.ways:
            raise ValueError(f"no way {way!r} to sample it; there are {', '.join(self.ways)}")
        return self.card["samplings"][way or self.ways[0]]

    def _check(self, labels: Tensor | None, scale: float | None) -> None:
        """Raise ValueError for what the network is not told, or lacks."""
        if (labels is None) != (not self.classes):
            said = f"one for each row, from 0 to {self.classes - 1}" if self.classes else "and this one is told none"
            raise ValueError(f"labels are for a network that is told labels, {said}")
        if labels is not None and not bool(((labels >= 0) & (labels < self.classes)).all()):
            raise ValueError(f"labels are from 0 to {self.classes - 1}, got {labels.min()} to {labels.max()}")
        guidance = self.card["network"]["guidance"]
        if scale is None and guidance == "told":
            raise ValueError("this network is told its scale of guidance; 1 is none")
        if scale is not None and guidance is None:
            raise ValueError("this network was not trained to be guided; leave the scale out")

    def _field(self, labels: Tensor | None, scale: float | None) -> Field:
        if "target_time" in self._told:
            jump = self.jump(labels, scale)
            return lambda x, t: jump(torch.zeros_like(t))(x, t)
        self._check(labels, scale)
        level = self.card["network"]["boundary"]
        field = self._bound(labels, scale if "scale" in self._told else None)
        if scale is not None and "scale" not in self._told:
            alone = self._bound(None, None)
            return lambda x, t: guided(field, alone, torch.full((len(x),), scale, device=x.device))(x, t)
        return field_with_boundary(field, level, self.sigma_d) if level else field

    def _bound(self, labels: Tensor | None, scale: float | None, u: Tensor | None = None) -> Field:
        precision = next(self.network.parameters()).dtype

        def field(x: Tensor, t: Tensor) -> Tensor:
            if labels is not None and len(labels) != len(x):
                raise ValueError(f"one label a row: {len(labels)} for {len(x)}")
            scales = None if scale is None else torch.full((len(x),), scale, device=x.device)
            told = Condition(None if labels is None else labels.to(x.device), scales, u)
            return bind(self.network, condition=told, precision=precision, frozen=True)(x, t)

        return field


def as_pictures(samples: Tensor, scale: float, shift: float, fold: int) -> Tensor:
    """scale x + shift, from 0 to 1, every `fold` squared channels as the pixels of one."""
    return (scale * nn.functional.pixel_shuffle(samples, fold) + shift).clamp(0, 1)


def network_of(card: Mapping[str, Any], network: Callable[..., nn.Module] | None = None) -> nn.Module:
    """The network that the card describes, as it is drawn, made by the core or, of somebody's own, by `network`.

    Raises ValueError for a card of another format, and for a network of somebody's own without `network`.
    """
    if card.get("format") != FORMAT:
        raise ValueError(f"the card has format {card.get('format')!r}, and this version reads {FORMAT}")
    path = card["network"]["path"]
    if network is None and not path.startswith(NETWORKS):
        raise ValueError(f"the network is {path}, no part of trigbench: give what makes it, as network=...")
    with torch.random.fork_rng(devices=[]):  # what is drawn is replaced
        made = (network or _of_core(path))(**card["network"]["settings"])
    return made.requires_grad_(False).eval()


def exported(card: Mapping[str, Any], tensors: State, network: Callable[..., nn.Module] | None = None) -> Exported:
    """The network that the card describes (`network_of`) with these weights.

    Raises ValueError as `network_of` does, and for tensors that are not the network's, by name and shape.
    """
    made = network_of(card, network)
    state = made.state_dict()
    own = {name: t for name, t in (*made.named_parameters(), *made.named_buffers()) if name in state}
    if wrong := difference(shapes_of(own), tensors):
        raise ValueError(f"the weights are not of {card['network']['path']} with the card's settings: {wrong}")
    with torch.no_grad():
        for name, tensor in own.items():
            if not torch.equal(tensor, tensors[name]):  # an expanded constant cannot be written to
                tensor.copy_(tensors[name])
    return Exported(card, made)


def _solved(field: Field, noise: Tensor, how: Mapping[str, Any], sigma_d: float) -> Tensor:
    """Along the probability-flow ODE by a solver of the table, at the card's angles."""
    known, beside = SOLVERS[how["solver"]], {"noise": noise[1:], "sigma_d": sigma_d}
    told = {**how["settings"], **{name: beside[name] for name in known.takes}}
    angles = torch.tensor(how["angles"], dtype=torch.float64, device=noise.device)
    x, function = torch.sin(angles[0]).to(noise.dtype) * noise[0], _of_core(known.path)
    if known.whole:
        return function(field, x, angles, **told)
    return solve(partial(function, **told) if told else function, field, x, angles)


def _of_core(path: str) -> Callable[..., Any]:
    """What `module:name` of this core stands for."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
