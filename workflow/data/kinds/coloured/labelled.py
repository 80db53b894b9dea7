"""Held-out pictures, what reads their digits, and what colours they may have given their grey."""

from typing import Any

import torch
from torch import Tensor

from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.kinds.coloured.making import part, pictures_of, points_of
from trigbench.workflow.data.kinds.coloured.painting import (
    drawn_colours,
    levels_of,
    nearest_colours,
    painted,
    variation,
)
from trigbench.workflow.data.kinds.coloured.viewer import read
from trigbench.workflow.data.labelled import Labelled, Truth


def labelled(dataset: Dataset) -> Labelled:
    """Of the prepared arrays, which have the network that reads. Given the grey of a picture its colours have LAW."""
    arrays, held = dataset.arrays, part(dataset, "held_out")

    def levels(images: Tensor) -> Tensor:
        return levels_of(pictures_of(images.double(), arrays))

    def draw(images: Tensor, digits: Tensor, g: torch.Generator) -> Tensor:
        return points_of(painted(levels(images), drawn_colours(digits, g)), arrays).to(images)

    def judge(edits: Tensor, images: Tensor, digits: Tensor) -> dict[str, float]:
        colours, away = nearest_colours(pictures_of(edits.double(), arrays), levels(images))
        return {"variation": variation(colours, digits), "off_palette": float(away.square().mean().sqrt())}

    digits: Any = torch.from_numpy(arrays["held_out_labels"]).long()
    return Labelled(
        digits,
        lambda rows: held[rows],
        lambda x: read(pictures_of(x, arrays), arrays)[0],
        {"colourise": Truth(draw, judge, ("variation", "off_palette"))},
    )
