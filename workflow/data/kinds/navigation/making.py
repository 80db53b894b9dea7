"""Demonstrations of the simulated task: made by its expert, and what samples are held against."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.metrics import sliced_wasserstein
from trigbench.workflow.data.kinds.navigation.courses import ACTIONS, COURSES
from trigbench.workflow.data.kinds.navigation.kind import METRICS
from trigbench.workflow.data.kinds.navigation.simulation import (
    BESIDE,
    LIMIT,
    UNDER_WAY,
    Course,
    Episodes,
    demonstrate,
)
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.kinds.navigation.kind import NavigationData
    from trigbench.workflow.study.samplers import EvaluationSettings

SPREAD, GUST = 0.02, 0.005
"""Standard deviations of where the expert passes a gap, at most twice that beside its middle, and of what blows it
about in each step, so that it shows what to do beside its ways."""


def prepare(data: "NavigationData", evaluation: "EvaluationSettings", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """Chunks in data units and observations in unit variance, of episodes that arrive, split in two."""
    course = course_of({name: np.array(getattr(COURSES[data.course], name)) for name in ("pillars", "ways")})
    shown = shown_by_expert(course, starts(data.episodes, data.seed, "starts"), GUST, data.seed, "demonstrations")
    order = torch.randperm(data.episodes, generator=generator(data.seed, "split")).numpy()
    held, train = (_pairs(shown, part) for part in np.split(order, [round(data.held_out * data.episodes)]))
    of_actions, of_observed = ((part.mean(0), part.std(0)) for part in (train[0].reshape(-1, 2), train[1]))
    arrays = {
        "pillars": course.pillars,
        "ways": course.ways,
        "actions_mean": of_actions[0],
        "actions_std": of_actions[1],
        "observed_mean": of_observed[0],
        "observed_std": of_observed[1],
        "sigma_d": np.float64(sigma_d),
    }
    for name, (chunks, observed) in {"train": train, "held_out": held}.items():
        arrays[name] = ((chunks - of_actions[0]) / of_actions[1] * sigma_d).astype(np.float32)
        arrays[f"{name}_observed"] = ((observed - of_observed[0]) / of_observed[1]).astype(np.float32)
    chosen = torch.randperm(len(held[0]), generator=generator(data.seed, "judged")).numpy()[: data.judged]
    arrays |= {name: arrays[name][chosen] for name in ("held_out", "held_out_observed")}
    counts = {"train": len(train[0]), "held_out": len(arrays["held_out"])}
    return arrays, {**counts, "expert_arrives": round(float(shown.arrived.mean()), 4)}


def course_of(arrays: Mapping[str, np.ndarray]) -> Course:
    """The course that a data set was prepared on."""
    return Course(arrays["pillars"], arrays["ways"])


def starts(count: int, *parts: int | str) -> np.ndarray:
    """Where so many episodes begin, along x; a function of the parts."""
    return BESIDE * (2 * torch.rand(count, generator=generator(*parts), dtype=torch.float64).numpy() - 1)


def shown_by_expert(course: Course, x: np.ndarray, gust: float, *parts: int | str) -> Episodes:
    """Episodes of the expert from x (episodes,), on ways, beside gaps and in gusts that are drawn from these parts."""
    g, count = generator(*parts), len(x)
    way = torch.randint(len(course.ways), (count,), generator=g)
    aside = SPREAD * torch.randn(count, course.ways.shape[1], generator=g, dtype=torch.float64).clamp(-2, 2)
    gusts = gust * torch.randn(LIMIT, count, 2, generator=g, dtype=torch.float64)
    return demonstrate(course, x, *(part.numpy() for part in (way, aside, gusts)))


def _pairs(shown: Episodes, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chunks (pairs, ACTIONS, 2) and what was observed before each, of those rows that arrive, in a fixed order."""
    rows = rows[shown.arrived[rows]]
    chunks = np.lib.stride_tricks.sliding_window_view(shown.actions[:, rows], ACTIONS, axis=0)  # (t, rows, 2, ACTIONS)
    times, which = np.nonzero(shown.ended[: len(chunks), rows] == UNDER_WAY)
    return chunks[times, which].transpose(0, 2, 1), shown.observed[times, rows[which]]


def judge_map(dataset: Dataset, field: Field) -> tuple[list[Value], list[Value]]:
    """Nothing: the exact map of demonstrations is not known."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """Chunks with what they were told, against as many held-out chunks with what was observed before them."""
    if "sliced_wasserstein" not in wanted:
        return {}
    rows = torch.arange(len(samples)) % len(dataset.arrays["held_out"])
    told = torch.from_numpy(dataset.arrays["held_out_observed"])[rows]
    own, held = (torch.cat([chunks.flatten(1), told], 1) for chunks in (samples, _held_out(dataset)[rows]))
    return {"sliced_wasserstein": sliced_wasserstein(own, held)}


def floors(dataset: Dataset) -> list[Value]:
    """Nothing: no other chunk of the expert's is known for what it observed."""
    return []


def _held_out(dataset: Dataset) -> Tensor:
    return torch.from_numpy(dataset.arrays["held_out"]) / float(dataset.arrays["sigma_d"])
