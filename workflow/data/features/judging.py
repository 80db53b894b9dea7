"""What kinds of images share: how shards become features, what is judged in these, and what is written down of it."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.features.extractors import (
    RESIZING,
    Extractor,
    accuracy,
    check_weights,
    open_extractor,
    random_weights,
    train_classifier,
)
from trigbench.workflow.data.features.metrics import kernel_distance, precision_recall
from trigbench.workflow.data.features.reference import frechet_to, open_reference, reference_file
from trigbench.workflow.data.files.drawing import AGAIN, drawn_from
from trigbench.workflow.data.files.shards import Shards, open_shards
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.features.settings import ExtractorSettings
    from trigbench.workflow.study.samplers import EvaluationSettings

PARTS = ("train", "held_out")
NEAREST = tuple(f"nearest_{part}" for part in PARTS)
"""Metrics that look at pixels and not at features."""
SHOWN = 1000
"""Images of each part that are kept beside: for pictures, and to look for nearest neighbours among."""
LARGEST_FLOOR = 10_000
"""Held-out images that are judged as samples."""


@dataclass(frozen=True)
class Judges:
    """What a data set of shards is judged by."""

    extractor: Extractor
    orders: dict[str, np.ndarray]
    """Rows of each part, in an order of the data's seed."""
    about: dict[str, Any]
    """What is written down of the extractor, and of its statistics of real images."""


def dimensions_of(settings: "ExtractorSettings", side: int) -> int:
    """Of the features that the study names. Raises BenchError on missing weights."""
    if settings.weights is None:
        return CLASSIFIER
    return open_extractor(settings.kind, check_weights(settings.kind, settings.weights)).dimensions(side)


def judges_of(data: Any, folder: Path, seen: Mapping[str, Shards], written: Mapping[str, str]) -> Judges:
    """The extractor of a data set's shards, as it sees them, and its statistics of both parts, made or kept.

    `data` are settings with `extractor`, `seed` and `reference`; `written` are the digests of the parts.
    """
    orders = {name: fixed_order(len(shards), data.seed, name) for name, shards in seen.items()}
    extractor = make_extractor(data.extractor, folder, seen["train"], written["train"], data.seed)
    references = {
        name: reference_file(
            folder, name, written[name], extractor, orders[name][: data.reference if name == "train" else None],
            partial(pixels_of, shards),
        )
        for name, shards in seen.items()
    }  # fmt: skip
    said = {"kind": extractor.name, "weights": str(extractor.weights), "sha256": extractor.sha256}
    return Judges(extractor, orders, {"extractor": said, "references": references})


def judge_images(
    about: Mapping[str, Any], images: Tensor, wanted: Collection[str], nearest: Callable[[str], float]
) -> dict[str, float]:
    """What is wanted of images, uint8 as the extractor sees them, `nearest` being the distance to a part's nearest."""
    found = {}
    if set(wanted) - set(NEAREST):
        found = judge_features(about["references"], extractor_of(about["extractor"])(images), wanted)
    return found | {f"nearest_{part}": nearest(part) for part in PARTS if f"nearest_{part}" in wanted}


def make_extractor(settings: "ExtractorSettings", folder: Path, train: Shards, source: str, seed: int) -> Extractor:
    """The extractor that the study names; a classifier is trained once for the same images and seed."""
    kind, side = settings.kind, train.manifest.shape[-1]
    if settings.weights is not None:
        return open_extractor(kind, check_weights(kind, settings.weights))
    path = folder / f"{kind}-{digest([source, seed], ['trigbench.workflow.data.features.extractors'])}.safetensors"
    if not path.is_file() and kind == "random":
        write_tensors(path, random_weights(side))
    elif not path.is_file():
        assert train.labels is not None  # the schema asks for them
        classes = len(train.manifest.classes)
        write_tensors(path, train_classifier(train.rows, np.asarray(train.labels), classes, side, seed))
    return open_extractor(kind, path)


def protocol(about: dict[str, Any], evaluation: "EvaluationSettings", reference: int, resize: str) -> dict[str, Any]:
    """What must be said beside a distance so that it can be compared."""
    extractor = about["extractor"]
    return {
        "samples": evaluation.samples,
        "sampling_seed": evaluation.seed,
        "reference": f"{reference} images of the training part",
        "resize": resize,
        "extractor": f"{extractor['kind']}, weights sha256 {extractor['sha256'][:12]}",
        "extractor_resize": RESIZING[extractor["kind"]],
    }


def arrays_of(about: Mapping[str, Any], drawn_by: Collection[str]) -> Arrays:
    """What is written down of the data, as arrays: by these keys what is drawn from, and what is judged by."""
    drawn = {key: value for key, value in about.items() if key in drawn_by}
    judged = {key: value for key, value in about.items() if key not in drawn_by}
    return {"about": np.array(json.dumps(drawn)), "judged_by": np.array(json.dumps(judged))}


def about_of(arrays: Arrays) -> dict[str, Any]:
    """Where the parts of the data set lie, and their digests."""
    return json.loads(str(arrays["judged_by"])) | drawn_from(arrays)


def judge_features(references: Mapping[str, Any], features: Tensor, wanted: Collection[str]) -> dict[str, float]:
    """The distances that features of samples decide, by the references of both parts."""
    to_part = {name: partial(open_reference, origin, AGAIN) for name, origin in references.items()}
    both = cache(lambda: precision_recall(features, to_part["train"]().features))
    judges: dict[str, Callable[[], float]] = {
        "fd_train": lambda: frechet_to(to_part["train"](), features),
        "fd_held_out": lambda: frechet_to(to_part["held_out"](), features),
        "kid_train": lambda: kernel_distance(features, to_part["train"]().features),
        "precision": lambda: both()[0],
        "recall": lambda: both()[1],
    }
    return {name: judge() for name, judge in judges.items() if name in wanted}


def extractor_of(origin: Mapping[str, str]) -> Extractor:
    """The extractor that was written down when the data were prepared."""
    return open_extractor(origin["kind"], Path(origin["weights"]), origin["sha256"])


def real_against_real(
    dataset: Dataset, judge: Callable[[Arrays, Tensor, Collection[str]], dict[str, float]], metrics: Collection[str]
) -> list[Value]:
    """The held-out part judged by these metrics as if it were samples.

    Its distance to itself is left out, being zero by definition.
    """
    about = about_of(dataset.arrays)
    shards = open_shards(Path(about["folder"]) / "held_out", about["parts"]["held_out"], AGAIN)
    pixels = pixels_of(shards, fixed_order(len(shards), 0, "floors")[:LARGEST_FLOOR])
    wanted = [name for name in metrics if not name.endswith("_held_out")]
    return [Value(metric=name, value=value) for name, value in judge(dataset.arrays, pixels, wanted).items()]


def pixels_of(shards: Shards, rows: np.ndarray) -> Tensor:
    """The images of these rows, (row, channel, height, width), uint8."""
    return torch.from_numpy(shards.rows(rows))


def fixed_order(count: int, seed: int, purpose: str) -> np.ndarray:
    """A fixed order of all rows, as files come sorted by class."""
    return torch.randperm(count, generator=generator(seed, purpose, "order")).numpy()


def accuracy_on(extractor: Extractor, held: Shards) -> float:
    """Of the classifier that was trained here, on images that it has not seen; a share, to 4 places."""
    assert held.labels is not None
    rows = np.arange(len(held))[:LARGEST_FLOOR]
    return round(accuracy(read_tensors(extractor.weights, AGAIN), pixels_of(held, rows), held.labels[rows]), 4)
