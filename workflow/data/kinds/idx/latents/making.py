"""Grey images in the latents of an autoencoder: that is trained, they are encoded once, samples decoded and judged."""

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.data.autoencoders import load_diffusers
from trigbench.workflow.data.dataset import Dataset, not_numbers
from trigbench.workflow.data.features.judging import PARTS, about_of, extractor_of, fixed_order, judge_features
from trigbench.workflow.data.files.drawing import AGAIN
from trigbench.workflow.data.files.shards import Shards, open_shards, write_shards
from trigbench.workflow.data.kinds.idx import making as idx
from trigbench.workflow.data.kinds.idx.draws import to_unit_variance
from trigbench.workflow.data.kinds.idx.labelled import labelled
from trigbench.workflow.data.kinds.idx.latents.autoencoder import Autoencoder, autoencoder_of, make_autoencoder
from trigbench.workflow.data.kinds.idx.latents.dimensions import CHANNELS, PIXELS_A_LATENT
from trigbench.workflow.data.kinds.idx.latents.kind import METRICS
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.data.shares import labels_in_shares
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.kinds.idx.latents.kind import IdxLatentsData
    from trigbench.workflow.study.samplers import EvaluationSettings

COMPARED = 2000
"""Held-out images that go through the autoencoder, for the floors."""


def prepare(data: "IdxLatentsData", evaluation: "EvaluationSettings", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """The images as a data set of their own kind, an autoencoder of their training part, and that part's latents.

    What is there already is kept. Raises BenchError as the images' kind does, and without diffusers before any file is
    read.
    """
    load_diffusers("kind")
    arrays, facts = idx.prepare(data.images, evaluation, sigma_d)
    train, held = (_shards(arrays, part) for part in PARTS)
    about = about_of(arrays)
    made_by = ["trigbench.workflow.data.kinds.idx.latents.autoencoder"]
    marks = [about["parts"]["train"], data.widths, data.seen, data.seed]
    place = Path(about["folder"]) / f"autoencoder-{digest(marks, made_by)}"
    files = make_autoencoder(place, data, train.rows, len(train))
    arrays["autoencoder"] = np.array(json.dumps({"folder": str(place), "sha256": files}))
    autoencoder, folder = autoencoder_of(arrays), Path(about["folder"]) / f"latents-{digest([files, marks], made_by)}"
    arrays["latents"] = np.array(json.dumps({"folder": str(folder), "train": _encoded(autoencoder, train, folder)}))
    beside = [f"{folder}/manifest.json", *(f"{place}/{name}" for name in files)]
    more = {"files": [*facts.pop("files"), *beside], "scaled": f"latents less {autoencoder.shift:.6g}, times "
            f"{autoencoder.scale:.6g}, times sigma_d ({sigma_d:g}): mean 0, deviation sigma_d"}  # fmt: skip
    return arrays, facts | more | _facts(arrays, autoencoder, held)


def judge_map(dataset: Dataset, field: Field) -> tuple[list[Value], list[Value]]:
    """Nothing: the exact map of real data is not known."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """Decoded samples judged as images are, and how often they are read as the class asked for; NaN where what is
    decoded is not numbers. Samples are labelled as `labels_in_shares` has it of their rows."""
    decoded = autoencoder_of(dataset.arrays).decode(samples)
    if not_numbers(decoded):
        return dict.fromkeys(set(METRICS["samples"]) & set(wanted), math.nan)
    assert dataset.shares is not None  # the schema asks for labels
    asked = labels_in_shares(range(len(samples)), dataset.shares)
    return _judged(dataset, decoded.to(torch.uint8), torch.from_numpy(asked), wanted)


def floors(dataset: Dataset) -> list[Value]:
    """Held-out images through the autoencoder, judged as samples are: no distance can be expected to be less."""
    held, autoencoder = _shards(dataset.arrays, "held_out"), autoencoder_of(dataset.arrays)
    rows = fixed_order(len(held), 0, "floors")[:COMPARED]
    assert held.labels is not None
    wanted = [name for name in METRICS["samples"] if not name.endswith("_held_out")]
    through = _through(autoencoder, torch.from_numpy(held.rows(rows)))
    found = _judged(dataset, through, torch.from_numpy(np.array(held.labels[rows])), wanted)
    return [Value(metric=name, value=value) for name, value in found.items()]


def _judged(dataset: Dataset, levels: Tensor, asked: Tensor, wanted: Collection[str]) -> dict[str, float]:
    """Of grey levels, uint8 of (n, 1, side, side), that should be of these classes."""
    about = about_of(dataset.arrays)
    images = to_unit_variance(levels, about["mean"], about["std"], about["fold"])
    found = idx.judge_samples(dataset, images, set(wanted) - {"recognised"})
    if "recognised" in wanted:
        found["recognised"] = float((labelled(dataset).read(images) == asked).float().mean())
    return found


def _encoded(autoencoder: Autoencoder, train: Shards, folder: Path) -> str:
    """The digest of the latents' manifest; of each latent mean and deviation, float16, in unit variance."""
    manifest = train.manifest
    side = manifest.shape[-1] // PIXELS_A_LATENT
    return write_shards(
        folder, manifest.source, (2 * CHANNELS, side, side), "float16", train.labels, manifest.classes, len(train),
        lambda rows: autoencoder.encode(torch.from_numpy(train.rows(np.asarray(rows)))).numpy().astype(np.float16),
    )  # fmt: skip


def _through(autoencoder: Autoencoder, levels: Tensor) -> Tensor:
    """Grey levels as they come out of the autoencoder, uint8; latents are drawn, as those that are trained on."""
    mean, std = autoencoder.encode(levels).chunk(2, dim=1)
    noise = torch.randn(mean.shape, generator=generator("floors"))
    return autoencoder.decode(mean + std * noise).to(torch.uint8)


def _facts(arrays: Arrays, autoencoder: Autoencoder, held: Shards) -> dict[str, Any]:
    """What is lost in the autoencoder, and how far held-out images are that did not go through it."""
    levels, about = torch.from_numpy(held.rows(fixed_order(len(held), 0, "floors")[:COMPARED])), about_of(arrays)
    missed = (_through(autoencoder, levels).float() - levels.float()).square().mean().sqrt() / 255
    features = extractor_of(about["extractor"])(levels.expand(-1, idx.RGB, -1, -1))
    distance = judge_features(about["references"], features, ["fd_train"])["fd_train"]
    return {
        "autoencoder_parameters": sum(p.numel() for p in autoencoder.network.parameters()),
        "autoencoder_rms_held_out": round(float(missed), 4),
        "fd_train_of_held_out_images_as_they_are": round(distance, 3),
    }


def _shards(arrays: Arrays, part: str) -> Shards:
    """The images of a part."""
    about = about_of(arrays)
    return open_shards(Path(about["folder"]) / part, about["parts"][part], AGAIN)
