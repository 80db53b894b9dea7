"""A data set of one's own, points on a spiral: snakemake --config study=examples/own_data.yaml."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trigbench import UNTOLD, Condition
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.metrics import sliced_wasserstein
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.study.quantity import Quantity
from trigbench.workflow.study.records import Value

METRICS = {"map": (), "samples": ("sliced_wasserstein", "near")}
QUANTITIES = {"near": Quantity("samples near the spiral", "higher", "share within 0.05", signed=True, unit="%")}


def prepare(data: Any, evaluation: Any, sigma_d: float, turns: float = 1.5) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays in data units, and facts that stand in the report; what comes after sigma_d are the study's settings."""
    parts = {name: _spiral(evaluation.samples, name, turns) for name in ("train", "reference", "other")}
    mean, std = parts["train"].mean(0), parts["train"].std()
    return {name: ((part - mean) / std).numpy() for name, part in parts.items()}, {"train": len(parts["train"])}


def open_dataset(arrays: dict[str, np.ndarray], sigma_d: float) -> Dataset:
    """What training draws from, in unit variance."""
    points = torch.from_numpy(arrays["train"])

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        return points[torch.randint(len(points), (batch,), generator=g)], UNTOLD

    return Dataset((2,), classes=0, draw=draw, velocity=None, arrays=arrays)


def judge_map(dataset: Dataset, field: Any) -> tuple[list[Value], list[Value]]:
    """Nothing: the exact map is not known."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Any = METRICS["samples"]) -> dict[str, float]:
    """Samples against points that training never saw."""
    fresh = torch.from_numpy(dataset.arrays["reference"])
    near = float((torch.cdist(samples, fresh).amin(1) < 0.05).double().mean())
    return {"sliced_wasserstein": sliced_wasserstein(samples, fresh), "near": 100 * near}


def floors(dataset: Dataset) -> list[Value]:
    """Fresh points against fresh points."""
    found = judge_samples(dataset, torch.from_numpy(dataset.arrays["other"]))
    return [Value(metric=name, value=value) for name, value in found.items()]


def _spiral(count: int, purpose: str, turns: float) -> Tensor:
    g = generator("spiral", purpose)
    angle = 2 * torch.pi * turns * (radius := torch.rand(count, generator=g).sqrt())
    points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return points + 0.01 * torch.randn(count, 2, generator=g)
