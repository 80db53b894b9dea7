"""What samples are held against: mean, covariance and some features of real images, kept with their origin."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trigbench.workflow.data.features.extractors import Extractor
from trigbench.workflow.data.features.metrics import check_features, fidelity
from trigbench.workflow.data.files.shards import check_file
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.checkpoints import SAVE_EVERY
from trigbench.workflow.machine.files import read_arrays, write_arrays
from trigbench.workflow.machine.files import sha256 as sha256_of
from trigbench.workflow.study.fingerprint import digest

KEPT = 50_000
"""Features that are kept for kernel distance, precision and recall; mean and covariance are of all images."""
BLOCK = 2000


@dataclass(frozen=True)
class Reference:
    """Statistics of real images in one feature space, float64."""

    mean: np.ndarray
    covariance: np.ndarray
    features: Tensor
    """Of the first images, at most 50,000."""
    count: int


def reference_file(
    folder: Path, part: str, source: str, extractor: Extractor, rows: np.ndarray, images: Callable[[np.ndarray], Tensor]
) -> dict[str, str]:
    """{"file", "sha256"} of the part's statistics; computed unless they are there for this source and extractor.

    `source` is a digest of the images, `rows` which of them and in what order, `images` rows -> uint8 pixels.
    """
    origin = {"part": part, "source": source, "kind": extractor.name, "weights": extractor.sha256, "rows": len(rows)}
    made_by = ["trigbench.workflow.data.features.extractors", __name__]
    path = folder / f"reference-{digest([origin, rows.tolist()[:1000]], made_by)}.npz"
    if not path.is_file():
        partial = path.with_suffix(".partial.npz")
        write_arrays(path, _statistics(part, extractor, rows, images, partial))
        partial.unlink(missing_ok=True)
    return {"file": str(path), "sha256": sha256_of(path)}


def open_reference(origin: dict[str, str], remedy: str) -> Reference:
    """The statistics, whose file must be the one that was prepared."""
    return _opened(check_file(Path(origin["file"]), origin["sha256"], remedy), remedy)


def frechet_to(reference: Reference, features: Tensor) -> float:
    """torch-fidelity's Fréchet distance of features (n, d) to the reference. Raises BenchError unless n > d, and where
    features or the reference's statistics are not numbers."""
    check_features(features, torch.from_numpy(np.vstack([reference.mean, reference.covariance])))
    for name, count in (("generated", len(features)), ("reference", reference.count)):
        if count <= features.shape[1]:
            problem = f"{count} {name} images cannot fix a covariance of {features.shape[1]} dimensions"
            remedy = f"use more than {features.shape[1]}, or an extractor of fewer features"
            raise BenchError(problem, key="evaluation.samples", remedy=remedy)
    metric = fidelity("metric_fid")
    theirs = {"mu": reference.mean, "sigma": reference.covariance}
    found = metric.fid_statistics_to_metric(metric.fid_features_to_statistics(features), theirs, False)
    return float(found["frechet_inception_distance"])


@cache
def _opened(path: Path, remedy: str) -> Reference:
    arrays = read_arrays(path, remedy)
    features = torch.from_numpy(arrays["features"]).double()
    return Reference(arrays["mean"], arrays["covariance"], features, int(arrays["count"]))


def _begun(partial: Path) -> tuple[int, np.ndarray | float, np.ndarray | float, list[np.ndarray]]:
    """(next row, sum, sum of products, features) that an interrupted call has left; a damaged file counts as none."""
    try:
        begun = read_arrays(partial, "") if partial.is_file() else {}
    except BenchError as error:
        print(f"{error}\nthe statistics start over", file=sys.stderr)
        begun = {}
    if not begun:
        return 0, 0.0, 0.0, []
    return int(begun["next"]), begun["total"], begun["products"], [begun["features"]]


def _statistics(
    part: str, extractor: Extractor, rows: np.ndarray, images: Callable[[np.ndarray], Tensor], partial: Path
) -> dict[str, np.ndarray]:
    """All at the end, or what an interrupted call has left in `partial` gone on with, to the same bits."""
    first, total, products, kept = _begun(partial)
    saved = time.monotonic()
    for start in range(first, len(rows), BLOCK):
        what = f"reference features of {part}, from {start} of {len(rows)}"
        features = extractor(images(rows[start : start + BLOCK]), what).numpy()
        total = total + features.sum(0)
        products = products + features.T @ features
        if start < KEPT:
            kept.append(features[: KEPT - start].astype(np.float32))
        if time.monotonic() - saved >= SAVE_EVERY:
            sums = {"next": np.array(start + BLOCK), "total": total, "products": products}
            write_arrays(partial, sums | {"features": np.concatenate(kept)})
            saved = time.monotonic()
    count, mean = len(rows), total / len(rows)
    covariance = (products - count * np.outer(mean, mean)) / max(count - 1, 1)
    found = {"mean": mean, "covariance": covariance, "features": np.concatenate(kept), "count": count}
    return {name: np.asarray(value) for name, value in found.items()}
