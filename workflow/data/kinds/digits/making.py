"""scikit-learn's 8x8 digits: real images without a download, judged in a classifier's features."""

from collections.abc import Callable, Collection
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.features.metrics import (
    frechet_distance,
    kernel_distance,
    nearest_distance,
    precision_recall,
)
from trigbench.workflow.data.kinds.digits.classifier import features, to_pixels, train_classifier
from trigbench.workflow.data.kinds.digits.kind import METRICS
from trigbench.workflow.data.parts import check_enough
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.kinds.digits.kind import DigitsData
    from trigbench.workflow.study.samplers import EvaluationSettings


def prepare(data: "DigitsData", evaluation: "EvaluationSettings", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """Images in data units (standard deviation sigma_d), split in two, and a classifier of the training part."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - heavy, and for the preparation alone

    digits: Any = load_digits()
    images, labels = digits["images"].reshape(-1, 1, 8, 8).astype(np.float32), digits["target"]
    images = bold(images) if data.style == "bold" else images
    order = torch.randperm(len(images), generator=generator(data.seed, "split")).numpy()
    held, train = np.split(order, [round(data.held_out * len(images))])
    check_enough(len(train), len(held), CLASSIFIER)
    mean, std = float(images[train].mean()), float(images[train].std())
    extractor, accuracy = train_classifier(images[train], labels[train], images[held], labels[held], data.seed)
    arrays = {
        "train": (images[train] - mean) / std * sigma_d,
        "train_labels": labels[train],
        "held_out": (images[held] - mean) / std * sigma_d,
        "held_out_labels": labels[held],
        "mean": np.float64(mean),
        "std": np.float64(std),
        "sigma_d": np.float64(sigma_d),
        **{f"extractor/{name}": value.numpy() for name, value in extractor.items()},
    }
    return arrays, {"train": len(train), "held_out": len(held), "classifier_accuracy_held_out": round(accuracy, 4)}


def bold(images: np.ndarray) -> np.ndarray:
    """Strokes a pixel wider to the right: each pixel the larger of itself and of its left neighbour."""
    return np.maximum(images, np.pad(images, ((0, 0), (0, 0), (0, 0), (1, 0)))[..., :-1])


def judge_map(dataset: Dataset, field: Field) -> tuple[list[Value], list[Value]]:
    """Nothing: the exact map of real data is not known."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """Distances to both parts of the data; rounded to grey levels first. Only what is wanted is computed.

    Nearest neighbours are sought among equally many images of both parts, since more are nearer.
    """
    arrays = dataset.arrays
    pixels, real, held = to_pixels(samples, arrays), _part(dataset, "train"), _part(dataset, "held_out")
    own, (of_train, of_held) = features(pixels, arrays), _features_of_parts(dataset)
    rounded = (pixels - float(arrays["mean"])) / float(arrays["std"])
    both = cache(lambda: precision_recall(own, of_train))
    judges: dict[str, Callable[[], float]] = {
        "fd_train": lambda: frechet_distance(own, of_train),
        "fd_held_out": lambda: frechet_distance(own, of_held),
        "kid_train": lambda: kernel_distance(own, of_train),
        "precision": lambda: both()[0],
        "recall": lambda: both()[1],
        "nearest_train": lambda: nearest_distance(rounded, real[: len(held)]),
        "nearest_held_out": lambda: nearest_distance(rounded, held),
    }
    return {name: judge() for name, judge in judges.items() if name in wanted}


def floors(dataset: Dataset) -> list[Value]:
    """The held-out part judged as if it were samples: real against real.

    Its distance to itself is left out, being zero by definition.
    """
    found = judge_samples(dataset, _part(dataset, "held_out"))
    return [Value(metric=name, value=value) for name, value in found.items() if not name.endswith("_held_out")]


def _features_of_parts(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Of the training and the held-out images; the last data set's are kept, by which a run's samplings are judged."""
    if not _KEPT or _KEPT[0][0] is not dataset.arrays:
        parts = (features(to_pixels(_part(dataset, n), dataset.arrays), dataset.arrays) for n in ("train", "held_out"))
        _KEPT[:] = [(dataset.arrays, (next(parts), next(parts)))]
    return _KEPT[0][1]


_KEPT: list[tuple[Arrays, tuple[Tensor, Tensor]]] = []


def _part(dataset: Dataset, name: str) -> Tensor:
    return torch.from_numpy(dataset.arrays[name]).float() / float(dataset.arrays["sigma_d"])
