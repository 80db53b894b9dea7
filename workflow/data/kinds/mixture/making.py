"""Gaussian mixtures: the consistency map is known, so a learned one is judged point by point."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Field, consistency_map, interpolate
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.metrics import sliced_wasserstein
from trigbench.workflow.data.kinds.mixture.kind import METRICS
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.kinds.mixture.kind import MixtureData
    from trigbench.workflow.study.samplers import EvaluationSettings

ANGLES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
"""Where the learned map is held against the exact one, and at t_max."""


def prepare(data: "MixtureData", evaluation: "EvaluationSettings", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """The mixture, the exact map at fixed points of every angle, and two lots of fresh data."""
    mixture = _draw_mixture(data)
    angles = np.array([*ANGLES, largest_angle(sigma_d)])
    points = torch.stack([_evaluation_points(mixture, data, angle) for angle in angles])
    exact = _exact_map(mixture, points, angles)
    arrays = {
        "weights": mixture.weights.numpy(),
        "means": mixture.means.numpy(),
        "stds": mixture.stds.numpy(),
        "angles": angles,
        "points": points.numpy(),
        "exact": exact.numpy(),
        "reference": _sample(mixture, evaluation.samples, data.seed, "reference").numpy(),
        "other_reference": _sample(mixture, evaluation.samples, data.seed, "other reference").numpy(),
    }
    few = points[:, :32]
    tolerance = float((_exact_map(mixture, few, angles, steps=512) - exact[:, :32]).abs().max())
    return arrays, {"component_std": float(mixture.stds.min()), "exact_map_error": tolerance}


def judge_map(dataset: Dataset, field: Field) -> tuple[list[Value], list[Value]]:
    """Metrics of the learned map, and its error as a function of the angle."""
    curve, errors = [], []
    for angle, points, exact in zip(*(dataset.arrays[k] for k in ("angles", "points", "exact")), strict=True):
        x = torch.from_numpy(points).float()
        with torch.no_grad():
            learned = consistency_map(field, x, torch.full((len(x),), float(angle), dtype=torch.float64))
        errors.append(learned.double() - torch.from_numpy(exact))
        curve.append(Value(metric="map_rms", x=float(angle), value=float(errors[-1].square().mean().sqrt())))
    together = torch.stack(errors)
    metrics = [
        Value(metric="map_rms", value=float(together.square().mean().sqrt())),
        Value(metric="map_rms_one_step", value=curve[-1].value),
        Value(metric="map_worst", value=float(together.norm(dim=-1).max())),
    ]
    return metrics, curve


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """Samples against fresh data."""
    if "sliced_wasserstein" not in wanted:
        return {}
    return {"sliced_wasserstein": sliced_wasserstein(samples, torch.from_numpy(dataset.arrays["reference"]))}


def floors(dataset: Dataset) -> list[Value]:
    """The distance of fresh data from fresh data."""
    other = torch.from_numpy(dataset.arrays["other_reference"])
    return [Value(metric=name, value=value) for name, value in judge_samples(dataset, other).items()]


def _draw_mixture(data: "MixtureData") -> oracle.Mixture:
    g = generator(data.seed, "mixture")
    means = torch.randn(data.components, data.dimension, generator=g, dtype=torch.float64)
    weights = 1 + torch.rand(data.components, generator=g, dtype=torch.float64)
    stds = torch.full((data.components,), data.std, dtype=torch.float64)
    return oracle.standardised(oracle.Mixture(weights / weights.sum(), means, stds))


def _sample(mixture: oracle.Mixture, count: int, *parts: int | str) -> Tensor:
    g = generator(*parts)
    uniform = torch.rand(count, generator=g, dtype=torch.float64)
    return oracle.sample(mixture, uniform, torch.randn(count, mixture.means.shape[1], generator=g, dtype=torch.float64))


def _exact_map(mixture: oracle.Mixture, points: Tensor, angles: np.ndarray, steps: int = 256) -> Tensor:
    """The exact map of points (angles, count, dimension), all angles in one solve."""
    t = torch.from_numpy(angles).repeat_interleave(points.shape[1])
    return oracle.consistency_map(mixture, points.flatten(0, 1), t, steps).reshape(points.shape)


def _evaluation_points(mixture: oracle.Mixture, data: "MixtureData", angle: float) -> Tensor:
    x0 = _sample(mixture, data.evaluation_points, data.seed, "evaluation", f"{angle:.6f}")
    g = generator(data.seed, "evaluation noise", f"{angle:.6f}")
    z = torch.randn(x0.shape, generator=g, dtype=torch.float64)
    return interpolate(x0, z, torch.full((len(x0),), angle, dtype=torch.float64))
