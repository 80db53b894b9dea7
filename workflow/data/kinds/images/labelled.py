"""Held-out images of folders, CIFAR-10 and ImageNet 64, and what reads them."""

from functools import partial

from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.kinds.images.draws import to_unit_variance
from trigbench.workflow.data.kinds.images.making import to_pixels
from trigbench.workflow.data.labelled import Labelled, of_shards


def labelled(dataset: Dataset) -> Labelled:
    """Raises LookupError where images have no labels, or no classifier was trained."""
    sigma_d = float(dataset.arrays["sigma_d"])
    return of_shards(dataset, partial(to_unit_variance, sigma_d=sigma_d), partial(to_pixels, sigma_d=sigma_d))
