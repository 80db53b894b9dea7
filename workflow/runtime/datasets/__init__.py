"""Data sets: the table of kinds.

A kind is a module with `prepare(data, evaluation, sigma_d)`, which makes arrays and facts,
`open_dataset(arrays, sigma_d)`, `judge_samples(dataset, samples, wanted)`, `judge_map(dataset, field)`,
`floors(dataset)`, and METRICS, the names of what the judges return. Adding one is such a module and
one line here; one that stands elsewhere is named in the study (`kind: own`, `module: ...`).
Imports nothing heavy, since every plan reads the table.
"""

import importlib
from typing import Any

from workflow.errors import BenchError

KINDS = {
    "mixture": "workflow.runtime.datasets.mixture",
    "digits": "workflow.runtime.datasets.digits",
    "images_folder": "workflow.runtime.datasets.images",
    "cifar10": "workflow.runtime.datasets.images",
    "imagenet64": "workflow.runtime.datasets.images",
    "imagenet512": "workflow.runtime.datasets.latents",
}


def kind_module(data: Any) -> Any:
    """The module that knows a study's data set (workflow.schema.Data), or BenchError where it cannot be imported."""
    name = data.module if data.kind == "own" else KINDS[data.kind]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        remedy = "start the workflow where the module can be imported from, or install it"
        raise BenchError(f"cannot import {name!r}: {error}", key="data", remedy=remedy) from error
