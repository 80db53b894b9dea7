"""Held-out images to edit, what is measured of their edits, and the pictures of a few."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.operators import observe
from trigbench.workflow.data.dataset import Dataset, not_numbers
from trigbench.workflow.data.kinds.digits.classifier import features, to_pixels
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.run.editing import Edit, seen_of
from trigbench.workflow.run.measurements.edited import Way
from trigbench.workflow.run.measurements.measured import Strip
from trigbench.workflow.study.kinds import Images

EACH = 4
"""Edits of an image, each of its own noise."""
SHOWN = 10
"""Images in a strip."""
HEAD = ("extractor/7.weight", "extractor/7.bias")
"""The last layer of the digits' classifier."""


@dataclass(frozen=True)
class Held:
    """Held-out images, each `EACH` times in a row, in unit variance."""

    images: Tensor
    labels: Tensor
    observation: Tensor


def held_images(dataset: Dataset, edit: Edit, count: int, seed: int, sigma_d: float) -> Held:
    """Of as many edits as there are samples, or as held-out images give."""
    images = torch.from_numpy(dataset.arrays["held_out"]).float() / sigma_d
    order = torch.randperm(len(images), generator=generator(seed, "editing", "images"))[: max(1, count // EACH)]
    images = images[order].repeat_interleave(EACH, 0)
    labels = torch.from_numpy(dataset.arrays["held_out_labels"])[order].long().repeat_interleave(EACH, 0)
    return Held(images, labels, seen_of(edit, images))


def judge_images(kind: Any, dataset: Dataset, edit: Edit, held: Held) -> Callable[[Tensor], dict[str, float]]:
    """Of edits: the distance to the training part, what they miss of what was seen, their spread over noises, and the
    share in which the classifier reads the image's digit.

    The distance, which falls with the number of samples, is of as many as there are images: one edit of each, in the
    mean over the lots.
    """

    def judge(x: Tensor) -> dict[str, float]:
        if not_numbers(x):
            return dict.fromkeys(("fd", "missed", "diversity", "agreement"), math.nan)
        own = x.double().flatten(1).unflatten(0, (-1, EACH))
        missed = observe(edit.operator, x) - held.observation
        logits = features(to_pixels(x, dataset.arrays), dataset.arrays).float()
        weight, bias = (torch.from_numpy(dataset.arrays[name]) for name in HEAD)
        lots = [kind.judge_samples(dataset, x[first::EACH], ["fd_train"])["fd_train"] for first in range(EACH)]
        return {
            "fd": sum(lots) / EACH,
            "missed": float(missed.square().mean().sqrt()),
            "diversity": float(own.var(1).mean().sqrt()),
            "agreement": float(((logits @ weight.T + bias).argmax(1) == held.labels).double().mean()),
        }

    return judge


def strip_of(
    edit: Edit, seen_by: Images, x: Tensor, arm: str | None = None, way: Way | None = None, shown: Tensor | None = None
) -> Strip:
    """The first edit of each image, in 256 levels of grey or colour; -1 where `shown` says that nothing is known."""
    pictures = seen_by.decoded(x[::EACH][:SHOWN].numpy())
    levels = np.clip((pictures - seen_by.black) / (seen_by.white - seen_by.black), 0, 1)
    whole = np.rint(255 * levels).astype(int)
    if shown is not None:
        whole[:, ~shown[0].numpy()] = -1
    about = {} if way is None else {"sampler": way.sampler, "evaluations": way.evaluations}
    return Strip(edit.name, whole.tolist(), arm, **about)
