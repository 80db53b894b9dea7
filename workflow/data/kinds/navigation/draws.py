"""Draws of demonstrations: chunks of actions, told what was observed before them."""

import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.machine.files import Arrays


def open_dataset(arrays: Arrays, sigma_d: float) -> Dataset:
    """Data units divided by sigma_d; observations are in unit variance."""
    chunks = torch.from_numpy(arrays["train"]).float() / sigma_d
    observed, held = (torch.from_numpy(arrays[name]).float() for name in ("train_observed", "held_out_observed"))

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        chosen = torch.randint(len(chunks), (batch,), generator=g)
        return chunks[chosen], Condition(observation=observed[chosen])

    return Dataset(tuple(chunks.shape[1:]), 0, draw, None, arrays, observed=held)
