"""Grey images of the MNIST family: uint8 shards, judged as images are, in the features that the study names."""

import dataclasses
import hashlib
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.judging import (
    PARTS,
    SHOWN,
    about_of,
    accuracy_on,
    arrays_of,
    dimensions_of,
    judge_images,
    judges_of,
    protocol,
    real_against_real,
)
from trigbench.workflow.data.features.metrics import nearest_distance
from trigbench.workflow.data.files.drawing import AGAIN
from trigbench.workflow.data.files.shards import SHARDS, Shards, in_parallel, open_shards, write_shards
from trigbench.workflow.data.kinds.idx.draws import to_levels, to_unit_variance
from trigbench.workflow.data.kinds.idx.kind import METRICS
from trigbench.workflow.data.parts import check_enough
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.files.pictures import Pictures
    from trigbench.workflow.data.kinds.idx.kind import IdxData
    from trigbench.workflow.study.samplers import EvaluationSettings

DRAWN = ("folder", "conditional", "parts", "fold", "mean", "std")
"""Of what is written down, what draws are made from; the rest is the judges'."""
RGB = 3
"""Channels of what extractors see: grey three times."""


def prepare(data: "IdxData", evaluation: "EvaluationSettings", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """Shards of both parts, the extractor, and its statistics of real images; what is there already is kept.

    Raises BenchError for files that are missing or damaged, and for missing weights before any file is read.
    """
    dimensions = dimensions_of(data.extractor, data.size)
    parts, content = parts_of(data)
    check_enough(parts["train"].rows, parts["held_out"].rows, dimensions, data.reference, data.path)
    folder = SHARDS / digest([content, *data.labels], ["trigbench.workflow.data.kinds.idx.files"])
    written = {
        name: write_shards(
            folder / name, part.digest, (1, data.size, data.size), "uint8", part.labels, part.classes, part.rows,
            in_parallel(part.pixels),
        )
        for name, part in parts.items()
    }  # fmt: skip
    opened = {name: open_shards(folder / name, written[name], AGAIN) for name in parts}
    mean, std = _moments(opened["train"], data.path)
    about: dict[str, Any] = {"folder": str(folder), "conditional": data.conditional, "parts": written}
    about |= {"fold": data.fold, "mean": mean, "std": std}
    seen = {name: in_colour(shards) for name, shards in opened.items()}
    judges = judges_of(data, folder, seen, written)
    about |= judges.about
    said = protocol(about, evaluation, len(judges.orders["train"][: data.reference]), "none")
    facts = _facts(data, opened, (mean, std), sigma_d) | {"content": content}
    if judges.extractor.name == "classifier":
        facts["classifier_accuracy_held_out"] = accuracy_on(judges.extractor, seen["held_out"])
    facts |= {"files": [f"{folder}/{name}/manifest.json" for name in parts], "protocol": said}
    return _arrays(about, opened, judges.orders, sigma_d), facts


def parts_of(data: "IdxData") -> tuple[dict[str, "Pictures"], str]:
    """Both parts, and the digest of all of it; with as many images, and of that digest, as the study expects."""
    from trigbench.workflow.data.files.pictures import check_counts  # noqa: PLC0415
    from trigbench.workflow.data.kinds.idx.files import FETCH, idx_part  # noqa: PLC0415 - for the preparation alone

    parts = {name: idx_part(Path(data.path), name, data.size, data.labels) for name in PARTS}
    check_counts(parts["train"], data.count, None, "count")
    check_counts(parts["held_out"], data.held_out_count, None, "held_out_count")
    content = hashlib.sha256("".join(part.digest for part in parts.values()).encode()).hexdigest()
    if data.content not in (None, content):
        problem = f"other images or labels than the study names: expected content {data.content}, found {content}"
        raise BenchError(problem, file=data.path, key="content", remedy=f"name the folder that is meant. {FETCH}")
    return parts, content


def in_colour(shards: Shards) -> Shards:
    """The same rows with their channel three times, as views: extractors see RGB."""
    _, *side = shards.manifest.shape
    manifest = shards.manifest.model_copy(update={"shape": (RGB, *side)})
    maps = tuple(np.broadcast_to(rows, (len(rows), RGB, *side)) for rows in shards.maps)
    return dataclasses.replace(shards, manifest=manifest, maps=maps)


def judge_map(dataset: Dataset, field: Field) -> tuple[list[Value], list[Value]]:
    """Nothing: the exact map of real data is not known."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """Distances to both parts of the data, of samples rounded to grey levels. Only what is wanted is computed."""
    about = about_of(dataset.arrays)
    return _judge_levels(dataset.arrays, to_levels(samples, about["mean"], about["std"], about["fold"]), wanted)


def floors(dataset: Dataset) -> list[Value]:
    """Real against real, by grey levels."""
    return real_against_real(dataset, _judge_levels, METRICS["samples"])


def _judge_levels(arrays: Arrays, levels: Tensor, wanted: Collection[str]) -> dict[str, float]:
    """The same of grey levels, uint8. Nearest neighbours are sought among equally many images of both parts."""
    seen, nearest = levels.expand(-1, RGB, -1, -1), partial(_nearest, arrays, levels)
    return judge_images(about_of(arrays), seen, wanted, nearest)


def _nearest(arrays: Arrays, levels: Tensor, part: str) -> float:
    about = about_of(arrays)
    count = min(len(arrays[f"{name}_shown"]) for name in PARTS)
    others = torch.from_numpy(arrays[f"{part}_shown"][:count])
    own, theirs = (to_unit_variance(images, about["mean"], about["std"], 1) for images in (levels, others))
    return nearest_distance(own, theirs)


def _arrays(about: dict[str, Any], parts: dict[str, Shards], orders: dict[str, np.ndarray], sigma_d: float) -> Arrays:
    """What is written down, and some images of each part: for pictures, and to look for nearest neighbours among."""
    labels = parts["train"].labels
    assert labels is not None
    return {
        **arrays_of(about, DRAWN),
        "sigma_d": np.array(sigma_d),
        **{f"{name}_shown": shards.rows(orders[name][:SHOWN]) for name, shards in parts.items()},
        "train_shown_labels": np.array(labels[orders["train"][:SHOWN]]),
        "shares": np.array(list(parts["train"].manifest.rows_of_class.values())),
    }


def _facts(data: "IdxData", parts: dict[str, Shards], moments: tuple[float, float], sigma_d: float) -> dict[str, Any]:
    (mean, std), counts = moments, parts["train"].manifest.rows_of_class.values()
    scaled = f"grey levels less {mean:.6g}, over {std:.6g}, times sigma_d ({sigma_d:g}): mean 0, deviation sigma_d"
    return {
        "train": len(parts["train"]), "held_out": len(parts["held_out"]), "classes": len(counts),
        "fewest_of_a_class": min(counts), "most_of_a_class": max(counts), "names": ", ".join(data.labels),
        "networks_are_told_the_class": data.conditional, "scaled": scaled,
    }  # fmt: skip


def _moments(shards: Shards, path: str) -> tuple[float, float]:
    """Mean and standard deviation of all grey levels, exactly, from how often each comes."""
    counts = sum(np.bincount(rows.ravel(), minlength=256) for rows in shards.maps)
    levels = np.arange(256)
    mean = float((counts * levels).sum() / np.sum(counts))
    std = float(np.sqrt((counts * (levels - mean) ** 2).sum() / np.sum(counts)))
    if std == 0:
        problem, remedy = "all pixels of the training part are of one grey level", "name the folder that is meant"
        raise BenchError(problem, file=path, key="path", remedy=remedy)
    return mean, std
