"""A data set of one's own: two half moons, to be replaced by yours.

trigbench check mine.py --settings '{noise: 0.1}'

A study names the module: `data: {points: {kind: own, module: mine, settings: {noise: 0.1}}}`.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trigbench import Condition
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.metrics import sliced_wasserstein
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.study.quantity import Quantity
from trigbench.workflow.study.records import Value

METRICS = {"map": (), "samples": ("sliced_wasserstein", "outside")}
"""Names of what the judges below return. What the project does not know is declared here:"""
QUANTITIES = {"outside": Quantity("samples off the moons", "lower", "share farther than 0.3", signed=True, unit="%")}


def prepare(data: Any, evaluation: Any, sigma_d: float, noise: float = 0.1) -> tuple[dict[str, np.ndarray], dict]:
    """Once: arrays, which are kept in a file, and facts for the report. What follows sigma_d are the study's settings.

    Files are read here, and only here. Nothing is drawn but from generators of a fixed seed.
    """
    parts = {name: _moons(evaluation.samples, name, noise) for name in ("train", "held_out", "other")}
    mean, std = parts["train"][0].mean(0), parts["train"][0].std()  # of the training part alone
    arrays: dict[str, np.ndarray] = {}
    for name, (points, labels) in parts.items():
        arrays |= {name: ((points - mean) / std).numpy(), f"{name}_labels": labels.numpy()}
    return arrays, {"train": evaluation.samples, "held_out": evaluation.samples}


def open_dataset(arrays: dict[str, np.ndarray], sigma_d: float) -> Dataset:
    """What training draws from, in unit variance, float32; labels are whole numbers from 0 to classes - 1."""
    points, labels = torch.from_numpy(arrays["train"]).float(), torch.from_numpy(arrays["train_labels"])

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        chosen = torch.randint(len(points), (batch,), generator=g)  # from g alone
        return points[chosen], Condition(label=labels[chosen])

    # without labels: classes=0, no shares, and UNTOLD in place of the Condition
    return Dataset((2,), classes=2, draw=draw, velocity=None, arrays=arrays, shares=(1.0, 1.0))


def judge_map(dataset: Dataset, field: Any) -> tuple[list[Value], list[Value]]:
    """(numbers, curves) of METRICS["map"] for a map whose exact values are known; nothing here."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """Samples of (count, *shape), in unit variance, against what training never saw."""
    fresh = torch.from_numpy(dataset.arrays["held_out"]).float()
    outside = float((torch.cdist(samples, fresh).amin(1) > 0.3).double().mean())
    return {"sliced_wasserstein": sliced_wasserstein(samples, fresh), "outside": 100 * outside}


def floors(dataset: Dataset) -> list[Value]:
    """What perfect samples would be given: data against data."""
    found = judge_samples(dataset, torch.from_numpy(dataset.arrays["other"]).float())
    return [Value(metric=name, value=value) for name, value in found.items()]


def _moons(count: int, purpose: str, noise: float) -> tuple[Tensor, Tensor]:
    """Points and which moon each is of."""
    g = generator("mine", purpose)
    labels = torch.arange(count) % 2
    angle = torch.pi * torch.rand(count, generator=g)
    moons = torch.stack([angle.cos(), angle.sin()], 1), torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    points = torch.where(labels[:, None] == 0, *moons)
    return points + noise * torch.randn(count, 2, generator=g), labels
