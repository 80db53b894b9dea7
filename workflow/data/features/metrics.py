"""How good samples and maps are: distances in feature space by torch-fidelity, and against an oracle."""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError

NEIGHBOURS = 3
"""k of precision and recall: a sample's neighbourhood reaches to its k-th nearest."""
AT_ONCE = 1000
"""Rows whose distances to all others are in memory together."""


def frechet_distance(generated: Tensor, real: Tensor) -> float:
    """torch-fidelity's Frechet distance between features (n, d), float64. Raises BenchError unless n > d, and for
    features that are not numbers."""
    check_features(generated, real)
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
    """torch-fidelity's KID, the mean over 50 subsets of equal, fixed size. Raises BenchError for one sample, and for
    features that are not numbers."""
    check_features(generated, real, more_than=1)
    size = min(300, len(generated), len(real))
    with _quiet():
        found = fidelity("metric_kid").kid_features_to_metric(
            generated, real, kid_subset_size=size, kid_subsets=50, rng_seed=2020, verbose=False
        )
    return float(found["kernel_inception_distance_mean"])


def precision_recall(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """torch-fidelity's improved precision and recall (k = 3), at equal counts of generated and real.

    In blocks of its 10,000 rows: whole matrices of distances between 50,000 take 60 GB. Raises BenchError unless there
    are more samples than k, and for features that are not numbers: all would lie, or none, in every neighbourhood.
    """
    check_features(generated, real, more_than=NEIGHBOURS)
    count = min(len(generated), len(real))
    with _quiet():
        found = fidelity("metric_prc").prc_features_to_metric(
            generated[:count], real[:count], prc_neighborhood=NEIGHBOURS, save_cpu_ram=True, verbose=False
        )
    return float(found["precision"]), float(found["recall"])


def nearest_distance(rows: Tensor, others: Tensor) -> float:
    """The mean Euclidean distance from each row to its nearest neighbour among `others`. Raises BenchError without rows
    or others, and where these are not numbers."""
    check_features(rows.flatten(1), others.flatten(1))
    nearest = [torch.cdist(part, others.flatten(1)).min(dim=1).values for part in rows.flatten(1).split(AT_ONCE)]
    return float(torch.cat(nearest).mean())


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 128) -> float:
    """Sliced 2-Wasserstein distance of equally many points (n, d), over fixed random directions. Raises BenchError
    without points, and where these are not numbers."""
    check_features(a, b)
    count = min(len(a), len(b))
    g = generator("sliced Wasserstein", a.shape[1], directions)
    axes = torch.randn(a.shape[1], directions, generator=g, dtype=torch.float64)
    axes = axes / axes.norm(dim=0)
    along = [(rows[:count].double() @ axes).numpy() for rows in (a, b)]
    sorted_a, sorted_b = (torch.from_numpy(np.sort(rows, axis=0)) for rows in along)  # in a third of torch's time
    return float((sorted_a - sorted_b).square().mean().sqrt())


def check_features(generated: Tensor, real: Tensor, more_than: int = 0) -> None:
    """Raise BenchError unless both are finite, of equally many numbers a sample, and of more samples than that."""
    if generated.shape[1:] != real.shape[1:]:
        problem = f"generated samples of {tuple(generated.shape[1:])} and real ones of {tuple(real.shape[1:])} numbers"
        raise BenchError(problem, key="evaluation", remedy="compare both in the same space")
    for whose, rows in (("generated", generated), ("real", real)):
        if len(rows) <= more_than:
            problem = f"{len(rows)} {whose} samples, where this measure needs more than {more_than}"
            raise BenchError(problem, key="evaluation.samples", remedy=f"use more than {more_than} samples")
        wrong = int((~rows.flatten(1).isfinite().all(1)).sum())
        if wrong:
            problem = f"{wrong} of {len(rows)} {whose} samples are not finite numbers, and so have no distances"
            remedy = "look at the samples: the run has diverged" if whose == "generated" else "prepare the data again"
            raise BenchError(problem, key="evaluation", remedy=remedy)


def fidelity(name: str) -> ModuleType:
    """A module of torch-fidelity, without torchvision where nobody has imported that.

    torch-fidelity imports it for data sets and networks that are not used here, which takes longer than to judge a
    small run, and fails where its build does not fit torch's.
    """
    with _quiet(), _stand_in_for_torchvision():
        return importlib.import_module(f"torch_fidelity.{name}")


class _StandIn(ModuleType):
    """A module whose classes are all there, and empty."""

    def __getattr__(self, name: str) -> type:
        if not name[0].isupper():
            raise AttributeError(name)
        return type(name, (), {})


@contextlib.contextmanager
def _stand_in_for_torchvision() -> Iterator[None]:
    """Within, its modules can be imported; whoever imports it afterwards gets the real one."""
    names = ("", ".datasets", ".transforms", ".transforms.functional")
    made = {} if "torchvision" in sys.modules else {f"torchvision{n}": _StandIn(f"torchvision{n}") for n in names}
    sys.modules.update(made)
    try:
        yield
    finally:
        for module in made:
            del sys.modules[module]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Warnings of torch-fidelity's own making are not the user's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
