"""scikit-learn's 8x8 digits painted in colours of one luminance, judged in features of a network that sees both."""

from collections.abc import Callable, Collection
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.features.metrics import check_features, frechet_distance, precision_recall
from trigbench.workflow.data.kinds.coloured.dimensions import GREY_LEVELS
from trigbench.workflow.data.kinds.coloured.kind import METRICS
from trigbench.workflow.data.kinds.coloured.painting import Pictures, drawn_colours, painted, scale
from trigbench.workflow.data.kinds.coloured.viewer import PREFIX, features, read, train_viewer
from trigbench.workflow.data.parts import check_enough
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.kinds.coloured.kind import ColouredData
    from trigbench.workflow.study.samplers import EvaluationSettings

OF_A_PART = ("", "_labels", "_colours")
"""Its levels of ink, its digits, and the colours that it is judged by: what their arrays' names end with."""


def prepare(data: "ColouredData", evaluation: "EvaluationSettings", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """Levels of ink from 0 to 1 in two parts, of each a colour as it is judged by, and a network that sees them."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - heavy, and for the preparation alone

    sklearns: Any = load_digits()
    levels, digits = torch.from_numpy(sklearns["images"] / GREY_LEVELS).float(), torch.from_numpy(sklearns["target"])
    order = torch.randperm(len(levels), generator=generator(data.seed, "split"))
    rows = dict(zip(("held_out", "train"), order.tensor_split([round(data.held_out * len(levels))]), strict=True))
    check_enough(len(rows["train"]), len(rows["held_out"]), CLASSIFIER)
    parts = {
        name: (levels[own], digits[own], drawn_colours(digits[own], generator(data.seed, "colours", name)))
        for name, own in rows.items()
    }
    mean, std = scale(*parts["train"][:2])
    weights = train_viewer(*parts["train"][:2], data.seed)
    arrays = {
        **{f"{name}{of}": x.numpy() for name, own in parts.items() for of, x in zip(OF_A_PART, own, strict=True)},
        "mean": np.float64(mean),
        "std": np.float64(std),
        **{f"{PREFIX}{name}": value.numpy() for name, value in weights.items()},
    }
    held, *true = parts["held_out"]
    said = read(painted(held, true[1]), arrays)
    right = [round(float((one == other).double().mean()), 4) for one, other in zip(said, true, strict=True)]
    facts = {"train": len(rows["train"]), "held_out": len(held)}
    return arrays, {**facts, "digits_read_held_out": right[0], "colours_read_held_out": right[1]}


def judge_map(dataset: Dataset, field: Field) -> tuple[list[Value], list[Value]]:
    """Nothing: the exact map of real digits is not known."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """Distances to both parts of the data. Only what is wanted is computed."""
    arrays = dataset.arrays
    check_features(samples.flatten(1), part(dataset, "held_out").flatten(1))
    own = features(pictures_of(samples, arrays), arrays)
    of = cache(lambda name: features(pictures_of(part(dataset, name), arrays), arrays))
    both = cache(lambda: precision_recall(own, of("train")))
    judges: dict[str, Callable[[], float]] = {
        "fd_train": lambda: frechet_distance(own, of("train")),
        "fd_held_out": lambda: frechet_distance(own, of("held_out")),
        "precision": lambda: both()[0],
        "recall": lambda: both()[1],
    }
    return {name: judge() for name, judge in judges.items() if name in wanted}


def floors(dataset: Dataset) -> list[Value]:
    """The held-out part judged as if it were samples: real against real.

    Its distance to itself is left out, being zero by definition.
    """
    found = judge_samples(dataset, part(dataset, "held_out"))
    return [Value(metric=name, value=value) for name, value in found.items() if name != "fd_held_out"]


def part(dataset: Dataset, name: str) -> Tensor:
    """The pictures of a part, each in its one colour, in unit variance."""
    levels, colours = (torch.from_numpy(dataset.arrays[key]) for key in (name, f"{name}_colours"))
    return points_of(painted(levels, colours), dataset.arrays)


def points_of(pictures: Pictures, arrays: Arrays) -> Tensor:
    """Pictures in unit variance."""
    return (pictures - float(arrays["mean"])) / float(arrays["std"])


def pictures_of(points: Tensor, arrays: Arrays) -> Pictures:
    """Points as red, green and blue, from 0 to 1 where they are pictures."""
    return points * float(arrays["std"]) + float(arrays["mean"])
