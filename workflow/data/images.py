"""Folders of images, CIFAR-10 and ImageNet 64: uint8 shards, judged in the features that the study names."""

import json
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.draws.images import AGAIN, drawn_from, to_unit_variance
from trigbench.workflow.data.features.extractors import (
    RESIZING,
    Extractor,
    accuracy,
    check_weights,
    open_extractor,
    random_weights,
    train_classifier,
)
from trigbench.workflow.data.features.metrics import kernel_distance, nearest_distance, precision_recall
from trigbench.workflow.data.features.reference import frechet_to, open_reference, reference_file
from trigbench.workflow.data.files.shards import SHARDS, Shards, in_parallel, open_shards, write_shards
from trigbench.workflow.data.kinds.images import METRICS
from trigbench.workflow.data.parts import check_enough
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.machine.tensors import write_tensors
from trigbench.workflow.study.dimensions import CLASSIFIER
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.features.settings import ExtractorSettings
    from trigbench.workflow.data.files.pictures import Pictures
    from trigbench.workflow.data.kinds.images import ImagesData
    from trigbench.workflow.study.samplers import Evaluation

PARTS = ("train", "held_out")
NEAREST = tuple(f"nearest_{part}" for part in PARTS)
"""Metrics that look at pixels and not at features."""
SHOWN = 1000
"""Images of each part that are kept beside: for pictures, and to look for nearest neighbours among."""
DRAWN = ("folder", "conditional", "flips", "parts", "vae")
"""Of what is written down, what draws are made from; the rest is the judges', in an array of its own."""


def prepare(data: "ImagesData", evaluation: "Evaluation", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """Shards of both parts, the extractor, and its statistics of real images; what is there already is kept.

    Raises BenchError on missing weights before any image is read.
    """
    dimensions = CLASSIFIER
    if data.extractor.weights is not None:
        published = open_extractor(data.extractor.kind, check_weights(data.extractor.kind, data.extractor.weights))
        dimensions = published.dimensions(data.size)
    parts = dict(zip(("train", "held_out"), parts_of(data), strict=True))
    check_enough(parts["train"].rows, parts["held_out"].rows, dimensions, data.reference, data.path)
    folder = SHARDS / digest(
        [part.digest for part in parts.values()],
        ["trigbench.workflow.data.files.pictures", "trigbench.workflow.data.files.cifar10"],
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
    orders = {name: fixed_order(len(shards), data.seed, name) for name, shards in opened.items()}
    extractor = make_extractor(data.extractor, folder, opened["train"], about["parts"]["train"], data.seed)
    about["extractor"] = {"kind": extractor.name, "weights": str(extractor.weights), "sha256": extractor.sha256}
    about["references"] = {
        name: reference_file(
            folder, name, about["parts"][name], extractor,
            orders[name][: data.reference if name == "train" else None], partial(pixels_of, shards),
        )
        for name, shards in opened.items()
    }  # fmt: skip
    arrays: Arrays = {**arrays_of(about), "sigma_d": np.array(sigma_d)}
    for name, shards in opened.items():
        arrays[f"{name}_shown"] = shards.rows(orders[name][:SHOWN])
    facts: dict[str, Any] = {"train": len(opened["train"]), "held_out": len(opened["held_out"])}
    facts |= _class_facts(opened["train"], data.conditional)
    if extractor.name == "classifier":
        facts["classifier_accuracy_held_out"] = _accuracy(extractor, opened["held_out"])
    facts["shards"] = about["parts"]
    facts["files"] = [f"{about['folder']}/{name}/manifest.json" for name in about["parts"]]
    facts["protocol"] = protocol(about, evaluation, len(orders["train"][: data.reference]), data.resize)
    return arrays, facts


def parts_of(data: "ImagesData") -> tuple["Pictures", "Pictures"]:
    """The training and the held-out images, with as many images and classes as the study expects."""
    from trigbench.workflow.data.files.cifar10 import cifar10_parts  # noqa: PLC0415 - Pillow, for the preparation alone
    from trigbench.workflow.data.files.pictures import check_classes, check_counts, folder_part  # noqa: PLC0415

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


def protocol(about: dict[str, Any], evaluation: "Evaluation", reference: int, resize: str) -> dict[str, Any]:
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


def arrays_of(about: Mapping[str, Any]) -> Arrays:
    """What is written down of the data, as arrays: what is drawn from, and what is judged by."""
    drawn = {key: value for key, value in about.items() if key in DRAWN}
    judged = {key: value for key, value in about.items() if key not in DRAWN}
    return {"about": np.array(json.dumps(drawn)), "judged_by": np.array(json.dumps(judged))}


def about_of(arrays: Arrays) -> dict[str, Any]:
    """Where the parts of the data set lie, and their digests."""
    return json.loads(str(arrays["judged_by"])) | drawn_from(arrays)


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
    about = about_of(arrays)
    found = {}
    if set(wanted) - set(NEAREST):
        found = judge_features(about["references"], extractor_of(about["extractor"])(pixels), wanted)
    return found | {f"nearest_{part}": _nearest(arrays, pixels, part) for part in PARTS if f"nearest_{part}" in wanted}


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


def floors(dataset: Dataset) -> list[Value]:
    """Real against real, by pixels."""
    return real_against_real(dataset, judge_pixels)


def real_against_real(
    dataset: Dataset, judge: Callable[[Arrays, Tensor, Collection[str]], dict[str, float]]
) -> list[Value]:
    """The held-out part judged as if it were samples.

    Its distance to itself is left out, being zero by definition.
    """
    about = about_of(dataset.arrays)
    shards = open_shards(Path(about["folder"]) / "held_out", about["parts"]["held_out"], AGAIN)
    pixels = pixels_of(shards, fixed_order(len(shards), 0, "floors")[:LARGEST_FLOOR])
    wanted = [name for name in METRICS["samples"] if not name.endswith("_held_out")]
    return [Value(metric=name, value=value) for name, value in judge(dataset.arrays, pixels, wanted).items()]


LARGEST_FLOOR = 10_000
"""Held-out images that are judged as samples."""


def _nearest(arrays: Arrays, pixels: Tensor, part: str) -> float:
    sigma_d = float(arrays["sigma_d"])
    count = min(len(arrays["train_shown"]), len(arrays["held_out_shown"]))
    others = torch.from_numpy(arrays[f"{part}_shown"][:count])
    return nearest_distance(to_unit_variance(pixels, sigma_d), to_unit_variance(others, sigma_d))


def pixels_of(shards: Shards, rows: np.ndarray) -> Tensor:
    """The images of these rows, (row, channel, height, width), uint8."""
    return torch.from_numpy(shards.rows(rows))


def fixed_order(count: int, seed: int, purpose: str) -> np.ndarray:
    """A fixed order of all rows, as files come sorted by class."""
    return torch.randperm(count, generator=generator(seed, purpose, "order")).numpy()


def _class_facts(train: Shards, conditional: bool) -> dict[str, Any]:
    counts = train.manifest.rows_of_class.values()
    if not counts:
        return {}
    return {"classes": len(counts), "fewest_of_a_class": min(counts), "most_of_a_class": max(counts),
            "networks_are_told_the_class": conditional}  # fmt: skip


def _accuracy(extractor: Extractor, held: Shards) -> float:
    from trigbench.workflow.machine.tensors import read_tensors  # noqa: PLC0415

    assert held.labels is not None
    rows = np.arange(len(held))[:LARGEST_FLOOR]
    return round(accuracy(read_tensors(extractor.weights, AGAIN), pixels_of(held, rows), held.labels[rows]), 4)
