"""Held-out images to edit, what is measured of their edits, and the pictures of a few."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.operators import LUMINANCE, observe
from trigbench.workflow.data.dataset import Dataset, not_numbers
from trigbench.workflow.data.labelled import Labelled
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.run.editing import Edit, seen_of
from trigbench.workflow.run.measurements.edited import Way
from trigbench.workflow.run.measurements.measured import Strip
from trigbench.workflow.study.edits import EACH
from trigbench.workflow.study.kinds import Images

MEASURES = ("fd", "missed", "diversity", "agreement")
"""Of any images; others are of a known truth."""
SHOWN = 10
"""Images in a strip."""


@dataclass(frozen=True)
class Held:
    """Held-out images, each `EACH` times in a row, in unit variance."""

    images: Tensor
    labels: Tensor
    observation: Tensor


def held_images(labelled: Labelled, edit: Edit, count: int, seed: int) -> Held:
    """Of so many edits, or as many as held-out images give."""
    every = torch.randperm(len(labelled.labels), generator=generator(seed, "editing", "images"))
    order = every[: max(1, count // EACH)]
    images = labelled.images(order).repeat_interleave(EACH, 0)
    return Held(images, labelled.labels[order].repeat_interleave(EACH, 0), seen_of(edit, images))


def judge_images(
    kind: Any, dataset: Dataset, labelled: Labelled, edit: Edit, held: Held
) -> Callable[[Tensor], dict[str, float]]:
    """Of edits: the distance to the training part, what they miss of what was seen, their spread over noises, and the
    share in which the classifier reads the image's class; and how far they are from the truth, where that is known.

    The distance, which falls with the number of samples, is of as many as there are images: one edit of each, in the
    mean over the lots.
    """
    truth = labelled.truths.get(edit.name)
    names = (*MEASURES, *(truth.measures if truth else ()))

    def judge(x: Tensor) -> dict[str, float]:
        if not_numbers(x):
            return dict.fromkeys(names, math.nan)
        own = x.double().flatten(1).unflatten(0, (-1, EACH))
        missed = observe(edit.operator, x) - held.observation
        lots = [kind.judge_samples(dataset, x[first::EACH], ["fd_train"])["fd_train"] for first in range(EACH)]
        return {
            "fd": sum(lots) / EACH,
            "missed": float(missed.square().mean().sqrt()),
            "diversity": float(own.var(1).mean().sqrt()),
            "agreement": float((labelled.read(x) == held.labels).double().mean()),
            **(truth.judge(x, held.images, held.labels) if truth else {}),
        }

    return judge


def strip_of(edit: Edit, seen_by: Images, x: Tensor, arm: str | None = None, way: Way | None = None) -> Strip:
    """The first edit of each image, in 256 levels of grey or colour."""
    about = {} if way is None else {"sampler": way.sampler, "evaluations": way.evaluations}
    return Strip(edit.name, np.rint(255 * _levels(seen_by, x)).astype(int).tolist(), arm, **about)


def seen_strip(edit: Edit, seen_by: Images, held: Held) -> Strip:
    """What is seen of each image: -1 where nothing is, and of colours their luminance."""
    if edit.name == "colourise":
        levels = _levels(seen_by, held.images) @ np.array(LUMINANCE) / sum(LUMINANCE)
    else:
        levels = _levels(seen_by, edit.guide(held.observation))
    whole = np.rint(255 * levels).astype(int)
    if edit.name == "inpaint":
        whole[:, ~edit.operator.seen[0].numpy()] = -1
    return Strip(edit.name, whole.tolist())


def _levels(seen_by: Images, x: Tensor) -> np.ndarray:
    """Of the first edit of each image, from 0 to 1."""
    pictures = seen_by.decoded(x[::EACH][:SHOWN].numpy())
    return np.clip((pictures - seen_by.black) / (seen_by.white - seen_by.black), 0, 1)
