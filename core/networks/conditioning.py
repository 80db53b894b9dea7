"""What a network is told besides point and time: labels, and numbers such as a guidance scale or a second time.

A condition is None, labels, or a tuple (labels or None, number, ...) with as many numbers per sample
as the network was made to be told. Labels are whole numbers, from 0 to classes - 1, and `classes` for none; torch
refuses others where it looks them up.
"""

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trigbench.core.networks.embeddings import PositionalEmbedding
from trigbench.core.trigflow import time_dtype

Labels = Int[Tensor, " batch"]
Condition = Tensor | tuple[Tensor | None, ...] | None
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


def labels_and_numbers(condition: Condition, told: int) -> tuple[Tensor | None, tuple[Tensor | None, ...]]:
    """The parts of a condition. Raises ValueError unless it holds `told` numbers, and whole ones as labels."""
    labels, *numbers = condition if isinstance(condition, tuple) else (condition,)
    if len(numbers) != told or any(number is None for number in numbers):
        given = sum(number is not None for number in numbers)
        raise ValueError(f"the network is told {told} numbers per sample, (labels or None, number, ...); got {given}")
    if labels is not None and (labels.ndim != 1 or labels.dtype.is_floating_point or labels.dtype == torch.bool):
        problem = f"got {labels.dtype} of {tuple(labels.shape)}"
        raise ValueError(f"labels are whole numbers from 0, one a sample, not fractions or one-hot; {problem}")
    return labels, tuple(numbers)


def one_hot(
    labels: Labels | None, classes: int, like: Float[Tensor, "batch channels"]
) -> Float[Tensor, "batch {classes}"]:
    """A row per sample in `like`'s dtype; zeros where there is no label: None, or index `classes`."""
    if labels is None:
        return like.new_zeros(len(like), classes)
    return nn.functional.one_hot(labels, classes + 1)[:, :-1].to(like.dtype)


class ToldNumbers(nn.Module):
    """The embedding plus W (p(n) - p(0)) for each number n: nothing at n = 0, nor before training, as W starts at 0."""

    def __init__(self, told: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.embed = PositionalEmbedding(channels)
        lifts = [nn.Linear(channels, embedding, bias=False) for _ in range(told)]
        for lift in lifts:
            nn.init.zeros_(lift.weight)
        self.lifts = nn.ModuleList(lifts)

    def forward(
        self, e: Float[Tensor, "batch embedding"], numbers: tuple[Float[Tensor, " batch"], ...]
    ) -> Float[Tensor, "batch embedding"]:
        for lift, number in zip(self.lifts, numbers, strict=True):
            n = number.to(time_dtype(e))
            e = e + lift((self.embed(n) - self.embed(torch.zeros_like(n))).to(e.dtype))
        return e
