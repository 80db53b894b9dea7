"""Moving shapes: drawn, and judged by the physics that they obey and in the features of a network that sees them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.metrics import check_features, frechet_distance, precision_recall
from trigbench.workflow.data.kinds.moving.dimensions import TRAVEL
from trigbench.workflow.data.kinds.moving.kind import METRICS
from trigbench.workflow.data.kinds.moving.motion import nearest_even, rendered, seen, sprites, tracks
from trigbench.workflow.data.kinds.moving.viewer import PREFIX, answers, features, train_viewer
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.data.shares import labels_in_shares
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.kinds.moving.kind import MovingData
    from trigbench.workflow.study.samplers import EvaluationSettings

WHOLE = 0.25
"""What a frame may miss of one shape at one place (`Seen.missed`) to be taken for it: less than two pixels."""
EVEN = 0.25
"""Pixels by which a track may miss an even motion to be taken for one."""
BESIDE = 0.1
"""Pixels a frame by which its speed may lie beside the data's."""


def prepare(data: "MovingData", evaluation: "EvaluationSettings", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """Videos in data units (standard deviation sigma_d) in two parts, shapes in turn, and a network that sees them."""
    parts = {name: _drawn(data, name, count) for name, count in (("train", data.videos), ("held_out", data.held_out))}
    videos, labels, motions = parts["train"]
    mean, std = float(videos.mean()), float(videos.std())
    weights = train_viewer(((videos - mean) / std).float(), labels, motions.float(), data.seed)
    arrays = {
        **{name: ((part[0] - mean) / std * sigma_d).float().numpy() for name, part in parts.items()},
        "train_labels": labels.numpy(),
        "mean": np.float64(mean),
        "std": np.float64(std),
        "shapes": np.array(data.shapes),
        "slowest": np.float64(data.speed[0]),
        "fastest": np.float64(data.speed[1]),
        "sigma_d": np.float64(sigma_d),
        **{f"{PREFIX}{name}": value.numpy() for name, value in weights.items()},
    }
    held, told, moved = parts["held_out"]
    said = answers(features((held - mean) / std, arrays), arrays)
    right = float((said[:, : len(data.shapes)].argmax(1) == told).double().mean())
    missed = float((said[:, len(data.shapes) :] - moved).square().mean().sqrt())
    facts = {"train": data.videos, "held_out": data.held_out, "classes": len(data.shapes)}
    return arrays, {**facts, "shapes_seen_held_out": round(right, 4), "motions_missed_held_out": round(missed, 4)}


def _drawn(data: "MovingData", part: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Videos with levels from 0 to 1, their shapes' numbers, and the motions: where each begins, and its velocity, over
    their ranges. A function of the data's seed."""
    g = generator(data.seed, "motions", part)
    start = TRAVEL * torch.rand(count, 2, generator=g, dtype=torch.float64)
    turn, share = torch.rand(2, count, generator=g, dtype=torch.float64)
    speed = data.speed[0] + (data.speed[1] - data.speed[0]) * share
    velocity = speed[:, None] * torch.stack([(2 * torch.pi * turn).cos(), (2 * torch.pi * turn).sin()], 1)
    labels = torch.arange(count) % len(data.shapes)
    videos = rendered(sprites(data.shapes)[labels], tracks(start, velocity))
    return videos, labels, torch.cat([2 * start / TRAVEL - 1, velocity / data.speed[1]], 1)


def judge_map(dataset: Dataset, field: Field) -> tuple[list[Value], list[Value]]:
    """Nothing: the exact map of videos is not known."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """How far samples are from one shape that moves evenly, and their distances to both parts of the data.

    Samples are labelled as `labels_in_shares` has it of their rows.
    """
    arrays, held = dataset.arrays, part(dataset, "held_out")
    check_features(samples.flatten(1), held.flatten(1))
    watched = cache(lambda: watch(samples, arrays, dataset.shares))
    own = cache(lambda: features(samples, arrays))
    of_train = cache(lambda: features(part(dataset, "train"), arrays))
    both = cache(lambda: precision_recall(own(), of_train()))
    judges: dict[str, Callable[[], float]] = {
        "lawful": lambda: float(watched().lawful(arrays).double().mean()),
        "intact": lambda: float(watched().intact.double().mean()),
        "motion_error": lambda: float(watched().away.mean()),
        "shape_error": lambda: float(watched().missed.mean()),
        "speed_error": lambda: _between(watched().speed, watch(held, arrays, dataset.shares).speed),
        "fd_train": lambda: frechet_distance(own(), of_train()),
        "fd_held_out": lambda: frechet_distance(own(), features(held, arrays)),
        "precision": lambda: both()[0],
        "recall": lambda: both()[1],
    }
    return {name: judge() for name, judge in judges.items() if name in wanted}


@dataclass(frozen=True)
class Watched:
    """Of every video what its physics are."""

    intact: Bool[Tensor, " videos"]
    """Whether each frame shows the shape that was asked for, once."""
    missed: Float[Tensor, " videos"]
    """The mean over frames of `Seen.missed`."""
    away: Float[Tensor, " videos"]
    """Pixels from the nearest even motion."""
    speed: Float[Tensor, " videos"]
    """Of that motion, in pixels a frame."""

    def lawful(self, arrays: Arrays) -> Bool[Tensor, " videos"]:
        """Whether a video is whole, moves evenly, and at a speed that the data have."""
        slowest, fastest = (float(arrays[name]) for name in ("slowest", "fastest"))
        known = (self.speed >= slowest - BESIDE) & (self.speed <= fastest + BESIDE)
        return self.intact & (self.away <= EVEN) & known


def watch(samples: Tensor, arrays: Arrays, shares: Sequence[float] | None) -> Watched:
    """Of videos (n, frames, side, side) in unit variance whose shapes are asked for in these shares."""
    names = [str(name) for name in arrays["shapes"]]
    asked = torch.from_numpy(labels_in_shares(range(len(samples)), shares or [1] * len(names)))
    found = seen(samples.double() * float(arrays["std"]) + float(arrays["mean"]), names)
    away, speed = nearest_even(found.places, float(arrays["fastest"]))
    intact = ((found.shape == asked[:, None]) & (found.missed <= WHOLE)).all(1)
    return Watched(intact, found.missed.mean(1), away, speed)


def _between(some: Tensor, others: Tensor) -> float:
    """The mean distance of two laws' quantiles, which is their 1-Wasserstein distance to the width of a share."""
    shares = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    return float((some.quantile(shares) - others.quantile(shares)).abs().mean())


def floors(dataset: Dataset) -> list[Value]:
    """The held-out part judged as if it were samples: real against real.

    Its distances to itself are left out, being zero by definition.
    """
    found = judge_samples(dataset, part(dataset, "held_out"))
    return [Value(metric=name, value=value) for name, value in found.items() if name not in OF_ITSELF]


OF_ITSELF = ("fd_held_out", "speed_error")


def part(dataset: Dataset, name: str) -> Tensor:
    """The videos of a part, in unit variance."""
    return torch.from_numpy(dataset.arrays[name]).float() / float(dataset.arrays["sigma_d"])
