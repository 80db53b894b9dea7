"""Held-out grey images of IDX files, and what reads them."""

from functools import partial

from torch import Tensor

from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.files.drawing import drawn_from
from trigbench.workflow.data.kinds.idx.draws import to_levels, to_unit_variance
from trigbench.workflow.data.kinds.idx.making import RGB
from trigbench.workflow.data.labelled import Labelled, of_shards


def labelled(dataset: Dataset) -> Labelled:
    """Raises LookupError where no classifier was trained."""
    about = drawn_from(dataset.arrays)
    scaled = {key: about[key] for key in ("mean", "std", "fold")}

    def seen(x: Tensor) -> Tensor:
        return to_levels(x, **scaled).expand(-1, RGB, -1, -1)

    return of_shards(dataset, partial(to_unit_variance, **scaled), seen)
