"""What every sample of a study starts from, whatever draws it: its noise, its label and what it is told to have been
observed, by its row and the seed."""

from collections.abc import Iterator

import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.core.samplers.noise import noise_of_samples
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.data.shares import labels_in_shares


def noise_of_rows(seed: int, rows: range, slices: int, dataset: Dataset) -> Tensor:
    """Standard normal noise (slices, len(rows), *shape) on the CPU, of each row its own."""
    return noise_of_samples([generator(seed, "sample", row) for row in rows], slices, dataset.shape)


def noise_of_steps(seed: int, rows: range, dataset: Dataset) -> Iterator[Tensor]:
    """Standard normal noise (len(rows), *shape) on the CPU for one step after the other, of each row its own.

    Beside what samples start from, which so does not depend on who draws more; nothing is drawn until it is asked for.
    """
    generators = [generator(seed, "sample", row, "steps") for row in rows]
    while True:
        yield noise_of_samples(generators, 1, dataset.shape)[0]


def condition_of_samples(rows: range, dataset: Dataset) -> Condition:
    """What samples of these rows are told, on the CPU: labels, and observations."""
    observed = dataset.observed
    seen = None if observed is None else observed[torch.tensor(rows) % len(observed)]
    return Condition(label=labels_of_samples(rows, dataset), observation=seen)


def labels_of_samples(rows: range, dataset: Dataset) -> Tensor | None:
    """Each class as often as the data have it, by the row alone; None for data without labels."""
    if not dataset.classes:
        return None
    assert dataset.shares is not None, "checked"
    return torch.from_numpy(labels_in_shares(rows, dataset.shares))
