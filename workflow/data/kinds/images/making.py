"""Folders of images, CIFAR-10 and ImageNet 64: uint8 shards, judged in the features that the study names."""

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
from trigbench.workflow.data.kinds.images.draws import to_unit_variance
from trigbench.workflow.data.kinds.images.kind import METRICS
from trigbench.workflow.data.parts import check_enough
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.files.pictures import Pictures
    from trigbench.workflow.data.kinds.images.kind import ImagesData
    from trigbench.workflow.study.samplers import EvaluationSettings

DRAWN = ("folder", "conditional", "flips", "parts")
"""Of what is written down, what draws are made from; the rest is the judges', in an array of its own."""


def prepare(data: "ImagesData", evaluation: "EvaluationSettings", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """Shards of both parts, the extractor, and its statistics of real images; what is there already is kept.

    Raises BenchError on missing weights before any image is read.
    """
    dimensions = dimensions_of(data.extractor, data.size)
    parts = dict(zip(PARTS, parts_of(data), strict=True))
    check_enough(parts["train"].rows, parts["held_out"].rows, dimensions, data.reference, data.path)
    folder = SHARDS / digest(
        [part.digest for part in parts.values()],
        ["trigbench.workflow.data.files.pictures", "trigbench.workflow.data.kinds.images.cifar10"],
    )
    shape = (3, data.size, data.size)
    about: dict[str, Any] = {"folder": str(folder), "conditional": data.conditional, "flips": data.flips}
    about["parts"] = {
        name: write_shards(
            folder / name, part.digest, shape, "uint8", part.labels, part.classes, part.rows, in_parallel(part.pixels)
        )
        for name, part in parts.items()
    }
    opened = {name: open_shards(folder / name, about["parts"][name], AGAIN) for name in parts}
    judges = judges_of(data, folder, opened, about["parts"])
    about |= judges.about
    arrays: Arrays = {**arrays_of(about, DRAWN), "sigma_d": np.array(sigma_d)}
    for name, shards in opened.items():
        arrays[f"{name}_shown"] = shards.rows(judges.orders[name][:SHOWN])
    facts: dict[str, Any] = {"train": len(opened["train"]), "held_out": len(opened["held_out"])}
    facts |= _class_facts(opened["train"], data.conditional)
    if judges.extractor.name == "classifier":
        facts["classifier_accuracy_held_out"] = accuracy_on(judges.extractor, opened["held_out"])
    facts["shards"] = about["parts"]
    facts["files"] = [f"{about['folder']}/{name}/manifest.json" for name in about["parts"]]
    facts["protocol"] = protocol(about, evaluation, len(judges.orders["train"][: data.reference]), data.resize)
    return arrays, facts


def parts_of(data: "ImagesData") -> tuple["Pictures", "Pictures"]:
    """The training and the held-out images, with as many images and classes as the study expects."""
    # Pillow, for the preparation alone
    from trigbench.workflow.data.files.pictures import check_classes, check_counts, folder_part  # noqa: PLC0415
    from trigbench.workflow.data.kinds.images.cifar10 import cifar10_parts  # noqa: PLC0415

    read = partial(folder_part, size=data.size, resize=data.resize, convert=data.convert, labelled=data.labels)
    if data.kind == "cifar10":
        train, held = cifar10_parts(Path(data.path), data.convert)
    elif isinstance(data.held_out, str):
        train, held = read(Path(data.path)), read(Path(data.held_out))
    else:
        whole = read(Path(data.path))
        order = torch.randperm(whole.rows, generator=generator(data.seed, "split")).tolist()
        count = round((data.held_out or 0.0) * whole.rows)
        train, held = whole.chosen(sorted(order[count:])), whole.chosen(sorted(order[:count]))
    check_counts(train, data.count, data.classes, "count")
    check_counts(held, data.held_out_count, None, "held_out_count")
    check_classes(train, held)
    return train, held


def to_pixels(images: Tensor, sigma_d: float) -> Tensor:
    """Unit variance -> uint8, rounded to the nearest level."""
    return ((images * sigma_d + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def judge_map(dataset: Dataset, field: Field) -> tuple[list[Value], list[Value]]:
    """Nothing: the exact map of real data is not known."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """Distances to both parts of the data, of samples rounded to pixels. Only what is wanted is computed."""
    pixels = to_pixels(samples, float(dataset.arrays["sigma_d"]))
    return judge_pixels(dataset.arrays, pixels, wanted)


def judge_pixels(arrays: Arrays, pixels: Tensor, wanted: Collection[str]) -> dict[str, float]:
    """The same of pixels, uint8. Nearest neighbours are sought among equally many images of both parts."""
    return judge_images(about_of(arrays), pixels, wanted, partial(_nearest, arrays, pixels))


def floors(dataset: Dataset) -> list[Value]:
    """Real against real, by pixels."""
    return real_against_real(dataset, judge_pixels, METRICS["samples"])


def _nearest(arrays: Arrays, pixels: Tensor, part: str) -> float:
    sigma_d = float(arrays["sigma_d"])
    count = min(len(arrays["train_shown"]), len(arrays["held_out_shown"]))
    others = torch.from_numpy(arrays[f"{part}_shown"][:count])
    return nearest_distance(to_unit_variance(pixels, sigma_d), to_unit_variance(others, sigma_d))


def _class_facts(train: Shards, conditional: bool) -> dict[str, Any]:
    counts = train.manifest.rows_of_class.values()
    if not counts:
        return {}
    return {"classes": len(counts), "fewest_of_a_class": min(counts), "most_of_a_class": max(counts),
            "networks_are_told_the_class": conditional}  # fmt: skip
