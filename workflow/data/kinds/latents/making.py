"""ImageNet 512 in an autoencoder's latents: encoded once, decoded to be judged as images."""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset, not_numbers
from trigbench.workflow.data.features import judging
from trigbench.workflow.data.features.extractors import RESIZING, Extractor, check_weights, open_extractor
from trigbench.workflow.data.features.reference import frechet_to, open_reference, reference_file
from trigbench.workflow.data.files.drawing import AGAIN
from trigbench.workflow.data.files.shards import SHARDS, in_parallel, open_shards, write_shards
from trigbench.workflow.data.kinds.latents.autoencoder import (
    CHANNELS,
    FACTOR,
    check_autoencoder,
    denormalise,
    normalise,
    open_autoencoder,
)
from trigbench.workflow.data.kinds.latents.kind import METRICS
from trigbench.workflow.data.parts import check_enough
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.machine.files import sha256 as sha256_of
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.files.pictures import Pictures
    from trigbench.workflow.data.kinds.latents.kind import LatentsData
    from trigbench.workflow.study.samplers import EvaluationSettings

DRAWN = ("folder", "vae", "parts")
"""Of what is written down, what draws are made from; the rest is the judges', in an array of its own."""
AT_ONCE = 64
"""Samples that are decoded and looked at together."""


def encode(data: "LatentsData", parts: Mapping[str, "Pictures"]) -> dict[str, Any]:
    """Write the latents of both parts, what is missing of them; return where they lie.

    Of each latent its mean and standard deviation, float16: training draws anew each time.
    """
    files = check_autoencoder(Path(data.vae))
    marks = [*(part.digest for part in parts.values()), *(sha256_of(file) for file in files), data.size]
    modules = ["trigbench.workflow.data.files.pictures", "trigbench.workflow.data.kinds.latents.autoencoder"]
    folder = SHARDS / digest(marks, modules)
    side = data.size // FACTOR
    encoded = {
        name: write_shards(
            folder / name, part.digest, (2 * CHANNELS, side, side), "float16", part.labels, part.classes, part.rows,
            partial(_encoded, Path(data.vae), part),
        )
        for name, part in parts.items()
    }  # fmt: skip
    return {"folder": str(folder), "vae": data.vae, "parts": encoded}


def parts_of(data: "LatentsData") -> dict[str, "Pictures"]:
    """The images of both parts, with as many of them and classes as the study expects."""
    from trigbench.workflow.data.files.pictures import check_classes, check_counts, folder_part  # noqa: PLC0415 - Pillow, for the preparation alone

    train, held = (
        folder_part(Path(path), data.size, "adm", convert=True, labelled=True) for path in (data.path, data.held_out)
    )
    check_counts(train, data.count, data.classes, "count")
    check_counts(held, data.held_out_count, None, "held_out_count")
    check_classes(train, held)
    return {"train": train, "held_out": held}


def prepare(data: "LatentsData", evaluation: "EvaluationSettings", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """The latents, and statistics of the images themselves in the features of every extractor.

    Raises BenchError on missing weights before any image is read.
    """
    wanted = {"extractor": (data.extractor.kind, str(data.extractor.weights))}
    wanted |= {"dinov2": ("dinov2", data.dinov2)} if data.dinov2 else {}
    extractors = {key: open_extractor(kind, check_weights(kind, path)) for key, (kind, path) in wanted.items()}
    check_autoencoder(Path(data.vae))
    parts = parts_of(data)
    dimensions = max(extractor.dimensions(data.size) for extractor in extractors.values())
    check_enough(parts["train"].rows, parts["held_out"].rows, dimensions, data.reference, data.path)
    about = encode(data, parts)
    for key, extractor in extractors.items():
        about[key] = {"kind": extractor.name, "weights": str(extractor.weights), "sha256": extractor.sha256}
        about[f"references of {key}"] = {
            name: _reference(data, about, name, part, extractor) for name, part in parts.items()
        }
    train = parts["train"]
    count = min(train.rows, data.reference or train.rows)
    facts: dict[str, Any] = {"train": train.rows, "held_out": parts["held_out"].rows, "classes": len(train.classes)}
    facts["shards"] = about["parts"]
    facts["files"] = [f"{about['folder']}/{name}/manifest.json" for name in about["parts"]]
    facts["protocol"] = {
        **judging.protocol(about, evaluation, count, "adm"),
        "autoencoder": f"images in [-1, 1]; decoded samples against the original images, {data.size} pixels",
    }
    if data.dinov2:
        facts["protocol"]["fdd"] = f"dinov2, weights sha256 {extractors['dinov2'].sha256[:12]}, {RESIZING['dinov2']}"
    return {**judging.arrays_of(about, DRAWN), "sigma_d": np.array(sigma_d)}, facts


def judge_map(dataset: Dataset, field: Field) -> tuple[list[Value], list[Value]]:
    """Nothing: the exact map of real data is not known."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """Distances of decoded samples to the original images; NaN where what is decoded is not numbers."""
    about = judging.about_of(dataset.arrays)
    _, decode = open_autoencoder(Path(about["vae"]))
    lost = 0

    def pixels(latents: Tensor) -> Tensor:
        nonlocal lost
        decoded = decode(denormalise(latents))
        lost += not_numbers(decoded)
        return decoded.nan_to_num().to(torch.uint8)

    def features(key: str) -> Tensor:  # all images together would take a hundred gigabytes
        return judging.extractor_of(about[key]).of_parts(map(pixels, samples.split(AT_ONCE)), len(samples))

    found = {}
    if set(wanted) - {"fdd_train"}:
        found = judging.judge_features(about["references of extractor"], features("extractor"), wanted)
    if "fdd_train" in wanted and "dinov2" in about:
        reference = open_reference(about["references of dinov2"]["train"], AGAIN)
        found["fdd_train"] = frechet_to(reference, features("dinov2"))
    return dict.fromkeys(found, math.nan) if lost else found


def floors(dataset: Dataset) -> list[Value]:
    """Held-out images through the autoencoder, judged as if they were samples: what is lost in it alone."""
    about = judging.about_of(dataset.arrays)
    shards = open_shards(Path(about["folder"]) / "held_out", about["parts"]["held_out"], AGAIN)
    g = generator("floors")
    rows = torch.randperm(len(shards), generator=g).numpy()[: judging.LARGEST_FLOOR]
    noise = torch.randn(len(rows), *dataset.shape, generator=g)
    latents = normalise(torch.from_numpy(shards.rows(rows)), noise)
    wanted = [name for name in METRICS["samples"] if not name.endswith("_held_out")]
    return [Value(metric=name, value=value) for name, value in judge_samples(dataset, latents, wanted).items()]


def _encoded(vae: Path, part: "Pictures", rows: Sequence[int]) -> np.ndarray:
    pixels = torch.from_numpy(in_parallel(part.pixels)(rows))
    return open_autoencoder(vae)[0](pixels).numpy().astype(np.float16)


def _reference(
    data: "LatentsData", about: dict[str, Any], name: str, part: "Pictures", extractor: Extractor
) -> dict[str, str]:
    order = torch.randperm(part.rows, generator=generator(data.seed, name, "order")).numpy()

    def read(rows: np.ndarray) -> Tensor:
        return torch.from_numpy(in_parallel(part.pixels)(rows.tolist()))

    rows = order[: data.reference if name == "train" else None]
    return reference_file(Path(about["folder"]), name, part.digest, extractor, rows, read)
