"""How networks embed what they are told besides point and time: labels, a guidance scale, a second time."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trigbench.core.condition import Condition, parts_of
from trigbench.core.networks.embeddings import PositionalEmbedding
from trigbench.core.trigflow import is_traced, time_dtype

Labels = Int[Tensor, " batch"]
Told = Condition | Tensor | None
"""A Condition, or labels alone."""
NUMBERS = ("scale", "target_time")
"""Parts of a Condition that are a number per sample, in the order in which networks name those that they are told."""
Conditioning = Literal["double", "plain"]
"""Adaptive double normalisation (arXiv 2410.11081, Sec. 4.1), or what the network was published with."""
CONDITIONINGS = get_args(Conditioning)


def check_choice(what: str, chosen: str, choices: Collection[str]) -> None:
    """Raise ValueError unless it is one of the choices."""
    if chosen not in choices:
        raise ValueError(f"unknown {what} {chosen!r}; choose of: {', '.join(choices)}")


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Where the time path runs: autocast off, so that it stays in the input's dtype."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def labels_and_numbers(condition: Told, told: Sequence[str]) -> tuple[Tensor | None, dict[str, Tensor]]:
    """The labels and, by name, the numbers of a condition. Labels of `classes` are none; torch refuses larger ones.

    Raises ValueError unless it holds the numbers that the network is `told` and no more, and whole ones as labels.
    """
    if condition is not None and not isinstance(condition, Condition | Tensor):
        raise ValueError(f"a condition is a trigbench.Condition, labels or None, got a {type(condition).__name__}")
    parts = parts_of(condition if isinstance(condition, Condition) else Condition(label=condition))
    labels = parts.pop("label", None)
    if parts.keys() != set(told):
        wanted, given = (", ".join(names) or "nothing" for names in (told, parts))
        raise ValueError(f"beside labels the network is told {wanted}, as a trigbench.Condition; got {given}")
    if labels is not None and (labels.ndim != 1 or labels.dtype.is_floating_point or labels.dtype == torch.bool):
        problem = f"got {labels.dtype} of {tuple(labels.shape)}"
        raise ValueError(f"labels are whole numbers from 0, one a sample, not fractions or one-hot; {problem}")
    return labels, {name: parts[name] for name in told}


def observation_apart(condition: Told, observed: Sequence[int] | None, batch: int) -> tuple[Tensor | None, Told]:
    """The observation of a condition, and what else it holds.

    Raises ValueError unless it is one of `observed` numbers for each of `batch` samples (one for all would be spread
    over them unseen), or there is none where that is None.
    """
    seen = condition.observation if isinstance(condition, Condition) else None
    shape, wanted = None if seen is None else tuple(seen.shape), None if observed is None else (batch, *observed)
    if shape != wanted:
        problem = f"{wanted or 'none'}, in a trigbench.Condition; got {shape or 'none'}"
        raise ValueError(f"the network is told observations: {problem}")
    if seen is None or not isinstance(condition, Condition):
        return None, condition
    return seen, replace(condition, observation=None)


def one_hot(
    labels: Labels | None, classes: int, like: Float[Tensor, "batch channels"]
) -> Float[Tensor, "batch {classes}"]:
    """A row per sample in `like`'s dtype; zeros where there is no label: None, or index `classes`."""
    if labels is None:
        return like.new_zeros(len(like), classes)
    if is_traced():  # the other looks whether labels are classes
        return (labels[:, None] == torch.arange(classes, device=labels.device)).to(like.dtype)
    return nn.functional.one_hot(labels, classes + 1)[:, :-1].to(like.dtype)


class ToldNumbers(nn.Module):
    """The embedding plus W (p(n) - p(0)) for each number n: nothing at n = 0, nor before training, as W starts at 0.

    `told` names them, each of NUMBERS. Raises ValueError for others.
    """

    def __init__(self, told: Sequence[str], channels: int, embedding: int) -> None:
        super().__init__()
        if isinstance(told, str | int) or not set(told) <= set(NUMBERS) or len(set(told)) != len(told):
            raise ValueError(f"a network is told numbers by name, as ('scale', 'target_time'), got {told!r}")
        self.embed = PositionalEmbedding(channels)
        lifts = {name: nn.Linear(channels, embedding, bias=False) for name in told}
        for lift in lifts.values():
            nn.init.zeros_(lift.weight)
        self.lifts = nn.ModuleDict(lifts)

    def forward(
        self, e: Float[Tensor, "batch embedding"], numbers: dict[str, Float[Tensor, " batch"]]
    ) -> Float[Tensor, "batch embedding"]:
        for name, number in numbers.items():
            n = number.to(time_dtype(e))
            e = e + self.lifts[name]((self.embed(n) - self.embed(torch.zeros_like(n))).to(e.dtype))
        return e
