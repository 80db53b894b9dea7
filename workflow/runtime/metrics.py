"""How good samples and maps are: distances in feature space by torch-fidelity, and against an oracle."""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

from workflow.errors import BenchError
from workflow.runtime.randomness import generator


def frechet_distance(generated: Tensor, real: Tensor) -> float:
    """torch-fidelity's Frechet distance between features (n, d), float64. Raises BenchError unless n > d."""
    for name, rows in (("generated", generated), ("real", real)):
        if len(rows) <= rows.shape[1]:
            problem = f"{len(rows)} {name} samples cannot fix a covariance of {rows.shape[1]} dimensions"
            raise BenchError(problem, key="evaluation.samples", remedy=f"use more than {rows.shape[1]} samples")
    metric = fidelity("metric_fid")
    statistics = [metric.fid_features_to_statistics(rows) for rows in (generated, real)]
    with _quiet():
        found = metric.fid_statistics_to_metric(*statistics, False)
    return float(found["frechet_inception_distance"])


def kernel_distance(generated: Tensor, real: Tensor) -> float:
    """torch-fidelity's KID, the mean over 50 subsets of equal, fixed size."""
    size = min(300, len(generated), len(real))
    with _quiet():
        found = fidelity("metric_kid").kid_features_to_metric(
            generated, real, kid_subset_size=size, kid_subsets=50, rng_seed=2020, verbose=False
        )
    return float(found["kernel_inception_distance_mean"])


def precision_recall(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """torch-fidelity's improved precision and recall (k = 3), at equal counts of generated and real."""
    count = min(len(generated), len(real))
    with _quiet():
        found = fidelity("metric_prc").prc_features_to_metric(generated[:count], real[:count], verbose=False)
    return float(found["precision"]), float(found["recall"])


def nearest_distance(rows: Tensor, others: Tensor) -> float:
    """The mean Euclidean distance from each row to its nearest neighbour among `others`."""
    return float(torch.cdist(rows.flatten(1), others.flatten(1)).min(dim=1).values.mean())


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 128) -> float:
    """Sliced 2-Wasserstein distance of equally many points (n, d), over fixed random directions."""
    count = min(len(a), len(b))
    g = generator("sliced Wasserstein", a.shape[1], directions)
    axes = torch.randn(a.shape[1], directions, generator=g, dtype=torch.float64)
    axes = axes / axes.norm(dim=0)
    sorted_a, sorted_b = ((rows[:count].double() @ axes).sort(dim=0).values for rows in (a, b))
    return float((sorted_a - sorted_b).square().mean().sqrt())


def fidelity(name: str) -> ModuleType:
    """A module of torch-fidelity, whatever build of torchvision it finds."""
    import_torchvision()
    with _quiet():
        return importlib.import_module(f"torch_fidelity.{name}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Warnings of torch-fidelity's own making are not the user's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def import_torchvision() -> None:
    """Import torchvision also where its compiled operators do not fit torch's build.

    A CUDA-built torchvision beside a CPU torch fails to register a kernel for an operator that its
    missing library would have declared. torch-fidelity needs torchvision for its data sets only;
    declaring the operators lets the import through, and calling one would still raise.
    """
    if "torchvision" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
        return
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
    for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[module]
    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", signature)
    importlib.import_module("torchvision")
