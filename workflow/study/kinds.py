"""Data sets: the table of kinds.

A kind is a module with `prepare(data, evaluation, sigma_d)`, which makes arrays and facts (`files` among
them: what it has written beside, without which the data count as missing),
`open_dataset(arrays, sigma_d)`, `judge_samples(dataset, samples, wanted)`, `judge_map(dataset, field)`,
`floors(dataset)`, and METRICS, the names of what the judges return; one of one's own declares in
QUANTITIES what these are where the project does not know them. Adding one is such a module and
a line in both tables here; one that stands elsewhere is named in the study (`kind: own`, `module: ...`), and its
`prepare` may take the study's `settings` as further parameters, which are checked before any job.
Imports nothing heavy, since every plan reads the table.
"""

import inspect
from collections.abc import Callable
from typing import Any

from trigbench.workflow.machine.named import imported

KINDS = {
    "mixture": "trigbench.workflow.data.mixture",
    "digits": "trigbench.workflow.data.digits",
    "images_folder": "trigbench.workflow.data.images",
    "cifar10": "trigbench.workflow.data.images",
    "imagenet64": "trigbench.workflow.data.images",
    "imagenet512": "trigbench.workflow.data.latents",
}

_FEATURES = ("fd_train", "fd_held_out", "kid_train", "precision", "recall")
_IMAGES = {"map": (), "samples": (*_FEATURES, "nearest_train", "nearest_held_out")}
MEASURED: dict[str, dict[str, tuple[str, ...]]] = {
    "mixture": {"map": ("map_rms", "map_rms_one_step", "map_worst"), "samples": ("sliced_wasserstein",)},
    "digits": _IMAGES,
    "images_folder": _IMAGES,
    "cifar10": _IMAGES,
    "imagenet64": _IMAGES,
    "imagenet512": {"map": (), "samples": (*_FEATURES, "fdd_train")},
}
"""METRICS of each kind: what its judges return of a map that goes from every angle to 0, and of samples."""


def kind_module(data: Any) -> Any:
    """The module that knows a study's data set (of the schema), or BenchError where it cannot be imported."""
    return imported(data.module if data.kind == "own" else KINDS[data.kind], "data")


def settings_of(data: Any, prepare: Callable[..., Any]) -> dict[str, Any]:
    """What a data set of one's own is given by name: its settings, where `prepare` has more than three parameters."""
    more = list(inspect.signature(prepare).parameters)[3:]
    return dict(data.settings) if data.kind == "own" and more else {}
